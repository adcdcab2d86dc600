//! New images from a trained denoiser and its tokenizer's decoder.

use super::codes::{Tokenizer, of_one_head};
use super::judged_weights;
use super::windows::{Size, Windows, seed_of};
use crate::config::Config;
use crate::device::Device;
use crate::device::tuner::{Table, Tuner};
use crate::diffusion::Corruption;
use crate::diffusion::sampler::{
    Drawn, GuidanceSchedule, Pace, Question, Run, Sampler, Score, TokenModel,
};
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::model::denoiser::{self, CONTEXT, DROPPED, Grid, TIME};
use crate::model::quantiser::of_head;
use crate::model::{Scope, autoencoder};
use crate::ops;
use crate::plan::{Options, Plan, Store, Weights};
use crate::tape::Tape;

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub sampler: Sampler,
    pub steps: usize,
    pub pace: Pace,
    /// Scale of classifier-free guidance; 1: none.
    pub guidance: f32,
    pub guidance_schedule: GuidanceSchedule,
    pub temperature: f32,
    /// Draw from the likeliest tokens that have this share of the probability; 1: from all.
    pub top_p: f32,
    /// Draw from so many of the likeliest tokens; 0: from all.
    pub top_k: u32,
    pub seed: u64,
    /// Global index of the first sample.
    pub first: u64,
}

impl Request {
    /// Everything as the network has it: no guidance, temperature 1, nothing cut off, seed 0.
    pub fn new(sampler: Sampler, steps: usize) -> Self {
        Request {
            sampler,
            steps,
            pace: Pace::Trained,
            guidance: 1.0,
            guidance_schedule: GuidanceSchedule::Constant,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            first: 0,
        }
    }

    /// Whether some round needs the unconditional branch.
    fn is_guided(&self) -> bool {
        self.guidance != 1.0
    }
}

/// Denoiser and decoder compiled for batches of `n` samples: each plan once, when it is first needed, and
/// replayed from then on.
#[derive(Debug)]
pub struct Generator {
    n: usize,
    /// Codes a place of the latent grid.
    heads: usize,
    grid: Grid,
    corruption: Corruption,
    config: Config,
    weights: Weights,
    /// See [`Generator::condition_on`].
    contexts: Vec<f32>,
    /// One draw of every token: with the conditional branch alone, and with both.
    networks: [Option<Plan>; 2],
    tokenizer: Config,
    decoder: Store,
    decoders: Vec<Decoder>,
}

/// A plan that makes images of `n` grids of `size` places.
#[derive(Debug)]
struct Decoder {
    size: Size,
    n: usize,
    plan: Plan,
}

impl Generator {
    /// The decoder gets a store of its own on `device`.
    pub fn new(
        config: &Config,
        grid: Grid,
        n: usize,
        tokenizer: &Tokenizer,
        device: Box<dyn Device>,
    ) -> Result<Self> {
        let heads = tokenizer.heads();
        let size = [grid.rows, grid.cols / heads];
        let (decoder, plan) =
            tokenizer.plan(device, |s| decode(s, &tokenizer.config, heads, n, size))?;
        let corruption = Corruption::new(&config.diffusion, grid.codes)?;
        Ok(Generator {
            n,
            heads,
            grid,
            corruption,
            config: config.clone(),
            weights: judged_weights(&config.train),
            contexts: vec![],
            networks: [None, None],
            tokenizer: tokenizer.config.clone(),
            decoder,
            decoders: vec![Decoder { size, n, plan }],
        })
    }

    /// The embeddings of the samples that are generated from now on, one after the other; for a run that
    /// was trained with them.
    pub fn condition_on(&mut self, contexts: Vec<f32>) {
        self.contexts = contexts;
    }

    /// Writes the embeddings; before them, where guided, none, which the learnable null stands for.
    fn write_contexts(&self, store: &mut Store, plan: &Plan, guided: bool) -> Result<()> {
        let Some(of) = self.grid.context else { return Ok(()) };
        let len = self.n * of.tokens * of.width;
        if self.contexts.len() != len {
            let given = self.contexts.len();
            return Err(Error::usage(
                "the run was trained on embeddings, which samples need as well",
            )
            .why(format!("{given} of {len} numbers were given"))
            .help("sample with --embeddings FILE.npy"));
        }
        let mut dropped = vec![0.0; self.n];
        if guided {
            let both = [&vec![0.0; len], &self.contexts[..]].concat();
            store.write_f32(plan.input(CONTEXT)?, &both)?;
            dropped.splice(..0, vec![1.0; self.n]);
        } else {
            store.write_f32(plan.input(CONTEXT)?, &self.contexts)?;
        }
        store.write_f32(plan.input(DROPPED)?, &dropped)
    }

    /// Steps where the user gives none.
    pub fn default_steps(&self, sampler: Sampler) -> usize {
        match &self.corruption {
            Corruption::Masked(_) => sampler.default_steps(self.grid.tokens()),
            Corruption::Chain(chain) => {
                sampler.default_steps(self.grid.tokens()).min(chain.steps())
            }
        }
    }

    /// What the tuner chose for the decoder.
    pub fn choices(&self) -> Table {
        self.decoder.device.tuner().map(Tuner::used).cloned().unwrap_or_default()
    }

    /// Places of the latent grid that the denoiser was trained on.
    pub fn size(&self) -> Size {
        [self.grid.rows, self.grid.cols / self.heads]
    }

    /// One sample a class: codes and images in [0, 1]. `store` holds the denoiser's weights; `given`: as
    /// [`Run::given`].
    pub fn generate(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        given: &[u32],
        how: &Request,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let codes = self.codes(store, classes, given, how)?;
        let images = self.decode(&codes, self.size())?;
        Ok((codes, images))
    }

    /// [`generate`](Self::generate) on a grid of `size` places, of which no side is smaller than that of
    /// training: the denoiser makes it window by window ([`Windows`]), the decoder in one piece.
    pub fn generate_wide(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        size: Size,
        how: &Request,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let windows = Windows {
            whole: size,
            window: self.size(),
            heads: self.heads,
            samples: self.n,
            mask: self.grid.codes as u32,
        };
        let codes = windows.fill(|i, given| {
            let how = Request { seed: seed_of(how.seed, i), ..*how };
            self.codes(store, classes, given, &how)
        })?;
        let images = self.decode(&codes, size)?;
        Ok((codes, images))
    }

    /// Codes of one grid a class.
    fn codes(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        given: &[u32],
        how: &Request,
    ) -> Result<Vec<u32>> {
        if classes.len() != self.n {
            return Err(Error::failed(format!("{} classes for {} samples", classes.len(), self.n)));
        }
        let guided = how.is_guided();
        self.network(store, guided)?;
        let Some(plan) = &self.networks[usize::from(guided)] else {
            return Err(Error::failed("the network is not compiled"));
        };
        let mut branches = vec![];
        if guided {
            branches.resize(self.n, self.grid.classes as u32);
        }
        branches.extend_from_slice(classes);
        store.write_u32(plan.input("class")?, &branches)?;
        self.write_contexts(store, plan, guided)?;
        let run = Run {
            sampler: how.sampler,
            corruption: &self.corruption,
            pace: how.pace,
            steps: how.steps,
            samples: self.n,
            length: self.grid.tokens(),
            cols: self.grid.cols,
            mask: self.grid.codes as u32,
            seed: how.seed,
            first: how.first,
            given,
        };
        run.sample(&mut OnDevice { store, plan, how, grid: self.grid })
    }

    /// Compiles the denoiser with both branches of guidance in one doubled batch, or with the conditional
    /// one alone, which is half the work.
    fn network(&mut self, store: &mut Store, guided: bool) -> Result<()> {
        let slot = &mut self.networks[usize::from(guided)];
        if slot.is_some() {
            return Ok(());
        }
        let batch = if guided { 2 * self.n } else { self.n };
        let (mut tape, mut table) = (Tape::new(), store.table().clone());
        let mut s = Scope::new(&mut tape, &mut table);
        let tokens = s.tape.input_idx("tokens", &[batch * self.grid.tokens()])?;
        let class = s.tape.input_idx("class", &[batch])?;
        let settings = &self.config.denoiser;
        let logits = denoiser::logits(&mut s, settings, self.grid, batch, tokens, class)?;
        let draws = ops::draw_tokens(s.tape, logits, guided)?;
        tape.output("drawn", draws.token)?;
        tape.output("logp", draws.logp)?;
        tape.output("purity", draws.purity)?;
        let options = Options { weights: self.weights, ..Options::default() };
        *slot = Some(Plan::compile(store, &tape, &options, &mut |_, _| {})?);
        Ok(())
    }

    /// Images in [0, 1] of codes on grids of `size` places; of larger grids fewer at once.
    fn decode(&mut self, codes: &[u32], size: Size) -> Result<Vec<f32>> {
        let at = match self.decoders.iter().position(|decoder| decoder.size == size) {
            Some(at) => at,
            None => {
                let [own, wanted] = [self.size(), size].map(|[rows, cols]| rows * cols);
                let n = (self.n * own / wanted).max(1);
                let (mut tape, mut table) = (Tape::new(), self.decoder.table().clone());
                let mut s = Scope::new(&mut tape, &mut table);
                decode(&mut s, &self.tokenizer, self.heads, n, size)?;
                let options = Options::default();
                let plan = Plan::compile(&mut self.decoder, &tape, &options, &mut |_, _| {})?;
                self.decoders.push(Decoder { size, n, plan });
                self.decoders.len() - 1
            }
        };
        let (store, Decoder { n, plan, .. }) = (&mut self.decoder, &self.decoders[at]);
        let length = size[0] * size[1] * self.heads;
        let mut images = vec![];
        for codes in codes.chunks(n * length) {
            // A short batch is filled up with code 0.
            let mut all = codes.to_vec();
            all.resize(n * length, 0);
            for head in 0..self.heads {
                let own = of_one_head(&all, head, self.heads);
                store.write_u32(plan.input(&of_head("idx", head))?, &own)?;
            }
            plan.run_lane(store, 0, &StepScalars::default())?;
            let made = store.read_f32(plan.output("image")?)?;
            let wanted = made.len() / n * (codes.len() / length);
            images.extend(made[..wanted].iter().map(|v| (v * 0.5 + 0.5).clamp(0.0, 1.0)));
        }
        Ok(images)
    }
}

/// Records the decoder of `n` grids: the codes of each head in, `image` out. It is convolutional, so that
/// any size will do; where it has attention (`family = "vqmodel"`), each place of a larger grid attends to
/// all of that, at a cost that grows with the square of the places.
fn decode(s: &mut Scope<'_>, config: &Config, heads: usize, n: usize, size: Size) -> Result<()> {
    let places = [n, size[0], size[1]];
    let mut idx = vec![];
    for head in 0..heads {
        let name = of_head("idx", head);
        idx.push(s.tape.input_idx(&name, &[places.iter().product()])?);
    }
    let image = autoencoder::decode_indices(s, config, &idx, places)?;
    s.tape.output("image", image)
}

/// The denoiser's plan as a sampler sees it. A round writes the tokens and the scalars, and reads a word a
/// token, or two where the sampler wants a score: nothing is compiled, nothing allocated on the device.
struct OnDevice<'a> {
    store: &'a mut Store,
    plan: &'a Plan,
    how: &'a Request,
    grid: Grid,
}

impl TokenModel for OnDevice<'_> {
    fn draw(&mut self, question: &Question<'_>) -> Result<Drawn> {
        let (xt, how) = (question.xt, self.how);
        let branches = if how.is_guided() { 2 } else { 1 };
        self.store.write_u32(self.plan.input("tokens")?, &xt.repeat(branches))?;
        if self.grid.times > 0 {
            let samples = branches * xt.len() / self.grid.tokens();
            self.store.write_u32(self.plan.input(TIME)?, &vec![question.time; samples])?;
        }
        let (round, rounds) = (question.round as usize, question.rounds as usize);
        let step = StepScalars {
            // Rounds of different parts of a run draw different numbers.
            step: ((how.first as u32) << 12) | question.round,
            seed_lo: how.seed as u32,
            seed_hi: (how.seed >> 32) as u32,
            sample_base: how.first as u32,
            temperature: how.temperature,
            top_p: how.top_p,
            top_k: how.top_k,
            guidance: how.guidance_schedule.at(how.guidance, round, rounds),
            purity: match how.sampler {
                Sampler::Purity { weight } => weight as f32,
                _ => 0.0,
            },
            ..StepScalars::default()
        };
        self.plan.run_lane(self.store, 0, &step)?;
        let tokens = self.store.read_u32(self.plan.output("drawn")?)?;
        let scores = match question.score {
            Score::Nothing => vec![],
            Score::LogProbability => self.store.read_f32(self.plan.output("logp")?)?,
            Score::Purity => self.store.read_f32(self.plan.output("purity")?)?,
        };
        Ok(Drawn { tokens, scores })
    }

    /// With a scale that grows, the law of a token does too.
    fn is_steady(&self) -> bool {
        !self.how.is_guided() || self.how.guidance_schedule == GuidanceSchedule::Constant
    }
}

#[cfg(test)]
mod tests;
