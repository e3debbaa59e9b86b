//! Who leads which partition, and a connection to each leader: found through whichever
//! broker answers, looked up again after errors and now and then.
//!
//! Waits are bounded by the caller's deadline, and a broker that fails is left alone for a
//! moment that doubles up to a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::record_batch::Identity;
use super::requests::{self, Api, INIT_PRODUCER_ID, METADATA, MetadataVisitor};
use super::settings::{FAMILIES, Settings};
use super::trouble::{Code, Trouble};

/// Leaders are looked up so often even if nothing fails.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);
/// And again so soon if that fails while the known ones still work.
const LOOK_RETRY: Duration = Duration::from_secs(10);
const REST_MIN: Duration = Duration::from_millis(50);
const REST_MAX: Duration = Duration::from_secs(1);
/// The least time that one of several brokers gets to answer before the next is asked.
const SHARE_MIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Cluster {
    settings: Arc<Settings>,
    pub(super) brokers: Vec<Broker>,
    /// By slot, the id of the broker that leads it; negative while there is none.
    leaders: Vec<i32>,
    /// When leaders are looked up next; `None` is now, and a must.
    look_at: Option<Instant>,
    /// The first of the configured brokers to ask.
    next: usize,
}

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) id: i32,
    pub(super) address: Arc<str>,
    /// Taken away by who uses it, and not brought back if anything goes wrong.
    pub(super) connection: Option<Connection>,
    rest: Rest,
}

/// How long a broker that failed is left alone.
#[derive(Debug, Default, Clone, Copy)]
struct Rest {
    until: Option<Instant>,
    last: Duration,
}

impl Broker {
    pub(super) fn failed(&mut self) {
        self.rest.last = (self.rest.last * 2).clamp(REST_MIN, REST_MAX);
        self.rest.until = Some(Instant::now() + self.rest.last);
    }

    pub(super) fn works(&mut self, connection: Connection) {
        self.rest = Rest::default();
        self.connection = Some(connection);
    }

    pub(super) fn is_resting(&self) -> bool {
        self.rest.until.is_some_and(|until| Instant::now() < until)
    }
}

impl Cluster {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let leaders = vec![-1; settings.slots()];
        let next = rand::random_range(0..settings.bootstrap.len().max(1));
        Self { settings, brokers: Vec::new(), leaders, look_at: None, next }
    }

    pub(super) fn leader(&self, slot: usize) -> i32 {
        self.leaders[slot]
    }

    /// Leaders are looked up before the next request.
    pub(super) fn distrust(&mut self) {
        self.look_at = None;
    }

    /// Looks up leaders if it is time to.
    pub(super) async fn refresh(&mut self, until: Instant) -> Result<(), Trouble> {
        match self.look_at {
            None => self.look(until).await,
            Some(at) if at <= Instant::now() => {
                self.look_at = Some(Instant::now() + LOOK_RETRY);
                if let Err(error) = self.look(until).await {
                    tracing::debug!(%error, "kafka leaders are not looked up; the known ones are used");
                }
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    async fn look(&mut self, until: Instant) -> Result<(), Trouble> {
        let settings = Arc::clone(&self.settings);
        let names = settings.topic_names();
        let mut found = Found {
            settings: &settings,
            brokers: Vec::new(),
            leaders: vec![-1; settings.slots()],
            counts: [0; 3],
        };
        let connection = self
            .ask(
                until,
                METADATA,
                |out| requests::put_metadata(out, names.into_iter()),
                |answer| requests::read_metadata(answer, &mut found),
            )
            .await?;
        found.check_counts()?;
        let (addresses, leaders) = (found.brokers, found.leaders);
        self.learn(addresses, leaders);
        self.keep(connection);
        self.look_at = Some(Instant::now() + LOOK_INTERVAL);
        Ok(())
    }

    fn learn(&mut self, found: Vec<(i32, String)>, leaders: Vec<i32>) {
        let mut old = std::mem::take(&mut self.brokers);
        for (id, address) in found {
            let known = old.iter().position(|broker| broker.id == id && *broker.address == *address);
            self.brokers.push(match known {
                Some(at) => old.swap_remove(at),
                None => Broker { id, address: address.into(), connection: None, rest: Rest::default() },
            });
        }
        self.leaders = leaders;
    }

    /// Keeps a connection with the broker whose address it has; one to a broker that goes
    /// by another address now is closed.
    fn keep(&mut self, connection: Connection) {
        let broker = self.brokers.iter_mut().find(|broker| broker.address == connection.address);
        if let Some(broker) = broker {
            broker.works(connection);
        }
    }

    /// A number for a producer that no other one has.
    pub(super) async fn identify(&mut self, until: Instant) -> Result<Identity, Trouble> {
        let mut identity = None;
        let connection = self
            .ask(until, INIT_PRODUCER_ID, requests::put_init_producer_id, |answer| {
                identity = Some(requests::read_init_producer_id(answer)?);
                Ok(())
            })
            .await?;
        self.keep(connection);
        identity.ok_or(Trouble::Malformed("it has no producer id"))
    }

    /// Asks whichever broker answers; gives back the connection to it.
    async fn ask(
        &mut self,
        until: Instant,
        api: Api,
        put_body: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(&[u8]) -> Result<(), Trouble>,
    ) -> Result<Connection, Trouble> {
        let mut connection = self.connection(until).await?;
        let address = Arc::clone(&connection.address);
        let asked = async {
            let answer = connection.call(api, put_body).await?;
            read(answer)?;
            Ok(())
        };
        let asked = timeout_at(until, asked).await;
        let asked = asked.unwrap_or_else(|_| Err(Trouble::Late(address.to_string())));
        if let Err(error) = asked {
            self.failed(&address);
            return Err(error);
        }
        Ok(connection)
    }

    /// An open connection, or a new one to the first broker that takes it.
    async fn connection(&mut self, until: Instant) -> Result<Connection, Trouble> {
        for broker in &mut self.brokers {
            if let Some(connection) = broker.connection.take_if(|c| c.is_usable()) {
                return Ok(connection);
            }
        }
        let configured = &self.settings.bootstrap;
        let start = self.next % configured.len().max(1);
        let known = self.brokers.iter().filter(|broker| !broker.is_resting()).map(|broker| &broker.address);
        let (before, from) = configured.split_at(start);
        let mut addresses: Vec<Arc<str>> = Vec::new();
        for address in known.chain(from).chain(before) {
            if !addresses.contains(address) {
                addresses.push(Arc::clone(address));
            }
        }
        let mut last = Trouble::NoLeader;
        let count = addresses.len();
        for (at, address) in addresses.into_iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let share = (left / u32::try_from(count - at).unwrap_or(1)).max(SHARE_MIN);
            let limit = until.min(Instant::now() + share);
            match Box::pin(Connection::open(Arc::clone(&address), &self.settings.security, limit)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    self.failed(&address);
                    last = error;
                }
            }
        }
        self.next = start + 1;
        Err(last)
    }

    fn failed(&mut self, address: &Arc<str>) {
        if let Some(broker) = self.brokers.iter_mut().find(|broker| broker.address == *address) {
            broker.failed();
        }
        self.next = self.next.wrapping_add(1);
        self.look_at = None;
    }
}

/// What a broker says of the cluster.
struct Found<'s> {
    settings: &'s Settings,
    brokers: Vec<(i32, String)>,
    leaders: Vec<i32>,
    /// Partitions that each topic has.
    counts: [u32; 3],
}

impl Found<'_> {
    /// A visitor must stay in its partition, so nothing goes to a topic that has another
    /// number of them. One that is not there, or says nothing now, has none.
    fn check_counts(&self) -> Result<(), Trouble> {
        for (family, found) in FAMILIES.into_iter().zip(self.counts) {
            let wanted = self.settings.topics.count(family);
            if found != 0 && found != wanted {
                let topic = self.settings.topics.name(family).to_owned();
                return Err(Trouble::Partitions { topic, found, wanted });
            }
        }
        Ok(())
    }
}

impl MetadataVisitor for Found<'_> {
    fn broker(&mut self, id: i32, host: &str, port: i32) {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        self.brokers.push((id, address));
    }

    fn topic(&mut self, topic: &str, code: Code) {
        if code != Code::NONE {
            tracing::debug!(topic, %code, "kafka says nothing of a topic");
            let errors = &self.settings.errors;
            let text = format!("topic `{topic}`: {code}");
            if code.is_early() { errors.set_early(&text) } else { errors.set(&text) }
        }
    }

    fn partition(&mut self, topic: &str, index: i32, leader: i32) {
        if let Some(family) = self.settings.topics.family(topic) {
            self.counts[family as usize] += 1;
        }
        if let Some(slot) = self.settings.slot_of(topic, index) {
            self.leaders[slot] = leader;
        }
    }
}
