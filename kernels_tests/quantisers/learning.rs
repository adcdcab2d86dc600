//! What moves the codes.

use super::{Made, SIDE, draw, settings};
use crate::device;
use crate::rig::ok;
use vqforge::plan::{Kind, ParamTable};
use vqforge::tape::Tape;
use vqforge::train::autoencoder::record;

/// Gradients of all parameters, with beta on the commitment.
fn gradients(entries: &[&str], beta: &str) -> Vec<(String, Vec<u32>)> {
    let beta = format!("model.commitment_cost={beta}");
    let config = settings(&[entries, &[&beta]].concat());
    let dims = [3, SIDE, SIDE, 1];
    let x = draw("images", dims.iter().product());
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(record(&mut tape, &mut table, &config, dims));
    let inputs: (&[(&str, &[f32])], _) = (&[("x", &x)], &[] as &[_]);
    let mut made = Made::of(device::cpu(1), &config, inputs, (tape, table));
    let specs = made.store.table().specs().to_vec();
    let mut all = vec![];
    for (i, spec) in specs.into_iter().enumerate() {
        let range = made.store.range(Kind::Grad, i);
        all.push((spec.name, ok(made.store.read_u32(range))));
    }
    all
}

/// beta weighs how latents come to codes, not how codes come to latents.
#[test]
fn codes_learn_alike_at_any_beta() {
    for entries in [
        &["kind=gradient"] as &[&str],
        &["kind=gradient", "estimator=rotation"],
        &["kind=gradient", "distance=cosine"],
        &["kind=gradient", "residual_levels=2"],
        &["kind=gradient", "num_codebooks=2"],
        &["kind=simvq"],
        &["kind=simvq", "estimator=rotation"],
    ] {
        let (small, large) = (gradients(entries, "0.25"), gradients(entries, "4"));
        let (mut of_codes, mut of_encoder) = (0, 0);
        for ((name, a), (_, b)) in small.iter().zip(&large) {
            if name.starts_with("quantize.") {
                assert!(a == b, "{entries:?}: the gradient of {name} depends on beta");
                assert!(a.iter().any(|&g| f32::from_bits(g) != 0.0), "{name} has no gradient");
                of_codes += 1;
            } else if name.starts_with("encoder") {
                of_encoder += usize::from(a != b);
            } else {
                assert!(a == b, "{entries:?}: {name} is behind the codes");
            }
        }
        assert_eq!(of_codes, settings(entries).quantiser.heads(), "{entries:?}");
        assert!(of_encoder > 0, "{entries:?}: the encoder does not see beta");
    }
}
