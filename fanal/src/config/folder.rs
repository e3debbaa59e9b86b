//! What a data folder of `fanal dev` says about where its data is.
//!
//! Only looks. What must stay true: no command goes on with empty servers, or an empty
//! folder, where the data is elsewhere.

use std::path::Path;

use super::Config;
use crate::exit::Ending;

/// What an embedded run makes first of all.
const EMBEDDED: [&str; 2] = ["log", "catalogue.sqlite"];
/// What only a run on servers makes.
const SPOOL: &str = "spool";

impl Config {
    /// Takes the servers of `named`, else those that the folder was started with. Refuses
    /// where the data of the folder would be left behind.
    pub(crate) fn on_servers_of_folder(&mut self, named: Option<&Path>) -> anyhow::Result<()> {
        let (dir, kept) = (self.data_dir.display(), self.servers_file());
        let embedded = EMBEDDED.into_iter().find(|name| self.path(name).exists());
        match (named, kept.is_file(), embedded) {
            (Some(file), false, Some(found)) => Err(Ending::WrongUse(format!(
                "{dir} holds the data of embedded parts ({found}), of which the servers of {} know nothing; \
                 start without --cluster, or give the servers a folder of their own with --data-dir",
                file.display()
            ))
            .into()),
            (Some(file), ..) => self.on_cluster(file),
            (None, true, _) => self.on_cluster(&kept),
            (None, false, None) if self.path(SPOOL).exists() => Err(Ending::WrongUse(format!(
                "{dir} was used with servers (it holds a {SPOOL}), but {} is gone, which named them; \
                 start `fanal dev --cluster FILE` with their file once more, or name another folder with --data-dir",
                kept.display()
            ))
            .into()),
            (None, false, _) => Ok(()),
        }
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
        for name in EMBEDDED {
            std::fs::create_dir_all(dir.join(name)).unwrap();
            let refused = start(&dir, Some(&file)).unwrap_err();
            assert!(refused.contains(name) && refused.contains("without --cluster"), "{refused}");
            assert_eq!(start(&dir, None), Ok(false));
            std::fs::remove_dir(dir.join(name)).unwrap();
        }
        std::fs::create_dir(dir.join(SPOOL)).unwrap();
        let refused = start(&dir, None).unwrap_err();
        assert!(refused.contains("servers.toml") && refused.contains("--cluster FILE"), "{refused}");
        assert_eq!(start(&dir, Some(&file)), Ok(true));
        std::fs::copy(&file, dir.join("servers.toml")).unwrap();
        assert_eq!(start(&dir, None), Ok(true));
        // Servers for some parts, embedded parts for the others.
        std::fs::create_dir(dir.join("log")).unwrap();
        assert_eq!((start(&dir, None), start(&dir, Some(&file))), (Ok(true), Ok(true)));
    }
}
