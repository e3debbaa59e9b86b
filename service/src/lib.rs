//! What every role shares: listeners, TLS, configuration, logs, metrics, health
//! and the way to stop.
//!
//! Knows no role and decides nothing about beacons, sites or visits. What must
//! stay true: every wait and every buffer here has a limit, a stop signal ends
//! every loop, and no secret reaches a log.

pub mod config;
pub mod cors;
pub mod health;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod operations;
pub mod problem;
pub mod secret;
pub mod stop;
pub mod supervisor;
pub mod tls;
