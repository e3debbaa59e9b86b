//! Traffic with known truth, a load generator, and the records of what was measured.
//!
//! Duty: everything that judges Fanal from outside. What must stay true: no crate of the project is a dependency, so
//! that a wrong rule in the program cannot be repeated here by calling it.

pub mod clickhouse;
pub mod compare;
pub mod day;
pub mod goals;
pub mod load;
pub mod process;
mod random;
pub mod record;
pub mod tsv;
