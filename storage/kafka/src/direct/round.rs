//! One try: a request to each leader that holds all its partitions, all at once, and what
//! the answers say of each partition.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::producer::{DirectProducer, Slot};
use super::requests::{self, PRODUCE};
use super::settings::Settings;
use super::trouble::Trouble;
use super::wire::{put_i32, put_string};

/// Brokers take 100 MiB in a request by default; what is more goes with the next try.
const REQUEST_BYTES_MAX: usize = 48 << 20;

/// A request to one broker and how it went.
struct Reply {
    /// Of the broker, in the cluster's list.
    broker: usize,
    /// The slots that are in the request.
    asked: Vec<usize>,
    outcome: Result<Connection, Failed>,
}

struct Failed {
    trouble: Trouble,
    /// Something of the request may have left.
    sent: bool,
}

impl DirectProducer {
    /// Sends the next record batch of every open slot; what went wrong, if anything did:
    /// an empty text while all leaders are left alone after an error.
    pub(super) async fn round(&mut self, until: Instant) -> Option<String> {
        let mut requests = Vec::with_capacity(self.cluster.brokers.len().min(16));
        let (mut trouble, mut resting) = (None, false);
        for at in 0..self.cluster.brokers.len() {
            let asked = self.asked_of(self.cluster.brokers[at].id);
            let broker = &mut self.cluster.brokers[at];
            if asked.is_empty() {
                continue;
            }
            if broker.is_resting() {
                resting = true;
                continue;
            }
            let connection = broker.connection.take_if(|connection| connection.is_usable());
            let address = Arc::clone(&broker.address);
            requests.push(request(&self.settings, &self.slots, at, address, connection, asked, until));
        }
        if requests.is_empty() {
            return Some(if resting { String::new() } else { Trouble::NoLeader.to_string() });
        }
        for reply in join_all(requests).await {
            trouble = self.take(reply).or(trouble);
        }
        let unled = |at: &usize| self.slots[*at].is_open() && self.cluster.leader(*at) < 0;
        match trouble {
            None if resting => Some(String::new()),
            None if self.active.iter().any(unled) => Some(Trouble::NoLeader.to_string()),
            trouble => trouble,
        }
    }

    /// The open slots that a broker leads, as many as fit into a request.
    fn asked_of(&self, broker: i32) -> Vec<usize> {
        let mut asked = Vec::new();
        let mut bytes = 0;
        for at in &self.active {
            let slot = &self.slots[*at];
            if !slot.is_open() || self.cluster.leader(*at) != broker {
                continue;
            }
            bytes += slot.next_bytes().len();
            if bytes > REQUEST_BYTES_MAX && !asked.is_empty() {
                break;
            }
            asked.push(*at);
        }
        asked
    }

    /// Takes note of a broker's answer, or of the lack of one.
    fn take(&mut self, reply: Reply) -> Option<String> {
        let Reply { broker, asked, outcome } = reply;
        let failed = match outcome {
            Ok(connection) => match self.read(&connection, &asked) {
                Ok(trouble) => {
                    self.cluster.brokers[broker].works(connection);
                    return trouble;
                }
                Err(trouble) => Failed { trouble, sent: true },
            },
            Err(failed) => failed,
        };
        self.cluster.brokers[broker].failed();
        if failed.sent {
            asked.iter().for_each(|at| self.slots[*at].perhaps = true);
        }
        let address = &self.cluster.brokers[broker].address;
        Some(match &failed.trouble {
            named @ (Trouble::Connect { .. } | Trouble::Resolve { .. } | Trouble::Late(_)) => {
                named.to_string()
            }
            other => format!("{address}: {other}"),
        })
    }

    /// Reads an answer, which must speak once of each partition that was asked for.
    fn read(&mut self, connection: &Connection, asked: &[usize]) -> Result<Option<String>, Trouble> {
        let mut answers = Vec::with_capacity(asked.len());
        requests::read_produce(connection.last_answer(), |produced| {
            let at = self.settings.slot_of(produced.topic, produced.partition);
            let at = at.filter(|at| asked.contains(at) && !answers.iter().any(|(seen, _)| seen == at));
            answers.push((at.ok_or(Trouble::Malformed("it speaks of another partition"))?, produced));
            Ok(())
        })?;
        if answers.len() != asked.len() {
            return Err(Trouble::Malformed("a partition is missing in it"));
        }
        let mut trouble = None;
        for (at, produced) in answers {
            trouble = self.decide(at, produced.code, produced.base_offset, produced.detail).or(trouble);
        }
        Ok(trouble)
    }
}

impl Slot {
    /// The record batch that is to be sent next.
    fn next_bytes(&self) -> &[u8] {
        self.buffer.chunks().get(self.at).map_or(&[], |chunk| self.buffer.bytes(*chunk))
    }
}

async fn request(
    settings: &Settings,
    slots: &[Slot],
    broker: usize,
    address: Arc<str>,
    connection: Option<Connection>,
    asked: Vec<usize>,
    until: Instant,
) -> Reply {
    let outcome = exchange(settings, slots, address, connection, &asked, until).await;
    Reply { broker, asked, outcome }
}

async fn exchange(
    settings: &Settings,
    slots: &[Slot],
    address: Arc<str>,
    connection: Option<Connection>,
    asked: &[usize],
    until: Instant,
) -> Result<Connection, Failed> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => {
            let opened = Box::pin(Connection::open(Arc::clone(&address), &settings.security, until)).await;
            opened.map_err(|trouble| Failed { trouble, sent: false })?
        }
    };
    let cuts = put_request(settings, slots, &mut connection, asked, until);
    let sent = async {
        let parts = cuts.iter().zip(asked).map(|(cut, at)| (*cut, slots[*at].next_bytes()));
        connection.send(parts).await?;
        connection.answer().await?;
        Ok(())
    };
    let sent = timeout_at(until, sent).await.unwrap_or_else(|_| Err(Trouble::Late(address.to_string())));
    sent.map(|()| connection).map_err(|trouble| Failed { trouble, sent: true })
}

/// Writes everything of a request but the record batches, and returns where they belong.
fn put_request(
    settings: &Settings,
    slots: &[Slot],
    connection: &mut Connection,
    asked: &[usize],
    until: Instant,
) -> Vec<usize> {
    connection.begin(PRODUCE);
    let out = &mut connection.outbox;
    let family = |at: &usize| settings.place(*at).0;
    let topics = asked.chunk_by(|left, right| family(left) == family(right));
    // The broker gives up a little earlier than this process, and says so.
    let left = until.saturating_duration_since(Instant::now()).as_millis() * 9 / 10;
    let timeout_ms = i32::try_from(left.max(1)).unwrap_or(i32::MAX);
    let count = |len: usize| i32::try_from(len).unwrap_or(0);
    requests::put_produce(out, timeout_ms, count(topics.clone().count()));
    let (mut cuts, mut elsewhere) = (Vec::with_capacity(asked.len()), 0);
    for partitions in topics {
        put_string(out, settings.topics.name(family(&partitions[0])));
        put_i32(out, count(partitions.len()));
        for at in partitions {
            let bytes = slots[*at].next_bytes().len();
            put_i32(out, count(settings.place(*at).1 as usize));
            put_i32(out, count(bytes));
            cuts.push(out.len());
            elsewhere += bytes;
        }
    }
    requests::finish(out, elsewhere);
    cuts
}
