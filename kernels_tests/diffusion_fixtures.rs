//! Discrete diffusion against microsoft/VQ-Diffusion and diffusers: tables, posteriors, loss, gradient.

use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, folder};
use crate::registry::on_device;
use crate::rig::{Rig, U, ok};
use serde_json::Value;
use vqforge::diffusion::Chain;
use vqforge::diffusion::process::Marginal;
use vqforge::kernels::draw_tokens::DrawTokens;
use vqforge::kernels::{Case, Fill, StepScalars};
use vqforge::ops;
use vqforge::train::diffusion;

const STEPS: usize = 100;

/// The recorded losses of VQ-Diffusion: tensors and cases.
pub fn recorded() -> (Fixture, Vec<Value>) {
    let path = folder().join("vq_diffusion_train_loss.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let json: Value = serde_json::from_str(&text).expect("json");
    let cases = json["cases"].as_array().expect("cases").clone();
    (Fixture::open(&path.with_extension("safetensors")), cases)
}

fn released(codes: usize) -> Chain {
    ok(Chain::released(codes, STEPS))
}

/// ln p as recorded, to a rounding of the record; p itself comes of differences of numbers near 1 that
/// may be 1e-6 of them, and so of errors of 1e-10.
fn is_log_of(p: f64, recorded: f32, place: &str) {
    let (got, want) = (p.ln(), f64::from(recorded));
    let close = (got - want).abs() <= 1.01 * U * want.abs() + 2e-9;
    assert!(got == want || close, "{place}: ln {p:e} = {got} instead of {want}");
}

#[test]
fn tables_of_the_released_chain() {
    let (fixture, cases) = recorded();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let codes = case["num_classes_incl_mask"].as_u64().expect("a number") as usize - 1;
        let chain = released(codes);
        let table = |tensor: &str| fixture.f32(&format!("{name}.{tensor}"));
        let [at, bt, ct] = ["log_at", "log_bt", "log_ct"].map(table);
        let all = ["log_cumprod_at", "log_cumprod_bt", "log_cumprod_ct"].map(table);
        for t in 0..STEPS {
            let step = chain.step(t.checked_sub(1), t);
            for (p, recorded) in [(step.keep, &at), (step.replace, &bt), (step.mask, &ct)] {
                is_log_of(p, recorded[t], &format!("step {t}"));
            }
        }
        // The last entry is no corruption at all.
        for t in 0..=STEPS {
            let Marginal { alpha, beta, gamma } = chain.marginal((t < STEPS).then_some(t));
            for (p, recorded) in [alpha, beta, gamma].into_iter().zip(&all) {
                is_log_of(p, recorded[t], &format!("after step {t}"));
            }
        }
    }
}

/// Of the scheduler of diffusers. Its logarithms are f32, and those of the p it was given: of a size up to
/// 14 where a probability is above 1e-6, so that probabilities are known to 14 U twice over.
#[test]
fn posteriors_of_diffusers() {
    let file = Fixture::open(&folder().join("scheduler/posterior.safetensors"));
    for t in [1, 2, 10, 50, 98, 99] {
        let of = |tensor: &str| format!("t{t}.{tensor}");
        let (codes, length) = (file.dim(&of("log_p_x_0"), 1), file.dim(&of("log_p_x_0"), 2));
        let (log_p, want) = (file.f32(&of("log_p_x_0")), file.f32(&of("q_posterior")));
        let step = released(codes).step(Some(t - 1), t);
        let (mut worst, mut out) = (0.0f64, vec![0.0; codes + 1]);
        for (token, &seen) in file.index(&of("x_t")).iter().enumerate() {
            let (sample, place) = (token / length, token % length);
            let at = |k: usize, states: usize| (sample * states + k) * length + place;
            let p: Vec<f64> = (0..codes).map(|k| f64::from(log_p[at(k, codes)]).exp()).collect();
            step.posterior(seen as usize, &p, &mut out);
            for (k, &got) in out.iter().enumerate() {
                worst = worst.max((got - f64::from(want[at(k, codes + 1)]).exp()).abs());
            }
        }
        println!("t = {t}: largest difference {worst:e}");
        assert!(worst < 28.0 * U, "t = {t}: {worst:e}");
    }
}

/// Draws with a share of the probability are of the tokens that diffusers' truncation leaves, on every
/// device, and of each of them that 400 draws can be expected to meet 20 times.
#[test]
fn truncation_of_diffusers() {
    let file = Fixture::open(&folder().join("scheduler/posterior.safetensors"));
    let log_p = file.permuted("truncate.log_p_x_0", &[0, 2, 1]);
    let k = file.dim("truncate.log_p_x_0", 1);
    let rows = log_p.len() / k;
    device::on_devices(|device| {
        for rate in ["0.01", "0.5", "0.86", "1.0"] {
            let kept = file.permuted(&format!("truncate.r{rate}"), &[0, 2, 1]);
            let mut counts = vec![0; rows * k];
            for step in 0..400 {
                let scalars = StepScalars {
                    step,
                    top_p: rate.parse().expect("a number"),
                    ..StepScalars::default()
                };
                let kernel = DrawTokens { rows, k, guided: false };
                let case = Case::new("draw", kernel, vec![]).with_step(scalars);
                let poison = |n| Fill::Poison.bits(n, 0);
                let binds = vec![device::bits(&log_p), poison(rows), poison(rows), poison(rows)];
                let drawn = on_device(device, &case, &binds).swap_remove(1);
                drawn.iter().enumerate().for_each(|(row, &t)| counts[row * k + t as usize] += 1);
            }
            for (row, (counts, kept)) in counts.chunks(k).zip(kept.chunks(k)).enumerate() {
                let mass: f64 =
                    kept.iter().filter(|l| **l > -69.0).map(|l| f64::from(l.exp())).sum();
                for (count, l) in counts.iter().zip(kept) {
                    let expected = 400.0 * f64::from(l.exp()) / mass;
                    assert!(*l > -69.0 || *count == 0, "rate {rate}, row {row}: a token cut off");
                    assert!(expected < 20.0 || *count > 0, "rate {rate}, row {row}: never drawn");
                }
            }
        }
    });
}

/// Loss, its parts and its gradient as microsoft/VQ-Diffusion has them, on every device. The record was
/// taken in f64 from logarithms of the tables in f32, and ours has the tables in f32: each is within the
/// derived bound.
#[test]
fn the_loss_of_vq_diffusion() {
    let (fixture, cases) = recorded();
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let number = |key: &str| case[key].as_f64().expect("a number");
        let at = |tensor: &str| format!("{name}.{tensor}");
        let (samples, codes) = (fixture.dim(&at("logits"), 0), fixture.dim(&at("logits"), 1));
        let length = fixture.dim(&at("logits"), 2);
        let chain = released(codes);
        let (times, chances) = (fixture.index(&at("t")), fixture.f32(&at("p_t")));
        let noise = times.iter().zip(&chances).flat_map(|(&t, &chance)| {
            let (t, chance) = (t as usize, f64::from(chance));
            let adaptive = case["adaptive_auxiliary_loss"].as_bool().expect("a switch");
            let share = if adaptive { 2.0 - t as f64 / STEPS as f64 } else { 1.0 };
            let auxiliary = number("auxiliary_loss_weight") * share / chance;
            let step = chain.step(t.checked_sub(1), t);
            diffusion::noise(step, 1.0 / chance, auxiliary, t == 0).words()
        });
        let noise: Vec<f32> = noise.collect();
        let weights = [0, 1].map(|i| case["mask_weight"][i].as_f64().expect("a weight") as f32);

        let mut rig = Rig::default();
        rig.recorded_in_f32 = true;
        let logits = fixture.permuted(&at("logits"), &[0, 2, 1]);
        let logits = rig.leaf("logits", &[samples, length, codes], logits);
        let tokens = ["x_0", "x_t"].map(|x| rig.index(fixture.index(&at(x))));
        let noise = ok(rig.tape.constant(&[samples, 10], noise));
        let factor = 1.0 / (samples * length) as f32;
        let (loss, value) =
            ok(ops::posterior_loss(&mut rig.tape, logits, tokens, noise, weights, factor));
        let time = rig.index(times.clone());
        let losses = ok(ops::sample_losses(&mut rig.tape, value, time, samples));
        ok(rig.tape.report("losses", losses));
        ok(rig.tape.report("loss", loss));
        rig.finish(logits, vec![0.0; samples * length * codes], &[(loss, 1.0)]);
        let steps = times.iter().map(|&t| t as f32).collect();
        rig.expect("losses", [fixture.f32(&at("kl_loss")), steps].concat(), 0.0);
        rig.expect("loss", fixture.f32(&at("loss")), 0.0);
        rig.expect("glogits", fixture.permuted(&at("glogits"), &[0, 2, 1]), 0.0);
        for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
            let kind = device.kind();
            let (used, _) = rig.check(device, name);
            println!("{name} on {kind}: {used:.3} of the tolerance");
        }
    }
}
