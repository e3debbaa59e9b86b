//! A request as the engine's thread gets it: who asks, what for, in which form
//! the answer is wanted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use subtle::ConstantTimeEq;

use crate::ServerConfig;
use crate::exception::{Exception, code};
use crate::parameters::{Parameters, boundary};
use crate::reply::Encoding;

/// Longest query id that is taken over into headers and the engine's list.
const QUERY_ID_BYTES_MAX: usize = 256;

/// What the head of a request says.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) parameters: Parameters,
    /// Only reading is allowed, because of the method.
    pub(crate) read_only_method: bool,
    pub(crate) content_encoding: String,
    pub(crate) form_boundary: Option<String>,
    pub(crate) query_id: String,
}

impl Request {
    /// Reads the head and checks user and password.
    pub(crate) fn read(parts: &Parts, config: &ServerConfig) -> Result<Self, Exception> {
        let mut parameters = Parameters::of_url(parts.uri.query().unwrap_or_default());
        check_user(&parts.headers, &parameters, config)?;
        take_headers(&parts.headers, &mut parameters);
        let query_id = match &parameters.query_id {
            Some(id)
                if id.len() > QUERY_ID_BYTES_MAX || !id.bytes().all(|byte| (b' '..=b'~').contains(&byte)) =>
            {
                return Err(Exception::bad_arguments(
                    "query_id must be up to 256 printable ASCII characters",
                ));
            }
            Some(id) => id.clone(),
            None => random_id(),
        };
        Ok(Self {
            parameters,
            read_only_method: parts.method != Method::POST,
            content_encoding: text(&parts.headers, CONTENT_ENCODING.as_str()).trim().to_ascii_lowercase(),
            form_boundary: boundary(text(&parts.headers, CONTENT_TYPE.as_str())),
            query_id,
        })
    }

    /// How the answer is compressed.
    pub(crate) fn encoding(&self, headers: &HeaderMap) -> Encoding {
        if self.parameters.compress {
            return Encoding::Blocks;
        }
        // As on the server, compression over HTTP is on unless it is refused.
        if self.parameters.http_compression == Some(false) {
            return Encoding::Plain;
        }
        let accepted = text(headers, ACCEPT_ENCODING.as_str()).to_ascii_lowercase();
        let names = accepted.split(',').filter(|name| !name.replace(' ', "").ends_with(";q=0"));
        let mut names: Vec<&str> =
            names.map(|name| name.split(';').next().unwrap_or_default().trim()).collect();
        names.sort_unstable();
        let has = |name: &str| names.binary_search(&name).is_ok();
        // Without the parameter only encodings that every HTTP client undoes:
        // some announce lz4 and expect it inside of ClickHouse's blocks.
        let asked = self.parameters.http_compression == Some(true);
        match () {
            () if asked && has("lz4") => Encoding::Lz4,
            () if asked && has("zstd") => Encoding::Zstd,
            () if asked && has("gzip") => Encoding::Gzip,
            () if asked && has("deflate") => Encoding::Deflate,
            () => Encoding::Plain,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Headers that stand for parameters; a parameter wins.
fn take_headers(headers: &HeaderMap, parameters: &mut Parameters) {
    let named = |name: &str| Some(text(headers, name)).filter(|value| !value.is_empty()).map(str::to_owned);
    if parameters.database.is_none() {
        parameters.database = named("x-clickhouse-database");
    }
    if parameters.default_format.is_none() {
        parameters.default_format = named("x-clickhouse-format");
    }
}

/// User and password: from the authorization header, ClickHouse's own headers
/// or the URL.
fn check_user(headers: &HeaderMap, parameters: &Parameters, config: &ServerConfig) -> Result<(), Exception> {
    let (user, password) = credentials(headers, parameters)?;
    let user_fits = user.is_empty() || bool::from(user.as_bytes().ct_eq(config.user.as_bytes()));
    let password_fits = match &config.password {
        Some(wanted) => bool::from(password.as_bytes().ct_eq(wanted.as_bytes())),
        None => true,
    };
    if user_fits & password_fits {
        return Ok(());
    }
    // One text for both, so that names cannot be guessed.
    Err(Exception::new(
        code::AUTHENTICATION_FAILED,
        "AUTHENTICATION_FAILED",
        "Authentication failed: password is incorrect, or there is no user with such name",
    ))
}

fn credentials(headers: &HeaderMap, parameters: &Parameters) -> Result<(String, String), Exception> {
    let header = text(headers, AUTHORIZATION.as_str());
    if let Some((scheme, encoded)) = header.split_once(' ')
        && scheme.eq_ignore_ascii_case("basic")
    {
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(|| {
            Exception::bad_arguments("the Authorization header is not Basic with base64 of user:password")
        })?;
        let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
        return Ok((user.to_owned(), password.to_owned()));
    }
    let user = parameters.user.as_deref().unwrap_or_else(|| text(headers, "x-clickhouse-user"));
    let password = parameters.password.as_deref().unwrap_or_else(|| text(headers, "x-clickhouse-key"));
    Ok((user.to_owned(), password.to_owned()))
}

/// A random id in the form of a UUID, version 4.
fn random_id() -> String {
    let bits: u128 = rand::random();
    let bits = (bits & !(0xf_u128 << 76) & !(0x3_u128 << 62)) | (0x4_u128 << 76) | (0x2_u128 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(builder: hyper::http::request::Builder, password: Option<&str>) -> Result<Request, Exception> {
        let mut config = ServerConfig::new("x".into(), "y".into());
        config.password = password.map(str::to_owned);
        Request::read(&builder.body(()).unwrap().into_parts().0, &config)
    }

    fn at(uri: &str) -> hyper::http::request::Builder {
        hyper::Request::builder().uri(uri)
    }

    #[test]
    fn every_way_to_name_a_password_is_checked() {
        assert!(read(at("/?user=default&password=p"), Some("p")).is_ok());
        assert!(
            read(at("/").header("x-clickhouse-user", "default").header("x-clickhouse-key", "p"), Some("p"))
                .is_ok()
        );
        assert!(read(at("/").header("authorization", "Basic ZGVmYXVsdDpw"), Some("p")).is_ok());
        for wrong in [
            at("/"),
            at("/?user=default&password=q"),
            at("/?user=other&password=p"),
            at("/").header("authorization", "Basic ZGVmYXVsdDpx"),
        ] {
            assert_eq!(read(wrong, Some("p")).unwrap_err().code, code::AUTHENTICATION_FAILED);
        }
        assert!(read(at("/?user=nobody"), None).is_err());
        assert!(read(at("/").header("authorization", "Basic !"), None).is_err());
    }

    #[test]
    fn compression_is_given_only_when_asked_for() {
        let encoding = |uri: &str, accept: &str| {
            let parts = at(uri).header("accept-encoding", accept).body(()).unwrap().into_parts().0;
            let config = ServerConfig::new("x".into(), "y".into());
            Request::read(&parts, &config).unwrap().encoding(&parts.headers)
        };
        assert_eq!(encoding("/", "gzip"), Encoding::Plain);
        assert_eq!(encoding("/?enable_http_compression=1", "gzip, zstd"), Encoding::Zstd);
        assert_eq!(encoding("/?enable_http_compression=1", "gzip, zstd; q=0"), Encoding::Gzip);
        assert_eq!(encoding("/?compress=1", "gzip"), Encoding::Blocks);
    }

    #[test]
    fn query_id_must_be_printable() {
        assert_eq!(read(at("/?query_id=a"), None).unwrap().query_id, "a");
        assert!(read(at("/?query_id=a%0d%0ab"), None).is_err());
        assert_eq!(read(at("/"), None).unwrap().query_id.len(), 36);
    }
}
