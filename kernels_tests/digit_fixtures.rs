//! Quantisers without a codebook against vector-quantize-pytorch, diagonal Gaussians against diffusers,
//! and indices that must come back.

use crate::device::{self, bits, floats, on_devices};
use crate::engine;
use crate::fixtures::{Fixture, cases, folder};
use crate::registry::on_device;
use crate::rig::{Rig, U, ok};
use vqforge::kernels::fsq::{Fsq, FsqCodes, channel_table};
use vqforge::kernels::{Case, Fill, Kernel};
use vqforge::ops;

/// Outputs of a kernel whose first bindings hold `inputs`; by binding.
fn launch(
    device: &mut dyn vqforge::device::Device,
    kernel: impl Kernel + 'static,
    inputs: &[Vec<u32>],
) -> Vec<Vec<u32>> {
    let lens = kernel.lens();
    let mut all = inputs.to_vec();
    all.extend(lens[inputs.len()..].iter().map(|&n| Fill::Poison.bits(n, 0)));
    on_device(device, &Case::new("launch", kernel, vec![]), &all)
}

fn on_each_device(name: &str, rig: &Rig) {
    for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
        let kind = device.kind();
        let (used, _) = rig.check(device, name);
        println!("{name} on {kind}: {used:.3} of the tolerance");
    }
}

fn levels_of(case: &serde_json::Value) -> Vec<usize> {
    let list = case["levels"].as_array().expect("levels");
    list.iter().map(|l| l.as_u64().expect("a number") as usize).collect()
}

/// Values, indices, gradients, and the codes of all indices. The recorded inputs are at least 1e-3 from
/// where they would be rounded otherwise.
#[test]
fn finite_scalars_as_in_torch() {
    let fixture = Fixture::load("quantisers");
    let mut count = 0;
    for case in cases("quantisers").iter().filter(|c| !c["levels"].is_null()) {
        let Some(name) = case["name"].as_str().filter(|n| n.starts_with("fsq_")) else { continue };
        let (levels, at) = (levels_of(case), |tensor: &str| format!("{name}.{tensor}"));
        let shape = fixture.shape(&at("z"));
        let mut rig = Rig::default();
        rig.recorded_in_f32 = true;
        let z = rig.leaf("z", &shape, fixture.f32(&at("z")));
        let (y, idx) = ok(ops::fsq(&mut rig.tape, z, &levels));
        let codes = ok(ops::fsq_codes(&mut rig.tape, idx, &levels));
        ok(rig.tape.output("codes", codes));
        rig.finish(y, fixture.f32(&at("gy")), &[]);
        rig.expect("y", fixture.f32(&at("y")), 0.0);
        rig.expect("codes", fixture.f32(&at("y")), 0.0);
        // torch takes 1 - tanh^2 as a difference: an error of 8 U of what multiplies it, a tanh within
        // 2 U counted twice, its square, the difference and the argument; `torch` counts four times.
        let largest = fixture.f32(&at("gy")).iter().fold(0.0, |m: f32, g| m.max(g.abs()));
        rig.expect("gz", fixture.f32(&at("gz")), 2.0 * U * 1.001 * f64::from(largest));
        on_each_device(name, &rig);

        let (d, want) = (levels.len(), fixture.f32(&at("codes_of_all_indices")));
        let (rows, all) = (shape[0] * shape[1], want.len() / d);
        let table = bits(&channel_table(&levels));
        on_devices(|device| {
            let kernel = Fsq { rows, levels: levels.clone(), backward: false, accum: false };
            let inputs = [bits(&fixture.f32(&at("z"))), table.clone()];
            let idx = launch(device, kernel, &inputs).swap_remove(3);
            assert_eq!(idx, fixture.index(&at("idx")), "{name} on {}", device.kind());
            let kernel = FsqCodes { rows: all, levels: levels.clone() };
            let got = launch(device, kernel, &[(0..all as u32).collect(), table.clone()]);
            for (got, want) in floats(&got[2]).iter().zip(&want) {
                // A quotient of small integers: 2.5 units in the last place in WGSL, half of one here.
                assert!((got - want).abs() <= 6.0 * U as f32 * want.abs(), "{name}: {got} {want}");
            }
        });
        count += 1;
    }
    assert_eq!(count, 4);
}

/// Every index of every published list, through its code and the inverse of the bounding function in
/// f32, comes back on every device, with the same code.
#[test]
fn every_finite_scalar_index_comes_back() {
    let lists: [&[usize]; 9] = [
        &[8, 6, 5],
        &[8, 5, 5, 5],
        &[7, 5, 5, 5, 5],
        &[8, 8, 8, 6, 5],
        &[8, 8, 8, 5, 5, 5],
        &[3, 3],
        &[2; 16],
        &[2, 3, 4, 5, 6, 7, 8],
        &[1000, 64],
    ];
    on_devices(|device| {
        for levels in lists {
            let (rows, d) = (levels.iter().product::<usize>(), levels.len());
            let (table, all) = (bits(&channel_table(levels)), (0..rows as u32).collect::<Vec<_>>());
            let kernel = FsqCodes { rows, levels: levels.to_vec() };
            let codes = launch(device, kernel, &[all.clone(), table.clone()]).swap_remove(2);
            let z = floats(&codes).into_iter().enumerate().map(|(i, code)| {
                let levels = levels[i % d];
                if levels == 2 {
                    return 0.3 * code;
                }
                let half = (levels - 1) as f64 * 1.001 / 2.0;
                let offset = if levels % 2 == 0 { 0.5 } else { 0.0 };
                let bounded = f64::from(code) * (levels / 2) as f64;
                (((bounded + offset) / half).atanh() - (offset / half).atanh()) as f32
            });
            let z = z.collect::<Vec<_>>();
            let kernel = Fsq { rows, levels: levels.to_vec(), backward: false, accum: false };
            let got = launch(device, kernel, &[bits(&z), table]);
            assert!(got[3] == all, "{levels:?} on {}: other indices", device.kind());
            assert!(got[2] == codes, "{levels:?} on {}: other codes", device.kind());
        }
    });
}

/// Signs, indices, both entropies, the commitment loss and the gradient of everything, at an inverse
/// temperature of 100. torch takes logarithms of max(p, 1e-5); the probabilities below that weigh less
/// than the rounding of logits near 1,000.
#[test]
fn binary_codes_as_in_torch() {
    let fixture = Fixture::load("quantisers");
    // Errors of the record against torch's own formula in f64, measured: of the entropies, of gz. Its
    // logits are sums of d products of size 200, ours one product a bit.
    for (name, torch) in [("lfq_4", [2e-7, 3.6e-7]), ("lfq_6", [2.7e-7, 5.9e-6])] {
        let case = cases("quantisers").into_iter().find(|c| c["name"] == name).expect("a case");
        let number = |key: &str| case[key].as_f64().expect("a number") as f32;
        let at = |tensor: &str| format!("{name}.{tensor}");
        let shape = fixture.shape(&at("z"));
        let d = shape[2];
        let mut rig = Rig::default();
        rig.recorded_in_f32 = true;
        let z = rig.leaf("z", &shape, fixture.f32(&at("z")));
        let tape = &mut rig.tape;
        let (y, idx) = ok(ops::sign_code(tape, z, 1.0));
        let codes = ok(ops::sign_codes(tape, idx, d, 1.0));
        ok(tape.output("codes", codes));
        let (of_rows, of_mean) = ok(ops::bit_entropy(tape, z, 4.0 * number("inv_temperature"), d));
        let fixed = tape.detach(y);
        let commitment = ok(ops::mse(tape, z, fixed));
        ok(tape.report("per_sample_entropy", of_rows));
        ok(tape.report("batch_entropy", of_mean));
        ok(tape.report("commitment", commitment));
        let weight = number("entropy_loss_weight");
        let losses = [
            (of_rows, weight),
            (of_mean, -weight * number("diversity_gamma")),
            (commitment, number("commitment_loss_weight")),
        ];
        rig.finish(y, fixture.f32(&at("gy")), &losses);
        rig.expect("y", fixture.f32(&at("y")), 0.0);
        rig.expect("codes", fixture.f32(&at("y")), 0.0);
        rig.expect("commitment", fixture.f32(&at("commitment")), 0.0);
        for tensor in ["per_sample_entropy", "batch_entropy"] {
            rig.expect(tensor, fixture.f32(&at(tensor)), torch[0]);
        }
        rig.expect("gz", fixture.f32(&at("gz")), torch[1]);
        on_each_device(name, &rig);
        on_devices(|device| {
            let kernel =
                vqforge::kernels::sign_code::SignCode { rows: shape[0] * shape[1], d, scale: 1.0 };
            let idx = launch(device, kernel, &[bits(&fixture.f32(&at("z")))]).swap_remove(2);
            assert_eq!(idx, fixture.index(&at("idx")), "{name} on {}", device.kind());
        });
    }
}

/// Draws, divergences and their gradients, at the moments of an autoencoder and at and beyond the clamp.
#[test]
fn gaussians_as_in_diffusers() {
    let fixture = Fixture::open(&folder().join("autoencoder_kl/gaussian.safetensors"));
    for name in ["autoencoder", "clamped"] {
        let of = |tensor: &str| fixture.f32(&format!("{name}.{tensor}"));
        let shape = fixture.shape(&format!("{name}.moments"));
        let mut rig = Rig::default();
        let moments = rig.leaf("moments", &shape, of("moments"));
        let eps = of("eps");
        let eps = ok(rig.tape.constant(&[eps.len()], eps));
        let z = ok(ops::sample_gaussian(&mut rig.tape, moments, eps));
        assert_eq!(rig.tape.shape(z).dims(), fixture.shape(&format!("{name}.z")));
        rig.finish(z, of("gz"), &[]);
        rig.expect("y", of("z"), 0.0);
        rig.expect("gmoments", of("gmoments_z"), 0.0);
        on_each_device(&format!("draw, {name}"), &rig);

        let mut rig = Rig::default();
        let moments = rig.leaf("moments", &shape, of("moments"));
        let kl = ok(ops::kl_divergence(&mut rig.tape, moments, 0.375));
        rig.finish(kl, vec![1.0], &[]);
        let scaled = |tensor: &str| of(tensor).into_iter().map(|x| 0.375 * x).collect::<Vec<_>>();
        rig.expect("y", scaled("kl"), 0.0);
        rig.expect("gmoments", scaled("gmoments_kl"), 0.0);
        on_each_device(&format!("divergence, {name}"), &rig);
    }
}
