//! Visit building: a pure function from a visitor's events to visits.
//!
//! Streaming and rebuild share [`Scan`], the left fold over events in their
//! total order. Nothing here reads a clock, a log or a table. What must stay
//! true: order of arrival, duplication, batching and restarts change nothing
//! (the property test against the sort-and-scan twin holds it).

mod accumulate;
mod event;
mod policy;
mod scan;

pub use accumulate::Accumulator;
pub use event::{OrderKey, VisitorEvent, event_id};
pub use policy::VisitPolicy;
pub use scan::{Placement, Scan};
