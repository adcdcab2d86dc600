//! Training: the loop, what it saves, and the jobs that run in it.

pub mod appraise;
pub mod augment;
pub mod autoencoder;
pub mod checkpoint;
pub mod choices;
pub mod classify;
mod codebook;
pub mod codes;
pub mod console;
mod critic;
pub mod diffusion;
mod evaluation;
mod events;
mod features;
pub mod folder;
pub mod gaussian;
pub mod generate;
pub mod latents;
pub mod maker;
mod monitor;
pub mod progress;
mod rate;
pub mod recognise;
mod remedies;
pub mod resume;
mod revival;
pub mod session;
pub mod stop;
pub mod windows;

pub use checkpoint::Snapshot;
pub use console::Console;
pub use folder::RunFolder;
pub use rate::{learning_rate, optimiser, step_scalars};
pub use remedies::Remedies;
pub use session::{Job, Pause, Session};

use crate::data::Dataset;
use crate::data::split::Split;

/// What a run trains and tests on.
#[derive(Debug)]
pub struct Material {
    pub images: Dataset,
    pub split: Split,
}
