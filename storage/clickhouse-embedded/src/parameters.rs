//! Parameters of a request: from the URL and from a multipart form.
//!
//! Duty: sort names into the few that the front understands and the rest,
//! which are settings for the engine. It never judges a setting.

use crate::exception::Exception;

/// Names that the server reads and this front has no use for.
const IGNORED: [&str; 11] = [
    "quota_key",
    "role",
    "stacktrace",
    "buffer_size",
    "session_timeout",
    "session_check",
    "close_session",
    "client_protocol_version",
    "http_make_head_request",
    "framing",
    "http_response_buffer_size",
];

/// Sorted parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) query: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) default_format: Option<String>,
    pub(crate) query_id: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// A session was asked for; it is not kept.
    pub(crate) session: bool,
    pub(crate) wait_end_of_query: bool,
    pub(crate) compress: bool,
    pub(crate) decompress: bool,
    /// `None` when the request does not say.
    pub(crate) http_compression: Option<bool>,
    pub(crate) readonly: Option<String>,
    /// `param_NAME`: values of `{NAME:Type}` in the statement.
    pub(crate) substitutions: Vec<(String, String)>,
    /// Everything else.
    pub(crate) settings: Vec<(String, String)>,
}

fn is_on(value: &str) -> bool {
    matches!(value, "1" | "true" | "True" | "TRUE" | "yes" | "on")
}

impl Parameters {
    /// Reads the query part of a URL.
    pub(crate) fn of_url(query: &str) -> Self {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            parameters.put(&name, value.into_owned());
        }
        parameters
    }

    /// Takes one parameter; the last of a name wins.
    pub(crate) fn put(&mut self, name: &str, value: String) {
        match name {
            "query" => self.query = Some(value),
            "database" => self.database = Some(value).filter(|name| !name.is_empty()),
            "default_format" => self.default_format = Some(value).filter(|name| !name.is_empty()),
            "query_id" => self.query_id = Some(value).filter(|id| !id.is_empty()),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "session_id" => self.session = !value.is_empty(),
            "wait_end_of_query" | "http_wait_end_of_query" => self.wait_end_of_query = is_on(&value),
            "compress" => self.compress = is_on(&value),
            "decompress" => self.decompress = is_on(&value),
            "enable_http_compression" => self.http_compression = Some(is_on(&value)),
            "readonly" => self.readonly = Some(value),
            name if IGNORED.contains(&name) => {}
            name => match name.strip_prefix("param_") {
                Some(name) => self.substitutions.push((name.to_owned(), value)),
                None => self.settings.push((name.to_owned(), value)),
            },
        }
    }
}

/// The boundary of a multipart form, if the content type names one.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let named = rest.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    named.filter(|boundary| !boundary.is_empty())
}

/// Reads the fields of a whole multipart form into the parameters.
pub(crate) fn read_form(body: &[u8], boundary: &str, parameters: &mut Parameters) -> Result<(), Exception> {
    let bad =
        |reason: &str| Exception::bad_arguments(&format!("the multipart form is not readable: {reason}"));
    let mark = format!("--{boundary}");
    let mut rest = body
        .strip_prefix(mark.as_bytes())
        .or_else(|| {
            let first = format!("\r\n{mark}");
            memchr::memmem::find(body, first.as_bytes()).map(|at| &body[at + first.len()..])
        })
        .ok_or_else(|| bad("the boundary is missing"))?;
    let next_mark = format!("\r\n{mark}");
    while !rest.starts_with(b"--") {
        let part =
            rest.strip_prefix(b"\r\n").ok_or_else(|| bad("a boundary is not followed by a line end"))?;
        let end = memchr::memmem::find(part, next_mark.as_bytes()).ok_or_else(|| bad("it is cut off"))?;
        let (field, after) = (&part[..end], &part[end + next_mark.len()..]);
        let split = memchr::memmem::find(field, b"\r\n\r\n").ok_or_else(|| bad("a field has no head"))?;
        let (head, value) = (&field[..split], &field[split + 4..]);
        let head = std::str::from_utf8(head).map_err(|_| bad("a field's head is not UTF-8"))?;
        let (name, is_file) = field_name(head).ok_or_else(|| bad("a field has no name"))?;
        if is_file {
            return Err(Exception::not_implemented(
                "external tables (files of a multipart form) are not supported by the embedded ClickHouse",
            ));
        }
        let value = std::str::from_utf8(value).map_err(|_| bad("a field's value is not UTF-8"))?;
        parameters.put(&name, value.to_owned());
        rest = after;
    }
    Ok(())
}

/// Name of a field, and whether it is a file.
fn field_name(head: &str) -> Option<(String, bool)> {
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut name = None;
    let mut is_file = false;
    for part in disposition.split(';').skip(1) {
        let Some((key, value)) = part.split_once('=') else { continue };
        match key.trim() {
            "name" => name = Some(value.trim().trim_matches('"').to_owned()),
            "filename" | "filename*" => is_file = true,
            _ => {}
        }
    }
    name.map(|name| (name, is_file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_settings() {
        let read = Parameters::of_url("query=SELECT+1%3B&database=d&max_threads=2&param_x=%27&session_id=s");
        assert_eq!(read.query.as_deref(), Some("SELECT 1;"));
        assert_eq!(read.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(read.substitutions, [("x".to_owned(), "'".to_owned())]);
        assert!(read.session);
    }

    #[test]
    fn form_fields_become_parameters() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:String}\r\n\
            --B\r\nContent-Disposition: form-data; name=\"param_a\"\r\nContent-Type: text/plain\r\n\r\nx\r\ny\r\n--B--\r\n";
        let mut read = Parameters::default();
        read_form(body, "B", &mut read).unwrap();
        assert_eq!(read.query.as_deref(), Some("SELECT {a:String}"));
        assert_eq!(read.substitutions, [("a".to_owned(), "x\r\ny".to_owned())]);
        assert_eq!(boundary("multipart/form-data; boundary=\"B\"").as_deref(), Some("B"));
    }

    #[test]
    fn a_cut_form_is_an_error() {
        let whole = b"--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1\r\n--B--\r\n";
        for end in 0..whole.len() - 4 {
            assert!(read_form(&whole[..end], "B", &mut Parameters::default()).is_err(), "{end}");
        }
    }
}
