//! One request: a place among those in flight, attempts, and what an error means.

use std::fmt::Display;
use std::time::Duration;

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::Inner;
use super::connect::Connected;
use crate::error::ProfileError;
use crate::metrics;

/// The wait before the second attempt; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

impl Inner {
    /// Executes an idempotent statement, again if the cluster could not now.
    pub(super) async fn request(
        &self,
        operation: &'static str,
        connected: &Connected,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, ProfileError> {
        let mut backoff = BACKOFF_MIN;
        for _ in 1..self.config.attempts_max {
            match self.request_once(operation, connected, statement, &values).await {
                Err(error) if error.is_temporary() => {
                    metrics::retried();
                    tracing::debug!(%error, "cassandra is asked again");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                settled => return settled,
            }
        }
        self.request_once(operation, connected, statement, &values).await
    }

    pub(super) async fn request_once(
        &self,
        operation: &'static str,
        connected: &Connected,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, ProfileError> {
        // The semaphore is never closed.
        let _place = self.in_flight.acquire().await.ok();
        let executed = connected.session.execute_unpaged(statement, &values).await;
        executed.map_err(|error| self.failed(operation, &error))
    }

    pub(super) fn failed(&self, operation: &'static str, error: &ExecutionError) -> ProfileError {
        let nodes = self.config.nodes.join(", ");
        let problem = error.to_string();
        match error {
            ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => {
                ProfileError::Unreachable { nodes, problem }
            }
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => {
                match permanent_remedy(error) {
                    Some(remedy) => ProfileError::Refused { operation, problem, remedy },
                    None => ProfileError::Unavailable { nodes, operation, problem },
                }
            }
            ExecutionError::BadQuery(_)
            | ExecutionError::LastAttemptError(RequestAttemptError::SerializationError(_)) => {
                ProfileError::Refused { operation, problem, remedy: SCHEMA_REMEDY }
            }
            _ => ProfileError::Unavailable { nodes, operation, problem },
        }
    }
}

const SCHEMA_REMEDY: &str = "compare the keyspace with the tables that the documentation shows";
const GRANT_REMEDY: &str = "grant the user SELECT and MODIFY on the keyspace, and CREATE for the first start";

/// What a person must do before this can succeed; `None` if waiting may be enough.
fn permanent_remedy(error: &DbError) -> Option<&'static str> {
    match error {
        DbError::SyntaxError
        | DbError::Invalid
        | DbError::AlreadyExists { .. }
        | DbError::ConfigError
        | DbError::FunctionFailure { .. } => Some(SCHEMA_REMEDY),
        DbError::Unauthorized => Some(GRANT_REMEDY),
        DbError::AuthenticationError => Some("check [profiles.cassandra] user and password_file"),
        _ => None,
    }
}

/// An answer of another shape than the statement has.
pub(super) fn answered<T, E: Display>(
    operation: &'static str,
    result: Result<T, E>,
) -> Result<T, ProfileError> {
    result.map_err(|error| ProfileError::Refused {
        operation,
        problem: error.to_string(),
        remedy: SCHEMA_REMEDY,
    })
}
