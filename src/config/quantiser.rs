//! The `[quantiser]` section: which codes there are and how they learn; and `[kl]`, the bottleneck
//! without codes.

use serde::{Deserialize, Serialize};

use super::check::{Bounds, Violation, demand, real, whole};
use super::{Bottleneck, Model};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantiserKind {
    /// Codes are running means of the latents assigned to them.
    Ema,
    /// Codes are parameters, trained by the codebook term of the loss.
    Gradient,
    /// Codes are a frozen random table times one trained matrix (2411.02038).
    Simvq,
    /// Codes are the points of a fixed grid (2309.15505).
    Fsq,
    /// Codes are the corners of a cube: the signs of the latent (2310.05737).
    Lfq,
    /// As `lfq`, of a latent on the unit sphere (2406.07548).
    Bsq,
}

impl QuantiserKind {
    /// Has it a table of codes that are searched and learned?
    pub fn has_book(self) -> bool {
        matches!(self, QuantiserKind::Ema | QuantiserKind::Gradient)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    Euclid,
    /// Between latents and codes of length 1.
    Cosine,
}

/// How the gradient passes the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// To the latent as it came for the code (1308.3432).
    StraightThrough,
    /// Turned and scaled as the latent must be to become the code (2410.06424).
    Rotation,
}

/// The codes and how they learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quantiser {
    pub kind: QuantiserKind,
    /// For `ema` and `gradient`.
    pub distance: Distance,
    /// For `ema`, `gradient` and `simvq`.
    pub estimator: Estimator,
    /// Codes a place, each of what the ones before left over (residual VQ).
    pub residual_levels: usize,
    /// Probability that a training step decodes fewer than all residual levels.
    pub level_dropout: f64,
    /// Codes a place, each of an equal share of the channels (multi-codebook).
    pub num_codebooks: usize,
    /// For `fsq`: values of each channel; empty takes the published grid of about
    /// `model.num_vq_embeddings` codes.
    pub fsq_levels: Vec<usize>,
    /// For `lfq` and `bsq`: weight of the entropy terms.
    pub entropy_weight: f64,
    /// For `lfq` and `bsq`: tau of the probabilities sigma(4 tau s z) that the entropies are of, s
    /// the size of a bit: 1, for `bsq` 1 / sqrt(bits).
    pub inverse_temperature: f64,
    /// For `lfq` and `bsq`: bits whose joint entropy is taken; more bits than that are taken as
    /// independent of each other.
    pub entropy_bits: usize,
    /// gamma of the running means.
    pub ema_decay: f64,
    /// Laplace smoothing of the counts.
    pub ema_eps: f64,
    /// Lloyd iterations of the initial codebook; 0 starts from random codes.
    pub kmeans_iters: usize,
    /// Latents the initial codebook is fitted on.
    pub kmeans_samples: usize,
    /// Steps between checks for dead codes, which begin after `train.warmup`; 0 never checks.
    pub revive_every: u64,
    /// A code is dead if it was chosen less than this share of the uniform frequency since the last
    /// check.
    pub revive_threshold: f64,
    /// Share of the run after which no code is revived any more.
    pub revive_stop: f64,
    /// Steps before a check whose latents dead codes may move to; 1 takes those of the last step.
    pub revive_reservoir: u64,
}

impl Default for Quantiser {
    fn default() -> Self {
        Quantiser {
            kind: QuantiserKind::Ema,
            distance: Distance::Euclid,
            estimator: Estimator::StraightThrough,
            residual_levels: 1,
            level_dropout: 0.0,
            num_codebooks: 1,
            fsq_levels: vec![],
            entropy_weight: 0.1,
            inverse_temperature: 1.0,
            entropy_bits: 8,
            ema_decay: 0.99,
            ema_eps: 1e-5,
            kmeans_iters: 10,
            kmeans_samples: 16_384,
            revive_every: 100,
            revive_threshold: 0.05,
            revive_stop: 0.9,
            revive_reservoir: 1,
        }
    }
}

/// Grids of 2309.15505, table 1, and one of 15 codes for small trials.
const GRIDS: [&[usize]; 8] = [
    &[5, 3],
    &[8, 8],
    &[8, 6, 5],
    &[8, 5, 5, 5],
    &[7, 5, 5, 5, 5],
    &[8, 8, 8, 6, 5],
    &[8, 8, 8, 5, 5, 5],
    &[8, 8, 8, 8, 8, 8],
];

impl Quantiser {
    /// Codes a place of the latent grid.
    pub fn heads(&self) -> usize {
        self.residual_levels * self.num_codebooks
    }

    /// The published grid of the most codes, but of no more than `most`.
    pub fn grid_within(most: usize) -> Option<&'static [usize]> {
        let codes = |grid: &&[usize]| grid.iter().product::<usize>();
        GRIDS.into_iter().filter(|grid| codes(grid) <= most).max_by_key(codes)
    }

    /// Writes into the settings what follows from others: the grid of `fsq`, and for kinds whose
    /// codes are a formula their number and length.
    pub fn settle(&mut self, model: &mut Model) {
        if model.bottleneck == Bottleneck::Kl {
            return;
        }
        let books = self.num_codebooks;
        match self.kind {
            QuantiserKind::Ema | QuantiserKind::Gradient | QuantiserKind::Simvq => {}
            QuantiserKind::Fsq => {
                if self.fsq_levels.is_empty() {
                    let wanted = (model.num_vq_embeddings as f64).ln();
                    let off = |grid: &&&[usize]| {
                        (grid.iter().map(|&l| (l as f64).ln()).sum::<f64>() - wanted).abs()
                    };
                    let nearest = GRIDS.iter().min_by(|a, b| off(a).total_cmp(&off(b)));
                    self.fsq_levels = nearest.map(|grid| grid.to_vec()).unwrap_or_default();
                }
                model.vq_embed_dim = self.fsq_levels.len().saturating_mul(books);
                let times = |product: usize, &l: &usize| product.saturating_mul(l);
                model.num_vq_embeddings = self.fsq_levels.iter().fold(1, times);
            }
            QuantiserKind::Lfq | QuantiserKind::Bsq => {
                let bits = model.num_vq_embeddings.max(2).ilog2();
                model.vq_embed_dim = (bits as usize).saturating_mul(books);
                model.num_vq_embeddings = 1 << bits;
            }
        }
    }

    /// To be checked before the model, whose number of codes is the grid's.
    pub(super) fn check_grid(&self) -> Result<(), Violation> {
        demand(
            self.kind != QuantiserKind::Fsq
                || self.fsq_levels.iter().all(|l| (2..=256).contains(l))
                    && (1..=16).contains(&self.fsq_levels.len()),
            "quantiser.fsq_levels",
            format!("{:?} is no grid", self.fsq_levels),
            "give 1 to 16 numbers from 2 to 256, for example [8, 6, 5]",
        )
    }

    pub(super) fn check(&self, m: &Model) -> Result<(), Violation> {
        whole("quantiser.residual_levels", self.residual_levels as u64, 1, 64)?;
        real("quantiser.level_dropout", self.level_dropout, Bounds::Closed(0.0, 1.0))?;
        whole("quantiser.num_codebooks", self.num_codebooks as u64, 1, 64)?;
        demand(
            m.vq_embed_dim.is_multiple_of(self.num_codebooks),
            "quantiser.num_codebooks",
            format!("{} codebooks do not divide {} channels", self.num_codebooks, m.vq_embed_dim),
            "change it or model.vq_embed_dim",
        )?;
        demand(
            self.residual_levels == 1 || self.kind.has_book() || self.kind == QuantiserKind::Simvq,
            "quantiser.residual_levels",
            "codes of a fixed grid leave nothing over that they could express".into(),
            "use kind \"ema\", \"gradient\" or \"simvq\", or num_codebooks",
        )?;
        demand(
            self.distance == Distance::Euclid || self.kind.has_book(),
            "quantiser.distance",
            "only \"ema\" and \"gradient\" compare directions".into(),
            "remove it, or use kind \"ema\"",
        )?;
        demand(
            self.estimator == Estimator::StraightThrough
                || self.kind.has_book()
                || self.kind == QuantiserKind::Simvq,
            "quantiser.estimator",
            "codes of a fixed grid are passed straight through".into(),
            "remove it, or use kind \"ema\", \"gradient\" or \"simvq\"",
        )?;
        real("quantiser.entropy_weight", self.entropy_weight, Bounds::Closed(0.0, 100.0))?;
        real(
            "quantiser.inverse_temperature",
            self.inverse_temperature,
            Bounds::OpenClosed(0.0, 1e4),
        )?;
        whole("quantiser.entropy_bits", self.entropy_bits as u64, 1, 10)?;
        real("quantiser.ema_decay", self.ema_decay, Bounds::Open(0.0, 1.0))?;
        real("quantiser.ema_eps", self.ema_eps, Bounds::Open(0.0, 1.0))?;
        whole("quantiser.kmeans_iters", self.kmeans_iters as u64, 0, 1000)?;
        whole("quantiser.kmeans_samples", self.kmeans_samples as u64, 1, 1 << 24)?;
        let fitted = self.kind.has_book() || self.kind == QuantiserKind::Simvq;
        demand(
            !fitted || self.kmeans_iters == 0 || self.kmeans_samples >= m.num_vq_embeddings,
            "quantiser.kmeans_samples",
            format!("{} samples cannot seed {} codes", self.kmeans_samples, m.num_vq_embeddings),
            "use at least as many samples as model.num_vq_embeddings, better 64 times as many",
        )?;
        real("quantiser.revive_threshold", self.revive_threshold, Bounds::HalfOpen(0.0, 1.0))?;
        real("quantiser.revive_stop", self.revive_stop, Bounds::Closed(0.0, 1.0))?;
        whole("quantiser.revive_reservoir", self.revive_reservoir, 1, 1000)?;
        demand(
            self.revive_every == 0 || self.revive_reservoir <= self.revive_every,
            "quantiser.revive_reservoir",
            format!("{} steps, but checks are {} apart", self.revive_reservoir, self.revive_every),
            "lower it or raise quantiser.revive_every",
        )
    }
}

/// The bottleneck of a KL-VAE (1312.6114): a Gaussian a place instead of a code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kl {
    /// Of the divergence from the unit Gaussian, in nats an image, beside the mean squared error.
    pub weight: f64,
}

impl Default for Kl {
    fn default() -> Self {
        Kl { weight: 1e-6 }
    }
}

impl Kl {
    pub(super) fn check(&self) -> Result<(), Violation> {
        real("kl.weight", self.weight, Bounds::Closed(0.0, 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(kind: QuantiserKind, codes: usize, books: usize) -> (Quantiser, Model) {
        let mut model = Model { num_vq_embeddings: codes, ..Model::default() };
        let mut quantiser = Quantiser { kind, num_codebooks: books, ..Quantiser::default() };
        quantiser.settle(&mut model);
        (quantiser, model)
    }

    #[test]
    fn grids_are_the_nearest_published_ones() {
        for (codes, levels, made) in [
            (256, vec![8, 6, 5], 240),
            (1024, vec![8, 5, 5, 5], 1000),
            (4096, vec![7, 5, 5, 5, 5], 4375),
            (16_384, vec![8, 8, 8, 6, 5], 15_360),
            (65_536, vec![8, 8, 8, 5, 5, 5], 64_000),
        ] {
            let (quantiser, model) = settled(QuantiserKind::Fsq, codes, 1);
            assert_eq!((quantiser.fsq_levels, model.num_vq_embeddings), (levels, made));
        }
        let (quantiser, model) = settled(QuantiserKind::Fsq, 256, 2);
        assert_eq!((model.vq_embed_dim, quantiser.heads()), (6, 2));
    }

    #[test]
    fn signs_are_powers_of_two() {
        let (_, model) = settled(QuantiserKind::Bsq, 1000, 1);
        assert_eq!((model.num_vq_embeddings, model.vq_embed_dim), (512, 9));
        let (_, model) = settled(QuantiserKind::Ema, 1000, 1);
        assert_eq!((model.num_vq_embeddings, model.vq_embed_dim), (1000, 8));
    }

    /// A KL-VAE has no codes: nothing of them may reach its model.
    #[test]
    fn nothing_follows_from_codes_that_are_not_there() {
        let kl = Model { bottleneck: Bottleneck::Kl, vq_embed_dim: 4, ..Model::default() };
        let mut model = kl.clone();
        Quantiser { kind: QuantiserKind::Fsq, ..Quantiser::default() }.settle(&mut model);
        assert_eq!(model, kl);
    }
}
