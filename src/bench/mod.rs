//! The measured proof of the kernels: every row is one kernel at one size, with the time it takes,
//! how near that comes to what the device can do at all, and whether the results are right.
//!
//! * The roofline is measured too, by two probes: [`Peaks`].
//! * Caches are emptied before every sample; samples of what is compared alternate.
//! * A control times one kernel as if it were two: how far its ratio is from 1 is how far any other
//!   ratio can be trusted.
//! * What does not fit the budget or the device is listed with the reason, never left out silently.

mod check;
mod compare;
mod machine;
mod measure;
mod peaks;
mod quantize;
mod report;
mod rows;
mod run;
mod stats;
#[cfg(test)]
mod testing;

pub use check::Verdict;
pub use compare::{Comparison, Ratio, compare};
pub use machine::Machine;
pub use peaks::Peaks;
pub use quantize::{charts, grid};
pub use report::{Control, Measurement, NotRun, Report, SCHEMA};
pub use rows::{Row, all as all_rows};
pub use run::{Options, run};
pub use stats::Summary;
