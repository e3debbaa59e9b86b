//! Several neighbouring files as one. The result depends on the files alone.

use bytes::Bytes;

use super::encode::{Content, Encoder, GROUP_ROWS, Notes, Place};
use super::{Archive, ArchiveError, ArchiveFile, DeadLetters, FileInfo, Filter, Ledger};

/// A row group ends early when its values reach this size, so that memory stays bounded.
const GROUP_BYTES: usize = 32 << 20;

/// Name, beacons, and dead letters if there are any.
type Merged = (FileInfo, Vec<u8>, Option<Vec<u8>>);

/// Reads the files of `run` one after the other and returns the merged one: its name,
/// beacons and dead letters.
pub(super) async fn merge(archive: &Archive, run: &[FileInfo]) -> Result<Merged, ArchiveError> {
    let mut merging = Merging::new()?;
    for file in run {
        let (beacons, dead) = (archive.open(file).await?, archive.open_dead(file).await?);
        merging = aside(move || {
            merging.add(&beacons, dead.as_ref())?;
            Ok(merging)
        })
        .await?;
    }
    let run = run.to_vec();
    aside(move || merging.finish(&run)).await
}

/// Compressing takes a while; the runtime's other tasks must not wait for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ArchiveError::Encode(error.to_string()))?
}

struct Merging {
    beacons: Rows,
    dead: Rows,
    ledger: Ledger,
    rules_version: String,
    /// Event times of the beacons.
    times: Option<(u64, u64)>,
}

/// The rows of one content, and those that are not encoded yet.
struct Rows {
    encoder: Encoder,
    count: usize,
    values: Vec<u8>,
    places: Vec<Place>,
}

impl Merging {
    fn new() -> Result<Self, ArchiveError> {
        Ok(Self {
            beacons: Rows::new(Content::Beacons)?,
            dead: Rows::new(Content::Dead)?,
            ledger: Ledger::default(),
            rules_version: String::new(),
            times: None,
        })
    }

    fn add(&mut self, file: &ArchiveFile, dead: Option<&DeadLetters>) -> Result<(), ArchiveError> {
        self.ledger.add(&file.ledger()?);
        // Rows of dead letters have their own; here the newest stands for all.
        self.rules_version = file.footer("fanal.rules_version").unwrap_or_default().to_owned();
        let all = Filter::default();
        for group in file.groups(&all) {
            for row in group?.beacons(&all) {
                let at = row.beacon.received_at_ms;
                self.times = Some(self.times.map_or((at, at), |(min, max)| (min.min(at), max.max(at))));
                self.beacons.push(row.log_offset, row.append_time_ms, |out| row.beacon.encode(out))?;
            }
        }
        let Some(dead) = dead else { return Ok(()) };
        let mut outcome = Ok(());
        dead.for_each(|row| {
            if outcome.is_ok() {
                outcome = self.dead.push(row.log_offset, row.append_time_ms, |out| row.letter.encode(out));
            }
        })?;
        outcome
    }

    fn finish(self, run: &[FileInfo]) -> Result<Merged, ArchiveError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Err(ArchiveError::Encode("no files to merge".to_owned()));
        };
        let of_names = || {
            let min = run.iter().map(|file| file.min_received_ms).min().unwrap_or_default();
            (min, run.iter().map(|file| file.max_received_ms).max().unwrap_or_default())
        };
        let (min_received_ms, max_received_ms) = self.times.unwrap_or_else(of_names);
        let (first_offset, last_offset) = (first.first_offset, last.last_offset);
        let partition = first.partition;
        let info =
            FileInfo { partition, first_offset, last_offset, min_received_ms, max_received_ms, bytes: 0 };
        let ledger = self.ledger.to_json().map_err(|error| ArchiveError::Encode(error.to_string()))?;
        let notes = Notes { rules_version: self.rules_version, ledger };
        let dead = if self.dead.count == 0 { None } else { Some(self.dead.finish(&info, &notes)?) };
        Ok((info.clone(), self.beacons.finish(&info, &notes)?, dead))
    }
}

impl Rows {
    fn new(content: Content) -> Result<Self, ArchiveError> {
        Ok(Self { encoder: Encoder::new(content)?, count: 0, values: Vec::new(), places: Vec::new() })
    }

    fn push(
        &mut self,
        offset: u64,
        append_time_ms: u64,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ArchiveError> {
        let start = self.values.len();
        encode(&mut self.values);
        self.places.push(Place { offset, append_time_ms, start, end: self.values.len() });
        self.count += 1;
        if self.places.len() >= GROUP_ROWS || self.values.len() >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        if !self.places.is_empty() {
            let values = Bytes::from(std::mem::take(&mut self.values));
            self.encoder.group(&values, &self.places)?;
            self.places.clear();
        }
        Ok(())
    }

    fn finish(mut self, info: &FileInfo, notes: &Notes) -> Result<Vec<u8>, ArchiveError> {
        self.flush()?;
        self.encoder.finish(info, notes)
    }
}
