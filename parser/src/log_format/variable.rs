//! The variables of nginx: what beacons need of them, and which bytes their values
//! may hold.
//!
//! Never reads a value. What must stay true: a set holds every byte that a client, or
//! nginx, can put into the value; for variables that are not known here that is every
//! byte but a line feed.

use super::bytes::ByteSet;

/// What a variable says about a request, of what a beacon needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Msec,
    TimeIso8601,
    TimeLocal,
    Status,
    Method,
    /// Method, URI and protocol.
    Request,
    RequestUri,
    /// `$uri$is_args$args`.
    Target,
    Path,
    Query,
    /// `$is_args$args`.
    MarkedQuery,
    RemoteAddr,
    ProxyProtocolAddr,
    ForwardedFor,
    RealIp,
    RealipRemoteAddr,
    UserAgent,
    Referer,
    Cookie,
    VisitorCookie,
    Body,
}

/// What is known of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) role: Option<Role>,
    /// Bytes of a value, of any version of nginx.
    pub(super) bytes: ByteSet,
    /// Since 1.21.1, which refuses blanks and control characters in URIs and hosts.
    pub(super) bytes_now: ByteSet,
    /// All values have this length.
    pub(super) width: Option<usize>,
    /// There may be no value.
    pub(super) may_be_absent: bool,
}

const fn set(bytes: &[u8]) -> ByteSet {
    ByteSet::of(bytes)
}

const DECODED_PATH: ByteSet = ByteSet::ALL.without(set(b"\0"));
const ADDRESS: ByteSet = ByteSet::ALPHANUMERIC.and(set(b".:"));
const DECIMAL: ByteSet = ByteSet::DIGITS.and(set(b"."));
/// What the configuration says: the operator's own words.
const CONFIGURED: ByteSet = ByteSet::VISIBLE.without(set(b"\"'\\"));
const UNKNOWN: ByteSet = ByteSet::ALL.without(set(b"\n"));

impl Variable {
    /// What nginx's own log module writes: always there, never escaped.
    const fn logged(bytes: ByteSet) -> Self {
        Self { role: None, bytes, bytes_now: bytes, width: None, may_be_absent: false }
    }

    const fn of(bytes: ByteSet) -> Self {
        Self { may_be_absent: true, ..Self::logged(bytes) }
    }

    const fn is(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    const fn wide(self, width: usize) -> Self {
        Self { width: Some(width), ..self }
    }

    const fn now(self, bytes_now: ByteSet) -> Self {
        Self { bytes_now, ..self }
    }

    /// `$uri$is_args$args`, read as one.
    pub(super) const TARGET: Self = Self::of(DECODED_PATH).is(Role::Target);
    /// `$is_args$args`, read as one.
    pub(super) const MARKED_QUERY: Self =
        Self::of(ByteSet::HEADER).now(ByteSet::VISIBLE).is(Role::MarkedQuery);

    /// The variable of that name; nginx does not look at case.
    pub(super) fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        Self::of_request(&name).or_else(|| Self::of_connection(&name)).unwrap_or_else(|| {
            let family = |prefix: &str| name.starts_with(prefix);
            match () {
                () if family("cookie_") => Self::of(ByteSet::HEADER.without(set(b";"))),
                () if family("arg_") => {
                    let bytes = ByteSet::HEADER.without(set(b"&"));
                    Self::of(bytes).now(ByteSet::VISIBLE.without(set(b"&")))
                }
                () if family("http_") || family("sent_http_") || family("upstream_http_") => {
                    Self::of(ByteSet::HEADER)
                }
                () => Self::of(UNKNOWN),
            }
        })
    }

    fn of_request(name: &str) -> Option<Self> {
        let header = Self::of(ByteSet::HEADER);
        Some(match name {
            "msec" => Self::logged(DECIMAL).is(Role::Msec),
            "time_iso8601" => Self::logged(ByteSet::DIGITS.and(set(b"T:+-"))).wide(25).is(Role::TimeIso8601),
            "time_local" => {
                Self::logged(ByteSet::ALPHANUMERIC.and(set(b"/: +-"))).wide(26).is(Role::TimeLocal)
            }
            "status" => Self::logged(ByteSet::DIGITS).wide(3).is(Role::Status),
            "request_method" => Self::of(ByteSet::range(b'A', b'Z').and(set(b"_-"))).is(Role::Method),
            // Also the first bytes of what is no HTTP at all.
            "request" => Self::of(ByteSet::ALL.without(set(b"\r\n"))).is(Role::Request),
            "request_uri" => header.now(ByteSet::VISIBLE).is(Role::RequestUri),
            "uri" | "document_uri" => Self::of(DECODED_PATH).is(Role::Path),
            "args" | "query_string" => header.now(ByteSet::VISIBLE).is(Role::Query),
            "remote_addr" => Self::of(ADDRESS).is(Role::RemoteAddr),
            "proxy_protocol_addr" => Self::of(ADDRESS).is(Role::ProxyProtocolAddr),
            "realip_remote_addr" => Self::of(ADDRESS).is(Role::RealipRemoteAddr),
            "http_x_forwarded_for" => header.is(Role::ForwardedFor),
            "http_x_real_ip" => header.is(Role::RealIp),
            "http_user_agent" => header.is(Role::UserAgent),
            "http_referer" => header.is(Role::Referer),
            "http_cookie" => header.is(Role::Cookie),
            "cookie_kameleoonvisitorcode" => {
                Self::of(ByteSet::HEADER.without(set(b";"))).is(Role::VisitorCookie)
            }
            "request_body" => Self::of(ByteSet::ALL).is(Role::Body),
            _ => return None,
        })
    }

    /// What no beacon needs, but formats commonly have.
    fn of_connection(name: &str) -> Option<Self> {
        Some(match name {
            "bytes_sent" | "body_bytes_sent" | "request_length" | "connection" | "connection_requests" => {
                Self::logged(ByteSet::DIGITS)
            }
            "request_time" | "connection_time" => Self::logged(DECIMAL),
            "pipe" => Self::logged(set(b"p.")),
            "server_port" | "remote_port" | "realip_remote_port" | "proxy_protocol_port" | "pid" => {
                Self::of(ByteSet::DIGITS)
            }
            "gzip_ratio" => Self::of(DECIMAL),
            "request_id" => Self::of(ByteSet::ALPHANUMERIC),
            "scheme" | "https" | "http2" | "http3" | "request_completion" => Self::of(ByteSet::ALPHANUMERIC),
            "is_args" => Self::of(set(b"?")),
            "server_protocol" | "ssl_protocol" => Self::of(ByteSet::ALPHANUMERIC.and(set(b"/."))),
            "ssl_cipher" => Self::of(ByteSet::ALPHANUMERIC.and(set(b"-_"))),
            "server_addr" | "proxy_protocol_server_addr" => Self::of(ADDRESS),
            "server_name" | "hostname" | "nginx_version" => Self::of(CONFIGURED),
            "host" => {
                let slash = set(b"/");
                Self::of(ByteSet::HEADER.without(slash)).now(ByteSet::VISIBLE.without(slash))
            }
            // Out of a password field, or decoded: any byte.
            "remote_user" => Self::of(ByteSet::ALL.without(set(b":"))),
            "request_filename" | "realpath_root" | "fastcgi_script_name" | "fastcgi_path_info" => {
                Self::of(DECODED_PATH)
            }
            "binary_remote_addr" => Self::of(ByteSet::ALL),
            "upstream_addr"
            | "upstream_status"
            | "upstream_response_time"
            | "upstream_response_length"
            | "upstream_connect_time"
            | "upstream_header_time"
            | "upstream_bytes_sent"
            | "upstream_bytes_received" => Self::of(CONFIGURED.and(set(b" "))),
            _ => return None,
        })
    }
}
