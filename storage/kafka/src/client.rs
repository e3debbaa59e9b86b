//! What all clients of librdkafka have in common: addresses, security, log, last error.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use crate::config::{KafkaConfig, SaslSection, TlsSection};
use crate::error::KafkaError;

/// The settings that every client begins with.
pub(crate) fn base(config: &KafkaConfig) -> Result<ClientConfig, KafkaError> {
    config.check()?;
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", "fanal")
        .set("socket.timeout.ms", millis(config.request_timeout.0))
        .set("socket.keepalive.enable", "true")
        // A broker that comes back is found within a second.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "1000")
        .set("security.protocol", protocol(config))
        .set_log_level(RDKafkaLogLevel::Warning);
    if let Some(tls) = &config.tls {
        set_tls(&mut client, tls);
    }
    if let Some(sasl) = &config.sasl {
        client
            .set("sasl.mechanisms", sasl.mechanism.name())
            .set("sasl.username", &sasl.username)
            .set("sasl.password", password(sasl)?);
    }
    Ok(client)
}

fn protocol(config: &KafkaConfig) -> &'static str {
    match (&config.tls, &config.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    }
}

fn set_tls(client: &mut ClientConfig, tls: &TlsSection) {
    client
        .set("enable.ssl.certificate.verification", "true")
        .set("ssl.endpoint.identification.algorithm", "https");
    let files = [
        ("ssl.ca.location", &tls.ca_file),
        ("ssl.certificate.location", &tls.certificate_file),
        ("ssl.key.location", &tls.key_file),
    ];
    for (key, file) in files {
        if let Some(file) = file {
            client.set(key, file.to_string_lossy());
        }
    }
}

pub(crate) fn password(sasl: &SaslSection) -> Result<String, KafkaError> {
    let path = &sasl.password_file;
    let read = |source| KafkaError::Password { path: path.clone(), source };
    let mode = fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KafkaError::PasswordExposed { path: path.clone(), mode });
    }
    let text = fs::read_to_string(path).map_err(read)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(KafkaError::PasswordEmpty(path.clone()));
    }
    Ok(password.to_owned())
}

/// A duration as librdkafka takes it.
pub(crate) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// The last error of one client or of several; empty again once something worked.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<Trouble>>>);

#[derive(Debug)]
struct Trouble {
    text: String,
    since: Instant,
    /// Said once, not with each try.
    is_said: bool,
}

/// What brokers and topics that have only begun answer for less than this time.
const EARLY: Duration = Duration::from_secs(5);

impl LastError {
    pub(crate) fn set(&self, error: &dyn std::fmt::Display) {
        self.note(error, Duration::ZERO);
    }

    /// As [`Self::set`], for what is common while brokers or topics have only begun: worth a
    /// warning where it lasts.
    pub(crate) fn set_early(&self, error: &dyn std::fmt::Display) {
        self.note(error, EARLY);
    }

    fn note(&self, error: &dyn std::fmt::Display, patience: Duration) {
        let text = error.to_string();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.is_none();
        let trouble = last.get_or_insert_with(|| Trouble {
            text: String::new(),
            since: Instant::now(),
            is_said: false,
        });
        trouble.text = text;
        if !trouble.is_said && trouble.since.elapsed() >= patience {
            trouble.is_said = true;
            tracing::warn!(error = %trouble.text, "kafka client has trouble and tries again");
        } else if is_new {
            tracing::info!(error = %trouble.text, "kafka client waits and tries again");
        }
    }

    /// As a client reports it. That all brokers are down follows each error that says
    /// why, so it does not take that error's place.
    pub(crate) fn report(&self, error: &ClientError, reason: &str) {
        let known =
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && self.get().is_some();
        if !known {
            self.set(&format_args!("{error}: {reason}"));
        }
    }

    pub(crate) fn clear(&self) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.take().is_some_and(|trouble| trouble.is_said) {
            tracing::info!("kafka client works again");
        }
    }

    pub(crate) fn get(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|trouble| trouble.text.clone())
    }

    #[cfg(test)]
    fn is_said(&self) -> bool {
        self.0.lock().unwrap().as_ref().is_some_and(|trouble| trouble.is_said)
    }

    /// As if the trouble had begun so much earlier.
    #[cfg(test)]
    fn age(&self, by: Duration) {
        if let Some(trouble) = &mut *self.0.lock().unwrap() {
            trouble.since -= by;
        }
    }
}

/// A client that only answers questions.
pub(crate) type Ask = Arc<Elsewhere<BaseConsumer<Plain>>>;

/// The context of clients that need no more than a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plain {
    pub(crate) errors: LastError,
}

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.errors.report(&error, reason);
    }
}

impl ConsumerContext for Plain {}

/// librdkafka says the same again with every try, so its lines are for those who look
/// for them; `LastError` says once that there is trouble.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, message, "kafka client failed");
        }
        _ => tracing::debug!(facility, message, "kafka client says"),
    }
}

/// A client that is closed on a thread of its own, wherever its last user goes: closing
/// waits for the client's threads, which must not stop the runtime.
pub(crate) struct Elsewhere<T: Send + 'static>(Option<T>);

impl<T: Send> Elsewhere<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send> Deref for Elsewhere<T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "only drop takes the client")]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("the client is there until it is dropped")
    }
}

impl<T: Send> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        let spawned = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client));
        if let Err(error) = spawned {
            tracing::warn!(%error, "kafka client was closed in place");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_common_at_a_start_is_a_warning_only_where_it_lasts() {
        let errors = LastError::default();
        errors.set_early(&"no coordinator yet");
        assert_eq!(errors.get().as_deref(), Some("no coordinator yet"));
        assert!(!errors.is_said());
        errors.age(EARLY);
        errors.set_early(&"still no coordinator");
        assert!(errors.is_said());
        errors.clear();
        assert_eq!(errors.get(), None);
        errors.set_early(&"no coordinator yet");
        errors.set(&"connection refused");
        assert!(errors.is_said(), "another trouble is said at once");
    }
}
