//! diffusers' VQModel, imported, against values recorded from PyTorch: latents, indices, image,
//! losses and the gradient of every parameter. [`crate::recorded`] says how close they must be.

use crate::device;
use crate::engine;
use crate::fixtures;
use crate::recorded::{Pass, Recorded, Shares, gradients, ours, rms};
use crate::rig::{U, ok};
use crate::roundings::{DEVIATIONS, roundings};
use vqforge::config::{Config, Quantiser, QuantiserKind};
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::model::quantiser::CODEBOOK_PARAM;
use vqforge::model::{Scope, autoencoder};
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::tape::Tape;

/// `encoder` and `codebook` weight the two terms of the quantiser's loss.
fn run(device: Box<dyn Device>, recorded: &Recorded, [encoder, codebook]: [f32; 2]) -> Pass {
    let record = |s: &mut Scope<'_>| {
        let x = ok(s.tape.input("x", &recorded.dims));
        let pass = ok(autoencoder::training(s, &settings(recorded), x));
        let [mse, commitment, code_loss] = &pass.terms[..] else { panic!("three terms") };
        let (search, tape) = (&pass.searches[0], &mut *s.tape);
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
    };
    Pass::run(device, &recorded.model, record, &[("x", &recorded.io.channels_last("input"))])
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
    let mut pass = run(device, recorded, [1.0, beta]);
    let latents = recorded.io.channels_last("latents");

    let z = pass.relative_of_output("latents");
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
        let derived = pass.relative_of_output(name) * rms(&want);
        let got = pass.output(name);
        shares.compare(name, &got, &want, recorded.torch(name), derived);
    }
    let mut scalar = |pass: &Pass, name: &str, got: f32, n: usize| {
        let want = recorded.io.f32(name)[0];
        let derived = pass.relative_of_mean("mse", n) * f64::from(want);
        shares.compare(name, &[got], &[want], recorded.torch(name), derived);
    };
    let (mse, encoder, codebook) = (pass.sum("mse"), pass.sum("encoder"), pass.sum("codebook"));
    let commitment = encoder + beta * codebook;
    let pixels = recorded.dims.iter().product();
    scalar(&pass, "mse", mse, pixels);
    scalar(&pass, "commit_loss", commitment, latents.len());
    scalar(&pass, "loss", mse + commitment, latents.len());
    shares.report(label, "forward");

    let shares = gradients(&mut pass, recorded, |name| Some(ours(&recorded.grads, name)));
    shares.report(label, "gradients");
    pass.device()
}

/// The recorded model, as diffusers trains it.
fn settings(recorded: &Recorded) -> Config {
    let quantiser = Quantiser { kind: QuantiserKind::Gradient, ..Quantiser::default() };
    Config { model: recorded.model.model.clone(), quantiser, ..Config::default() }
}

/// Codes -> image.
fn decoding(device: Box<dyn Device>, recorded: &Recorded, label: &str) -> Box<dyn Device> {
    let config = settings(recorded);
    let decoded = recorded.file("fixture_decode_indices");
    let want = decoded.channels_last("sample");
    let [n, h, w] = decoded.shape("idx")[..] else { panic!("three dimensions") };
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
    ok(store.write_u32(ok(plan.input("idx")), &decoded.index("idx")));
    ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
    let got = ok(store.read_f32(ok(plan.output("sample"))));
    let derived = DEVIATIONS * U * roundings(&tape, image.into()).sqrt() * rms(&want);
    let mut shares = Shares::default();
    shares.compare("decoded indices", &got, &want, recorded.torch("sample"), derived);
    shares.report(label, "decoding");
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
    let other = recorded.file("fixture_nonlegacy");
    let beta = recorded.model.model.commitment_cost as f32;
    let mut pass = run(device::cpu(0), &recorded, [beta, 1.0]);
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
                Some(ours(&other, &key))
            }
            false => {
                let beyond = ["decoder.", "post_quant_conv."].iter().any(|p| name.starts_with(p));
                assert!(beyond, "{name} is not recorded");
                Some(ours(&recorded.grads, name))
            }
        }
    });
    assert_eq!(reached.get(), 55, "encoder, quant_conv and codebook");
    shares.report("1 channel, cpu", "gradients with beta on the encoder's term");
}
