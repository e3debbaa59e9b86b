//! `/api/v1/sites/{siteCode}/sdk-configuration`: publishes what SDKs fetch.

use std::time::{Duration, UNIX_EPOCH};

use fanal_model::sdk_configuration::{Problem as Finding, validate};
use fanal_service::http::{Request, Response, bytes_answer, json};
use fanal_service::problem::Problem;
use http::header::{HeaderValue, LAST_MODIFIED};
use http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::problems::{self, of_catalogue};
use crate::{Admin, now_ms};

/// Every SDK fetches the file, and it is held in memory: far more than real files have.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;
const ENVIRONMENT_CHARS_MAX: usize = 100;
/// Who published, until there are users.
const AUTHOR: &str = "admin-api";

impl Admin {
    pub(crate) fn get_configuration(&self, code: &str, request: &Request) -> Result<Response, Problem> {
        let site = self.site(code)?;
        let environment = environment(request.uri())?;
        let served = self.catalogue.configurations().get(site.code.as_str(), environment.as_deref());
        let Some(served) = served.filter(|served| served.environment == environment) else {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "configuration_missing",
                "No configuration",
                "Nothing is published there. Publish a configuration with PUT on this path.",
            ));
        };
        let mut response = bytes_answer(StatusCode::OK, "application/json", served.document.clone());
        if let Ok(value) = HeaderValue::from_str(&http_date(served.last_modified_s)) {
            response.headers_mut().insert(LAST_MODIFIED, value);
        }
        Ok(response)
    }

    pub(crate) async fn put_configuration(&self, code: &str, request: Request) -> Result<Response, Problem> {
        let site = self.site(code)?;
        let environment = environment(request.uri())?;
        let document = problems::body(request, DOCUMENT_BYTES_MAX).await?;
        let file: Value = serde_json::from_slice(&document).map_err(|error| problems::not_json(&error))?;
        let findings = validate(&file);
        if !findings.is_empty() {
            return Err(refused(&findings));
        }
        let published = self
            .catalogue
            .publish(&site.code, environment.as_deref(), &document, AUTHOR, now_ms())
            .await
            .map_err(|error| of_catalogue(&error))?;
        tracing::info!(site = %site.code, environment = environment.as_deref().unwrap_or(""), id = published.id,
            "sdk configuration published");
        let body = json!({
            "site_code": site.code.as_str(),
            "environment": environment,
            "id": published.id,
            "last_modified": http_date(published.last_modified_s),
        });
        Ok(json(StatusCode::OK, &body))
    }
}

fn http_date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The only parameter there is; any other is refused by name.
fn environment(uri: &Uri) -> Result<Option<String>, Problem> {
    let mut found = None;
    for pair in uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "environment" {
            let shown: String = name.chars().take(60).collect();
            return Err(parameter(format!(
                "Parameter `{shown}` is unknown. This path takes `environment` only."
            )));
        }
        let value = percent_decode_str(value).decode_utf8();
        let fits = |value: &str| {
            (1..=ENVIRONMENT_CHARS_MAX).contains(&value.chars().count())
                && !value.chars().any(char::is_control)
        };
        match value {
            Ok(value) if fits(&value) && found.is_none() => found = Some(value.into_owned()),
            _ => {
                return Err(parameter(format!(
                    "`environment` must be given once, with 1 to {ENVIRONMENT_CHARS_MAX} characters; leave it out for the default configuration."
                )));
            }
        }
    }
    Ok(found)
}

fn parameter(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "parameter_invalid", "Invalid parameter", detail)
}

fn refused(findings: &[Finding]) -> Problem {
    let first = &findings[0];
    let errors: Vec<Value> = findings
        .iter()
        .map(|finding| json!({"path": finding.path, "sdk": finding.sdk.name(), "remedy": finding.remedy}))
        .collect();
    let place = if first.path.is_empty() { "the file" } else { &first.path };
    let detail = format!(
        "Nothing was published: {} place(s) would break an SDK; `errors` lists them. The first: {place}: {}.",
        findings.len(),
        first.remedy
    );
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "sdk_configuration_invalid",
        "The configuration would break an SDK",
        detail,
    )
    .with("errors", errors)
}
