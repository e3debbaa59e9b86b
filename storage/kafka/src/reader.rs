//! Reads one partition from an offset on. Belongs to no group, so nobody takes the
//! partition away; waits when the brokers are away.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fanal_storage::log::{Chunk, EventSource, Partition, ReadError};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::client::{Elsewhere, LastError};
use crate::error::KafkaError;
use crate::handle::Inner;
use crate::record::classify;
use crate::watch::Watch;

/// How often the client says how far it has fetched; decides how soon a reader knows
/// that only marks of transactions are left before the end.
const STATISTICS_INTERVAL_MS: &str = "1000";
/// Events that are no records, served in one go.
const SILENT_EVENTS_MAX: usize = 1000;
/// The brokers are given so long to say where a partition ends.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at a log that answers nothing.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Records of one partition.
pub struct KafkaReader {
    inner: Arc<Inner>,
    consumer: Elsewhere<StreamConsumer<Watch>>,
    progress: Progress,
}

struct Progress {
    partition: Partition,
    position: u64,
    at_end: bool,
    /// There was an error since the end was heard of. The client tells an end once: after
    /// an outage in which nothing was appended it does not say it again.
    end_in_doubt: Arc<AtomicBool>,
    /// The brokers say that they do not have the position.
    out_of_range: bool,
    fetched_end: Arc<AtomicU64>,
    errors: LastError,
}

impl KafkaReader {
    pub(crate) async fn open(inner: Arc<Inner>, partition: Partition, from: u64) -> Result<Self, ReadError> {
        let (start, end) = inner.offset_range(partition).await.map_err(unreadable)?;
        in_range(from, start, end)?;
        let progress = Progress {
            partition,
            position: from,
            at_end: false,
            end_in_doubt: Arc::default(),
            out_of_range: false,
            fetched_end: Arc::default(),
            errors: LastError::default(),
        };
        let consumer = connect(&inner, &progress).map_err(unreadable)?;
        Ok(Self { inner, consumer, progress })
    }

    #[must_use]
    pub fn partition(&self) -> Partition {
        self.progress.partition
    }

    /// Whether everything that was there has been returned; new records end it, and so
    /// does an error until the brokers have said that nothing came meanwhile.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.progress.is_at_end()
    }

    /// As `is_at_end`; asks the brokers where an error left the end in doubt and they
    /// can be reached again.
    pub async fn reached_end(&mut self) -> bool {
        let progress = &self.progress;
        if progress.at_end && !progress.is_at_end() && progress.errors.get().is_none() {
            let asked = self.inner.offset_range(progress.partition);
            let end = tokio::time::timeout(END_WITHIN, asked).await;
            if matches!(end, Ok(Ok((_, end))) if end <= progress.position) {
                progress.end_in_doubt.store(false, Ordering::Release);
            }
        }
        self.is_at_end()
    }

    /// Why nothing comes, if the brokers are away.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.progress.errors.get()
    }

    /// Takes what has been fetched; `None` when there is nothing.
    fn take(&mut self, first: Option<Taken>, max_bytes: usize) -> Option<Chunk> {
        let Self { consumer, progress, .. } = self;
        let mut chunk =
            first.map_or_else(|| Chunk::of(progress.partition, progress.position), |taken| taken.0);
        // All before this has been fetched, so it is passed once nothing is left to take.
        let fetched_end = progress.fetched_end.load(Ordering::Acquire);
        let drained = loop {
            if chunk.byte_len() >= max_bytes || progress.out_of_range {
                break false;
            }
            match ready_now(consumer.recv()) {
                Ready::Event(event) => progress.note(event, &mut chunk),
                Ready::Empty => break true,
                Ready::Unknown => break false,
            }
        };
        if drained && fetched_end > chunk.next_offset() {
            chunk.skip_to(fetched_end);
        }
        let moved = chunk.next_offset() > progress.position;
        progress.position = chunk.next_offset();
        moved.then_some(chunk)
    }

    /// The brokers do not have the position: deleted, beyond the end, or there after all.
    async fn look_again(&mut self) -> Result<(), ReadError> {
        match self.inner.offset_range(self.progress.partition).await {
            Ok((start, end)) => {
                in_range(self.progress.position, start, end)?;
                self.progress.fetched_end = Arc::default();
                self.consumer = connect(&self.inner, &self.progress).map_err(unreadable)?;
                self.progress.out_of_range = false;
            }
            Err(error) => {
                self.progress.errors.set(&error);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        Ok(())
    }
}

/// A chunk that a wait has begun.
struct Taken(Chunk);

impl EventSource for KafkaReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Chunk, ReadError> {
        loop {
            if self.progress.out_of_range {
                self.look_again().await?;
                continue;
            }
            if let Some(chunk) = self.take(None, max_bytes) {
                return Ok(chunk);
            }
            let Self { consumer, progress, .. } = &mut *self;
            let mut chunk = Chunk::of(progress.partition, progress.position);
            // Nothing is lost when the wait is given up: what was received is in the
            // chunk before anything else is awaited.
            let fetched_end = Arc::clone(&progress.fetched_end);
            let seen = fetched_end.load(Ordering::Acquire);
            let woken = wait(consumer.recv(), || fetched_end.load(Ordering::Acquire) > seen).await;
            if let Some(event) = woken {
                progress.note(event, &mut chunk);
            }
            if let Some(chunk) = self.take(Some(Taken(chunk)), max_bytes) {
                return Ok(chunk);
            }
        }
    }

    fn try_next(&mut self, max_bytes: usize) -> Result<Option<Chunk>, ReadError> {
        Ok(self.take(None, max_bytes))
    }

    fn position(&self) -> u64 {
        self.progress.position
    }
}

impl Progress {
    fn is_at_end(&self) -> bool {
        self.at_end && !self.end_in_doubt.load(Ordering::Acquire)
    }

    fn note(&mut self, event: KafkaResult<BorrowedMessage<'_>>, chunk: &mut Chunk) {
        match event {
            Ok(message) => {
                self.errors.clear();
                self.at_end = false;
                self.end_in_doubt.store(false, Ordering::Release);
                self.push(&message, chunk);
            }
            Err(ClientError::PartitionEOF(_)) => {
                self.errors.clear();
                self.at_end = true;
                self.end_in_doubt.store(false, Ordering::Release);
            }
            Err(error) => {
                // While nothing can be fetched nobody knows what has been appended.
                self.end_in_doubt.store(true, Ordering::Release);
                match error.rdkafka_error_code() {
                    Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.out_of_range = true,
                    _ => self.errors.report(&error, "reading"),
                }
            }
        }
    }

    fn push(&self, message: &BorrowedMessage<'_>, chunk: &mut Chunk) {
        let offset = u64::try_from(message.offset()).unwrap_or(0);
        if offset < chunk.next_offset() {
            // A compressed batch may begin before the offset that was asked for.
            return;
        }
        let (key, value) = (message.key(), message.payload());
        let headers = message.headers();
        let headers = headers.iter().flat_map(|headers| headers.iter().map(|h| (h.key, h.value)));
        let topic = classify(self.partition.family(), key, value, headers);
        let time = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        chunk.push(offset, topic, time, key.unwrap_or_default(), value.unwrap_or_default());
    }
}

fn connect(inner: &Inner, progress: &Progress) -> Result<Elsewhere<StreamConsumer<Watch>>, KafkaError> {
    let (topic, index) = inner.topics.place(progress.partition);
    let prefetch = inner.config.prefetch_bytes.0;
    let mut client = inner.base.clone();
    client
        // Named for the brokers' access rules; nothing is ever committed to it.
        .set("group.id", format!("{}.reader", inner.config.group))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", "20")
        .set("fetch.message.max.bytes", (prefetch / 4).max(64 << 10).to_string())
        .set("fetch.max.bytes", prefetch.max(inner.config.record_bytes_max.0 + (1 << 20)).to_string())
        .set(
            "receive.message.max.bytes",
            (prefetch + inner.config.record_bytes_max.0 * 2 + (8 << 20)).to_string(),
        )
        .set("queued.max.messages.kbytes", (prefetch / 1024).to_string())
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    let watch = Watch {
        errors: progress.errors.clone(),
        end_in_doubt: Arc::clone(&progress.end_in_doubt),
        fetched_end: Arc::clone(&progress.fetched_end),
        topic: topic.to_owned(),
        index: index.to_string(),
    };
    let made = |e: ClientError| KafkaError::Client(e.to_string());
    let consumer = Elsewhere::new(client.create_with_context::<_, StreamConsumer<_>>(watch).map_err(made)?);
    let list: TopicPartitionList = crate::offsets::list(&inner.topics, progress.partition, progress.position);
    consumer.assign(&list).map_err(made)?;
    Ok(consumer)
}

fn in_range(wanted: u64, start: u64, end: u64) -> Result<(), ReadError> {
    match wanted {
        wanted if wanted < start => Err(ReadError::Deleted { wanted, start }),
        wanted if wanted > end => Err(ReadError::BeyondEnd { wanted, end }),
        _ => Ok(()),
    }
}

pub(crate) fn unreadable(error: KafkaError) -> ReadError {
    ReadError::Kafka(error.to_string())
}

/// Says whether somebody has woken the task since it was last asked.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// What is there without waiting.
pub(crate) enum Ready<T> {
    Event(T),
    /// Nothing is queued.
    Empty,
    /// Too many events that are no records; the next look goes on.
    Unknown,
}

/// What `receive` gives without waiting. The client wakes at once when it served an
/// event that is no record: then there may be more behind it.
pub(crate) fn ready_now<F: Future>(receive: F) -> Ready<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut receive = pin!(receive);
    for _ in 0..SILENT_EVENTS_MAX {
        if let Poll::Ready(event) = receive.as_mut().poll(&mut context) {
            return Ready::Event(event);
        }
        if !woken.0.swap(false, Ordering::AcqRel) {
            return Ready::Empty;
        }
    }
    Ready::Unknown
}

/// Waits for an event, or until `changed` says so after one that is no record.
async fn wait<F: Future>(receive: F, changed: impl Fn() -> bool) -> Option<F::Output> {
    let mut receive = pin!(receive);
    std::future::poll_fn(|context| match receive.as_mut().poll(context) {
        Poll::Ready(event) => Poll::Ready(Some(event)),
        Poll::Pending if changed() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientContext;

    use super::*;

    #[test]
    fn an_error_puts_the_end_in_doubt_until_the_log_says_it_again() {
        let mut progress = Progress {
            partition: Partition::EMBEDDED,
            position: 5,
            at_end: false,
            end_in_doubt: Arc::default(),
            out_of_range: false,
            fetched_end: Arc::default(),
            errors: LastError::default(),
        };
        let mut chunk = Chunk::of(Partition::EMBEDDED, 5);
        let mut hear = |progress: &mut Progress, error| progress.note(Err(error), &mut chunk);
        hear(&mut progress, ClientError::PartitionEOF(0));
        assert!(progress.is_at_end());
        hear(&mut progress, ClientError::MessageConsumption(Code::BrokerTransportFailure));
        assert!(!progress.is_at_end(), "no broker can be reached");
        hear(&mut progress, ClientError::PartitionEOF(0));
        assert!(progress.is_at_end());
        // What the client says beside the queue.
        let watch = Watch {
            errors: progress.errors.clone(),
            end_in_doubt: Arc::clone(&progress.end_in_doubt),
            fetched_end: Arc::default(),
            topic: String::new(),
            index: String::new(),
        };
        watch.error(ClientError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert!(!progress.is_at_end());
    }
}
