//! From a tape to device launches: lifetimes become slots, values become buffer ranges, and a step
//! becomes two prepared lists that are replayed without allocating.

mod compile;
mod dump;
mod flatten;
mod footprint;
mod fuse;
mod halves;
mod lanes;
mod optimise;
mod ring;
mod slots;
mod store;
mod totals;

pub use compile::{Options, Plan, PlanStats, Weights};
pub use footprint::slot_bytes;
pub use optimise::Optimiser;
pub use ring::{RING_ROWS, RingRow};
pub use slots::{Interval, assign};
pub use store::{Kind, ParamInit, ParamSpec, ParamTable, Store};
