//! What can go wrong between this process and a broker, and what each error of a broker
//! means for a record: whether trying again can help, and whether it may be stored.

use std::io;

use thiserror::Error;

/// Why a broker was not asked, or gave no answer that can be used.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("cannot find {address}: {source}; check event_log.kafka.brokers and the name service")]
    Resolve { address: String, source: io::Error },
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("{0} did not answer in time")]
    Late(String),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the broker's answer makes no sense: {0}; is this a Kafka broker?")]
    Malformed(&'static str),
    #[error("the connection is not safe: {0}; check the certificate and [event_log.kafka.tls]")]
    Tls(String),
    #[error(
        "the broker speaks versions {min} to {max} of {api}, {ours} is needed: use Kafka 2.4 or later, or a newer program"
    )]
    Version { api: &'static str, ours: i16, min: i16, max: i16 },
    #[error("SASL authentication failed ({mechanism}): {detail}; check [event_log.kafka.sasl]")]
    Refused { mechanism: &'static str, detail: String },
    #[error("the broker refused {what}: {code}")]
    Answer { what: &'static str, code: Code },
    #[error("no broker is known that leads a partition")]
    NoLeader,
    #[error(
        "topic `{topic}` has {found} partitions, configured are {wanted}: a visitor would change its partition; configure {found}, or another topic_prefix"
    )]
    Partitions { topic: String, found: u32, wanted: u32 },
}

impl Trouble {
    /// Whether brokers or topics that have only begun answer so.
    pub(super) fn is_early(&self) -> bool {
        match self {
            Self::NoLeader => true,
            Self::Answer { code, .. } => code.is_early(),
            _ => false,
        }
    }
}

/// An error as a broker numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub(super) i16);

/// What an error means for the records that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// They are stored by as many brokers as must have them.
    Confirmed,
    /// The same bytes again may get through.
    Again(Stored),
    /// As `Again`, but soon pointless: it is something that people have to change.
    AgainBriefly,
    /// They were refused and will be.
    Never(Stored),
}

/// What is known of records after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    No,
    Perhaps,
}

impl Code {
    pub(super) const NONE: Self = Self(0);
    const MESSAGE_TOO_LARGE: Self = Self(10);
    const RECORD_LIST_TOO_LARGE: Self = Self(18);

    pub(super) fn is_too_large(self) -> bool {
        matches!(self, Self::MESSAGE_TOO_LARGE | Self::RECORD_LIST_TOO_LARGE)
    }

    /// UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS,
    /// COORDINATOR_NOT_AVAILABLE.
    pub(super) fn is_early(self) -> bool {
        matches!(self.0, 3 | 5 | 14 | 15)
    }

    /// What is not surely refused counts as perhaps stored: a leader that is replaced
    /// while it waits for its followers answers NOT_LEADER for records that stay.
    pub(super) fn meaning(self) -> Meaning {
        match self.0 {
            // The second is DUPLICATE_SEQUENCE_NUMBER: an earlier try got through.
            0 | 46 => Meaning::Confirmed,
            3 => Meaning::AgainBriefly,
            19 => Meaning::Again(Stored::No),
            -1 | 2 | 5 | 6 | 7 | 13..=16 | 20 | 56 | 74 | 75 | 89 => Meaning::Again(Stored::Perhaps),
            10 | 17 | 18 | 21 | 29 | 31 | 32 | 35 | 42 | 43 | 44 | 45 | 47 | 49 | 53 | 58 | 59 | 76 | 87
            | 90 => Meaning::Never(Stored::No),
            _ => Meaning::Never(Stored::Perhaps),
        }
    }

    fn name(self) -> &'static str {
        match self.0 {
            -1 => "UNKNOWN_SERVER_ERROR",
            2 => "CORRUPT_MESSAGE",
            3 => "UNKNOWN_TOPIC_OR_PARTITION",
            5 => "LEADER_NOT_AVAILABLE",
            6 => "NOT_LEADER_OR_FOLLOWER",
            7 => "REQUEST_TIMED_OUT",
            10 => "MESSAGE_TOO_LARGE",
            13 => "NETWORK_EXCEPTION",
            14 => "COORDINATOR_LOAD_IN_PROGRESS",
            15 => "COORDINATOR_NOT_AVAILABLE",
            16 => "NOT_COORDINATOR",
            18 => "RECORD_LIST_TOO_LARGE",
            19 => "NOT_ENOUGH_REPLICAS",
            20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
            29 => "TOPIC_AUTHORIZATION_FAILED",
            31 => "CLUSTER_AUTHORIZATION_FAILED",
            33 => "UNSUPPORTED_SASL_MECHANISM",
            34 => "ILLEGAL_SASL_STATE",
            35 => "UNSUPPORTED_VERSION",
            45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
            46 => "DUPLICATE_SEQUENCE_NUMBER",
            47 => "INVALID_PRODUCER_EPOCH",
            56 => "KAFKA_STORAGE_ERROR",
            58 => "SASL_AUTHENTICATION_FAILED",
            59 => "UNKNOWN_PRODUCER_ID",
            76 => "UNSUPPORTED_COMPRESSION_TYPE",
            87 => "INVALID_RECORD",
            _ => "an error without a name here",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_counts_as_surely_not_stored() {
        for (code, meaning) in [
            (0, Meaning::Confirmed),
            (46, Meaning::Confirmed),
            (3, Meaning::AgainBriefly),
            (6, Meaning::Again(Stored::Perhaps)),
            (7, Meaning::Again(Stored::Perhaps)),
            (19, Meaning::Again(Stored::No)),
            (20, Meaning::Again(Stored::Perhaps)),
            (29, Meaning::Never(Stored::No)),
            (45, Meaning::Never(Stored::No)),
            (1234, Meaning::Never(Stored::Perhaps)),
        ] {
            assert_eq!(Code(code).meaning(), meaning, "{}", Code(code));
        }
    }
}
