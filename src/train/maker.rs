//! What makes the images of a diffusion run, whatever it diffuses.

use super::gaussian::LatentGenerator;
use super::generate::{Generator, Request};
use super::windows::Size;
use crate::diffusion::sampler::Sampler;
use crate::error::{Error, Result};
use crate::plan::Store;

/// A generator of either kind.
#[derive(Debug)]
pub enum Maker {
    /// Of discrete diffusion over codes.
    Tokens(Box<Generator>),
    /// Of Gaussian diffusion of latents.
    Latents(Box<LatentGenerator>),
}

impl Maker {
    /// Steps where the user gives none.
    pub fn default_steps(&self, sampler: Sampler) -> usize {
        match self {
            Maker::Tokens(generator) => generator.default_steps(sampler),
            // The length matters where tokens are revealed one by one: no sampler of latents does.
            Maker::Latents(_) => sampler.default_steps(1),
        }
    }

    /// # Errors
    /// Parts of images cannot be made anew by this run, as `asked`.
    pub fn can_inpaint(&self, asked: &str) -> Result<()> {
        match self {
            Maker::Tokens(_) => Ok(()),
            Maker::Latents(_) => {
                Err(Error::usage("only codes can be kept while others are made anew")
                    .at(asked)
                    .why("the diffusion was trained with Gaussian noise on latents")
                    .help("use a run of another diffusion.process, for example masked"))
            }
        }
    }

    /// As [`Generator::condition_on`]; latents follow classes alone.
    pub fn condition_on(&mut self, contexts: Vec<f32>) {
        if let Maker::Tokens(generator) = self {
            generator.condition_on(contexts);
        }
    }

    /// One sample a class: codes, if there are any, and images in [0, 1]. `given`: as
    /// [`crate::diffusion::sampler::Run::given`].
    pub fn generate(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        given: &[u32],
        how: &Request,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        match self {
            Maker::Tokens(generator) => generator.generate(store, classes, given, how),
            Maker::Latents(generator) => {
                if !given.is_empty() {
                    self.can_inpaint("--inpaint")?;
                    return Err(Error::failed("latents were given to be kept"));
                }
                generator.generate(store, classes, how)
            }
        }
    }

    /// As [`Generator::generate_wide`].
    ///
    /// # Errors
    /// Windows go on from each other by in-painting.
    pub fn generate_wide(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        size: Size,
        how: &Request,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        self.can_inpaint("--size")?;
        match self {
            Maker::Tokens(generator) => generator.generate_wide(store, classes, size, how),
            Maker::Latents(_) => Err(Error::failed("latents have no windows")),
        }
    }
}
