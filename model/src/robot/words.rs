//! The words of robots, and how one is found in a user agent.
//!
//! The words come from the user agents that the operators of these programs publish.
//! Never a word that a browser, an app or an SDK's library has: `okhttp`, `Dalvik`,
//! `CFNetwork` and `Dart` are apps of people, `Python`, `aiohttp`, `node`, `undici`,
//! `axios` are SDKs on servers. Adding a word is safe: records keep the judgement of
//! the day on which they were received.

use super::RobotReason;
use super::RobotReason::{Declared, Headless, HttpLibrary, Monitor};

/// Where a word must stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Anywhere.
    Any,
    /// Not in front of a letter: `bot` in `Googlebot/2.1`, not in `Abbott` or `Bottega`.
    WordEnd,
    /// Where the user agent begins: old phones name `Java/` behind their own names.
    Start,
}

/// In lower case; found in any case.
struct Word {
    text: &'static [u8],
    at: At,
    reason: RobotReason,
}

const fn word(text: &'static str, at: At, reason: RobotReason) -> Word {
    Word { text: text.as_bytes(), at, reason }
}

const fn any(text: &'static str, reason: RobotReason) -> Word {
    word(text, At::Any, reason)
}

/// In the order in which reasons are preferred: the more telling one first.
const WORDS: &[Word] = &[
    // Services that watch sites, by name. Half of them also say `bot`.
    any("pingdom", Monitor),
    any("uptime", Monitor),
    any("monitor", Monitor),
    any("statuscake", Monitor),
    any("site24x7", Monitor),
    any("newrelicpinger", Monitor),
    // Datadog, Dynatrace, Elastic.
    any("synthetic", Monitor),
    any("checkly", Monitor),
    any("updown.io", Monitor),
    any("hetrixtools", Monitor),
    any("freshping", Monitor),
    any("catchpoint", Monitor),
    any("zabbix", Monitor),
    any("nagios", Monitor),
    // What stands before servers: Kubernetes, load balancers of clouds.
    any("kube-probe", Monitor),
    any("healthcheck", Monitor),
    any("googlehc/", Monitor),
    // Browsers that are driven. Their drivers have words of their own where they run
    // an ordinary browser. `headless` covers Chrome's, Edge's and its shell.
    any("headless", Headless),
    any("phantomjs", Headless),
    any("slimerjs", Headless),
    any("lighthouse", Headless),
    any("puppeteer", Headless),
    any("playwright", Headless),
    any("selenium", Headless),
    any("webdriver", Headless),
    any("cypress/", Headless),
    // WebPageTest.
    any("ptst/", Headless),
    any("gtmetrix", Headless),
    any("pagespeed", Headless),
    any("page speed", Headless),
    any("prerender", Headless),
    any("rendertron", Headless),
    // Browsers without a window, in Node.
    any("jsdom/", Headless),
    any("happydom/", Headless),
    // What robots say of themselves, or in the address of the page that explains them.
    word("bot", At::WordEnd, Declared),
    word("bots", At::WordEnd, Declared),
    any("botify", Declared),
    any("crawl", Declared),
    any("spider", Declared),
    any("slurp", Declared),
    any("scrapy", Declared),
    any("preview", Declared),
    any("feedfetcher", Declared),
    any("validator", Declared),
    // Robots that do not say so, by name: search, archives, previews of links.
    any("facebookexternalhit", Declared),
    any("facebookcatalog", Declared),
    any("meta-external", Declared),
    any("mediapartners-google", Declared),
    any("apis-google", Declared),
    any("google-inspectiontool", Declared),
    any("googleother", Declared),
    any("google-site-verification", Declared),
    any("slack-imgproxy", Declared),
    any("skypeuri", Declared),
    any("embedly", Declared),
    any("iframely", Declared),
    any("vkshare", Declared),
    any("qwantify", Declared),
    any("ia_archiver", Declared),
    any("heritrix", Declared),
    any("nutch", Declared),
    any("httrack", Declared),
    any("siteaudit", Declared),
    // Those that read for language models.
    any("chatgpt-user", Declared),
    any("perplexity-user", Declared),
    any("claude-user", Declared),
    any("claude-web", Declared),
    any("anthropic-ai", Declared),
    any("cohere-ai", Declared),
    // Commands and libraries, by their own default.
    any("curl/", HttpLibrary),
    any("wget", HttpLibrary),
    any("go-http-client", HttpLibrary),
    any("libwww-perl", HttpLibrary),
    any("apache-httpclient", HttpLibrary),
    any("postmanruntime", HttpLibrary),
    any("guzzlehttp", HttpLibrary),
    word("java/", At::Start, HttpLibrary),
    word("java-http-client", At::Start, HttpLibrary),
    word("httpie/", At::Start, HttpLibrary),
    word("insomnia/", At::Start, HttpLibrary),
    word("lwp", At::Start, HttpLibrary),
];

/// Names that end as a word of robots does, and are none at the beginning of a word: a
/// maker of phones, who puts it before the model (`CUBOT NOTE 20`, `CUBOT_X18_Plus`).
const NOT_ROBOTS: &[&[u8]] = &[b"cubot"];

/// For each first byte of a word, in both cases, the words that begin with it: bit n is
/// word n. Most positions of a user agent are ruled out by one look.
const BEGINNING: [u128; 256] = {
    assert!(WORDS.len() <= 128, "a word has no bit: take a wider number");
    let mut table = [0_u128; 256];
    let mut at = 0;
    while at < WORDS.len() {
        let first = WORDS[at].text[0];
        table[first as usize] |= 1 << at;
        table[first.to_ascii_uppercase() as usize] |= 1 << at;
        at += 1;
    }
    table
};

/// The preferred reason of all words that are in the user agent.
pub(super) fn reason(user_agent: &[u8]) -> Option<RobotReason> {
    let agent = &user_agent[..user_agent.len().min(RobotReason::AGENT_BYTES_MAX)];
    // Words behind one that was found can say nothing new.
    let mut wanted = u128::MAX;
    let mut found = None;
    for at in 0..agent.len() {
        let mut candidates = BEGINNING[usize::from(agent[at])] & wanted;
        while candidates != 0 {
            let number = candidates.trailing_zeros();
            candidates &= candidates - 1;
            let word = &WORDS[number as usize];
            if word.stands(agent, at) {
                wanted = (1 << number) - 1;
                found = Some(word.reason);
                break;
            }
        }
    }
    found
}

impl Word {
    fn stands(&self, agent: &[u8], at: usize) -> bool {
        if !begins(&agent[at..], self.text) {
            return false;
        }
        match self.at {
            At::Any => true,
            At::Start => at == 0,
            At::WordEnd => {
                let end = at + self.text.len();
                !agent.get(end).is_some_and(u8::is_ascii_alphabetic) && !is_in_name(&agent[..end])
            }
        }
    }
}

fn begins(bytes: &[u8], text: &[u8]) -> bool {
    bytes.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text))
}

/// Whether the last word of `read` is one of the names that are no robot's.
fn is_in_name(read: &[u8]) -> bool {
    NOT_ROBOTS.iter().any(|name| {
        let Some(start) = read.len().checked_sub(name.len()) else { return false };
        let is_word = start == 0 || !read[start - 1].is_ascii_alphanumeric();
        is_word && begins(&read[start..], name)
    })
}
