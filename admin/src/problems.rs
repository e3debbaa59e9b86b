//! What every call checks in the same way, and the errors that it answers.

use bytes::Bytes;
use fanal_model::SiteCode;
use fanal_service::http::{BodyLimits, Encoding, Request, read_body};
use fanal_service::problem::Problem;
use fanal_storage::catalogue::CatalogueError;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Content types that may hold JSON: what curl sends unasked is among them.
const JSON_TYPES: [&str; 5] = [
    "application/json",
    "application/problem+json",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
];

/// The body, if its content type may be JSON.
pub(crate) async fn body(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    if let Some(given) = request.headers().get(CONTENT_TYPE) {
        let given = given.to_str().unwrap_or("?");
        let kind = given.split(';').next().unwrap_or("").trim();
        if !JSON_TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            let shown: String = kind.chars().take(60).collect();
            let detail = format!(
                "The body is declared as `{shown}`. Send JSON with `Content-Type: application/json`."
            );
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_type_unsupported",
                "Unsupported content type",
                detail,
            ));
        }
    }
    let encoding = Encoding::of(request.headers()).map_err(|error| Problem::from(&error))?;
    let limits = BodyLimits { bytes_max, ..BodyLimits::default() };
    read_body(request.into_body(), limits, encoding).await.map_err(|error| Problem::from(&error))
}

/// A JSON object with known keys only; an empty body counts as `{}`.
pub(crate) async fn json<T: DeserializeOwned>(request: Request, bytes_max: usize) -> Result<T, Problem> {
    let bytes = body(request, bytes_max).await?;
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        if !error.is_data() {
            not_json(&error)
        } else if text.trim_ascii_start().first() == Some(&b'{') {
            invalid(&[("", error.to_string())])
        } else {
            invalid(&[("", "Send a JSON object".to_owned())])
        }
    })
}

pub(crate) fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "json_invalid",
        "Not JSON",
        format!("The body is not JSON: {error}. Correct it there and send it again."),
    )
}

/// Values that are refused, each with its key and what to write instead.
pub(crate) fn invalid(errors: &[(&str, String)]) -> Problem {
    let texts: Vec<String> = errors
        .iter()
        .map(|(key, remedy)| if key.is_empty() { remedy.clone() } else { format!("{key}: {remedy}") })
        .collect();
    let list: Vec<Value> =
        errors.iter().map(|(key, remedy)| serde_json::json!({"path": key, "remedy": remedy})).collect();
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "body_invalid",
        "Invalid values",
        format!("Nothing was changed. {}", texts.join("; ")),
    )
    .with("errors", list)
}

/// The site code of the path.
pub(crate) fn site_code(text: &str) -> Result<SiteCode, Problem> {
    SiteCode::parse(text).map_err(|error| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "site_code_invalid",
            "Invalid site code",
            error.to_string(),
        )
    })
}

pub(crate) fn of_catalogue(error: &CatalogueError) -> Problem {
    let (status, code, title) = match error {
        CatalogueError::UnknownSite(_) => (StatusCode::NOT_FOUND, "site_unknown", "Unknown site"),
        CatalogueError::ClientExists { .. } => (StatusCode::CONFLICT, "client_exists", "Client exists"),
        CatalogueError::TooManyClients { .. } => {
            (StatusCode::CONFLICT, "clients_too_many", "Too many clients")
        }
        CatalogueError::DiskFull(_) => (StatusCode::INSUFFICIENT_STORAGE, "disk_full", "Disk full"),
        CatalogueError::Locked(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "catalogue_locked", "Catalogue locked")
        }
        other if other.is_temporary() => {
            (StatusCode::SERVICE_UNAVAILABLE, "catalogue_unavailable", "Catalogue unavailable")
        }
        other => {
            tracing::error!(error = %other, "the catalogue failed");
            return Problem::internal();
        }
    };
    let problem = Problem::new(status, code, title, error.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(1) } else { problem }
}
