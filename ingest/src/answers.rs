//! The answers of the collector. Errors are never 403: Python SDKs take it for
//! success and throw the data away.

use std::sync::LazyLock;
use std::time::Duration;

use fanal_parser::RequestError;
use fanal_service::http::FixedAnswer;
use fanal_service::problem::Problem;
use fanal_storage::log::AppendError;
use http::StatusCode;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};

pub(crate) const METHODS: &str = "GET, POST, OPTIONS";

/// Pause that a sender is asked for when the disk is only slow, or really full.
const RETRY_SOON_S: u32 = 1;
const RETRY_LATER_S: u32 = 30;
/// Rules stay for minutes and more.
const RETRY_RULE_S: u32 = 60;

/// A transparent image of one pixel.
const PIXEL: &[u8] = &[
    b'G', b'I', b'F', b'8', b'9', b'a', 1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21, 0xf9, 4, 1,
    0, 0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b,
];

/// Everything is durable. A cached answer would swallow the next beacon.
static ACCEPTED: LazyLock<FixedAnswer> = LazyLock::new(|| {
    let headers = [(CACHE_CONTROL, "no-store"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    FixedAnswer::new(StatusCode::NO_CONTENT, headers, b"")
});
static ACCEPTED_IMAGE: LazyLock<FixedAnswer> = LazyLock::new(|| {
    let headers =
        [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "image/gif"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    FixedAnswer::new(StatusCode::OK, headers, PIXEL)
});

pub(crate) fn accepted(as_image: bool) -> &'static FixedAnswer {
    if as_image { &ACCEPTED_IMAGE } else { &ACCEPTED }
}

pub(crate) fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "path_unknown",
        "Unknown path",
        "The collector answers /visit/events and /visit/events.gif.",
    )
}

pub(crate) fn site_missing() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "site_code_missing",
        "Site code missing",
        "Put the site's code into the query, as in /visit/events?siteCode=CODE.",
    )
}

pub(crate) fn site_unknown(site_code: &str) -> Problem {
    let shown: String = site_code.chars().take(64).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "site_unknown",
        "Unknown site",
        "No site has this code. Check `siteCode`, or create the site in the admin API.",
    )
    .with("siteCode", shown)
}

pub(crate) fn too_many(error: RequestError) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_lines", "Too many lines", error.to_string())
}

pub(crate) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request_too_large",
        "Request too large",
        "The lines of this request are too much for one write. Send them in several requests.",
    )
}

pub(crate) fn busy() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "bodies_overloaded",
        "Not stored",
        "Nothing was stored: the server receives too much at once. Send it again in a moment.",
    )
    .retry_after(RETRY_SOON_S)
}

/// The site has used its quota.
pub(crate) fn over_quota(free_in: Duration) -> Problem {
    let seconds = u32::try_from(free_in.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "site_over_quota",
        "Too many lines",
        "Nothing was stored: this site sends more lines per second than its quota. Send it again after the seconds that Retry-After names.",
    )
    .retry_after(seconds)
}

/// A rule of the operator keeps this out.
pub(crate) fn refused_by_rule() -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "refused_by_rule",
        "Refused",
        "Nothing was stored: the operator of this server refuses such requests for now. Send it again later.",
    )
    .retry_after(RETRY_RULE_S)
}

/// What a sender is told about a log that did not take a batch.
pub(crate) fn not_appended(error: &AppendError) -> Problem {
    let unavailable = |code, detail: &'static str, retry_s| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, "Not stored", detail).retry_after(retry_s)
    };
    match error {
        AppendError::TooLarge { .. } => too_large(),
        AppendError::Overloaded => unavailable(
            "event_log_overloaded",
            "Nothing was stored. Send it again in a moment.",
            RETRY_SOON_S,
        ),
        AppendError::Full => unavailable(
            "event_log_full",
            "Nothing was stored: the server has no space. Send it again later.",
            RETRY_LATER_S,
        ),
        AppendError::Closed => unavailable(
            "event_log_closed",
            "Nothing was stored: the server stops. Send it again.",
            RETRY_SOON_S,
        ),
        AppendError::Unavailable(_) => unavailable(
            "event_log_unavailable",
            "Nothing was stored: the server's event log is away. Send it again in a moment.",
            RETRY_SOON_S,
        ),
        AppendError::InDoubt(_) => unavailable(
            "event_log_unconfirmed",
            "The server's event log did not confirm in time. Send the same again in a moment.",
            RETRY_SOON_S,
        ),
        AppendError::Poisoned | AppendError::Io(_) => {
            unavailable("event_log_failed", "The server's disk failed. Send it again later.", RETRY_LATER_S)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pixel_is_a_whole_image() {
        assert_eq!(PIXEL.len(), 43);
        assert!(PIXEL.starts_with(b"GIF89a") && PIXEL.ends_with(b";"));
    }
}
