//! Names of partitions: the embedded log has one, Kafka has some per topic.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the partition's topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// `beacons`: accepted lines, all of a visitor in one partition. The embedded
    /// log keeps everything else here as well.
    Beacons,
    /// `beacons.dead`: rejected lines.
    Dead,
    /// `beacons.overflow`: accepted lines of hot keys, spread over all partitions.
    Overflow,
}

/// A partition of the event log. One number tells it from all others, in tables and
/// checkpoints: the topic's family in the upper bits, its index in the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u32);

const FAMILY_SHIFT: u32 = 28;
const INDEX_MASK: u32 = (1 << FAMILY_SHIFT) - 1;

impl Partition {
    /// The only partition of the embedded log.
    pub const EMBEDDED: Self = Self(0);

    /// `None` for an index that no Kafka topic has.
    #[must_use]
    pub fn new(family: Family, index: u32) -> Option<Self> {
        let family = match family {
            Family::Beacons => 0,
            Family::Dead => 1,
            Family::Overflow => 2,
        };
        (index <= INDEX_MASK).then_some(Self(family << FAMILY_SHIFT | index))
    }

    /// Reads [`Partition::number`].
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        (number >> FAMILY_SHIFT <= 2).then_some(Self(number))
    }

    /// As tables and checkpoints have it.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    #[must_use]
    pub fn family(self) -> Family {
        match self.0 >> FAMILY_SHIFT {
            0 => Family::Beacons,
            1 => Family::Dead,
            _ => Family::Overflow,
        }
    }

    /// The partition's index in its topic.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0 & INDEX_MASK
    }

    /// Reads what `Display` writes, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (family, index) = match text.split_once('-') {
            None => (Family::Beacons, text),
            Some(("dead", index)) => (Family::Dead, index),
            Some(("overflow", index)) => (Family::Overflow, index),
            Some(_) => return None,
        };
        let partition = Self::new(family, index.parse().ok()?)?;
        (partition.to_string() == text).then_some(partition)
    }
}

/// As it stands in paths and messages: `3`, `dead-0`, `overflow-1`.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family() {
            Family::Beacons => write!(f, "{}", self.index()),
            Family::Dead => write!(f, "dead-{}", self.index()),
            Family::Overflow => write!(f, "overflow-{}", self.index()),
        }
    }
}

impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no partition")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_reads_back_from_its_number_and_its_name() {
        for (family, index, name) in
            [(Family::Beacons, 0, "0"), (Family::Dead, 3, "dead-3"), (Family::Overflow, 1, "overflow-1")]
        {
            let partition = Partition::new(family, index).unwrap();
            assert_eq!(
                (partition.family(), partition.index(), partition.to_string().as_str()),
                (family, index, name)
            );
            assert_eq!(Partition::from_number(partition.number()), Some(partition));
            assert_eq!(Partition::parse(name), Some(partition));
        }
        for other in ["", "00", "dead-", "dead-01", "other-1", "+1"] {
            assert_eq!(Partition::parse(other), None, "{other}");
        }
        assert_eq!(Partition::EMBEDDED.number(), 0);
    }
}
