//! The collector's rules, a file beside the configuration.

use std::path::PathBuf;

use fanal_ingest::rules::RulesHandle;

use super::Config;
use crate::exit::Ending;

impl Config {
    /// The file and what it says now; none where the role does not run.
    pub(crate) fn rules(&self) -> Result<Option<(PathBuf, RulesHandle)>, Ending> {
        let Some(ingest) = &self.ingest else { return Ok(None) };
        let file = ingest.rules_file.clone().unwrap_or_else(|| self.path("ingest-rules.toml"));
        match RulesHandle::read(&file) {
            Ok(rules) => Ok(Some((file, rules))),
            Err(error) => Err(Ending::BadConfiguration(error.to_string())),
        }
    }
}
