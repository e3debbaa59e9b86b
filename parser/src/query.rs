//! The query of a tracking request.

use std::borrow::Cow;

use crate::decode::decode;
use crate::name::{Name, Pair, Pairs};

/// What the query says about the whole request. An empty value is none; of a
/// repeated name the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query<'a> {
    pub site_code: Option<Cow<'a, str>>,
    pub sdk_name: Option<Cow<'a, str>>,
    pub sdk_version: Option<Cow<'a, str>>,
    /// The user agent is in the body, not in the header.
    pub body_ua: bool,
    pub visitor_code: Option<Cow<'a, str>>,
    pub mapping_value: Option<Cow<'a, str>>,
}

/// Reads the part of a URL behind `?`.
#[must_use]
pub fn parse_query(query: &[u8]) -> Query<'_> {
    let mut read = Query::default();
    for Pair { name, value, .. } in Pairs::of_query(query).filter(|pair| !pair.value.is_empty()) {
        let field = match Name::of(name) {
            Some(Name::SiteCode) => &mut read.site_code,
            Some(Name::SdkName) => &mut read.sdk_name,
            Some(Name::SdkVersion) => &mut read.sdk_version,
            Some(Name::VisitorCode) => &mut read.visitor_code,
            Some(Name::MappingValue) => &mut read.mapping_value,
            Some(Name::BodyUa) => {
                read.body_ua |= value.eq_ignore_ascii_case(b"true");
                continue;
            }
            _ => continue,
        };
        field.get_or_insert_with(|| decode(value));
    }
    read
}

const SITE_CODE: &[u8] = b"siteCode";
const EVENT_TYPE: &[u8] = b"eventType";

/// Only the site of [`parse_query`].
pub(crate) fn site_code(query: &[u8]) -> Option<Cow<'_, str>> {
    let is_site = |pair: &Pair<'_>| !pair.value.is_empty() && pair.name == SITE_CODE;
    Pairs::of_query(query).find(is_site).map(|pair| decode(pair.value))
}

/// Whether the query is a tracking line itself.
pub(crate) fn names_an_event(query: &[u8]) -> bool {
    Pairs::of_query(query).any(|pair| !pair.value.is_empty() && pair.name == EVENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_every_sdk_is_read() {
        let python = parse_query(b"sdkName=PYTHON&sdkVersion=3.22.2&siteCode=abcdefghij&bodyUa=true");
        assert_eq!(python.site_code.as_deref(), Some("abcdefghij"));
        assert_eq!(python.sdk_name.as_deref(), Some("PYTHON"));
        assert_eq!(python.sdk_version.as_deref(), Some("3.22.2"));
        assert!(python.body_ua);
        let script = parse_query(b"siteCode=abcdefghij&sdkName=javascript&sdkVersion=4.17.1");
        assert_eq!(script.sdk_name.as_deref(), Some("javascript"));
        assert!(!script.body_ua);
        assert_eq!(script.visitor_code, None);
    }

    #[test]
    fn empty_values_are_none_and_the_first_value_counts() {
        let query =
            parse_query(b"siteCode=&siteCode=a&siteCode=b&visitorCode=%C3%A9&mappingValue&bodyUa=no&x");
        assert_eq!(query.site_code.as_deref(), Some("a"));
        assert_eq!(query.visitor_code.as_deref(), Some("é"));
        assert_eq!(query.mapping_value, None);
        assert!(!query.body_ua);
        assert_eq!(parse_query(b""), Query::default());
    }

    #[test]
    fn the_site_alone_is_what_the_whole_query_says() {
        for query in ["", "siteCode", "siteCode=&siteCode=%61b&siteCode=c", "x=1&siteCode=s", "sitecode=s"] {
            assert_eq!(site_code(query.as_bytes()), parse_query(query.as_bytes()).site_code, "{query}");
        }
        assert!(names_an_event(b"siteCode=s&eventType=page"));
        assert!(!names_an_event(b"siteCode=s&eventType=&x=eventType"));
    }
}
