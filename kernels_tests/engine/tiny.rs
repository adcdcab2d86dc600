//! Tiny models whose inputs are pure functions of the sample.

use super::tangle::{TANGLE, tangle};
use vqforge::config::{
    Bottleneck, Conditioning, Config, Denoiser, DenoiserKind, Family, FeedForward, Model, Process,
    QuantiserKind, RateSchedule, Train,
};
use vqforge::diffusion::Corruption;
use vqforge::model::denoiser::{CONTEXT, Context, DROPPED, Grid, TIME};
use vqforge::model::quantiser::{CODEBOOK, EMA_M, EMA_N};
use vqforge::plan::ParamTable;
use vqforge::rng::{Rng, Stream};
use vqforge::tape::{Precision, Recompute, Tape};
use vqforge::train::{autoencoder, diffusion};

/// Samples of a step: 1, 2, 3, 4 and 6 lanes divide it.
pub const BATCH: usize = 12;
/// Side of the images.
const SIDE: usize = 8;
const CODES: usize = 7;
const CODE_LEN: usize = 3;
/// Of the chain.
const STEPS: usize = 4;
const GRID: Grid = Grid { rows: 3, cols: 4, codes: 11, classes: 3, times: 0, context: None };

/// The models under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiny {
    /// Compact autoencoder, codebook by moving averages.
    VqVae,
    /// The same, codebook by gradient.
    VqVaeByGradient,
    /// The first VQ-VAE, with transposed convolutions.
    Classic,
    /// diffusers' VQModel with attention in the middle.
    VqModel,
    /// diffusers' AutoencoderKL.
    KlVae,
    Denoiser,
    /// The modern denoiser, which attends to embeddings.
    Modern,
    /// VQ-Diffusion's transformer in a chain, with one embedding a sample.
    VqDiffusion,
    /// Values with several consumers in every order, so that some in-place writes are granted and
    /// some refused, and parameters that are used twice.
    Tangle,
}

impl Tiny {
    pub const ALL: [Tiny; 9] = [
        Tiny::VqVae,
        Tiny::VqVaeByGradient,
        Tiny::Classic,
        Tiny::VqModel,
        Tiny::KlVae,
        Tiny::Denoiser,
        Tiny::Modern,
        Tiny::VqDiffusion,
        Tiny::Tangle,
    ];

    /// What the denoisers see.
    fn grid(self) -> Grid {
        match self {
            Tiny::Modern => Grid { context: Some(Context { tokens: 2, width: 3 }), ..GRID },
            Tiny::VqDiffusion => {
                Grid { times: STEPS, context: Some(Context { tokens: 1, width: 5 }), ..GRID }
            }
            _ => GRID,
        }
    }

    pub fn config(self, lanes: usize) -> Config {
        let mut config = Config {
            model: Model {
                block_out_channels: vec![4, 8],
                norm_num_groups: 2,
                latent_channels: 5,
                num_vq_embeddings: CODES,
                vq_embed_dim: CODE_LEN,
                ..Model::default()
            },
            denoiser: Denoiser {
                layers: 2,
                width: 12,
                heads: 3,
                mlp_ratio: 2,
                class_drop: 0.0,
                ..Denoiser::default()
            },
            train: Train {
                seed: 5,
                steps: 100,
                batch: BATCH,
                lanes,
                lr: 3e-3,
                warmup: 2,
                schedule: RateSchedule::Constant,
                ema_decay: 0.9,
                clip: 0.5,
                ..Train::default()
            },
            ..Config::default()
        };
        match self {
            Tiny::VqVaeByGradient => config.quantiser.kind = QuantiserKind::Gradient,
            // One without, so that both branches of the step's factor are walked.
            Tiny::Denoiser => config.train.clip = 0.0,
            Tiny::Modern => {
                config.denoiser.kind = DenoiserKind::Modern;
                config.denoiser.conditioning = Conditioning::Cross;
                config.denoiser.qk_norm = true;
            }
            Tiny::VqDiffusion => {
                config.denoiser.kind = DenoiserKind::VqDiffusion;
                config.denoiser.feed_forward = FeedForward::Geglu;
                config.diffusion.process = Process::MaskAndReplace;
                config.diffusion.steps = STEPS;
                // Steps are given, as all else is.
                config.diffusion.importance = Some(false);
            }
            Tiny::Classic => {
                config.model.family = Family::Classic;
                config.model.block_out_channels = vec![4, 6];
                config.model.num_residual_hiddens = 3;
            }
            Tiny::VqModel => {
                config.model.family = Family::Vqmodel;
                config.model.block_out_channels = vec![4, 4];
                config.model.mid_block_add_attention = true;
            }
            Tiny::KlVae => {
                config.model.family = Family::Vqmodel;
                config.model.bottleneck = Bottleneck::Kl;
                config.model.block_out_channels = vec![4, 4];
                config.model.latent_channels = CODE_LEN;
                config.model.mid_block_add_attention = true;
                config.kl.weight = 0.01;
            }
            _ => {}
        }
        config
    }

    /// The training step for micro-batches of `batch` samples.
    pub fn record(self, batch: usize) -> (Tape, ParamTable) {
        self.record_in(Precision::F32, batch)
    }

    pub fn record_in(self, precision: Precision, batch: usize) -> (Tape, ParamTable) {
        self.record_with(precision, Recompute::None, batch)
    }

    pub fn record_with(
        self,
        precision: Precision,
        recompute: Recompute,
        batch: usize,
    ) -> (Tape, ParamTable) {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        tape.set_precision(precision);
        let mut config = self.config(1);
        config.train.precision = precision;
        config.train.recompute = recompute;
        let recorded = match self {
            Tiny::Denoiser | Tiny::Modern | Tiny::VqDiffusion => {
                diffusion::record(&mut tape, &mut table, &config, self.grid(), batch)
            }
            Tiny::Tangle => tangle(&mut tape, &mut table, batch),
            _ => {
                let dims = [batch, SIDE, SIDE, 1];
                autoencoder::record(&mut tape, &mut table, &config, dims).map(drop)
            }
        };
        recorded.unwrap_or_else(|e| panic!("{self:?}: {e}"));
        (tape, table)
    }

    /// The words of every input for one sample.
    pub fn sample(self, index: u64) -> Vec<(&'static str, Vec<u32>)> {
        let mut rng = Rng::new(77, Stream::Test, index);
        let mut floats = |n: usize| -> Vec<u32> {
            (0..n).map(|_| (rng.range(-1.0, 1.0) as f32).to_bits()).collect()
        };
        match self {
            Tiny::Denoiser => {
                let t = 0.2 + 0.6 * ((index * 7 % 12) as f32 / 12.0);
                let codes = (0..GRID.tokens()).map(|_| rng.below(GRID.codes as u32)).collect();
                vec![
                    ("codes", codes),
                    ("class", vec![index as u32 % 4]),
                    ("mask_probability", vec![t.to_bits()]),
                    ("weight", vec![(1.0 / t).to_bits()]),
                ]
            }
            Tiny::Modern | Tiny::VqDiffusion => {
                let grid = self.grid();
                let dropped = index % 3 == 1;
                let mut context = vec![0; grid.context.map_or(0, |c| c.tokens * c.width)];
                if !dropped {
                    context = floats(context.len());
                }
                let codes = (0..grid.tokens()).map(|_| rng.below(grid.codes as u32)).collect();
                let t = 0.2 + 0.6 * ((index * 7 % 12) as f32 / 12.0);
                let mut all = vec![
                    ("codes", codes),
                    ("class", vec![if dropped { 3 } else { index as u32 % 3 }]),
                    (CONTEXT, context),
                    (DROPPED, vec![f32::from(u8::from(dropped)).to_bits()]),
                ];
                if grid.times == 0 {
                    all.push(("mask_probability", vec![t.to_bits()]));
                    all.push(("weight", vec![(1.0 / t).to_bits()]));
                    return all;
                }
                let settings = self.config(1).diffusion;
                let Ok(Corruption::Chain(chain)) = Corruption::new(&settings, grid.codes) else {
                    panic!("a chain")
                };
                let step = index as usize % STEPS;
                let link = chain.step(step.checked_sub(1), step);
                let noise = diffusion::noise(link, 1.0, 0.01, step == 0).words();
                all.push((TIME, vec![step as u32]));
                all.push(("noise", noise.map(f32::to_bits).to_vec()));
                all
            }
            Tiny::Tangle => vec![("x", floats(TANGLE))],
            _ => vec![("x", floats(SIDE * SIDE))],
        }
    }

    /// The words of every input for some samples in a row.
    pub fn samples(self, first: u64, count: usize) -> Vec<(&'static str, Vec<u32>)> {
        let mut all = self.sample(first);
        for index in first + 1..first + count as u64 {
            for (input, more) in all.iter_mut().zip(self.sample(index)) {
                input.1.extend(more.1);
            }
        }
        all
    }

    /// States as a run might find them: codes spread out, each with a past.
    pub fn states(self) -> Vec<(&'static str, Vec<f32>)> {
        if !matches!(self, Tiny::VqVae | Tiny::Classic | Tiny::VqModel) {
            return vec![];
        }
        let mut rng = Rng::new(78, Stream::Test, 0);
        let book: Vec<f32> = (0..CODES * CODE_LEN).map(|_| rng.normal() as f32).collect();
        let counts: Vec<f32> = (0..CODES).map(|_| rng.range(5.0, 50.0) as f32).collect();
        let sums = book.iter().enumerate().map(|(i, e)| e * counts[i / CODE_LEN]).collect();
        vec![(CODEBOOK, book), (EMA_N, counts), (EMA_M, sums)]
    }
}
