//! The event log of a process: embedded, or Kafka with a spool before it.

use std::time::Duration;

use fanal_etl::log::EventLogs;
use fanal_ingest::spool::Spooled;
use fanal_kafka::{Kafka, KafkaLog};
use fanal_service::health::Health;
use fanal_service::stop::Stop;
use fanal_storage::log::{AppendError, Appended, Appender, Batch, EventLog, Log, wall_clock};
use tokio::task::JoinHandle;

use crate::config::{Config, EventLogKind};

/// Pauses between two looks at topics that cannot be made yet.
const PREPARE_PAUSE: Duration = Duration::from_secs(2);
const PART: &str = "kafka";

/// The log of this process, open.
pub(super) struct OpenLog {
    logs: EventLogs,
    writer: Writer,
    draining: Option<JoinHandle<()>>,
    stop: Stop,
}

/// Where the collector appends.
#[derive(Clone)]
pub(crate) enum Writer {
    Embedded(Appender),
    Kafka(KafkaLog),
    Spooled(Spooled<KafkaLog>),
}

impl EventLog for Writer {
    async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        match self {
            Self::Embedded(appender) => appender.append(batch).await,
            Self::Kafka(log) => log.append(batch).await,
            Self::Spooled(log) => log.append(batch).await,
        }
    }

    fn local(&self) -> Self {
        match self {
            Self::Embedded(appender) => Self::Embedded(appender.local()),
            Self::Kafka(log) => Self::Kafka(log.local()),
            Self::Spooled(log) => Self::Spooled(log.local()),
        }
    }
}

impl OpenLog {
    pub(super) async fn open(config: &Config, health: &Health, stop: &Stop) -> anyhow::Result<Self> {
        match config.event_log.kind {
            EventLogKind::Embedded => {
                let (dir, log_config) = (config.path("log"), config.log_config());
                let log = tokio::task::spawn_blocking(move || Log::open(&dir, log_config)).await??;
                Ok(Self {
                    writer: Writer::Embedded(log.appender()),
                    logs: EventLogs::Embedded(log),
                    draining: None,
                    stop: stop.clone(),
                })
            }
            EventLogKind::Kafka => Self::on_kafka(config, health, stop).await,
        }
    }

    async fn on_kafka(config: &Config, health: &Health, stop: &Stop) -> anyhow::Result<Self> {
        fanal_kafka::describe();
        let kafka = Kafka::open(config.event_log.kafka.clone())?;
        tokio::spawn(prepare(kafka.clone(), health.clone(), stop.clone()));
        let (writer, draining) = match &config.ingest {
            None => (Writer::Kafka(kafka.log()), None),
            Some(_) => {
                let mut settings = config.spool.resolve(&config.data_dir)?;
                settings.record_bytes_max =
                    Some(usize::try_from(config.event_log.kafka.record_bytes_max.0).unwrap_or(usize::MAX));
                let (log, health) = (kafka.log(), health.clone());
                let opened =
                    tokio::task::spawn_blocking(move || Spooled::open(log, settings, wall_clock(), health));
                let (spooled, drain) = opened.await??;
                let stop = stop.clone();
                (Writer::Spooled(spooled), Some(tokio::spawn(async move { drain.run(stop).await })))
            }
        };
        Ok(Self { logs: EventLogs::Kafka(kafka), writer, draining, stop: stop.clone() })
    }

    pub(super) fn logs(&self) -> &EventLogs {
        &self.logs
    }

    pub(super) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Ends what runs beside; the embedded log is synced.
    pub(super) async fn close(self) {
        self.stop.stop();
        if let Some(draining) = self.draining {
            draining.await.ok();
        }
        if let EventLogs::Embedded(log) = self.logs {
            tokio::task::spawn_blocking(move || log.close()).await.ok();
        }
    }
}

/// Makes the topics as soon as the brokers answer. Until then the collector spools.
async fn prepare(kafka: Kafka, health: Health, stop: Stop) {
    while let Err(error) = kafka.prepare().await {
        health.not_ready(PART, error.to_string());
        tokio::select! {
            () = tokio::time::sleep(PREPARE_PAUSE) => {}
            () = stop.stopped() => return,
        }
    }
    health.ok(PART);
}
