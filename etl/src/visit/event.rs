//! One accepted line as the visit builder sees it.

use fanal_model::{Beacon, Event, EventKind, RejectReason};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A beacon together with what its line says. Borrowed: the bytes belong to the
/// caller's batch, state or archive page.
#[derive(Debug, Clone)]
pub struct VisitorEvent<'a> {
    pub beacon: Beacon<'a>,
    pub event: Event<'a>,
    /// Names the event for ever; see [`event_id`].
    pub event_id: u64,
    /// What deduplication compares.
    pub nonce_key: u64,
}

/// The total order of events: time, position in the request, nonce, identity.
pub type OrderKey<'a> = (u64, u32, &'a str, u64);

impl<'a> VisitorEvent<'a> {
    /// Reads the line of a beacon. An error means that the line was accepted by
    /// other rules than these: it belongs in the dead letters, not in a visit.
    pub fn read(beacon: Beacon<'a>) -> Result<Self, RejectReason> {
        // The limit was applied where the line came in; here any length is read.
        let limits = fanal_parser::Limits { line_bytes_max: usize::MAX, ..fanal_parser::Limits::default() };
        let line = fanal_parser::line::parse_limited(beacon.line, &limits)?;
        let event = line.event();
        let event_id = event_id(&beacon);
        // Without a nonce the only safe claim is that the same bytes at the same
        // instant and place are the same event.
        let nonce_key = if event.nonce.is_empty() { event_id } else { xxh3_64(event.nonce.as_bytes()) };
        Ok(Self { beacon, event, event_id, nonce_key })
    }

    #[must_use]
    pub fn at_ms(&self) -> u64 {
        self.beacon.received_at_ms
    }

    /// A `staticData` line that stands alone for its visitor in its request.
    #[must_use]
    pub fn is_heartbeat(&self) -> bool {
        matches!(self.event.kind, EventKind::StaticData(_)) && self.beacon.visitor_lines <= 1
    }

    #[must_use]
    pub fn order_key(&self) -> OrderKey<'_> {
        (self.at_ms(), self.beacon.line_number, &self.event.nonce, self.event_id)
    }
}

/// Identity of an event: site, visitor, time, position and the line itself. The
/// same bytes received twice at different times are two receipts, told apart
/// here and joined by their nonce.
#[must_use]
pub fn event_id(beacon: &Beacon<'_>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(beacon.site_code.as_bytes());
    hash.update(&[0]);
    hash.update(beacon.visitor().as_bytes());
    hash.update(&[0]);
    hash.update(&beacon.received_at_ms.to_le_bytes());
    hash.update(&beacon.line_number.to_le_bytes());
    hash.update(beacon.line);
    hash.digest()
}
