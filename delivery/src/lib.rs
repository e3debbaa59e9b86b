//! What goes out to browsers and SDKs: configuration files, tokens, real-time
//! events, and the reads of visitor data and maps.
//!
//! Never takes tracking data in. What must stay true: a configuration is
//! answered from memory; every answer carries the cross-origin header; no
//! answer is 403, or 204 or 304 that was not asked for, because SDKs take those
//! for success and run without flags.

mod attempts;
mod configuration;
mod metrics;
mod query;
mod sse;
mod token;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanal_service::cors;
use fanal_service::http::{Connection, Handler, Request, Response, bytes_answer};
use fanal_service::problem::Problem;
use fanal_service::secret::SecretError;
use fanal_storage::catalogue::Catalogue;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Method, StatusCode};

use query::Query;
pub use sse::SseHandler;
pub use token::{Grant, TOKEN_LIFETIME};

/// The paths that this role answers, as a 404 lists them.
pub const PATHS: [&str; 4] =
    ["GET /v3/{siteCode}", "POST /oauth/token", "GET /visit/visitor", "GET /map/map"];

/// The HTTP behaviour of the role, without the real-time stream ([`SseHandler`]).
#[derive(Debug)]
pub struct Delivery {
    catalogue: Catalogue,
    tokens: token::Tokens,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'p> {
    Configuration(&'p str),
    Token,
    Visitor,
    Map,
}

impl<'p> Route<'p> {
    fn of(path: &'p str) -> Option<Self> {
        match path {
            "/oauth/token" => Some(Self::Token),
            "/visit/visitor" => Some(Self::Visitor),
            "/map/map" => Some(Self::Map),
            _ => path
                .strip_prefix("/v3/")
                .filter(|site_code| !site_code.is_empty() && !site_code.contains('/'))
                .map(Self::Configuration),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Configuration(_) => "configuration",
            Self::Token => "token",
            Self::Visitor => "visitor",
            Self::Map => "map",
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Token => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Token => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }
}

impl Delivery {
    /// `token_key` is a file in the data folder; it is made if it is not there.
    /// Tokens stay valid over restarts as long as it stays.
    pub fn new(catalogue: Catalogue, token_key: &Path) -> Result<Self, SecretError> {
        metrics::describe();
        Ok(Self { catalogue, tokens: token::Tokens::new(token_key)? })
    }

    /// Whether the path is one of this role's, for listeners that serve several roles.
    #[must_use]
    pub fn serves(path: &str) -> bool {
        Route::of(path).is_some()
    }

    /// The site that a bearer token was given to, if it is ours and still valid.
    #[must_use]
    pub fn grant(&self, bearer_token: &str) -> Option<Grant> {
        self.tokens.check(bearer_token, now())
    }

    /// Answers a request; a path of nobody gets a 404 that lists the known ones.
    pub async fn handle(&self, request: Request, connection: &Connection) -> Response {
        let path = request.uri().path().to_owned();
        let route = Route::of(&path);
        let mut response = match route {
            None => not_found(&path).into_response(),
            Some(route) if request.method() == Method::OPTIONS => {
                cors::preflight(request.headers(), route.methods())
            }
            Some(route) if !route.takes(request.method()) => {
                Problem::method_not_allowed(route.methods()).into_response()
            }
            Some(Route::Configuration(site_code)) => self.configuration(site_code, &request),
            Some(Route::Token) => token::answer(&self.tokens, &self.catalogue, request, connection).await,
            Some(Route::Visitor | Route::Map) => self.nothing_known(&request),
        };
        cors::allow(response.headers_mut());
        metrics::answered(route.map_or("unknown", Route::name), response.status());
        response
    }

    /// `{}`: "nothing is known", the answer that all SDKs take.
    fn nothing_known(&self, request: &Request) -> Response {
        let query = Query::of(request.uri());
        match self.known_site(query.get("siteCode").as_deref()) {
            Err(problem) => problem.into_response(),
            Ok(()) => {
                let mut response = bytes_answer(StatusCode::OK, "application/json", "{}");
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
        }
    }

    fn known_site(&self, site_code: Option<&str>) -> Result<(), Problem> {
        let Some(site_code) = site_code else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "site_missing",
                "No site",
                "Add `siteCode` to the query: the code of the site that the SDK was given.",
            ));
        };
        if self.catalogue.sites().contains(site_code) { Ok(()) } else { Err(unknown_site(site_code)) }
    }
}

impl Handler for Delivery {
    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        Delivery::handle(self, request, connection).await
    }
}

fn unknown_site(site_code: &str) -> Problem {
    let shown: String = site_code.chars().take(64).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "site_unknown",
        "Unknown site",
        format!(
            "There is no site `{shown}`. Check the site code that the SDK was given, or create the site in the admin API."
        ),
    )
}

fn not_found(path: &str) -> Problem {
    let shown: String = path.chars().take(100).collect();
    let detail = format!(
        "There is nothing at `{shown}`. Known paths: {}, POST /visit/events; real-time events are on their own port: GET /sse.",
        PATHS.join(", ")
    );
    Problem::new(StatusCode::NOT_FOUND, "path_unknown", "Unknown path", detail)
}

/// Time since 1970; a clock before that counts as 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_are_ours() {
        assert_eq!(Route::of("/v3/shop"), Some(Route::Configuration("shop")));
        for other in ["/v3/", "/v3", "/v3/a/b", "/visit/events", "/", "/oauth/token/"] {
            assert_eq!(Route::of(other), None, "{other}");
        }
    }
}
