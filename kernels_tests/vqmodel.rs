//! diffusers' VQModel, imported, against values recorded from PyTorch: latents, indices, image,
//! losses and the gradient of every parameter.
//!
//! Torch evaluated in f64 on the same f32 weights; `fixture_meta.json` holds the error of its own f32
//! evaluation. An element may differ from the record by 4 times that, or by the bound of
//! [`crate::roundings`] where that is more.
//! Where exact cancellation makes the true tensor zero (the gradient of a key's bias: softmax does
//! not see it), the size is that of its sibling's terms: the weight's gradient.

use crate::device;
use crate::engine;
use crate::fixtures::{self, Fixture};
use crate::rig::{U, ok};
use crate::roundings::{DEVIATIONS, roundings};
use serde_json::Value;
use std::path::Path;
use vqforge::config::{Config, Quantiser, QuantiserKind};
use vqforge::device::Device;
use vqforge::interop::diffusers::VqModel;
use vqforge::kernels::StepScalars;
use vqforge::model::quantiser::CODEBOOK_PARAM;
use vqforge::model::{Scope, autoencoder};
use vqforge::plan::{Kind, Options, ParamTable, Plan, Store};
use vqforge::tape::{Home, Tape, ValueId};

fn rms(x: &[f32]) -> f64 {
    (x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
}

/// What was compared, and how much of which tolerance it used.
#[derive(Default)]
struct Shares {
    /// Of the tolerance; of the derived bound alone; name of the tensor that came closest.
    used: f64,
    derived: f64,
    name: String,
}

impl Shares {
    fn compare(&mut self, name: &str, got: &[f32], want: &[f32], torch: f64, derived: f64) {
        assert_eq!(got.len(), want.len(), "{name}");
        let tolerance = torch.max(derived);
        let mut worst = 0.0f64;
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(g) - f64::from(w)).abs();
            assert!(
                error <= tolerance,
                "{name}[{i}]: {g} instead of {w}: {error:.3e} > {tolerance:.3e} \
                 (4 x torch {torch:.1e}, derived {derived:.1e})"
            );
            worst = worst.max(error);
        }
        if worst / tolerance >= self.used {
            (self.used, self.name) = (worst / tolerance, name.into());
        }
        self.derived = self.derived.max(worst / derived);
    }
}

/// A recorded model folder.
struct Recorded {
    model: VqModel,
    io: Fixture,
    grads: Fixture,
    decoded: Fixture,
    meta: Value,
    /// Images [n, h, w, c].
    dims: [usize; 4],
}

impl Recorded {
    fn open(folder: &Path) -> Self {
        let file = |name: &str| Fixture::open(&folder.join(format!("{name}.safetensors")));
        let text = std::fs::read_to_string(folder.join("fixture_meta.json")).expect("meta");
        let io = file("fixture_io");
        let [n, c, h, w] = io.shape("input")[..] else { panic!("images have four dimensions") };
        Recorded {
            model: ok(VqModel::read(folder)),
            io,
            grads: file("fixture_grads"),
            decoded: file("fixture_decode_indices"),
            meta: serde_json::from_str(&text).expect("json"),
            dims: [n, h, w, c],
        }
    }

    /// 4 times the error of torch in f32.
    fn torch(&self, tensor: &str) -> f64 {
        4.0 * self.meta["torch_f32_err"][tensor].as_f64().expect("a recorded error")
    }
}

/// A compiled training pass without an optimiser.
struct Pass {
    tape: Tape,
    store: Store,
    plan: Plan,
}

impl Pass {
    /// `encoder` and `codebook` weight the two terms of the quantiser's loss.
    fn new(device: Box<dyn Device>, recorded: &Recorded, [encoder, codebook]: [f32; 2]) -> Self {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let x = ok(s.tape.input("x", &recorded.dims));
        let pass = ok(autoencoder::training(&mut s, &settings(recorded), x));
        let [mse, commitment, code_loss] = &pass.terms[..] else { panic!("three terms") };
        let search = &pass.searches[0];
        ok(tape.report("mse", mse.value));
        ok(tape.report("encoder", commitment.value));
        ok(tape.report("codebook", code_loss.value));
        ok(tape.output("latents", search.z));
        ok(tape.output("idx", search.nearest.idx));
        ok(tape.output("quantized", search.nearest.code));
        ok(tape.output("sample", pass.image));
        ok(tape.backward(&[
            (mse.value, 1.0),
            (commitment.value, encoder),
            (code_loss.value, codebook),
        ]));
        let mut store = ok(Store::new(device, table, 0));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        ok(recorded.model.load_into(&mut store));
        ok(store.write_f32(ok(plan.input("x")), &recorded.io.channels_last("input")));
        ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
        Pass { tape, store, plan }
    }

    fn value(&self, wanted: impl Fn(&Home) -> bool) -> ValueId {
        self.tape.values().find(|(_, v)| wanted(&v.home)).expect("a value").0
    }

    fn output(&mut self, name: &str) -> Vec<f32> {
        let range = ok(self.plan.output(name));
        ok(self.store.read_f32(range))
    }

    fn sum(&mut self, name: &str) -> f32 {
        let range = ok(self.plan.sum(name));
        ok(self.store.read_f32(range))[0]
    }

    /// As many standard deviations, relative to the size of the tensor.
    fn relative(&self, value: ValueId) -> f64 {
        DEVIATIONS * U * roundings(&self.tape, value).sqrt()
    }
}

/// Half the squared distance by which a row may come closer to a code than to another through an
/// error of at most `tolerance` in each latent, and through the rounding of both distances.
fn rows_within_bound(z: &[f32], codes: &[f32], idx: &[u32], d: usize, tolerance: f64) -> usize {
    let within = |(row, &best): (&[f32], &u32)| {
        let of = |code: &[f32]| {
            let terms = row.iter().zip(code).map(|(&z, &e)| (f64::from(z) - f64::from(e)).powi(2));
            terms.sum::<f64>()
        };
        let best = &codes[best as usize * d..][..d];
        codes.chunks(d).any(|code| {
            let gap = of(code) - of(best);
            let (mut moved, mut mass) = (0.0, 0.0);
            for ((&z, &e), &b) in row.iter().zip(code).zip(best) {
                let (z, e, b) = (f64::from(z), f64::from(e), f64::from(b));
                moved += 2.0 * tolerance * (e - b).abs();
                mass += e * e + b * b + 2.0 * (z * e).abs() + 2.0 * (z * b).abs();
            }
            code != best && gap <= moved + (2 * d + 1) as f64 * U * mass
        })
    };
    z.chunks(d).zip(idx).filter(|pair| within(*pair)).count()
}

/// Forward and backward with the loss as VQModel has it (`legacy`): beta on the codebook's term.
fn training_pass(device: Box<dyn Device>, recorded: &Recorded, label: &str) -> Box<dyn Device> {
    let model = &recorded.model.model;
    let beta = model.commitment_cost as f32;
    let mut pass = Pass::new(device, recorded, [1.0, beta]);
    let latents = recorded.io.channels_last("latents");

    let z = pass.relative(pass.value(|h| *h == Home::Output("latents".into())));
    let tolerance = recorded.torch("latents").max(z * rms(&latents));
    let codes = &recorded.model.tensors[CODEBOOK_PARAM].data;
    let want = recorded.io.index("idx");
    let close = rows_within_bound(&latents, codes, &want, model.vq_embed_dim, tolerance);
    let range = ok(pass.plan.output("idx"));
    let idx = ok(pass.store.read_u32(range));
    let flips = idx.iter().zip(&want).filter(|(a, b)| a != b).count();
    println!(
        "{label}: {flips} of {} codes flipped; {close} rows are so close that one might",
        want.len()
    );
    assert_eq!(flips, 0, "the rest of the record belongs to the recorded codes");

    let mut shares = Shares::default();
    for name in ["latents", "quantized", "sample"] {
        let want = recorded.io.channels_last(name);
        let derived = pass.relative(pass.value(|h| *h == Home::Output(name.into()))) * rms(&want);
        let got = pass.output(name);
        shares.compare(name, &got, &want, recorded.torch(name), derived);
    }
    // A loss is a mean of N squares: independent relative errors of 2 sigma each shrink by sqrt N,
    // and the sum and its factor round a few times more.
    let mut scalar = |pass: &Pass, name: &str, got: f32, n: usize| {
        let want = recorded.io.f32(name)[0];
        let squares = pass.value(|h| *h == Home::Sum("mse".into()));
        let relative = 2.0 * pass.relative(squares) / (n as f64).sqrt() + 4.0 * U;
        let derived = relative * f64::from(want);
        shares.compare(name, &[got], &[want], recorded.torch(name), derived);
    };
    let (mse, encoder, codebook) = (pass.sum("mse"), pass.sum("encoder"), pass.sum("codebook"));
    let commitment = encoder + beta * codebook;
    let pixels = recorded.dims.iter().product();
    scalar(&pass, "mse", mse, pixels);
    scalar(&pass, "commit_loss", commitment, latents.len());
    scalar(&pass, "loss", mse + commitment, latents.len());
    report(&shares, label, "forward");

    let shares = gradients(&mut pass, recorded, |name| ours(&recorded.grads, name));
    report(&shares, label, "gradients");
    let mut device = pass.store.device;
    device.clear();
    device
}

fn report(shares: &Shares, label: &str, what: &str) {
    println!(
        "{label}: {what}: at most {:.3} of the tolerance ({}), {:.3} of the derived bound",
        shares.used, shares.name, shares.derived
    );
}

/// A recorded parameter or gradient in our layout.
fn ours(fixture: &Fixture, name: &str) -> Vec<f32> {
    // The codebook is [K, d] on both sides.
    if name.ends_with(CODEBOOK_PARAM) { fixture.f32(name) } else { fixture.weights(name) }
}

/// Compares the gradient of every parameter with `want(name)`, in our layout.
fn gradients(pass: &mut Pass, recorded: &Recorded, want: impl Fn(&str) -> Vec<f32>) -> Shares {
    let mut shares = Shares::default();
    let torch = recorded.meta["grad_rel_err_f32"].as_f64().expect("a recorded error");
    let specs = pass.store.table().specs().to_vec();
    assert_eq!(specs.len(), recorded.model.tensors.len());
    for (i, spec) in specs.iter().enumerate() {
        let relative = pass.relative(pass.value(|h| *h == Home::Grad(i)));
        let want = want(&spec.name);
        let (size, largest) = match spec.name.strip_suffix("to_k.bias") {
            Some(block) => {
                let weight = recorded.grads.f32(&format!("{block}to_k.weight"));
                (rms(&weight), 0.0)
            }
            None => (rms(&want), want.iter().fold(0.0f32, |a, v| a.max(v.abs()))),
        };
        let got = ok(pass.store.read_param(Kind::Grad, i));
        let torch = 4.0 * torch * f64::from(largest);
        shares.compare(&spec.name, &got, &want, torch, relative * size);
    }
    shares
}

/// The recorded model, as diffusers trains it.
fn settings(recorded: &Recorded) -> Config {
    let quantiser = Quantiser { kind: QuantiserKind::Gradient, ..Quantiser::default() };
    Config { model: recorded.model.model.clone(), quantiser, ..Config::default() }
}

/// Codes -> image.
fn decoding(device: Box<dyn Device>, recorded: &Recorded, label: &str) -> Box<dyn Device> {
    let config = settings(recorded);
    let want = recorded.decoded.channels_last("sample");
    let [n, h, w] = recorded.decoded.shape("idx")[..] else { panic!("three dimensions") };
    // The codebook is not a parameter of this tape: any other model with it would do.
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("unused", &recorded.dims));
    ok(autoencoder::encode(&mut s, &config.model, x));
    let mut tape = Tape::new();
    let mut s = Scope::new(&mut tape, &mut table);
    let idx = ok(s.tape.input_idx("idx", &[n * h * w]));
    let image = ok(autoencoder::decode_indices(&mut s, &config, &[idx], [n, h, w]));
    ok(tape.output("sample", image));
    let mut store = ok(Store::new(device, table, 0));
    let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
    ok(recorded.model.load_into(&mut store));
    ok(store.write_u32(ok(plan.input("idx")), &recorded.decoded.index("idx")));
    ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
    let got = ok(store.read_f32(ok(plan.output("sample"))));
    let derived = DEVIATIONS * U * roundings(&tape, image.into()).sqrt() * rms(&want);
    let mut shares = Shares::default();
    shares.compare("decoded indices", &got, &want, recorded.torch("sample"), derived);
    report(&shares, label, "decoding");
    store.device
}

fn check(device: Box<dyn Device>, recorded: &Recorded, label: &str) {
    let device = training_pass(device, recorded, label);
    decoding(device, recorded, label);
}

fn one_channel() -> Recorded {
    Recorded::open(&fixtures::folder().join("vqmodel_1ch"))
}

#[test]
fn one_channel_on_the_cpu() {
    check(device::cpu(0), &one_channel(), "1 channel, cpu");
}

#[test]
fn one_channel_on_the_gpu() {
    let Some(device) = engine::gpu() else { return };
    check(device, &one_channel(), "1 channel, gpu");
}

#[test]
fn three_channels_on_the_cpu() {
    let Some(folder) = fixtures::shared("vqmodel_3ch") else { return };
    check(device::cpu(0), &Recorded::open(&folder), "3 channels, cpu");
}

#[test]
fn three_channels_on_the_gpu() {
    let Some(folder) = fixtures::shared("vqmodel_3ch") else { return };
    let Some(device) = engine::gpu() else { return };
    check(device, &Recorded::open(&folder), "3 channels, gpu");
}

/// The loss as the paper has it: beta on the encoder's term. What the quantiser's loss does not reach,
/// the decoder, has the gradient of the other form, and is not recorded twice.
#[test]
fn beta_on_the_encoder_term() {
    let recorded = one_channel();
    let folder = fixtures::folder().join("vqmodel_1ch");
    let other = Fixture::open(&folder.join("fixture_nonlegacy.safetensors"));
    let beta = recorded.model.model.commitment_cost as f32;
    let mut pass = Pass::new(device::cpu(0), &recorded, [beta, 1.0]);
    let loss = pass.sum("mse") + beta * pass.sum("encoder") + pass.sum("codebook");
    let want = other.f32("loss")[0];
    let error = f64::from((loss - want).abs());
    assert!(error <= recorded.torch("loss"), "{loss} instead of {want}");
    let reached = std::cell::Cell::new(0);
    let shares = gradients(&mut pass, &recorded, |name| {
        let key = format!("grad.{name}");
        match other.has(&key) {
            true => {
                reached.set(reached.get() + 1);
                ours(&other, &key)
            }
            false => {
                let beyond = ["decoder.", "post_quant_conv."].iter().any(|p| name.starts_with(p));
                assert!(beyond, "{name} is not recorded");
                ours(&recorded.grads, name)
            }
        }
    });
    assert_eq!(reached.get(), 55, "encoder, quant_conv and codebook");
    report(&shares, "1 channel, cpu", "gradients with beta on the encoder's term");
}
