//! The losses of `model::losses` against values recorded from PyTorch 2.6 (`fixtures/losses`).

use crate::device;
use crate::engine;
use crate::fixtures::{self, Fixture};
use crate::rig::{Rig, ok};
use serde_json::Value;
use vqforge::device::Device;
use vqforge::ops::{self, Penalty};
use vqforge::tape::{Act, Tape};

fn record(tape: &mut Tape, name: &str, [image, x, weight]: [Act; 3]) -> Act {
    let pixels =
        |tape: &mut Tape, penalty| ok(ops::pixel_loss(tape, image, x, Some(weight), penalty));
    match name {
        "log_spectral" => ok(ops::log_spectral_distance(tape, image, x, 20.0, 1e-4)),
        "weighted_mse" => pixels(tape, Penalty::Squared),
        "weighted_l1" => pixels(tape, Penalty::Absolute),
        "weighted_smooth_l1" => pixels(tape, Penalty::Smooth { beta: 0.25 }),
        _ => {
            let r = name.strip_prefix("spectral_").and_then(|r| r.parse().ok());
            let r = r.unwrap_or_else(|| panic!("{name} is not computed here"));
            let [made, target] = [image, x].map(|x| ok(ops::power_pool(tape, x, r, 20.0)));
            ok(ops::spectral_distance(tape, made, target, 1e-6))
        }
    }
}

fn compare(mut device: Box<dyn Device>, only: &[&str]) {
    let folder = fixtures::folder().join("losses");
    let fixture = Fixture::open(&folder.join("spectrograms.safetensors"));
    let text = std::fs::read_to_string(folder.join("spectrograms.json")).expect("cases");
    let json: Value = serde_json::from_str(&text).expect("json");
    let cases = json["cases"].as_array().expect("cases");
    let mut count = 0;
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let dims = fixture.shape("x");
        let mut rig = Rig::default();
        let image = rig.leaf("image", &dims, fixture.f32("image"));
        let x = ok(rig.tape.constant(&dims, fixture.f32("x")));
        let weight = ok(rig.tape.constant(&dims, fixture.f32("weight")));
        let y = record(&mut rig.tape, name, [image, x, weight]);
        rig.finish(y, vec![1.0], &[]);
        let torch = |of: &str| case["torch_f32_maxabs_err"][of].as_f64().expect("an error");
        rig.expect("y", fixture.f32(&format!("{name}.y")), torch("y"));
        rig.expect("gimage", fixture.f32(&format!("{name}.gimage")), torch("gimage"));
        let (used, back) = rig.check(device, name);
        (device, count) = (back, count + 1);
        println!("{name:20} {used:.3} of the tolerance");
    }
    assert_eq!(count, if only.is_empty() { cases.len() } else { only.len() });
}

#[test]
fn as_in_torch_on_the_cpu() {
    compare(device::cpu(0), &[]);
}

#[test]
fn as_in_torch_on_the_gpu() {
    let Some(device) = engine::gpu() else { return };
    compare(device, &["log_spectral", "spectral_2", "weighted_smooth_l1"]);
}
