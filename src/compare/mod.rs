//! A comparison of autoencoders: the same data, backbone, seeds and steps for every arm, then a verdict
//! with its statistics ([`crate::verdict`]) and a report. If asked for, diffusions are trained over all arms, and
//! their samples judged, too.

mod arms;
mod assemble;
mod outcome;
mod report;
mod sample_report;
mod samples;
mod subjects;

pub use arms::{ArmSpec, vae_arms, vq_arms};
pub use assemble::{Assembled, assemble};
pub use outcome::{Outcome, Standing, examine, standing};
pub use report::{Pictures, html, markdown};
pub use samples::{Generation, Route, SampleOutcome};
pub use subjects::subjects;
