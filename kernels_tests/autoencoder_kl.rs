//! diffusers' AutoencoderKL, imported, against values recorded from PyTorch: moments, image,
//! divergence, losses and the gradient of every parameter, decoded from the mean and from a given
//! sample. [`crate::recorded`] says how close they must be.

use crate::device;
use crate::engine;
use crate::fixtures::{self, Fixture};
use crate::recorded::{Pass, Recorded, Shares, gradients, ours, rms};
use crate::rig::{U, ok};
use crate::roundings::DEVIATIONS;
use vqforge::config::{Config, Model};
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::model::{Scope, autoencoder};
use vqforge::ops;
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::tape::Tape;

fn open() -> Recorded {
    Recorded::open(&fixtures::folder().join("autoencoder_kl"))
}

fn weight(recorded: &Recorded) -> f32 {
    recorded.meta["kl_weight"].as_f64().expect("a weight") as f32
}

/// Shape of the latents of images [n, h, w, c].
fn latent_dims(model: &Model, [n, h, w, _]: [usize; 4]) -> [usize; 4] {
    let (h, w) = ok(model.latent_size(h, w));
    [n, h, w, model.latent_channels]
}

/// Forward and backward of `autoencoder::training` on the images `x` with given noise instead of drawn
/// one. Noise of zero decodes the mean, and its gradient to the variance is zero.
fn run(device: Box<dyn Device>, recorded: &Recorded, x: &[f32], eps: &[f32]) -> Pass {
    let model = &recorded.model.model;
    let [_, h, w, c] = recorded.dims;
    let dims = [x.len() / (h * w * c), h, w, c];
    let record = |s: &mut Scope<'_>| {
        let x = ok(s.tape.input("x", &dims));
        let eps = ok(s.tape.input("eps", &latent_dims(model, dims)));
        let moments = ok(autoencoder::encode(s, model, x));
        let z = ok(ops::sample_gaussian(s.tape, moments, eps));
        let kl = ok(ops::kl_divergence(s.tape, moments, 1.0 / dims[0] as f32));
        let image = ok(autoencoder::decode(s, model, z));
        let mse = ok(ops::mse(s.tape, image, x));
        ok(s.tape.report("mse", mse));
        ok(s.tape.report("kl", kl));
        ok(s.tape.output("moments", moments));
        ok(s.tape.output("z", z));
        ok(s.tape.output("sample", image));
        ok(s.tape.backward(&[(mse, 1.0), (kl, weight(recorded))]));
    };
    Pass::run(device, &recorded.model, record, &[("x", x), ("eps", eps)])
}

/// Means and log-variances of moments [.., 2c].
fn halves(moments: &[f32], c: usize) -> [Vec<f32>; 2] {
    [0, c].map(|from| moments.chunks(2 * c).flat_map(|row| &row[from..][..c]).copied().collect())
}

/// Absolute error of the divergence of `images` images, a mean over them, whose moments are recorded:
/// their errors times its slopes (mean and (var - 1) / 2), independent of each other, and the rounding
/// of a sum of n terms (as [`crate::roundings`] has it), each made from four numbers, whose sizes add
/// up to `mass`.
fn divergence_error(pass: &Pass, moments: &[f32], c: usize, images: usize) -> f64 {
    let [mean, logvar] = halves(moments, c);
    let (mut slopes, mut mass) = (0.0, 0.0);
    for (m, l) in mean.iter().zip(&logvar) {
        let (m, l) = (f64::from(*m), f64::from(*l));
        slopes += m * m + ((l.exp() - 1.0) / 2.0).powi(2);
        mass += (m * m + l.exp() + 1.0 + l.abs()) / 2.0;
    }
    let moved = pass.relative_of_output("moments") * rms(moments) * slopes.sqrt();
    let summed = DEVIATIONS * U * (mean.len() as f64 / 6.0 + 4.0).sqrt() * mass;
    (moved + summed) / images as f64
}

/// The image, the divergence and the loss against the record in `fixture`.
fn compare_ends(pass: &mut Pass, recorded: &Recorded, fixture: &Fixture, torch: bool) -> Shares {
    let of_torch = |name: &str| if torch { recorded.torch(name) } else { 0.0 };
    let mut shares = Shares::default();
    for name in ["z", "sample"] {
        let want = fixture.channels_last(name);
        let derived = pass.relative_of_output(name) * rms(&want);
        shares.compare(name, &pass.output(name), &want, of_torch(name), derived);
    }
    let moments = recorded.io.channels_last("moments");
    let (n, c) = (recorded.dims[0], recorded.model.model.latent_channels);
    let (mse, kl) = (pass.sum("mse"), pass.sum("kl"));
    let each = fixture.f32("kl");
    let mean = each.iter().sum::<f32>() / n as f32;
    let kl_error = divergence_error(pass, &moments, c, n);
    shares.compare("mean of kl", &[kl], &[mean], of_torch("kl"), kl_error);
    let (loss, weight) = (fixture.f32("loss")[0], weight(recorded));
    let squares = f64::from(loss - weight * mean);
    let pixels = recorded.dims.iter().product();
    let derived = pass.relative_of_mean("mse", pixels) * squares
        + f64::from(weight) * kl_error
        + 2.0 * U * f64::from(loss);
    shares.compare("loss", &[mse + weight * kl], &[loss], of_torch("loss"), derived);
    shares
}

/// The mean decoded: moments, image, divergence, losses and every gradient.
fn mode(device: Box<dyn Device>, recorded: &Recorded, place: &str) -> Box<dyn Device> {
    let (io, c) = (&recorded.io, recorded.model.model.latent_channels);
    let latents = latent_dims(&recorded.model.model, recorded.dims).iter().product();
    let x = io.channels_last("input");
    let mut pass = run(device, recorded, &x, &vec![0.0; latents]);
    let mut shares = compare_ends(&mut pass, recorded, io, true);

    let moments = pass.output("moments");
    let want = io.channels_last("moments");
    let derived = pass.relative_of_output("moments") * rms(&want);
    shares.compare("moments", &moments, &want, recorded.torch("moments"), derived);
    let [mean, logvar] = halves(&moments, c);
    for (name, got) in [("mean", &mean), ("logvar", &logvar)] {
        let want = io.channels_last(name);
        shares.compare(name, got, &want, recorded.torch(name), derived);
    }
    assert_eq!(pass.output("z"), mean, "noise of zero gives the mean");
    let pixels = recorded.dims.iter().product();
    let (mse, want) = (pass.sum("mse"), io.f32("mse"));
    let derived = pass.relative_of_mean("mse", pixels) * f64::from(want[0]);
    shares.compare("mse", &[mse], &want, recorded.torch("mse"), derived);
    shares.report(place, "forward");

    let shares = gradients(&mut pass, recorded, |name| Some(ours(&recorded.grads, name)));
    shares.report(place, "gradients");
    pass.device()
}

/// The divergence of one image at a time.
fn each_image(mut device: Box<dyn Device>, recorded: &Recorded, place: &str) -> Box<dyn Device> {
    let (io, model) = (&recorded.io, &recorded.model.model);
    let (x, moments, kl) = (io.channels_last("input"), io.channels_last("moments"), io.f32("kl"));
    let [n, h, w, c] = recorded.dims;
    assert_eq!(kl.len(), n);
    let mut shares = Shares::default();
    for (i, want) in kl.iter().enumerate() {
        let record = |s: &mut Scope<'_>| {
            let x = ok(s.tape.input("x", &[1, h, w, c]));
            let moments = ok(autoencoder::encode(s, model, x));
            let kl = ok(ops::kl_divergence(s.tape, moments, 1.0));
            ok(s.tape.report("kl", kl));
            ok(s.tape.output("moments", moments));
            // So that every weight has its place.
            let z = ok(ops::slice_columns(s.tape, moments, 0, model.latent_channels));
            ok(autoencoder::decode(s, model, z));
        };
        let of = |all: &[f32]| all[all.len() / n * i..][..all.len() / n].to_vec();
        let mut pass = Pass::run(device, &recorded.model, record, &[("x", &of(&x))]);
        let got = pass.sum("kl");
        let derived = divergence_error(&pass, &of(&moments), model.latent_channels, 1);
        shares.compare(&format!("kl[{i}]"), &[got], &[*want], recorded.torch("kl"), derived);
        device = pass.device();
    }
    shares.report(place, "divergences");
    device
}

/// z = mean + std eps with the recorded noise. Torch's errors were not recorded here: the derived
/// bounds hold alone; of gradients two are recorded.
fn sampled(device: Box<dyn Device>, recorded: &Recorded, place: &str) {
    let fixture = recorded.file("fixture_sampled");
    let (x, eps) = (recorded.io.channels_last("input"), fixture.channels_last("eps"));
    let mut pass = run(device, recorded, &x, &eps);
    compare_ends(&mut pass, recorded, &fixture, false).report(place, "forward with noise");
    let known = std::cell::Cell::new(0);
    let shares = gradients(&mut pass, recorded, |name| {
        let key = format!("grad.{name}");
        fixture.has(&key).then(|| {
            known.set(known.get() + 1);
            ours(&fixture, &key)
        })
    });
    assert_eq!(known.get(), 2, "of conv_in and quant_conv");
    shares.report(place, "gradients with noise");
}

fn check(device: Box<dyn Device>, place: &str) {
    let recorded = open();
    let device = mode(device, &recorded, place);
    let device = each_image(device, &recorded, place);
    sampled(device, &recorded, place);
}

#[test]
fn as_in_diffusers_on_the_cpu() {
    check(device::cpu(0), "cpu");
}

#[test]
fn as_in_diffusers_on_the_gpu() {
    let Some(device) = engine::gpu() else { return };
    check(device, "gpu");
}

/// The noise that the first draw of a tape yields.
fn drawn(dims: &[usize]) -> Vec<f32> {
    let mut tape = Tape::new();
    let eps = ok(ops::gaussian_noise(&mut tape, dims));
    ok(tape.output("eps", eps));
    let mut store = ok(Store::new(device::cpu(0), ParamTable::default(), 0));
    let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
    ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
    ok(store.read_f32(ok(plan.output("eps"))))
}

/// What trains is what is compared above: with the noise that it draws, the same image and the same
/// terms, bit for bit.
#[test]
fn training_is_what_was_compared() {
    let recorded = open();
    let model = &recorded.model.model;
    let x = recorded.io.channels_last("input");
    let eps = drawn(&latent_dims(model, recorded.dims));
    let mut given = run(device::cpu(0), &recorded, &x, &eps);
    let mut config = Config { model: model.clone(), ..Config::default() };
    config.kl.weight = 0.25;
    let record = |s: &mut Scope<'_>| {
        let x = ok(s.tape.input("x", &recorded.dims));
        let pass = ok(autoencoder::training(s, &config, x));
        let [mse, kl] = &pass.terms[..] else { panic!("two terms") };
        assert_eq!((mse.weight, kl.weight, &*kl.name), (1.0, 0.25, autoencoder::KL));
        ok(s.tape.report("mse", mse.value));
        ok(s.tape.report("kl", kl.value));
        ok(s.tape.output("sample", pass.image));
    };
    let mut pass = Pass::run(device::cpu(0), &recorded.model, record, &[("x", &x)]);
    assert_eq!(pass.output("sample"), given.output("sample"));
    for name in ["mse", "kl"] {
        assert_eq!(pass.sum(name), given.sum(name), "{name}");
    }
}
