//! The session: made once, by the first operation that finds a node; afterwards the
//! driver keeps its connections by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::{OpenSsl010Config, Session};
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::statement::{Consistency, SerialConsistency};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::statements::Statements;
use super::{Inner, schema};
use crate::config::{CassandraTls, problem};
use crate::error::ProfileError;

/// A connection that is silent this long is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// The longest that making or waiting for the tables takes.
const SCHEMA_TIME_MAX: Duration = Duration::from_secs(90);

pub(super) struct Connected {
    pub(super) session: Session,
    pub(super) statements: Statements,
}

impl Inner {
    /// The session. One task connects at a time; those that waited for an attempt that
    /// failed share its error, so that nobody waits for more than two attempts.
    pub(super) async fn connected(&self) -> Result<&Connected, ProfileError> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let asked_at = Instant::now();
        let mut last_failure = self.connecting.lock().await;
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        if let Some((failed_at, problem)) = &*last_failure
            && *failed_at >= asked_at
        {
            return Err(self.unreachable(problem.clone()));
        }
        match Box::pin(self.connect()).await {
            Ok(connected) => Ok(self.connected.get_or_init(|| connected)),
            Err(error) => {
                if let ProfileError::Unreachable { problem, .. } = &error {
                    *last_failure = Some((Instant::now(), problem.clone()));
                }
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Connected, ProfileError> {
        let config = &self.config;
        let connect_time = Duration::from_millis(config.connect_timeout_ms);
        let mut policy = DefaultPolicy::builder().token_aware(true);
        if !config.local_datacenter.is_empty() {
            policy = policy.prefer_datacenter(config.local_datacenter.clone()).permit_dc_failover(false);
        }
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(Duration::from_millis(config.request_timeout_ms)))
            .retry_policy(Arc::new(DefaultRetryPolicy::new()))
            .load_balancing_policy(policy.build())
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&config.nodes)
            .default_execution_profile_handle(profile.into_handle())
            .connection_timeout(connect_time)
            .metadata_request_clientside_timeout(connect_time)
            // Where it is longer than the other one, the driver warns of it.
            .metadata_request_serverside_timeout(connect_time)
            .hostname_resolution_timeout(Some(connect_time))
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(connect_time)
            .keyspaces_to_fetch([config.keyspace.as_str()])
            .schema_agreement_timeout(SCHEMA_TIME_MAX / 2)
            .tls_context(tls(&config.tls)?);
        if let Some(password) = self.password.as_ref().filter(|_| !config.user.is_empty()) {
            builder = builder.user(&config.user, password);
        }
        // The caller tries again, and the driver's own lines would be there with each attempt.
        let building = builder.build().with_subscriber(Dispatch::none());
        let built = tokio::time::timeout(connect_time, building).await;
        // Lines that were first reached in there are remembered as unwanted, for ever and for all.
        tracing::callsite::rebuild_interest_cache();
        let session = match built {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(self.unreachable(error.to_string())),
            Err(_) => return Err(self.unreachable(format!("no session within {connect_time:?}"))),
        };
        let prepare = async {
            schema::ensure(self, &session).await?;
            Statements::prepare(&session, &config.keyspace).await.map_err(|error| {
                // The tables are there: nodes that fail now may do it later.
                self.unreachable(error.to_string())
            })
        };
        let statements = match tokio::time::timeout(SCHEMA_TIME_MAX, prepare).await {
            Ok(statements) => statements?,
            Err(_) => return Err(self.unreachable(format!("no tables within {SCHEMA_TIME_MAX:?}"))),
        };
        tracing::info!(nodes = ?config.nodes, keyspace = config.keyspace, "connected to cassandra");
        Ok(Connected { session, statements })
    }

    pub(super) fn unreachable(&self, problem: String) -> ProfileError {
        ProfileError::Unreachable { nodes: self.config.nodes.join(", "), problem }
    }
}

/// What encrypts connections, if anything does.
pub(super) fn tls(config: &CassandraTls) -> Result<Option<OpenSsl010Config>, ProfileError> {
    if !config.enabled {
        return Ok(None);
    }
    let unusable = |key, path: Option<&Path>, error: &ErrorStack| {
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        problem(key, format!("{path}: {error}; give a readable PEM file"))
    };
    let mut builder = SslConnector::builder(SslMethod::tls_client())
        .map_err(|error| unusable("cassandra.tls.enabled", None, &error))?;
    if let Some(path) = &config.ca_file {
        builder.set_ca_file(path).map_err(|error| unusable("cassandra.tls.ca_file", Some(path), &error))?;
    }
    if let (Some(chain), Some(key)) = (&config.certificate_file, &config.key_file) {
        builder
            .set_certificate_chain_file(chain)
            .map_err(|error| unusable("cassandra.tls.certificate_file", Some(chain), &error))?;
        builder
            .set_private_key_file(key, SslFiletype::PEM)
            .and_then(|()| builder.check_private_key())
            .map_err(|error| unusable("cassandra.tls.key_file", Some(key), &error))?;
    }
    Ok(Some(OpenSsl010Config::new(builder)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::Limits;
    use crate::cassandra::CassandraProfiles;
    use crate::config::{CassandraConfig, ProfilesConfig};

    /// Collects the lines of a log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn a_node_that_is_away_is_told_by_the_error_and_not_by_lines_of_the_driver() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        // Nobody listens on the port of discard.
        let config = CassandraConfig { nodes: vec!["127.0.0.1:9".to_owned()], ..CassandraConfig::default() };
        let limits: Limits = ProfilesConfig::default().limits();
        let profiles = CassandraProfiles::new(&config, None, limits).unwrap();
        let error = profiles.ping().await.unwrap_err();
        assert!(
            matches!(error, ProfileError::Unreachable { .. }) && error.to_string().contains("127.0.0.1:9")
        );
        tracing::warn!("said after the attempt");
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("said after the attempt") && !said.contains("scylla"), "{said}");
    }
}
