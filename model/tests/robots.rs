//! Who is a robot and who is not, one user agent after the other.

use std::collections::BTreeMap;

use fanal_model::AgentOrigin::{Body, Header, Unknown};
use fanal_model::{AgentOrigin, Beacon, RobotReason};
use proptest::prelude::*;

/// As published by the operators of each.
const ROBOTS: &[(&str, &[&str])] = &[
    (
        "monitor",
        &[
            "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
            "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
            "GoogleStackdriverMonitoring-UptimeChecks(https://cloud.google.com/monitoring)",
            "Mozilla/5.0 (compatible; StatusCake/1.0)",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36 DatadogSynthetics",
            "ELB-HealthChecker/2.0",
            "kube-probe/1.29",
            "check_http/v2.3.3 (nagios-plugins 2.3.3)",
            "Mozilla/5.0 (compatible; Site24x7)",
        ],
    ),
    (
        "headless",
        &[
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.6478.61 Safari/537.36",
            "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
            "Mozilla/5.0 (Linux; Android 11; moto g power) AppleWebKit/537.36 Chrome/119.0.0.0 Mobile Safari/537.36 Chrome-Lighthouse",
            "Mozilla/5.0 (Macintosh) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Puppeteer",
            "Playwright/1.45.0 (x64; ubuntu 22.04) node/20.14",
            "Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko) jsdom/22.1.0",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 PTST/240101.120000",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36 Prerender (+https://github.com/prerender/prerender)",
        ],
    ),
    (
        "declared",
        &[
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/126.0 Safari/537.36",
            "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
            "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
            "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
            "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "TelegramBot (like TwitterBot)",
            "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
            "Mediapartners-Google",
            "msnbot-media/1.1 (+http://search.msn.com/msnbot.htm)",
            "Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.1; +https://openai.com/gptbot)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
            "Scrapy/2.11.2 (+https://scrapy.org)",
            "GOOGLEBOT",
            // A robot that passes for a phone of the maker whose name ends on the word.
            "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) (compatible; Googlebot/2.1)",
        ],
    ),
    (
        "http_library",
        &[
            "curl/8.5.0",
            "PycURL/7.45.3 libcurl/8.5.0 OpenSSL/3.0.13",
            "Wget/1.21.4",
            "Go-http-client/1.1",
            "Java/1.8.0_402",
            "Java-http-client/21.0.3",
            "Apache-HttpClient/4.5.14 (Java/17.0.11)",
            "libwww-perl/6.72",
            "PostmanRuntime/7.39.0",
            "GuzzleHttp/7",
        ],
    ),
];

const PEOPLE: &[&str] = &[
    "",
    "Mozilla/5.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/191.308; U; en) Presto/2.12.423 Version/12.16",
    // Apps of companies whose robots have names of their own.
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/468.0.0;FBBV/612345;FBDV/iPhone14,5]",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [Pinterest/iOS]",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/21F79 Twitter for iPhone/10.44",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) GSA/320.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 13) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36 BingSapphire/29.1",
    "Mozilla/5.0 (Linux; Android 12) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/97.0 Mobile Safari/537.36 baiduboxapp/13.62 (Baidu; P1 12)",
    "Mozilla/5.0 (Linux; Android 13) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile DuckDuckGo/5 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 YaBrowser/24.6 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 discord/1.0.9 Chrome/120.0 Electron/28.2 Safari/537.36",
    // Telephones of a maker whose name ends on a robot's word.
    "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 12; Cubot) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    // The same word inside of others.
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 AbbottLibre/3.5",
    "BottegaVeneta/2.4 (iPhone; iOS 17.5)",
    // `java/` where it does not begin.
    "Nokia6300/2.0 (05.50) Profile/MIDP-2.0 Configuration/CLDC-1.1 Java/Jbed",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1 (KHTML, like Gecko) JavaFX/17 Safari/605.1",
    // Apps that send beacons themselves.
    "okhttp/4.12.0",
    "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP1A.240505.004)",
    "Shop/7.2 CFNetwork/1496.0.7 Darwin/23.5.0",
    "Dart/3.4 (dart:io)",
    // What server side SDKs are made of.
    "Python/3.11 aiohttp/3.14.5",
    "python-requests/2.34.2",
    "node",
    "undici",
    "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
    "axios/1.7.2",
];

const ORIGINS: [AgentOrigin; 3] = [Header, Body, Unknown];

fn name(agent: &str, origin: AgentOrigin, sdk_name: &str) -> &'static str {
    RobotReason::of(agent.as_bytes(), origin, sdk_name).map_or("", RobotReason::name)
}

#[test]
fn every_reason_has_robots_and_they_are_known_by_it() {
    for (reason, agents) in ROBOTS {
        for agent in *agents {
            for origin in ORIGINS {
                assert_eq!(name(agent, origin, "javascript"), *reason, "{agent}");
            }
        }
    }
    let with_examples: Vec<_> = ROBOTS.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(with_examples, RobotReason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>());
}

#[test]
fn browsers_apps_and_server_side_sdks_are_no_robots() {
    for agent in PEOPLE {
        for origin in ORIGINS {
            for sdk_name in ["", "javascript", "PYTHON", "ANDROID"] {
                assert_eq!(name(agent, origin, sdk_name), "", "{agent}");
            }
        }
    }
}

#[test]
fn the_header_of_a_server_side_sdk_says_nothing_and_the_body_says_who_the_visitor_is() {
    let (library, robot) = ("Java/17.0.11", "Mozilla/5.0 (compatible; Googlebot/2.1)");
    for (origin, sdk_name, of_library, of_robot) in [
        (Header, "", "http_library", "declared"),
        (Header, "JavaScript", "http_library", "declared"),
        (Header, "react", "http_library", "declared"),
        (Header, "JAVA", "", ""),
        (Header, "java", "", ""),
        (Header, "PYTHON", "", ""),
        (Header, "Go", "", ""),
        (Header, "CSHARP", "", ""),
        // It may be a server side SDK to come, or an app's.
        (Header, "SWIFT", "", "declared"),
        (Body, "JAVA", "http_library", "declared"),
        (Body, "SWIFT", "http_library", "declared"),
        (Unknown, "", "http_library", "declared"),
        (Unknown, "JAVA", "", "declared"),
        (Unknown, "SWIFT", "", "declared"),
    ] {
        let found = (name(library, origin, sdk_name), name(robot, origin, sdk_name));
        assert_eq!(found, (of_library, of_robot), "{origin:?} {sdk_name}");
    }
}

#[test]
fn a_record_is_believed_and_one_that_does_not_say_is_judged() {
    let googlebot: &[u8] = b"Mozilla/5.0 (compatible; Googlebot/2.1)";
    for (user_agent, robot, expected) in [
        (googlebot, None, true),
        (googlebot, Some("declared"), true),
        // Judged, and found to be none: the header of a server side SDK, say.
        (googlebot, Some(""), false),
        (b"Mozilla/5.0", None, false),
        (b"", None, false),
        // A reason that a newer version knows.
        (b"Mozilla/5.0", Some("behaviour"), true),
    ] {
        let beacon = Beacon { user_agent, robot, ..Beacon::default() };
        assert_eq!(beacon.is_robot(), expected, "{robot:?}");
    }
}

#[test]
fn a_word_behind_the_part_that_is_read_does_not_count() {
    let agent = |before: usize| format!("{}bot", " ".repeat(before));
    let at_end = RobotReason::AGENT_BYTES_MAX - 3;
    assert_eq!(name(&agent(at_end), Header, ""), "declared");
    assert_eq!(name(&agent(at_end + 1), Header, ""), "");
}

/// As the sentence says it: all words in lower case, the reason of the first in order.
fn as_sentences_say(agent: &str) -> Option<RobotReason> {
    let lower = agent.to_ascii_lowercase();
    let spoiled: BTreeMap<&str, &str> = [("cubot", "phone"), ("bottle", "drink"), ("abbott", "firm")].into();
    let cleaned = spoiled.iter().fold(lower, |text, (from, to)| text.replace(from, to));
    let has = |word: &str| cleaned.contains(word);
    [
        (RobotReason::Monitor, ["pingdom", "uptime"]),
        (RobotReason::Headless, ["headlesschrome", "phantomjs"]),
        (RobotReason::Declared, ["googlebot", "spider"]),
        (RobotReason::HttpLibrary, ["curl/", "wget"]),
    ]
    .into_iter()
    .find(|(_, words)| words.iter().any(|word| has(word)))
    .map(|(reason, _)| reason)
}

proptest! {
    #[test]
    fn the_more_telling_reason_stands_in_any_order_and_case(
        parts in prop::collection::vec(prop::sample::select(&[
            "Pingdom", "UPTIME", "HeadlessChrome", "phantomJS", "Googlebot", "sPider", "curl/8", "WGET",
            "CUBOT", "Bottle", "Abbott", "Mozilla/5.0", "\u{e9}", "",
        ][..]), 0..6),
    ) {
        let agent = parts.join(" ");
        prop_assert_eq!(RobotReason::of_words(agent.as_bytes()), as_sentences_say(&agent), "{}", agent);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(agent in prop::collection::vec(any::<u8>(), 0..1_100)) {
        let _ = RobotReason::of_words(&agent);
    }
}
