//! Nouns and rules of Fanal: beacon, event, visit, outcome, ids, units.
//!
//! Never does I/O, never reads a clock, knows no runtime. Everything here is a
//! function of its arguments, so that every rule can be tested by itself.

mod address;
mod beacon;
mod dead_letter;
mod event;
mod ids;
mod money;
mod outcome;
mod robot;
pub mod sdk_configuration;
mod units;
mod visit;
mod wire;

pub use address::AddressPolicy;
pub use beacon::{Beacon, Source, record_key};
pub use dead_letter::{DeadLetter, Receipt};
pub use event::{
    Conversion, CustomData, Event, EventKind, Experiment, Geolocation, Page, Personalization, StaticData,
    TargetingSegment,
};
pub use ids::{IdError, SiteCode, VISITOR_CODE_CHARS_MAX};
pub use money::Money;
pub use outcome::{Outcome, RULES_VERSION, RejectReason};
pub use robot::{AgentOrigin, RobotReason};
pub use units::{ByteSize, HumanDuration, UnitError};
pub use visit::{EndReason, Exposure, GoalTotal, Visit};
pub use wire::WireError;
