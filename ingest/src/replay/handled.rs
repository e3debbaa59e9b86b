//! Which dead letters are done with: small objects beside them, written once each.
//!
//! `handled/v1/{run}-{part}.json` holds ranges of offsets. A range may span offsets
//! that are no dead letters; every dead letter in it is done with.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanal_storage::log::Partition;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

use super::ReplayError;
use super::filter::LetterId;

const ROOT: &str = "handled/v1";
const VERSION: u32 = 1;

/// What was done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Replayed,
    Dropped,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    action: Action,
    at_ms: u64,
    /// First and last offset of each range, by partition.
    letters: BTreeMap<String, Vec<(u64, u64)>>,
}

/// The letters that are done with.
#[derive(Debug, Clone, Default)]
pub(super) struct Handled(BTreeMap<Partition, Vec<(u64, u64)>>);

impl Handled {
    /// Reads all marks.
    pub(super) async fn load(store: &Arc<dyn ObjectStore>) -> Result<Self, ReplayError> {
        let objects: Vec<_> = store.list(Some(&Path::from(ROOT))).try_collect().await?;
        let mut all = Self::default();
        for object in objects {
            let path = object.location;
            // What a crash left half written has the name to come and more behind it.
            if path.extension() != Some("json") {
                continue;
            }
            let bytes = store.get(&path).await?.bytes().await?;
            all.add(&bytes).map_err(|detail| ReplayError::Mark { path: path.to_string(), detail })?;
        }
        all.merge();
        Ok(all)
    }

    fn add(&mut self, json: &[u8]) -> Result<(), String> {
        let stored: Stored = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if stored.version != VERSION {
            return Err(format!("its version is {}, this program reads {VERSION}", stored.version));
        }
        for (name, ranges) in stored.letters {
            let partition = Partition::parse(&name).ok_or_else(|| format!("`{name}` is no partition"))?;
            self.0.entry(partition).or_default().extend(ranges);
        }
        Ok(())
    }

    /// Sorts the ranges and joins those that touch.
    fn merge(&mut self) {
        for ranges in self.0.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, kept| {
                let touches = next.0 <= kept.1.saturating_add(1);
                if touches {
                    kept.1 = kept.1.max(next.1);
                }
                touches
            });
        }
    }

    pub(super) fn contains(&self, id: LetterId) -> bool {
        self.0.get(&id.partition).is_some_and(|ranges| {
            let after = ranges.partition_point(|(first, _)| *first <= id.offset);
            after > 0 && ranges[after - 1].1 >= id.offset
        })
    }
}

/// Marks of one run that are not durable yet. Takes letters in the order of offsets.
pub(super) struct Marks {
    store: Arc<dyn ObjectStore>,
    action: Action,
    at_ms: u64,
    /// Unique to the run, so that no two write the same name.
    run: String,
    part: u32,
    letters: BTreeMap<Partition, Vec<(u64, u64)>>,
    /// The last letter seen was marked, so that its range goes on.
    is_open: bool,
    /// Letters in `letters`.
    pub(super) count: u64,
}

impl Marks {
    pub(super) fn new(store: Arc<dyn ObjectStore>, action: Action, at_ms: u64) -> Self {
        let run = format!("{at_ms:013}-{:016x}", rand::random::<u64>());
        Self { store, action, at_ms, run, part: 0, letters: BTreeMap::new(), is_open: false, count: 0 }
    }

    /// This letter is done with.
    pub(super) fn mark(&mut self, id: LetterId) {
        self.count += 1;
        let ranges = self.letters.entry(id.partition).or_default();
        match ranges.last_mut() {
            Some(last) if self.is_open => last.1 = id.offset,
            _ => ranges.push((id.offset, id.offset)),
        }
        self.is_open = true;
    }

    /// A letter that is not done with stands here, or another partition begins.
    pub(super) fn skip(&mut self) {
        self.is_open = false;
    }

    /// Makes the marks durable. What they stand for must be so already.
    pub(super) async fn store(&mut self) -> Result<(), ReplayError> {
        self.is_open = false;
        if self.letters.is_empty() {
            return Ok(());
        }
        let letters = std::mem::take(&mut self.letters);
        let letters =
            letters.into_iter().map(|(partition, ranges)| (partition.to_string(), ranges)).collect();
        let stored = Stored { version: VERSION, action: self.action, at_ms: self.at_ms, letters };
        let path = format!("{ROOT}/{}-{:06}.json", self.run, self.part);
        let json = serde_json::to_vec(&stored)
            .map_err(|error| ReplayError::Mark { path: path.clone(), detail: error.to_string() })?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(&Path::from(path), PutPayload::from(json), options).await?;
        self.part += 1;
        self.count = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: u64) -> LetterId {
        LetterId { partition: Partition::EMBEDDED, offset }
    }

    #[tokio::test]
    async fn what_was_marked_is_found_and_nothing_else() {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        for (marked, skipped) in [(vec![3, 7, 9], vec![11]), (vec![20], vec![]), (vec![10, 15], vec![12])] {
            let mut marks = Marks::new(Arc::clone(&store), Action::Dropped, 5);
            let mut all: Vec<(u64, bool)> = marked.iter().map(|at| (*at, true)).collect();
            all.extend(skipped.iter().map(|at| (*at, false)));
            all.sort_unstable();
            for (at, is_marked) in all {
                if is_marked { marks.mark(id(at)) } else { marks.skip() }
            }
            marks.store().await.unwrap();
        }
        let handled = Handled::load(&store).await.unwrap();
        let found: Vec<u64> = (0..25).filter(|at| handled.contains(id(*at))).collect();
        // Letters are marked in their order, so that what lies between two is none or marked.
        assert_eq!(found, [3, 4, 5, 6, 7, 8, 9, 10, 15, 20]);
        let other = Partition::parse("dead-1").unwrap();
        assert!(!handled.contains(LetterId { partition: other, offset: 5 }));
    }

    #[tokio::test]
    async fn a_mark_that_cannot_be_read_is_named() {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        for (text, said) in
            [("{", "EOF"), (r#"{"version":2,"action":"dropped","at_ms":1,"letters":{}}"#, "version is 2")]
        {
            store.put(&Path::from("handled/v1/a.json"), PutPayload::from(text)).await.unwrap();
            let error = Handled::load(&store).await.unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("handled/v1/a.json"), "{error}");
        }
    }
}
