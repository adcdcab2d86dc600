//! The quantisers of the settings, each as the model builds it. What other implementations are known
//! to get wrong is listed in [`PITFALLS`].

mod learning;
mod levels;
mod recorded;
mod revival;
mod round_trip;
mod start;

use crate::rig::ok;
use std::sync::Arc;
use vqforge::config::{Config, Distance, QuantiserKind};
use vqforge::data::{Dataset, Split};
use vqforge::device::Device;
use vqforge::error::Result;
use vqforge::kernels::StepScalars;
use vqforge::model::Scope;
use vqforge::model::quantiser::{CODEBOOK, of_head};
use vqforge::plan::{Kind, Options, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::Tape;
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::{Material, Session};

/// What goes wrong elsewhere; the source and the name of the test that shows it does not here.
const PITFALLS: &[(&str, &str, &str)] = &[
    ("beta weighs the gradient of the codes", LEARNING, "codes_learn_alike_at_any_beta"),
    ("later levels pull at no latent", LEARNING, "levels_and_parts_have_their_share"),
    ("moving averages that do not give the k-means codes", START, "averages_start_at_the_means"),
    ("clusters that k-means leaves empty", START, "empty_clusters_are_seeded_again"),
    ("SimVQ decodes from the frozen table", ROUND_TRIP, "decoded_indices_are_the_direct_path"),
    ("FSQ indices of other codes", ROUND_TRIP, "every_index_comes_back"),
    ("FSQ at two levels", ROUND_TRIP, "every_index_comes_back"),
    ("a distance for every latent and code in memory", LARGE, "nearest_code_keeps_no_scores"),
    ("perplexity and usage of a batch", METRICS, "by_hand"),
    ("a dead code with Adam's old moments", REVIVAL, "a_dead_code_lives_again"),
];
const LEARNING: &str = include_str!("quantisers/learning.rs");
const START: &str = include_str!("quantisers/start.rs");
const ROUND_TRIP: &str = include_str!("quantisers/round_trip.rs");
const REVIVAL: &str = include_str!("quantisers/revival.rs");
const LARGE: &str = include_str!("large.rs");
const METRICS: &str = include_str!("../src/metrics/usage.rs");

#[test]
fn every_pitfall_has_its_test() {
    for (what, source, test) in PITFALLS {
        assert!(source.contains(&format!("fn {test}()")), "{what}: no {test}");
    }
}

/// Latents of 4 channels, 2 x 2 an image of [`SIDE`] x [`SIDE`].
const BASE: &str = r#"
[model]
block_out_channels = [4, 4, 4]
norm_num_groups = 2
latent_channels = 4
num_vq_embeddings = 12
vq_embed_dim = 4

[quantiser]
kmeans_samples = 96
kmeans_iters = 3
revive_every = 0

[train]
seed = 5
steps = 1000
batch = 6
lr = 1e-4
warmup = 0
ema_decay = 0.9
"#;
const SIDE: usize = 8;

/// Names and `[quantiser]` entries of what is proven here.
const SETTINGS: &[(&str, &[&str])] = &[
    ("gradient", &["kind=gradient"]),
    ("gradient, rotation", &["kind=gradient", "estimator=rotation"]),
    ("gradient, cosine", &["kind=gradient", "distance=cosine"]),
    ("ema", &[]),
    ("ema, rotation", &["estimator=rotation"]),
    ("ema, cosine", &["distance=cosine"]),
    ("ema, cosine, rotation", &["distance=cosine", "estimator=rotation"]),
    ("simvq", &["kind=simvq"]),
    ("simvq, rotation", &["kind=simvq", "estimator=rotation"]),
    ("fsq 5 3", &["kind=fsq", "fsq_levels=[5,3]"]),
    ("fsq 8 6 5", &["kind=fsq", "fsq_levels=[8,6,5]"]),
    ("fsq 2 3 4", &["kind=fsq", "fsq_levels=[2,3,4]"]),
    ("fsq 2 2 2 2", &["kind=fsq", "fsq_levels=[2,2,2,2]"]),
    ("fsq 7", &["kind=fsq", "fsq_levels=[7]"]),
    ("rvq 2", &["residual_levels=2"]),
    ("rvq 3, gradient", &["residual_levels=3", "kind=gradient"]),
    ("rvq 2, simvq, rotation", &["residual_levels=2", "kind=simvq", "estimator=rotation"]),
    ("rvq 2, cosine", &["residual_levels=2", "distance=cosine"]),
    ("two books", &["num_codebooks=2"]),
    ("two books, simvq", &["num_codebooks=2", "kind=simvq"]),
    ("two grids", &["num_codebooks=2", "kind=fsq", "fsq_levels=[4,3]"]),
    ("two groups of two levels", &["num_codebooks=2", "residual_levels=2"]),
    (
        "two groups of two levels, gradient",
        &["num_codebooks=2", "residual_levels=2", "kind=gradient"],
    ),
    ("lfq", &["kind=lfq"]),
    ("bsq", &["kind=bsq"]),
    ("two books, bsq", &["kind=bsq", "num_codebooks=2"]),
];

fn settings(entries: &[&str]) -> Config {
    let sets: Vec<String> = entries
        .iter()
        .map(|entry| match entry.contains('.') && entry.find('.') < entry.find('=') {
            true => entry.to_string(),
            false => format!("quantiser.{entry}"),
        })
        .collect();
    ok(Config::parse("test", BASE, &sets))
}

/// Inputs by name: floats and words.
type Inputs<'a> = (&'a [(&'a str, &'a [f32])], &'a [(&'a str, &'a [u32])]);

/// What a tape leaves on a device.
struct Made {
    store: Store,
    plan: Plan,
}

impl Made {
    /// Records, compiles, writes `floats` and `words` into inputs, and runs once. Parameters and
    /// states are functions of their names.
    fn new(
        device: Box<dyn Device>,
        config: &Config,
        inputs: Inputs<'_>,
        record: impl FnOnce(&mut Scope<'_>) -> Result<()>,
    ) -> Self {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        ok(record(&mut Scope::new(&mut tape, &mut table)));
        Self::of(device, config, inputs, (tape, table))
    }

    /// As [`new`](Self::new), of what was recorded already.
    fn of(
        device: Box<dyn Device>,
        config: &Config,
        (floats, words): Inputs<'_>,
        (tape, table): (Tape, ParamTable),
    ) -> Self {
        let mut store = ok(Store::new(device, table, 0));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        fill(&mut store, config);
        for (name, data) in floats {
            ok(store.write_f32(ok(plan.input(name)), data));
        }
        for (name, data) in words {
            ok(store.write_u32(ok(plan.input(name)), data));
        }
        ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
        Made { store, plan }
    }

    /// The words of an output.
    fn bits(&mut self, name: &str) -> Vec<u32> {
        ok(self.store.read_u32(ok(self.plan.output(name))))
    }

    /// The words of an output of each head.
    fn of_heads(&mut self, name: &str, heads: usize) -> Vec<Vec<u32>> {
        (0..heads).map(|head| self.bits(&of_head(name, head))).collect()
    }

    fn floats(&mut self, name: &str) -> Vec<f32> {
        ok(self.store.read_f32(ok(self.plan.output(name))))
    }
}

fn draw(name: &str, n: usize) -> Vec<f32> {
    let seed = name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let mut rng = Rng::new(seed, Stream::Test, 0);
    (0..n).map(|_| (0.6 * rng.normal()) as f32).collect()
}

/// Random numbers for every parameter and state; codes of length 1 where a run would hold such.
fn fill(store: &mut Store, config: &Config) {
    for i in 0..store.table().specs().len() {
        let name = store.table().specs()[i].name.clone();
        let n = store.table().specs()[i].shape.elements();
        ok(store.write_param(Kind::Param, i, &draw(&name, n)));
    }
    let states: Vec<_> = store.states().map(|(name, range)| (name.to_string(), range)).collect();
    let q = &config.quantiser;
    let unit = q.kind == QuantiserKind::Ema && q.distance == Distance::Cosine;
    for (name, range) in states {
        let mut data = draw(&name, range.len);
        if unit && (0..q.heads()).any(|head| name == of_head(CODEBOOK, head)) {
            let d = config.model.vq_embed_dim / q.num_codebooks;
            data.chunks_exact_mut(d).for_each(|code| {
                let length = code.iter().map(|e| e * e).sum::<f32>().sqrt();
                code.iter_mut().for_each(|e| *e /= length);
            });
        }
        ok(store.write_f32(range, &data));
    }
}

/// Images that are noise, of which those from `alike` on are all the same.
fn images(n: usize, alike: usize) -> Dataset {
    let mut rng = Rng::new(6, Stream::Test, 0);
    let noise = (0..n * SIDE * SIDE).map(|_| rng.below(256) as u8);
    let mut pixels: Vec<u8> = noise.collect();
    pixels[alike * SIDE * SIDE..].fill(0);
    ok(Dataset::from_u8(pixels, [n, SIDE, SIDE, 1], None, vec![], "noise"))
}

/// A run on the CPU before its first step, trained on all but the last of `images`.
fn run_of(config: Config, images: Dataset) -> (AutoencoderJob, Session) {
    let n = images.n as u32;
    let split = Split { train: (0..n - 1).collect(), test: vec![n - 1], warnings: vec![] };
    let mut job = ok(AutoencoderJob::new(config, Arc::new(Material { images, split })));
    let session = ok(job.session(crate::device::cpu(1), None, &mut |_, _| {}));
    (job, session)
}

fn state(session: &mut Session, name: &str) -> Vec<f32> {
    let range = ok(session.store.find_state(name));
    ok(session.store.read_f32(range))
}

fn length(row: &[f32]) -> f64 {
    row.iter().map(|&e| f64::from(e).powi(2)).sum::<f64>().sqrt()
}
