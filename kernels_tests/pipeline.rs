//! A run of diffusers' VQDiffusionPipeline, followed step by step by an imported one: the texts' vectors, log
//! p(x0), every token of every step, the images. And exported again, the same files.

use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, folder};
use crate::rig::ok;
use std::path::{Path, PathBuf};
use vqforge::config::Config;
use vqforge::device::Device;
use vqforge::diffusion::Chain;
use vqforge::interop::pipeline;
use vqforge::interop::text::TextEncoder;
use vqforge::model::denoiser::{self, CONTEXT, Context, DROPPED, Grid, TIME};
use vqforge::model::{Scope, autoencoder};
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::tape::Tape;
use vqforge::train::Snapshot;
use vqforge::train::codes::{TOKENIZER, Tokenizer};

const PROMPTS: [&str; 2] = ["the dog", "another cat"];
const GUIDANCE: f64 = 3.0;
const TRUNCATION: f64 = 0.9;
const STEPS: usize = 20;
/// diffusers' least log-probability.
const LEAST: f64 = -70.0;
const GRID: Grid = Grid {
    rows: 4,
    cols: 4,
    codes: 32,
    classes: 0,
    times: STEPS,
    context: Some(Context { tokens: 16, width: 32 }),
};

fn recorded() -> PathBuf {
    folder().join("vq_diffusion_pipeline")
}

/// A folder of the test's own, gone when it passed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// log p(x0 | xt) of an unconditional and a conditional batch, [2 * 2, L, K].
struct Model {
    store: Store,
    plan: Plan,
}

impl Model {
    fn open(run: &Path, texts: &[f32], device: Box<dyn Device>) -> Self {
        let snapshot = ok(Snapshot::load_best(run));
        let config = ok(Config::parse("run", ok(snapshot.meta("config")), &[]));
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let tokens = ok(s.tape.input_idx("tokens", &[4 * GRID.tokens()]));
        let class = ok(s.tape.input_idx("class", &[4]));
        let logits = ok(denoiser::logits(&mut s, &config.denoiser, GRID, 4, tokens, class));
        ok(tape.output("logits", logits));
        let mut store = ok(Store::new(device, table, 0));
        ok(snapshot.restore(&mut store));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        let context = [vec![0.0; texts.len()], texts.to_vec()].concat();
        ok(store.write_f32(ok(plan.input(CONTEXT)), &context));
        ok(store.write_f32(ok(plan.input(DROPPED)), &[1.0, 1.0, 0.0, 0.0]));
        Model { store, plan }
    }

    fn log_p(&mut self, x: &[u32], t: usize) -> Vec<Vec<f64>> {
        let (store, plan) = (&mut self.store, &self.plan);
        ok(store.write_u32(ok(plan.input("tokens")), &[x, x].concat()));
        ok(store.write_u32(ok(plan.input(TIME)), &[t as u32; 4]));
        ok(plan.run_lane(store, 0, &Default::default()));
        let logits = ok(store.read_f32(ok(plan.output("logits"))));
        let rows = logits.chunks_exact(GRID.codes);
        rows.map(|row| normalised(row.iter().map(|&v| f64::from(v)).collect())).collect()
    }
}

/// Minus the logarithm of the sum of exponentials.
fn normalised(mut row: Vec<f64>) -> Vec<f64> {
    let highest = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let sum: f64 = row.iter().map(|v| (v - highest).exp()).sum();
    row.iter_mut().for_each(|v| *v -= highest + sum.ln());
    row
}

/// The likeliest that hold `TRUNCATION` of the probability, the first always; the others have the least.
fn truncated(row: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    let (mut out, mut before) = (vec![LEAST; row.len()], 0.0);
    for (rank, &k) in order.iter().enumerate() {
        if rank == 0 || before < TRUNCATION {
            out[k] = row[k].max(LEAST);
        }
        before += row[k].exp();
    }
    out
}

/// One step back for one token by diffusers' Gumbel noise of `uniform`, [states].
fn drawn(chain: &Chain, t: usize, state: usize, log_p: &[f64], uniform: &[f64]) -> usize {
    let laws: Vec<f64> = match t {
        0 => log_p.to_vec(),
        _ => {
            // diffusers leaves the truncated one below 1: a factor of all states.
            let p: Vec<f64> = normalised(log_p.to_vec()).iter().map(|v| v.exp()).collect();
            let mut law = vec![0.0; GRID.codes + 1];
            chain.step(Some(t - 1), t).posterior(state, &p, &mut law);
            law.into_iter().map(f64::ln).collect()
        }
    };
    let gumbel = |u: f64| -(-(u + 1e-30).ln() + 1e-30).ln();
    let scores: Vec<f64> = laws.iter().zip(uniform).map(|(l, &u)| l + gumbel(u)).collect();
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("states")
}

fn follow(run: &Path, name: &str, device: impl Fn() -> Box<dyn Device>) {
    let record = Fixture::open(&recorded().join("fixture_run.safetensors"));
    let text = std::fs::read_to_string(recorded().join("fixture_run.json")).expect("a record");
    let meta: serde_json::Value = serde_json::from_str(&text).expect("json");
    // 4 times the error of torch in f32.
    let torch = |what: &str| 4.0 * meta["torch_f32_err"][what].as_f64().expect("an error");
    let largest = |got: &[f32], want: &[f32]| {
        assert_eq!(got.len(), want.len());
        got.iter().zip(want).fold(0.0f64, |a, (g, w)| a.max(f64::from((g - w).abs())))
    };

    let mut encoder = ok(TextEncoder::open(run, device()));
    let texts = ok(encoder.embed(&PROMPTS.map(String::from)));
    let want = record.f32("prompt_embeds_uncond_then_cond");
    // Hidden states agree to 1.3e-6 of up to 3.6, over norms above 1.
    let error = largest(&texts, &want[want.len() / 2..]);
    assert!(error < 4e-6, "texts: {error:e}");

    let mut model = Model::open(run, &texts, device());
    let exact = Fixture::open(&recorded().join("log_p_x_0.safetensors"));
    let chain = ok(Chain::released(GRID.codes, STEPS));
    let (length, codes) = (GRID.tokens(), GRID.codes);
    let mut x = vec![codes as u32; 2 * length];
    let mut worst = 0.0f64;
    for step in 0..STEPS {
        let t = STEPS - 1 - step;
        let log_p = model.log_p(&x, t);
        let name = format!("step{step:02}.log_p_x_0");
        if exact.has(&name) {
            // [4, K, L]
            let want = exact.f32(&name);
            for (row, got) in log_p.iter().enumerate() {
                for (k, got) in got.iter().enumerate() {
                    let want = want[(row / length * codes + k) * length + row % length];
                    worst = worst.max((got - f64::from(want)).abs());
                }
            }
        }
        let uniform = record.f32(&format!("step{step:02}.uniform"));
        let states = uniform.len() / (2 * length);
        let want = record.index(&format!("step{step:02}.sample"));
        for (place, want) in want.iter().enumerate() {
            let (without, with) = (&log_p[place], &log_p[2 * length + place]);
            let guided = without.iter().zip(with).map(|(u, c)| u + GUIDANCE * (c - u)).collect();
            let guided = truncated(&normalised(guided));
            let at = |state: usize| (place / length * states + state) * length + place % length;
            let own: Vec<f64> = (0..states).map(|s| f64::from(uniform[at(s)])).collect();
            let got = drawn(&chain, t, x[place] as usize, &guided, &own);
            assert_eq!(got as u32, *want, "step {step}, token {place}");
        }
        x = want;
    }
    assert!(worst <= torch("log_p_x_0"), "log p: {worst:e}");

    let tokenizer = ok(Tokenizer::from_snapshot(ok(Snapshot::load(&run.join(TOKENIZER)))));
    let (mut store, plan) = ok(tokenizer.plan(device(), |s| {
        let idx = s.tape.input_idx("idx", &[x.len()])?;
        let places = [2, GRID.rows, GRID.cols];
        let image = autoencoder::decode_indices(s, &tokenizer.config, &[idx], places)?;
        s.tape.output("image", image)
    }));
    ok(store.write_u32(ok(plan.input("idx")), &x));
    ok(plan.run_lane(&mut store, 0, &Default::default()));
    let mut images = ok(store.read_f32(ok(plan.output("image"))));
    images.iter_mut().for_each(|v| *v = (*v / 2.0 + 0.5).clamp(0.0, 1.0));
    let error = largest(&images, &record.f32("images_nhwc_0_1"));
    println!("{name}: log p {worst:.1e}, images {error:.1e}");
    assert!(error <= torch("images"), "images: {error:e}");
}

#[test]
fn an_imported_pipeline_goes_the_same_way() {
    let scratch = Scratch::new("pipeline");
    let run = ok(pipeline::import(&recorded(), &scratch.0.join("run"), &[]));
    follow(&run, "cpu", || device::cpu(0));
    if engine::gpu().is_some() {
        follow(&run, "gpu", || engine::gpu().expect("it was there"));
    }
    let out = scratch.0.join("out");
    ok(pipeline::export(&run, &out, None));
    for part in [
        "model_index.json",
        "vqvae/config.json",
        "vqvae/diffusion_pytorch_model.safetensors",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "learned_classifier_free_sampling_embeddings/config.json",
        "learned_classifier_free_sampling_embeddings/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    ] {
        let bytes = |folder: &Path| std::fs::read(folder.join(part)).expect(part);
        let (got, want) = (bytes(&out), bytes(&recorded()));
        // Numbers may be spelt in other ways.
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let same = match part.ends_with(".json") {
            true => json(&got).is_some() && json(&got) == json(&want),
            false => got == want,
        };
        assert!(same, "{part} differs");
    }
}
