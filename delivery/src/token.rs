//! `POST /oauth/token`: tokens for server-side SDKs.
//!
//! A token is a signed text that names its site and its end, so that nothing
//! has to be kept. Never logs a token or a secret.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fanal_model::SiteCode;
use fanal_service::http::{BodyLimits, Connection, Encoding, Request, Response, json, read_body};
use fanal_service::problem::Problem;
use fanal_service::secret::{Secret, SecretError, random_bytes};
use fanal_storage::catalogue::{Catalogue, CatalogueError};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::attempts::Attempts;
use crate::query::{Query, form_value};
use crate::{metrics, now};

/// How long a token is valid. SDKs renew theirs half an hour before.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(7200);

const FORM_LIMITS: BodyLimits =
    BodyLimits { bytes_max: 8 << 10, timeout: Duration::from_secs(10), rate_min: 0 };
/// Secrets checked at once; each takes memory and a thread.
const CHECKS_MAX: usize = 2;
/// How long a request waits for its turn.
const CHECK_WAIT: Duration = Duration::from_secs(5);
/// The first byte of a token: the layout that follows.
const LAYOUT: u8 = 1;
const NONCE_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 32;

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub site: SiteCode,
    /// Seconds since 1970.
    pub expires_s: u64,
}

/// Signs and checks tokens.
pub(crate) struct Tokens {
    /// Keyed and empty; cloned for each token.
    mac: Hmac<Sha256>,
    attempts: Attempts,
    checks: Semaphore,
}

impl Tokens {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub(crate) fn new(key_file: &Path) -> Result<Self, SecretError> {
        let key = Secret::load_or_create(key_file)?;
        Ok(Self {
            mac: Hmac::new_from_slice(key.reveal().as_bytes()).expect("HMAC takes keys of any length"),
            attempts: Attempts::default(),
            checks: Semaphore::new(CHECKS_MAX),
        })
    }

    /// Layout, end, nonce, site, signature.
    fn sign(&self, site: &SiteCode, now: Duration) -> Result<String, SecretError> {
        let mut token = vec![LAYOUT];
        token.extend_from_slice(&(now + TOKEN_LIFETIME).as_secs().to_be_bytes());
        token.extend_from_slice(&random_bytes::<NONCE_BYTES>()?);
        token.extend_from_slice(site.as_str().as_bytes());
        let signature = self.mac(&token).finalize().into_bytes();
        token.extend_from_slice(&signature);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    pub(crate) fn check(&self, token: &str, now: Duration) -> Option<Grant> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        // Compares in constant time.
        self.mac(signed).verify_slice(signature).ok()?;
        let (&layout, rest) = signed.split_first()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let expires_s = u64::from_be_bytes(*expires);
        let (_, site) = rest.split_at_checked(NONCE_BYTES)?;
        let site = SiteCode::parse(std::str::from_utf8(site).ok()?).ok()?;
        (layout == LAYOUT && now.as_secs() < expires_s).then_some(Grant { site, expires_s })
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        self.mac.clone().chain_update(signed)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

pub(crate) async fn answer(
    tokens: &Tokens,
    catalogue: &Catalogue,
    request: Request,
    connection: &Connection,
) -> Response {
    match give(tokens, catalogue, request, connection).await {
        Ok(token) => {
            let body = json!({
                "access_token": token,
                "token_type": "bearer",
                "expires_in": TOKEN_LIFETIME.as_secs(),
            });
            let mut response = json(StatusCode::OK, &body);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(problem) => problem.into_response(),
    }
}

async fn give(
    tokens: &Tokens,
    catalogue: &Catalogue,
    request: Request,
    connection: &Connection,
) -> Result<String, Problem> {
    let address = connection.peer.ip();
    if let Some(wait) = tokens.attempts.wait(address, Instant::now()) {
        metrics::token_refused();
        return Err(too_many(wait));
    }
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of(&parts.headers).map_err(|error| Problem::from(&error))?;
    let body = read_body(body, FORM_LIMITS, encoding).await.map_err(|error| Problem::from(&error))?;
    let form = String::from_utf8_lossy(&body);
    if form_value(&form, "grant_type").as_deref() != Some("client_credentials") {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "grant_type_unsupported",
            "Unsupported grant type",
            "Send the form field `grant_type=client_credentials`.",
        )
        .with("error", "unsupported_grant_type"));
    }
    let (client_id, secret) = credentials(&parts.headers, &form).ok_or_else(wrong_credentials)?;
    let query = Query::of(&parts.uri);
    let site_code = query.get("siteCode");
    let Ok(Ok(turn)) = tokio::time::timeout(CHECK_WAIT, tokens.checks.acquire()).await else {
        return Err(busy());
    };
    let verified = catalogue.verify_client(site_code.as_deref(), &client_id, secret.reveal()).await;
    drop(turn);
    match verified {
        Ok(Some(site)) => tokens.sign(&site, now()).map_err(|error| {
            tracing::error!(%error, "cannot sign a token");
            Problem::internal()
        }),
        Ok(None) => {
            tokens.attempts.failed(address, Instant::now());
            metrics::token_refused();
            Err(wrong_credentials())
        }
        Err(error) => Err(unavailable(&error)),
    }
}

/// From the header, else from the form.
fn credentials(headers: &HeaderMap, form: &str) -> Option<(String, Secret)> {
    if let Some(header) = headers.get(AUTHORIZATION) {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (client_id, secret) = decoded.split_once(':')?;
        return Some((client_id.to_owned(), Secret::new(secret)));
    }
    Some((form_value(form, "client_id")?, Secret::new(form_value(form, "client_secret")?)))
}

fn wrong_credentials() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "credentials_wrong",
        "Wrong credentials",
        "The client id and secret do not fit this site. Check them, or create a client with POST /api/v1/sites/{siteCode}/clients.",
    )
    .challenge("Basic realm=\"fanal\"")
    .with("error", "invalid_client")
}

fn too_many(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_attempts",
        "Too many wrong attempts",
        "This address sent wrong credentials too often. Wait as long as Retry-After says, then send the right ones.",
    )
    .retry_after(seconds)
}

fn busy() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "Busy",
        "Too many token requests at once. Wait as long as Retry-After says and try again.",
    )
    .retry_after(2)
}

fn unavailable(error: &CatalogueError) -> Problem {
    tracing::error!(%error, "cannot check a client");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "catalogue_unavailable",
        "Temporarily unavailable",
        "Credentials cannot be checked now. Try again; if it stays, the server's log has the cause.",
    )
    .retry_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(folder: &Path, name: &str) -> Tokens {
        Tokens::new(&folder.join(name)).unwrap()
    }

    #[test]
    fn a_token_is_valid_for_two_hours_over_restarts_and_under_its_own_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let start = Duration::from_secs(1_700_000_000);
        let site = SiteCode::parse("shop").unwrap();
        let token = tokens(folder.path(), "key").sign(&site, start).unwrap();
        let again = tokens(folder.path(), "key");
        let grant = again.check(&token, start + TOKEN_LIFETIME - Duration::from_secs(1)).unwrap();
        assert_eq!(grant, Grant { site, expires_s: 1_700_007_200 });
        assert_eq!(again.check(&token, start + TOKEN_LIFETIME), None);
        assert_eq!(tokens(folder.path(), "other").check(&token, start), None);
    }

    #[test]
    fn a_token_with_any_bit_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path(), "key");
        let now = Duration::from_secs(1_700_000_000);
        let token = tokens.sign(&SiteCode::parse("shop").unwrap(), now).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(tokens.check(&URL_SAFE_NO_PAD.encode(changed), now), None, "byte {at}");
        }
        for odd in ["", "stub-token", "!!", "AAAA"] {
            assert_eq!(tokens.check(odd, now), None, "{odd}");
        }
    }
}
