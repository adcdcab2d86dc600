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
mod feeder;
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
pub use rate::{judged_weights, learning_rate, optimiser, step_scalars, training_options};
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

impl Material {
    /// The class of an image; 0 without labels.
    pub fn class_of(&self, row: u32) -> u32 {
        self.images.labels.as_ref().map_or(0, |labels| labels[row as usize])
    }

    /// The names of all classes.
    pub fn class_names(&self) -> Vec<String> {
        (0..self.images.classes() as u32).map(|class| self.images.class_name(class)).collect()
    }
}
