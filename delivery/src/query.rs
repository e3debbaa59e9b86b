//! Reads parameters of a query or a form.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A query as SDKs write it: `%XX` is decoded, `+` is a plus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    pub(crate) fn of(uri: &'q http::Uri) -> Self {
        Self(uri.query().unwrap_or(""))
    }

    /// The first value of that name; an empty value counts as none.
    pub(crate) fn get(self, name: &str) -> Option<Cow<'q, str>> {
        let raw = raw(self.0, name)?;
        Some(percent_decode_str(raw).decode_utf8_lossy()).filter(|value| !value.is_empty())
    }
}

/// The value of that name in a form body, where `+` is a space.
pub(crate) fn form_value(form: &str, name: &str) -> Option<String> {
    let spaced = raw(form, name)?.replace('+', " ");
    Some(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

fn raw<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split('&').find_map(|pair| match pair.split_once('=') {
        Some((given, value)) if given == name => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_is_a_plus_in_a_query_and_a_space_in_a_form() {
        let uri: http::Uri = "/x?a=1+2%20%C3%A9&b=&c".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.get("a").unwrap(), "1+2 é");
        assert_eq!(query.get("b"), None);
        assert_eq!(query.get("c"), None);
        assert_eq!(form_value("x=1&a=1+2%2B", "a").unwrap(), "1 2+");
    }
}
