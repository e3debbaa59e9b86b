//! How many connections and requests are let in.
//!
//! Connections are counted over all workers; requests by each worker alone against its
//! share of the limit, so that no two cores write to the same memory per request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::HttpLimits;

/// Locks of the counts by address: as many that cores rarely meet.
const SHARDS: usize = 16;

/// What all workers share.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limits: Arc<HttpLimits>,
    pub(super) meters: Meters,
    places: Arc<Semaphore>,
    addresses: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

/// Made once: finding one by name costs more than counting.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) refused_by_address: Counter,
    pub(super) refused_requests: Counter,
    pub(super) refused_framing: Counter,
    pub(super) handshakes_full: Counter,
    pub(super) handshakes_resumed: Counter,
    pub(super) handshakes_failed: Counter,
    pub(super) panics: Counter,
}

impl Meters {
    fn new() -> Self {
        Self {
            connections: metrics::gauge!("http_connections"),
            accepted: metrics::counter!("http_connections_total"),
            refused_by_address: metrics::counter!("http_connections_refused_total"),
            refused_requests: metrics::counter!("http_requests_refused_total", "reason" => "busy"),
            refused_framing: metrics::counter!("http_requests_refused_total", "reason" => "framing"),
            handshakes_full: metrics::counter!("http_tls_handshakes_total", "kind" => "full"),
            handshakes_resumed: metrics::counter!("http_tls_handshakes_total", "kind" => "resumed"),
            handshakes_failed: metrics::counter!("http_tls_handshakes_failed_total"),
            panics: metrics::counter!("http_handler_panics_total"),
        }
    }
}

impl Gate {
    pub(super) fn new(limits: HttpLimits) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS))),
            limits: Arc::new(limits),
            meters: Meters::new(),
            addresses: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// Waits for a place for one more connection.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => Arc::clone(&self.places).acquire_owned().await.ok(),
        }
    }

    /// Lets a connection in, unless its address has too many.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, place: OwnedSemaphorePermit) -> Option<Admitted> {
        let address = match self.limits.trusted.contains(peer) {
            true => None,
            false => Some(counted(peer)),
        };
        if let Some(address) = address {
            let mut counts = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(address).or_insert(0);
            if *count >= self.limits.connections_per_address_max {
                drop(counts);
                self.meters.refused_by_address.increment(1);
                return None;
            }
            *count += 1;
        }
        self.meters.accepted.increment(1);
        self.meters.connections.increment(1.0);
        Some(Admitted { gate: Arc::clone(self), address, _place: place })
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        let low = match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[7],
        };
        &self.addresses[usize::from(low) % SHARDS]
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
fn counted(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection that was let in; it is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) gate: Arc<Gate>,
    address: Option<IpAddr>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gate.meters.connections.decrement(1.0);
        let Some(address) = self.address else { return };
        let mut counts = self.gate.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// The requests of one worker, on all its listeners.
#[derive(Debug)]
// A cache line of its own, and the one that processors fetch along with it.
#[repr(align(128))]
pub(super) struct Load {
    pub(super) worker: usize,
    requests_max: u32,
    in_flight: AtomicU32,
    /// Of these, answers that go on for as long as they like.
    streams: AtomicU32,
    /// Since the metrics were told.
    short: AtomicU32,
    long: AtomicU32,
    shown: Gauge,
    shown_short: Counter,
    shown_long: Counter,
}

impl Load {
    pub(super) fn new(worker: usize, workers: usize, limits: &HttpLimits) -> Arc<Self> {
        let share = limits.requests_max.div_ceil(workers.max(1));
        let requests_max = u32::try_from(share).unwrap_or(u32::MAX);
        let shown = metrics::gauge!("http_requests_in_flight", "worker" => worker.to_string());
        let way = |way: &'static str| metrics::counter!("http_requests_total", "way" => way);
        Arc::new(Self {
            worker,
            requests_max,
            in_flight: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            short: AtomicU32::new(0),
            long: AtomicU32::new(0),
            shown,
            shown_short: way("short"),
            shown_long: way("long"),
        })
    }

    /// Tells the metrics how many requests are being answered, and how many were begun.
    pub(super) fn show(&self) {
        self.shown.set(f64::from(self.in_flight.load(Relaxed)));
        self.shown_short.increment(u64::from(self.short.swap(0, Relaxed)));
        self.shown_long.increment(u64::from(self.long.swap(0, Relaxed)));
    }

    /// A request goes past the HTTP library.
    pub(super) fn took_short(&self) {
        self.short.fetch_add(1, Relaxed);
    }

    /// A request goes through it.
    pub(super) fn took_long(&self) {
        self.long.fetch_add(1, Relaxed);
    }

    /// Requests that an answer is being made for.
    pub(super) fn waiting(&self) -> u32 {
        self.in_flight.load(Relaxed).saturating_sub(self.streams.load(Relaxed))
    }

    /// The answer to a request becomes a stream.
    pub(super) fn begin_stream(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    pub(super) fn end_stream(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    /// Counts a request; false if it is one too many (it is counted all the same).
    pub(super) fn begin(&self) -> bool {
        self.in_flight.fetch_add(1, Relaxed) < self.requests_max
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gives_its_places_back_and_a_network_of_64_bits_is_one() {
        let limits = HttpLimits { connections_per_address_max: 2, ..HttpLimits::default() };
        let gate = Gate::new(limits);
        let place = || Arc::clone(&gate.places).try_acquire_owned().unwrap();
        let admit = |peer: &str| gate.admit(peer.parse().unwrap(), place());
        let first = admit("2001:db8::1");
        let second = admit("2001:db8::2");
        assert!(first.is_some() && second.is_some());
        assert!(admit("2001:db8::3").is_none());
        let other = admit("2001:db8:0:1::3");
        assert!(other.is_some());
        drop(first);
        assert!(admit("2001:db8::3").is_some());
        let mut trusted = Vec::new();
        for _ in 0..5 {
            trusted.push(admit("127.0.0.1").unwrap());
        }
        drop((second, other, trusted));
        assert!(gate.addresses.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
