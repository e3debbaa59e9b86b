//! What a data folder of `fanal dev` says about where its data is.
//!
//! Only looks. What must stay true: no command goes on with empty servers, or an empty
//! folder, where the data is elsewhere.

use std::path::Path;

use super::{Config, EventLogKind};
use crate::exit::Ending;

const LOG: &str = "log";
const CATALOGUE: &str = "catalogue.sqlite";
/// What only a run on servers makes.
const SPOOL: &str = "spool";

impl Config {
    /// Takes the servers of `named`, else those that the folder was started with. Refuses
    /// where the data of the folder would be left behind.
    pub(crate) fn on_servers_of_folder(&mut self, named: Option<&Path>) -> anyhow::Result<()> {
        let kept = Some(self.servers_file()).filter(|file| file.is_file());
        let has_spool = self.path(SPOOL).exists();
        // A log beside a spool is what is left from before the servers.
        let mut has_log = self.path(LOG).exists() && !has_spool;
        let mut has_catalogue = self.path(CATALOGUE).exists();
        if let Some(kept) = &kept {
            let mut before = self.clone();
            match (before.on_cluster(kept), named) {
                (Ok(()), _) => {
                    has_log = before.event_log.kind == EventLogKind::Embedded;
                    has_catalogue = before.catalogue.url.is_none();
                }
                // The file that is named takes its place.
                (Err(_), Some(_)) => {}
                (Err(error), None) => return Err(error),
            }
        }
        let Some(file) = named.or(kept.as_deref()) else {
            return if has_spool { Err(self.servers_forgotten()) } else { Ok(()) };
        };
        self.on_cluster(file)?;
        let left = if has_spool && self.event_log.kind == EventLogKind::Embedded {
            return Err(self.spool_left_behind(file));
        } else if has_log && self.event_log.kind == EventLogKind::Kafka {
            LOG
        } else if has_catalogue && self.catalogue.url.is_some() {
            CATALOGUE
        } else {
            return Ok(());
        };
        // What is not there yet is not left behind.
        if self.path(left).exists() { Err(self.left_behind(left, file)) } else { Ok(()) }
    }

    fn left_behind(&self, found: &str, file: &Path) -> anyhow::Error {
        let dir = self.data_dir.display();
        let text = format!(
            "{dir} holds the data of embedded parts ({found}), of which the servers of {} know nothing; \
             start without --cluster, or give the servers a folder of their own with --data-dir",
            file.display()
        );
        Ending::WrongUse(text).into()
    }

    fn spool_left_behind(&self, file: &Path) -> anyhow::Error {
        let (dir, file) = (self.data_dir.display(), file.display());
        let text = format!(
            "{dir} holds a {SPOOL}, of which beacons may still have to go to Kafka, and {file} names no Kafka; add \
             [event_log] with the brokers, or name another folder with --data-dir"
        );
        Ending::WrongUse(text).into()
    }

    fn servers_forgotten(&self) -> anyhow::Error {
        let (dir, kept) = (self.data_dir.display(), self.servers_file());
        let text = format!(
            "{dir} was used with servers (it holds a {SPOOL}), but {} is not there, which would name them; give their \
             file once more, `fanal dev --cluster FILE` or --config FILE, or name another folder with --data-dir",
            kept.display()
        );
        Ending::WrongUse(text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: &str = "[event_log]\nkind = \"kafka\"\n[event_log.kafka]\nbrokers = [\"k:9092\"]\n";

    fn start(dir: &Path, named: Option<&Path>) -> Result<bool, String> {
        let mut config = Config::dev(dir);
        let taken = config.on_servers_of_folder(named);
        taken.map(|()| config.event_log.kafka.brokers == ["k:9092"]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_stays_with_the_servers_or_the_embedded_parts_that_have_its_data() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, file) = (folder.path().join("data"), folder.path().join("cluster.toml"));
        std::fs::write(&file, SERVERS).unwrap();
        assert_eq!(start(&dir, None), Ok(false));
        assert_eq!(start(&dir, Some(&file)), Ok(true));
        let catalogue = folder.path().join("catalogue.toml");
        std::fs::write(&catalogue, "[catalogue]\nurl = \"mysql://fanal@m:3306/fanal\"\n").unwrap();
        let clickhouse = folder.path().join("clickhouse.toml");
        std::fs::write(&clickhouse, "[clickhouse]\nurl = \"http://c:8123\"\n").unwrap();
        for (name, servers) in [(LOG, &file), (CATALOGUE, &catalogue)] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
            let refused = start(&dir, Some(servers)).unwrap_err();
            assert!(refused.contains(name) && refused.contains("without --cluster"), "{refused}");
            assert_eq!(start(&dir, None), Ok(false));
            // Servers for other parts leave nothing behind.
            assert_eq!(start(&dir, Some(&clickhouse)), Ok(false));
            std::fs::remove_dir(dir.join(name)).unwrap();
        }
        std::fs::create_dir(dir.join(SPOOL)).unwrap();
        for is_there in [false, true] {
            let refused = start(&dir, None).unwrap_err();
            assert!(refused.contains("servers.toml") && refused.contains("--cluster FILE"), "{refused}");
            assert_eq!(start(&dir, Some(&file)), Ok(true));
            // With Kafka and without a server for the catalogue both are there.
            if !is_there {
                std::fs::create_dir(dir.join(CATALOGUE)).unwrap();
            }
        }
        let refused = start(&dir, Some(&clickhouse)).unwrap_err();
        assert!(refused.contains("may still have to go to Kafka"), "{refused}");
        std::fs::write(dir.join("servers.toml"), "a key of another version = 1\n").unwrap();
        assert!(start(&dir, None).is_err());
        assert_eq!(start(&dir, Some(&file)), Ok(true));
        std::fs::copy(&file, dir.join("servers.toml")).unwrap();
        assert_eq!(start(&dir, None), Ok(true));
        assert!(start(&dir, Some(&catalogue)).is_err(), "its catalogue is embedded");
        std::fs::remove_dir(dir.join(SPOOL)).unwrap();
        // Servers for some parts, embedded parts for the others; then other servers.
        std::fs::copy(&clickhouse, dir.join("servers.toml")).unwrap();
        std::fs::create_dir(dir.join(LOG)).unwrap();
        assert_eq!(start(&dir, None), Ok(false));
        let refused = start(&dir, Some(&file)).unwrap_err();
        assert!(refused.contains("(log)"), "{refused}");
    }
}
