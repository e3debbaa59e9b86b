//! Listing, replaying and dropping.

use std::collections::{BTreeMap, VecDeque};

use fanal_parser::Limits;
use fanal_storage::catalogue::SiteDirectory;
use fanal_storage::log::{Batch, Partition};
use serde::Serialize;

use super::ReplayError;
use super::filter::LetterFilter;
use super::handled::{Action, Handled, Marks};
use super::judge::{Judge, Verdict};
use super::letters::{DeadLetterStore, Letter};
use crate::import::{HeadHash, ImportError, ImportTarget, Position};
use crate::key::AddressKey;

/// A batch is closed at this size; one letter may add 5 MiB.
const BATCH_BYTES: usize = 1 << 20;
/// Letters whose marks wait for one write.
const MARKS_MAX: u64 = 10_000;
/// Bytes of a letter that a list shows.
const SAMPLE_BYTES: usize = 160;
/// How often a file that was merged meanwhile is looked for again.
const GONE_MAX: u32 = 5;

/// A letter as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedLetter {
    pub id: String,
    pub received_at_ms: u64,
    pub site: String,
    pub reason: String,
    pub rules_version: u32,
    pub source: &'static str,
    pub node: String,
    pub bytes: usize,
    /// The beginning, with everything that is not printable ASCII escaped.
    pub sample: String,
    #[serde(skip)]
    append_time_ms: u64,
}

/// The newest letters, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub letters: Vec<ListedLetter>,
    /// Whether there may be older ones.
    pub is_cut: bool,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy)]
pub struct ReplayProgress {
    pub files_done: usize,
    pub files: usize,
    pub letters: u64,
    pub handled: u64,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Letters that the filters mean and that were not done with before.
    pub letters: u64,
    /// Letters that are done with now.
    pub handled: u64,
    /// Lines in the event log now.
    pub accepted: u64,
    /// Letters that stay, by what is wrong with them today.
    pub still_rejected: BTreeMap<String, u64>,
    /// Lines of partly accepted log lines that became dead letters of their own.
    pub rejected_lines: u64,
}

/// What letters are read again with.
pub struct ReplayOptions {
    pub sites: SiteDirectory,
    pub key: AddressKey,
    pub limits: Limits,
}

impl DeadLetterStore {
    /// The newest letters that are not done with, at most `limit`.
    pub async fn list(&self, filter: &LetterFilter, limit: usize) -> Result<Listed, ReplayError> {
        let handled = Handled::load(&self.store).await?;
        let (mut letters, mut is_cut) = (Vec::new(), false);
        for partition in self.partitions().await? {
            let mut older = u64::MAX;
            let mut found = 0;
            let mut gone = 0;
            'listing: loop {
                let (files, bound) = (self.files(partition).await?, older);
                for file in files.iter().rev().filter(|file| file.first_offset < bound) {
                    if found >= limit {
                        is_cut = true;
                        break 'listing;
                    }
                    let mut chunks = match self.read(file).await {
                        Ok(chunks) => chunks,
                        Err(error) if is_gone(&error) && gone < GONE_MAX => {
                            gone += 1;
                            continue 'listing;
                        }
                        Err(error) => return Err(error),
                    };
                    let mut newest = VecDeque::new();
                    while let Some(chunk) = chunks.next().await {
                        let wanted = |letter: &&Letter| {
                            letter.id.offset < older && filter.wants(letter) && !handled.contains(letter.id)
                        };
                        for letter in chunk.iter().filter(wanted) {
                            if newest.len() == limit - found {
                                newest.pop_front();
                                is_cut = true;
                            }
                            newest.push_back(listed(letter));
                        }
                    }
                    chunks.end().await?;
                    found += newest.len();
                    letters.extend(newest.into_iter().rev());
                    older = file.first_offset;
                }
                break;
            }
        }
        letters.sort_by_key(|letter: &ListedLetter| std::cmp::Reverse(letter.append_time_ms));
        is_cut |= letters.len() > limit;
        letters.truncate(limit);
        Ok(Listed { letters, is_cut })
    }

    /// Marks letters as done with, oldest first, without reading them again.
    pub async fn drop_letters(
        &self,
        filter: &LetterFilter,
        limit: u64,
        now_ms: u64,
        progress: impl FnMut(ReplayProgress),
    ) -> Result<ReplayReport, ReplayError> {
        let run = Replayer { store: self.clone(), target: None::<Nowhere>, now_ms };
        run.run(filter, limit, Action::Dropped, None, progress).await
    }
}

/// The target of runs that append nothing: there is none.
enum Nowhere {}

impl ImportTarget for Nowhere {
    async fn lookup(&self, _head: &HeadHash) -> Result<Vec<Position>, ImportError> {
        match *self {}
    }

    async fn append(&self, _batch: Batch) -> Result<(), ImportError> {
        match *self {}
    }

    async fn seal(&self) -> Result<(), ImportError> {
        match *self {}
    }
}

/// Replays.
pub struct Replayer<T> {
    store: DeadLetterStore,
    /// Where accepted lines go; its batches hold no position.
    target: Option<T>,
    now_ms: u64,
}

/// One run under way.
struct Work<'w> {
    filter: &'w LetterFilter,
    /// Letters that may still be handled.
    left: u64,
    handled: Handled,
    marks: Marks,
    batch: Batch,
    judge: Option<Judge>,
    report: ReplayReport,
}

impl<T: ImportTarget> Replayer<T> {
    pub fn new(store: DeadLetterStore, target: T, now_ms: u64) -> Self {
        Self { store, target: Some(target), now_ms }
    }

    /// Reads letters again, oldest first, and appends what is accepted now. At most
    /// `limit` letters are looked at.
    pub async fn replay(
        &self,
        filter: &LetterFilter,
        limit: u64,
        options: ReplayOptions,
        progress: impl FnMut(ReplayProgress),
    ) -> Result<ReplayReport, ReplayError> {
        let judge = Judge::new(options.sites, options.key, options.limits);
        let report = self.run(filter, limit, Action::Replayed, Some(judge), progress).await?;
        if let (Some(target), 1..) = (&self.target, report.accepted) {
            target.seal().await?;
        }
        Ok(report)
    }

    async fn run(
        &self,
        filter: &LetterFilter,
        limit: u64,
        action: Action,
        judge: Option<Judge>,
        mut progress: impl FnMut(ReplayProgress),
    ) -> Result<ReplayReport, ReplayError> {
        let mut work = Work {
            filter,
            left: limit,
            handled: Handled::load(&self.store.store).await?,
            marks: Marks::new(self.store.store.clone(), action, self.now_ms),
            batch: Batch::new(),
            judge,
            report: ReplayReport::default(),
        };
        for partition in self.store.partitions().await? {
            self.partition(&mut work, partition, &mut progress).await?;
        }
        self.flush(&mut work).await?;
        Ok(work.report)
    }

    async fn partition(
        &self,
        work: &mut Work<'_>,
        partition: Partition,
        progress: &mut impl FnMut(ReplayProgress),
    ) -> Result<(), ReplayError> {
        let mut files = self.store.files(partition).await?;
        // What is written from here on is none of this run's business.
        let Some(end) = files.last().map(|file| file.last_offset) else { return Ok(()) };
        let (mut next_offset, mut gone, mut at) = (0, 0, 0);
        work.marks.skip();
        while let Some(file) = files.get(at).filter(|file| file.first_offset <= end && work.left > 0) {
            if file.last_offset < next_offset {
                at += 1;
                continue;
            }
            let mut chunks = match self.store.read(file).await {
                Ok(chunks) => chunks,
                Err(error) if is_gone(&error) && gone < GONE_MAX => {
                    gone += 1;
                    (files, at) = (self.store.files(partition).await?, 0);
                    continue;
                }
                Err(error) => return Err(error),
            };
            while let Some(chunk) = chunks.next().await {
                for letter in chunk.iter().filter(|letter| (next_offset..=end).contains(&letter.id.offset)) {
                    self.letter(work, letter).await?;
                }
            }
            chunks.end().await?;
            next_offset = file.last_offset + 1;
            at += 1;
            let (letters, handled) = (work.report.letters, work.report.handled);
            progress(ReplayProgress { files_done: at, files: files.len(), letters, handled });
        }
        Ok(())
    }

    async fn letter(&self, work: &mut Work<'_>, letter: &Letter) -> Result<(), ReplayError> {
        if work.handled.contains(letter.id) {
            // It lies in a range already, so that a range may go on over it.
            return Ok(());
        }
        if work.left == 0 || !work.filter.wants(letter) {
            work.marks.skip();
            return Ok(());
        }
        work.left -= 1;
        work.report.letters += 1;
        let verdict = match &mut work.judge {
            Some(judge) => judge.judge(letter, &mut work.batch),
            None => Verdict::Accepted { accepted: 0, rejected: 0 },
        };
        match verdict {
            Verdict::Accepted { accepted, rejected } => {
                work.report.handled += 1;
                work.report.accepted += accepted;
                work.report.rejected_lines += rejected;
                work.marks.mark(letter.id);
            }
            Verdict::Rejected(reason) => {
                *work.report.still_rejected.entry(reason.to_owned()).or_default() += 1;
                work.marks.skip();
            }
        }
        if work.batch.byte_len() >= BATCH_BYTES || work.marks.count >= MARKS_MAX {
            self.flush(work).await?;
        }
        Ok(())
    }

    /// First the records, then the marks: cut off between the two, the next run appends
    /// the same records again, and deduplication drops them.
    async fn flush(&self, work: &mut Work<'_>) -> Result<(), ReplayError> {
        let batch = std::mem::take(&mut work.batch);
        if let (Some(target), false) = (&self.target, batch.is_empty()) {
            target.append(batch).await?;
        }
        work.marks.store().await
    }
}

fn is_gone(error: &ReplayError) -> bool {
    matches!(error, ReplayError::Archive(error) if error.is_gone())
}

fn listed(letter: &Letter) -> ListedLetter {
    let shown = &letter.bytes[..letter.bytes.len().min(SAMPLE_BYTES)];
    ListedLetter {
        id: letter.id.to_string(),
        received_at_ms: letter.received_at_ms,
        site: letter.site_code.clone(),
        reason: letter.reason.clone(),
        rules_version: letter.rules_version,
        source: letter.source.name(),
        node: letter.node.clone(),
        bytes: letter.bytes.len(),
        sample: shown.escape_ascii().to_string(),
        append_time_ms: letter.append_time_ms,
    }
}
