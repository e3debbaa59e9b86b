//! Robots are flagged, never dropped.

/// Words that well-behaved robots put into their user agent. Matched without
/// regard to case. Server-side SDKs (`Python/`, `aiohttp`, `node`) are not
/// robots: they speak for visitors.
const ROBOT_WORDS: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "slurp",
    "headlesschrome",
    "phantomjs",
    "lighthouse",
    "pingdom",
    "monitor",
    "facebookexternalhit",
    "preview",
    "wget",
    "curl/",
];

/// Whether a user agent says of itself that it is a robot.
#[must_use]
pub fn is_bot(user_agent: &str) -> bool {
    let lower = user_agent.to_ascii_lowercase();
    // "cubot" is a maker of phones.
    ROBOT_WORDS.iter().any(|word| lower.contains(word)) && !lower.contains("cubot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_say_so_and_people_and_sdks_do_not() {
        assert!(is_bot("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"));
        assert!(is_bot("curl/8.5.0"));
        for human in [
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
            "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) Mobile Safari/537.36",
            "Python/3.11 aiohttp/3.14.5",
            "python-requests/2.34.2",
            "node",
            "",
        ] {
            assert!(!is_bot(human), "{human}");
        }
    }
}
