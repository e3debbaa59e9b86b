//! The spool's section of the configuration, as typed and as used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fanal_model::{ByteSize, HumanDuration};
use fanal_service::config::{byte_size, human_duration};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A smaller spool could not hold the largest request beside one that drains.
const BYTES_MIN: u64 = 64 << 20;
/// The spool's files: small enough that drained ones go soon, and at most a sixteenth
/// of the whole.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The section `[spool]`, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Folder on a disk of this machine, of this collector alone. Default: `spool` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The most that the spool takes on disk (at least 64MiB); beyond it requests get 503 with `Retry-After`.
    #[serde(with = "byte_size")]
    pub bytes_max: ByteSize,
    /// The spool takes nothing that would leave less free than this on its disk.
    #[serde(with = "byte_size")]
    pub free_bytes_min: ByteSize,
    /// A request that the event log neither confirms nor refuses within this time goes to the spool: what the
    /// first requests of an outage wait for. The event log may still take it;
    /// readers drop the second copy.
    #[serde(with = "human_duration")]
    pub confirm_timeout: HumanDuration,
    /// The same for a batch out of the spool, which is then sent again; with the event log's own limit longer
    /// than this, batches would be sent twice that are still on their way.
    #[serde(with = "human_duration")]
    pub drain_timeout: HumanDuration,
    /// The size of the batches in which the spool is drained.
    #[serde(with = "byte_size")]
    pub drain_batch_bytes: ByteSize,
    /// How long a stop waits for the spool to drain; what is left then drains after the next start.
    #[serde(with = "human_duration")]
    pub stop_timeout: HumanDuration,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            dir: None,
            bytes_max: ByteSize(8 << 30),
            free_bytes_min: ByteSize(1 << 30),
            confirm_timeout: HumanDuration(Duration::from_millis(300)),
            drain_timeout: HumanDuration(Duration::from_secs(60)),
            drain_batch_bytes: ByteSize(4 << 20),
            stop_timeout: HumanDuration(Duration::from_secs(10)),
        }
    }
}

/// What is wrong with a section that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpoolConfigProblem {
    #[error("spool.{key} is 0; leave it out for the default")]
    Zero { key: &'static str },
    #[error("spool.bytes_max is {given}, which is less than one large request needs; use 64MiB or more")]
    TooSmall { given: ByteSize },
    #[error("spool.{key} is too large for this machine")]
    TooLarge { key: &'static str },
    #[error(
        "spool.drain_timeout is shorter than spool.confirm_timeout: the drain would give up before a request does"
    )]
    DrainBelowConfirm,
}

/// A section that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    pub dir: PathBuf,
    pub bytes_max: u64,
    pub free_bytes_min: u64,
    pub segment_bytes: u64,
    pub confirm_timeout: Duration,
    pub drain_timeout: Duration,
    pub drain_batch_bytes: usize,
    pub stop_timeout: Duration,
    /// The pause after the first and after many failures of the drain.
    pub pause_min: Duration,
    pub pause_max: Duration,
    /// The largest record (key and value) that the log behind the spool takes; a
    /// larger one is refused at once, since it could never be drained.
    pub record_bytes_max: Option<usize>,
}

impl SpoolConfig {
    /// Checks what the types alone cannot.
    pub fn resolve(&self, data_dir: &Path) -> Result<SpoolSettings, SpoolConfigProblem> {
        let times = [
            (self.confirm_timeout, "confirm_timeout"),
            (self.drain_timeout, "drain_timeout"),
            (self.stop_timeout, "stop_timeout"),
        ];
        if let Some((_, key)) = times.iter().find(|(time, _)| time.0.is_zero()) {
            return Err(SpoolConfigProblem::Zero { key });
        }
        if self.drain_timeout.0 < self.confirm_timeout.0 {
            return Err(SpoolConfigProblem::DrainBelowConfirm);
        }
        if self.bytes_max.0 < BYTES_MIN {
            return Err(SpoolConfigProblem::TooSmall { given: self.bytes_max });
        }
        let key = "drain_batch_bytes";
        let drain_batch_bytes = match usize::try_from(self.drain_batch_bytes.0) {
            Ok(0) => return Err(SpoolConfigProblem::Zero { key }),
            Ok(bytes) => bytes,
            Err(_) => return Err(SpoolConfigProblem::TooLarge { key }),
        };
        Ok(SpoolSettings {
            dir: self.dir.clone().unwrap_or_else(|| data_dir.join("spool")),
            bytes_max: self.bytes_max.0,
            free_bytes_min: self.free_bytes_min.0,
            segment_bytes: SEGMENT_BYTES_MAX.min(self.bytes_max.0 / 16),
            confirm_timeout: self.confirm_timeout.0,
            drain_timeout: self.drain_timeout.0,
            drain_batch_bytes,
            stop_timeout: self.stop_timeout.0,
            pause_min: PAUSE_MIN,
            pause_max: PAUSE_MAX,
            record_bytes_max: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_means_the_defaults_and_an_unknown_key_is_refused() {
        assert_eq!(toml::from_str::<SpoolConfig>("").unwrap(), SpoolConfig::default());
        assert!(toml::from_str::<SpoolConfig>("byte_max = \"1GiB\"").is_err());
        let settings = SpoolConfig::default().resolve(Path::new("/data")).unwrap();
        assert_eq!((settings.dir.as_path(), settings.segment_bytes), (Path::new("/data/spool"), 64 << 20));
        let text = toml::to_string(&SpoolConfig::default()).unwrap();
        assert_eq!(toml::from_str::<SpoolConfig>(&text).unwrap(), SpoolConfig::default());
    }

    #[test]
    fn a_section_that_cannot_work_is_refused_with_its_key() {
        let problem = |text: &str| {
            let config: SpoolConfig = toml::from_str(text).unwrap();
            config.resolve(Path::new("/data")).unwrap_err().to_string()
        };
        assert!(problem("bytes_max = \"1MiB\"").contains("64MiB"));
        assert!(problem("drain_batch_bytes = \"0B\"").contains("drain_batch_bytes"));
        assert!(problem("stop_timeout = \"0s\"").contains("stop_timeout"));
        assert!(problem("drain_timeout = \"100ms\"").contains("confirm_timeout"));
    }
}
