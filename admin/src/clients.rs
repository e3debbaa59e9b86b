//! `/api/v1/sites/{siteCode}/clients`: credentials for SDK tokens.

use fanal_service::http::{Request, Response, json};
use fanal_service::problem::Problem;
use fanal_service::secret::{Secret, random_bytes};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::problems::{self, invalid, of_catalogue};
use crate::{Admin, now_ms};

const BODY_BYTES_MAX: usize = 16 << 10;
const CLIENT_ID_BYTES_MAX: usize = 100;
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 8..=256;
/// Randomness of a generated client id: unique, not secret.
const CLIENT_ID_RANDOM_BYTES: usize = 12;

/// Both may be left out; then they are generated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientBody {
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl Admin {
    pub(crate) async fn create_client(&self, code: &str, request: Request) -> Result<Response, Problem> {
        let site = self.site(code)?;
        let body: ClientBody = problems::json(request, BODY_BYTES_MAX).await?;
        check(&body)?;
        let client_id = body.client_id.map_or_else(generated_id, Ok)?;
        let secret = body.client_secret.map_or_else(
            || Secret::random().map_err(|error| no_randomness(&error)),
            |given| Ok(Secret::new(given)),
        )?;
        self.catalogue
            .create_client(&site.code, &client_id, secret.reveal(), now_ms())
            .await
            .map_err(|error| of_catalogue(&error))?;
        tracing::info!(site = %site.code, client_id, "client created");
        // The only time that the secret is shown: only its hash is kept.
        let body = json!({"client_id": client_id, "client_secret": secret.reveal()});
        Ok(json(StatusCode::CREATED, &body))
    }
}

fn check(body: &ClientBody) -> Result<(), Problem> {
    let mut errors = Vec::new();
    // Basic authentication splits at the first colon.
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    if let Some(id) = &body.client_id
        && !((1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) && plain(id))
    {
        errors.push((
            "client_id",
            format!("write 1 to {CLIENT_ID_BYTES_MAX} visible ASCII characters without `:`"),
        ));
    }
    if let Some(secret) = &body.client_secret
        && !(SECRET_BYTES.contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic()))
    {
        let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        errors.push((
            "client_secret",
            format!("write {least} to {most} visible ASCII characters, or leave it out to get one"),
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(&errors)) }
}

fn generated_id() -> Result<String, Problem> {
    let bytes = random_bytes::<CLIENT_ID_RANDOM_BYTES>().map_err(|error| no_randomness(&error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn no_randomness(error: &fanal_service::secret::SecretError) -> Problem {
    tracing::error!(%error, "cannot make a client");
    Problem::internal()
}
