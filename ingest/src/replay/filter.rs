//! Which dead letters are meant.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use fanal_model::RejectReason;
use fanal_storage::log::Partition;
use thiserror::Error;

use super::letters::Letter;

/// Names a dead letter for ever: `partition:offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    pub partition: Partition,
    pub offset: u64,
}

/// What is no id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no id of a dead letter: take one that `fanal dead-letters list` shows, such as 0:1234")]
pub struct LetterIdError(String);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = LetterIdError;

    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        let error = || LetterIdError(text.chars().take(40).collect());
        let (partition, offset) = text.split_once(':').ok_or_else(error)?;
        let partition = Partition::parse(partition).ok_or_else(error)?;
        Ok(Self { partition, offset: offset.parse().map_err(|_| error())? })
    }
}

/// Which dead letters are meant; the default means all.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    /// The site that a letter names; empty for letters that name none.
    pub site: Option<String>,
    pub reason: Option<RejectReason>,
    /// Times of receipt from the first up to, not including, the second.
    pub received_ms: Option<(u64, u64)>,
    /// These alone, unless there are none.
    pub ids: BTreeSet<LetterId>,
}

impl LetterFilter {
    pub(super) fn wants(&self, letter: &Letter) -> bool {
        self.site.as_ref().is_none_or(|site| *site == letter.site_code)
            && self.reason.is_none_or(|reason| reason.name() == letter.reason)
            && self.received_ms.is_none_or(|(from, to)| (from..to).contains(&letter.received_at_ms))
            && (self.ids.is_empty() || self.ids.contains(&letter.id))
    }
}
