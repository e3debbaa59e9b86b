//! One rebuild at a time in the whole installation.
//!
//! Rows of two rebuilds may have the same version and different content: overflow
//! partitions and the rules of sites are no part of a version. Among equal versions the
//! later insert wins, so the one that has read later must write later. A lease in the store
//! of the checkpoints sees to that: an object for each holder, numbered, made only if it is
//! not there. The holder writes it again and again; who sees no change for a while takes
//! the next number. No clocks are compared.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const FOLDER: &str = "rebuild-lease";
const PACE: Pace = Pace { beat: Duration::from_secs(2), expires: Duration::from_secs(30) };
/// What the object of a holder that is done contains.
const FREE: &[u8] = b"free";

#[derive(Clone, Copy)]
struct Pace {
    /// How often the holder shows that it lives, and others look.
    beat: Duration,
    /// A holder that shows nothing for this long has died.
    expires: Duration,
}

/// The right to rebuild, until `release`; if it is dropped, until others miss its beats.
pub(super) struct Alone {
    store: Arc<dyn ObjectStore>,
    number: u64,
    beating: JoinHandle<()>,
}

impl Alone {
    /// Waits until nobody else rebuilds.
    pub(super) async fn wait(store: &Arc<dyn ObjectStore>) -> Result<Self, Error> {
        Self::wait_at(store, PACE).await
    }

    async fn wait_at(store: &Arc<dyn ObjectStore>, pace: Pace) -> Result<Self, Error> {
        let mut last: Option<(u64, Vec<u8>)> = None;
        let mut changed_at = Instant::now();
        loop {
            let holder = holder(store).await?;
            let is_free = holder.as_ref().is_none_or(|(_, content)| content == FREE);
            if holder != last {
                (last, changed_at) = (holder, Instant::now());
            }
            if is_free || changed_at.elapsed() >= pace.expires {
                let number = last.as_ref().map_or(1, |(number, _)| number + 1);
                match claim(store, number).await {
                    Ok(()) => return Ok(Self::held(store, number, pace)),
                    // Somebody was faster.
                    Err(Error::AlreadyExists { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            tokio::time::sleep(pace.beat).await;
        }
    }

    fn held(store: &Arc<dyn ObjectStore>, number: u64, pace: Pace) -> Self {
        let beating = tokio::spawn(beat(Arc::clone(store), number, pace.beat));
        Self { store: Arc::clone(store), number, beating }
    }

    /// Lets the next one begin at once.
    pub(super) async fn release(mut self) -> Result<(), Error> {
        self.beating.abort();
        // No beat may come after the last word.
        (&mut self.beating).await.ok();
        self.store.put(&path(self.number), FREE.to_vec().into()).await?;
        for older in numbers(&self.store).await?.into_iter().filter(|number| *number < self.number) {
            self.store.delete(&path(older)).await?;
        }
        Ok(())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// Shows that the holder lives. A beat that fails is one that others miss.
async fn beat(store: Arc<dyn ObjectStore>, number: u64, pause: Duration) {
    let mut beats = 1_u64;
    loop {
        tokio::time::sleep(pause).await;
        beats += 1;
        if let Err(error) = store.put(&path(number), beats.to_string().into_bytes().into()).await {
            tracing::warn!(%error, "the lease on rebuilding is not renewed");
        }
    }
}

async fn claim(store: &Arc<dyn ObjectStore>, number: u64) -> Result<(), Error> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&path(number), b"1".to_vec().into(), options).await.map(drop)
}

/// The newest holder, and what it last wrote.
async fn holder(store: &Arc<dyn ObjectStore>) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let Some(number) = numbers(store).await?.into_iter().max() else { return Ok(None) };
    match store.get(&path(number)).await {
        Ok(found) => Ok(Some((number, found.bytes().await?.to_vec()))),
        // A newer one has taken it away meanwhile; the next look finds that.
        Err(Error::NotFound { .. }) => Ok(Some((number, Vec::new()))),
        Err(error) => Err(error),
    }
}

async fn numbers(store: &Arc<dyn ObjectStore>) -> Result<Vec<u64>, Error> {
    let objects: Vec<_> = store.list(Some(&Path::from(FOLDER))).try_collect().await?;
    Ok(objects.iter().filter_map(|object| object.location.filename()?.parse().ok()).collect())
}

fn path(number: u64) -> Path {
    Path::from(format!("{FOLDER}/{number:020}"))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    const FAST: Pace = Pace { beat: Duration::from_millis(20), expires: Duration::from_millis(500) };

    fn store() -> Arc<dyn ObjectStore> {
        Arc::new(InMemory::new())
    }

    #[tokio::test]
    async fn a_second_rebuild_waits_until_the_first_is_done() {
        let store = store();
        let first = Alone::wait_at(&store, FAST).await.unwrap();
        let other = Arc::clone(&store);
        let second = tokio::spawn(async move { Alone::wait_at(&other, FAST).await });
        tokio::time::sleep(FAST.expires * 3).await;
        assert!(!second.is_finished(), "the first one lives and is not done");
        first.release().await.unwrap();
        let second = second.await.unwrap().unwrap();
        second.release().await.unwrap();
        assert_eq!(numbers(&store).await.unwrap(), [2]);
    }

    #[tokio::test]
    async fn a_rebuild_that_died_holds_nobody_up_for_long_and_one_of_many_goes_on() {
        let store = store();
        drop(Alone::wait_at(&store, FAST).await.unwrap());
        let began = Instant::now();
        let (a, b) = (Arc::clone(&store), Arc::clone(&store));
        let mut a = tokio::spawn(async move { Alone::wait_at(&a, FAST).await.unwrap() });
        let mut b = tokio::spawn(async move { Alone::wait_at(&b, FAST).await.unwrap() });
        let (_held, other) = tokio::select! {
            held = &mut a => (held.unwrap(), b),
            held = &mut b => (held.unwrap(), a),
        };
        assert!(began.elapsed() >= FAST.expires);
        tokio::time::sleep(FAST.expires * 2).await;
        assert!(!other.is_finished(), "both rebuild");
    }
}
