//! Where a visit came from: campaign parameters and the default channel.

use std::borrow::Cow;

/// The `utm_*` parameters of a landing page, decoded; empty where absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Campaign<'a> {
    pub source: Cow<'a, str>,
    pub medium: Cow<'a, str>,
    pub campaign: Cow<'a, str>,
    pub term: Cow<'a, str>,
    pub content: Cow<'a, str>,
    /// The landing page has a click id of an advertising network.
    has_paid_click: bool,
}

/// Click ids that only paid clicks carry.
const PAID_CLICK_IDS: &[&str] = &["gclid", "gbraid", "wbraid", "msclkid", "dclid", "ttclid", "li_fat_id"];

impl<'a> Campaign<'a> {
    /// Reads the query of a URL, where `+` is a space as in every web form.
    #[must_use]
    pub fn of(url: &'a str) -> Self {
        let mut campaign = Self::default();
        let without_fragment = url.split('#').next().unwrap_or("");
        let Some((_, query)) = without_fragment.split_once('?') else { return campaign };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let column = match name {
                "utm_source" => &mut campaign.source,
                "utm_medium" => &mut campaign.medium,
                "utm_campaign" => &mut campaign.campaign,
                "utm_term" => &mut campaign.term,
                "utm_content" => &mut campaign.content,
                other => {
                    campaign.has_paid_click |= PAID_CLICK_IDS.contains(&other) && !value.is_empty();
                    continue;
                }
            };
            *column = form_decoded(value);
        }
        campaign
    }
}

fn form_decoded(value: &str) -> Cow<'_, str> {
    if value.contains('+') {
        Cow::Owned(fanal_parser::decode(value.replace('+', " ").as_bytes()).into_owned())
    } else {
        fanal_parser::decode(value.as_bytes())
    }
}

/// The default grouping; the first rule that fits decides. `docs/definitions.md`
/// states the rules.
#[must_use]
pub fn channel(campaign: &Campaign<'_>, referrer_url: &str, landing_url: &str) -> &'static str {
    const SEARCH: &[&str] =
        &["google.", "bing.", "duckduckgo.", "yahoo.", "ecosia.", "qwant.", "baidu.", "yandex."];
    const SOCIAL: &[&str] = &[
        "facebook.",
        "instagram.",
        "linkedin.",
        "t.co",
        "twitter.",
        "x.com",
        "pinterest.",
        "reddit.",
        "tiktok.",
        "youtube.",
    ];
    let medium = campaign.medium.to_ascii_lowercase();
    let named = |names: &[&str]| names.contains(&medium.as_str());
    let from = host(referrer_url);
    let is_at = |hosts: &[&str]| hosts.iter().any(|h| from.starts_with(h) || from.contains(&format!(".{h}")));
    if campaign.has_paid_click
        || named(&["cpc", "ppc", "cpm", "paid", "paidsearch", "display", "banner", "retargeting"])
    {
        "paid"
    } else if named(&["email", "e-mail", "newsletter", "mail"]) {
        "email"
    } else if named(&["social", "social-media", "sm"]) || (medium.is_empty() && is_at(SOCIAL)) {
        "social"
    } else if named(&["organic"]) || (medium.is_empty() && is_at(SEARCH)) {
        "organic"
    } else if named(&["referral"]) || (medium.is_empty() && !from.is_empty() && from != host(landing_url)) {
        "referral"
    } else if medium.is_empty() && campaign.source.is_empty() {
        "direct"
    } else {
        "other"
    }
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', ':']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaign_parameters_are_decoded_as_a_form_is() {
        let campaign =
            Campaign::of("https://x/?utm_source=news%20letter&utm_campaign=a+b&utm_term=%zz#utm_medium=no");
        assert_eq!((&*campaign.source, &*campaign.campaign), ("news letter", "a b"));
        assert_eq!((&*campaign.term, &*campaign.medium), ("%zz", ""));
    }

    #[test]
    fn the_first_channel_rule_that_fits_decides() {
        for (landing, referrer, expected) in [
            ("https://shop.example/", "", "direct"),
            ("https://shop.example/?gclid=1&utm_medium=email", "", "paid"),
            ("https://shop.example/?utm_medium=Email", "https://www.google.com/", "email"),
            ("https://shop.example/", "https://www.google.com/search", "organic"),
            ("https://shop.example/", "https://t.co/abc", "social"),
            ("https://shop.example/", "https://blog.example/post", "referral"),
            ("https://shop.example/", "https://shop.example/before", "direct"),
            ("https://shop.example/?utm_source=partner&utm_medium=api", "", "other"),
        ] {
            assert_eq!(channel(&Campaign::of(landing), referrer, landing), expected, "{landing} {referrer}");
        }
    }
}
