//! The admin API: sites, SDK configurations, token clients; health and metrics.
//!
//! Never serves browsers of visitors. What must stay true: nothing below
//! `/api/v1` or `/internal` answers without the token, a refused request
//! changes nothing, and every route stands in `openapi.json`.

mod clients;
mod problems;
mod routes;
mod sdk_configuration;
mod sites;

use std::future::Future;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use fanal_service::http::{Connection, Handler, Request, Response, bytes_answer};
use fanal_service::operations::Operations;
use fanal_service::problem::Problem;
use fanal_service::secret::Secret;
use fanal_storage::catalogue::Catalogue;
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderValue, Method, StatusCode};

pub use routes::ROUTES;
use routes::Target;

/// The OpenAPI document, as it is served.
pub const OPENAPI: &str = include_str!("../openapi.json");
const OPENAPI_PATH: &str = "/api/openapi.json";

/// A route that the program adds, such as `/internal/v1/...` for its own
/// commands. Asked only after the token was right.
pub trait ExtraRoute: Send + Sync {
    /// Whether this route answers the path, with any method.
    fn matches(&self, path: &str) -> bool;

    fn answer<'a>(
        &'a self,
        request: Request,
        connection: &'a Connection,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>>;
}

/// The admin listener's behaviour.
pub struct Admin {
    catalogue: Catalogue,
    token: Secret,
    operations: Operations,
    extra: Vec<Box<dyn ExtraRoute>>,
}

impl Admin {
    /// `token` is what callers send as `Authorization: Bearer`.
    #[must_use]
    pub fn new(catalogue: Catalogue, token: Secret, operations: Operations) -> Self {
        Self { catalogue, token, operations, extra: Vec::new() }
    }

    /// Adds routes of the program; they need the same token.
    #[must_use]
    pub fn with_routes(mut self, routes: Vec<Box<dyn ExtraRoute>>) -> Self {
        self.extra.extend(routes);
        self
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request, connection: &Connection) -> Response {
        let path = request.uri().path().to_owned();
        if let Some(response) = self.operations.answer(request.method(), &path) {
            return response;
        }
        if path == OPENAPI_PATH {
            return match *request.method() {
                Method::GET | Method::HEAD => bytes_answer(StatusCode::OK, "application/json", OPENAPI),
                _ => Problem::method_not_allowed("GET, HEAD").into_response(),
            };
        }
        let target = Target::of(&path);
        let extra = self.extra.iter().find(|route| route.matches(&path));
        // What exists is told only to those who may use it.
        let closed = path.starts_with("/api/") || path.starts_with("/internal/");
        if (closed || extra.is_some()) && !self.is_allowed(&request) {
            return unauthorized().into_response();
        }
        if let Some(route) = extra {
            return route.answer(request, connection).await;
        }
        let answered = match target {
            Some(target) => self.answer(target, request).await,
            None => Err(not_found(&path)),
        };
        let mut response = answered.unwrap_or_else(Problem::into_response);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn answer(&self, target: Target<'_>, request: Request) -> Result<Response, Problem> {
        match (target, request.method()) {
            (Target::Sites, &Method::GET) => Ok(self.list_sites()),
            (Target::Site(code), &Method::GET) => self.get_site(code),
            (Target::Site(code), &Method::PUT) => self.put_site(code, request).await,
            (Target::SdkConfiguration(code), &Method::GET) => self.get_configuration(code, &request),
            (Target::SdkConfiguration(code), &Method::PUT) => self.put_configuration(code, request).await,
            (Target::Clients(code), &Method::POST) => self.create_client(code, request).await,
            _ => Err(Problem::method_not_allowed(target.methods())),
        }
    }

    fn is_allowed(&self, request: &Request) -> bool {
        let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let Some((scheme, token)) = header.split_at_checked(7) else { return false };
        // The token is compared in constant time.
        scheme.eq_ignore_ascii_case(b"bearer ") && self.token.matches(token.trim_ascii())
    }
}

impl Handler for Admin {
    async fn handle(&self, request: Request, connection: &Connection) -> Response {
        Admin::handle(self, request, connection).await
    }
}

fn unauthorized() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "token_wrong",
        "Missing or wrong token",
        "Send `Authorization: Bearer` with the admin token; `fanal dev` keeps it in the file admin.token of its data folder.",
    )
    .challenge("Bearer realm=\"fanal\"")
}

fn not_found(path: &str) -> Problem {
    let shown: String = path.chars().take(100).collect();
    let detail = format!("There is nothing at `{shown}`. {OPENAPI_PATH} lists what there is.");
    Problem::new(StatusCode::NOT_FOUND, "path_unknown", "Unknown path", detail)
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
