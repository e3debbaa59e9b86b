//! `GET /v3/{siteCode}`: the published configuration file.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use fanal_service::http::{Body, Request, Response, empty};
use fanal_service::problem::Problem;
use fanal_storage::catalogue::Configuration;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, IF_MODIFIED_SINCE, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::query::Query;
use crate::{Delivery, unknown_site};

/// Smaller files are sent as they are.
const COMPRESS_FROM_BYTES: usize = 512;

impl Delivery {
    pub(crate) fn configuration(&self, site_code: &str, request: &Request) -> Response {
        let query = Query::of(request.uri());
        let environment = query.get("environment");
        match self.catalogue.configurations().get(site_code, environment.as_deref()) {
            Some(configuration) => answer(&configuration, request.headers()),
            None if self.catalogue.sites().contains(site_code) => {
                nothing_published(site_code).into_response()
            }
            None => unknown_site(site_code).into_response(),
        }
    }
}

fn answer(configuration: &Configuration, asked: &HeaderMap) -> Response {
    let last_modified =
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(configuration.last_modified_s));
    // SDKs echo the text that they got. A date comparison would answer 304 to a
    // client that knows a later file than the one that is served now.
    let unchanged =
        asked.get(IF_MODIFIED_SINCE).is_some_and(|known| known.as_bytes() == last_modified.as_bytes());
    let mut response = if unchanged { empty(StatusCode::NOT_MODIFIED) } else { file(configuration, asked) };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&last_modified) {
        headers.insert(LAST_MODIFIED, value);
    }
    // Caches on the way must ask each time: a publication counts at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

fn file(configuration: &Configuration, asked: &HeaderMap) -> Response {
    let compress = configuration.document.len() >= COMPRESS_FROM_BYTES && accepts_gzip(asked);
    let bytes = if compress { configuration.compressed(gzip) } else { configuration.document.clone() };
    let mut response = Response::new(Body::full(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if compress {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
        named && !refused
    })
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    // Writing into memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

fn nothing_published(site_code: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "configuration_missing",
        "No configuration",
        format!(
            "Site `{site_code}` has no published SDK configuration. Publish one with PUT /api/v1/sites/{site_code}/sdk-configuration."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_where_it_is_accepted() {
        for (header, accepted) in [
            ("gzip, deflate", true),
            ("br;q=1, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let mut asked = HeaderMap::new();
            asked.insert(ACCEPT_ENCODING, HeaderValue::from_static(header));
            assert_eq!(accepts_gzip(&asked), accepted, "{header}");
        }
    }
}
