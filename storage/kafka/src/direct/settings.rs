//! What all producers of a process share, and the numbers of the partitions: one row of
//! slots over all topics.

use std::sync::Arc;
use std::time::Duration;

use fanal_storage::log::{Family, Partition};

use super::security::Security;
use crate::client::LastError;
use crate::config::{Compression, KafkaConfig};
use crate::error::KafkaError;
use crate::topics::{Topics, message_bytes_max};

pub(super) const FAMILIES: [Family; 3] = [Family::Beacons, Family::Dead, Family::Overflow];

#[derive(Debug)]
pub(crate) struct Settings {
    pub(super) bootstrap: Vec<Arc<str>>,
    pub(super) topics: Topics,
    pub(super) compression: Compression,
    /// The longest record batch that the topics take.
    pub(super) chunk_bytes_max: usize,
    pub(super) request_timeout: Duration,
    pub(super) security: Security,
    pub(super) errors: LastError,
}

impl Settings {
    pub(crate) fn new(config: &KafkaConfig, topics: &Topics, errors: LastError) -> Result<Self, KafkaError> {
        Ok(Self {
            bootstrap: config.brokers.iter().map(|broker| broker.as_str().into()).collect(),
            topics: topics.clone(),
            compression: config.compression,
            chunk_bytes_max: usize::try_from(message_bytes_max(config)).unwrap_or(usize::MAX),
            request_timeout: config.request_timeout.0,
            security: Security::new(config)?,
            errors,
        })
    }

    /// Slots of all topics.
    pub(super) fn slots(&self) -> usize {
        FAMILIES.iter().map(|family| self.topics.count(*family) as usize).sum()
    }

    pub(super) fn slot(&self, family: Family, index: u32) -> usize {
        let before = FAMILIES.iter().take_while(|f| **f != family);
        before.map(|f| self.topics.count(*f) as usize).sum::<usize>() + index as usize
    }

    /// The slot of what a broker names, if it is one of ours.
    pub(super) fn slot_of(&self, topic: &str, index: i32) -> Option<usize> {
        let family = self.topics.family(topic)?;
        let index = u32::try_from(index).ok().filter(|index| *index < self.topics.count(family))?;
        Some(self.slot(family, index))
    }

    pub(super) fn place(&self, slot: usize) -> (Family, u32) {
        let mut rest = slot;
        for family in FAMILIES {
            let count = self.topics.count(family) as usize;
            if rest < count {
                return (family, u32::try_from(rest).unwrap_or(0));
            }
            rest -= count;
        }
        (Family::Overflow, 0)
    }

    pub(super) fn partition(&self, slot: usize) -> Partition {
        let (family, index) = self.place(slot);
        Partition::new(family, index).unwrap_or(Partition::EMBEDDED)
    }

    pub(super) fn topic_names(&self) -> [&str; 3] {
        FAMILIES.map(|family| self.topics.name(family))
    }
}
