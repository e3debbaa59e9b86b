//! The running process's half of a remote import: what the program mounts under
//! `/internal/v1/` on the admin listener, behind the admin token.

use fanal_model::{Beacon, DeadLetter};
use fanal_service::http::{Response, bytes_answer, empty};
use fanal_service::problem::Problem;
use fanal_storage::log::{BATCH_BYTES_MAX, Batch, Topic};
use http::StatusCode;

use super::error::ImportError;
use super::position::HeadHash;
use super::state::Imports;
use crate::answers;

/// Answers remote imports.
#[derive(Clone)]
pub struct ImportEndpoint {
    imports: Imports,
}

impl ImportEndpoint {
    /// `POST`: a batch as [`Batch::to_bytes`] writes it; 204 when it is durable.
    pub const APPEND_PATH: &'static str = "/internal/v1/append";
    /// `GET` with `?head=HEX`: the positions known for this head, as JSON.
    pub const POSITIONS_PATH: &'static str = "/internal/v1/import-positions";
    /// `POST`: ends the raw archive's file.
    pub const SEAL_PATH: &'static str = "/internal/v1/seal";
    /// The largest body of an append.
    pub const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX;

    #[must_use]
    pub fn new(imports: Imports) -> Self {
        Self { imports }
    }

    pub async fn handle_append(&self, bytes: &[u8]) -> Response {
        let batch = match Batch::from_bytes(bytes) {
            Ok(batch) if readable(&batch) => batch,
            Ok(_) => return malformed("a record in it is not what its topic says".to_owned()),
            Err(error) => return malformed(error.to_string()),
        };
        answer(self.imports.append(batch).await.map(|()| empty(StatusCode::NO_CONTENT)))
    }

    pub async fn handle_positions(&self, head: &str) -> Response {
        let Some(head) = HeadHash::parse(head) else {
            return malformed("`head` is not 64 hexadecimal characters".to_owned());
        };
        match serde_json::to_vec(&self.imports.lookup(&head)) {
            Ok(json) => bytes_answer(StatusCode::OK, "application/json", json),
            Err(_) => Problem::internal().into_response(),
        }
    }

    pub async fn handle_seal(&self) -> Response {
        let sealed = match self.imports.seal().await {
            Ok(()) => self.imports.snapshot().await,
            Err(error) => Err(error),
        };
        answer(sealed.map(|()| empty(StatusCode::NO_CONTENT)))
    }
}

/// The log must hold nothing that its readers would stumble over.
fn readable(batch: &Batch) -> bool {
    batch.records().all(|(topic, _, value)| match topic {
        Topic::Beacons => Beacon::decode(value).is_ok(),
        Topic::Dead => DeadLetter::decode(value).is_ok(),
        _ => true,
    })
}

fn answer(result: Result<Response, ImportError>) -> Response {
    match result {
        Ok(response) => response,
        Err(ImportError::Append(error)) => answers::not_appended(&error).into_response(),
        Err(error @ ImportError::Concurrent) => {
            Problem::new(StatusCode::CONFLICT, "import_concurrent", "Import under way", error.to_string())
                .into_response()
        }
        Err(error) => {
            tracing::error!(%error, "remote import failed");
            Problem::internal().into_response()
        }
    }
}

fn malformed(detail: String) -> Response {
    Problem::new(StatusCode::BAD_REQUEST, "batch_invalid", "Invalid batch", detail).into_response()
}
