//! Quantisers of the model against vector-quantize-pytorch: SimVQ with both estimators, residual
//! vector quantisation.

use super::settings;
use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, cases};
use crate::rig::{Rig, U, ok};
use crate::vq_fixtures::rotated;
use vqforge::config::Config;
use vqforge::kernels::Bounded;
use vqforge::model::quantiser::{self, CODEBOOK, FROZEN, Quantised, of_head};
use vqforge::tape::Act;

fn on_each_device(name: &str, rig: &Rig) {
    for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
        let kind = device.kind();
        let (used, _) = rig.check(device, name);
        println!("{name} on {kind}: {used:.3} of the tolerance");
    }
}

fn gather(codes: &[f32], idx: &[u32], d: usize) -> Vec<f32> {
    idx.iter().flat_map(|&i| &codes[i as usize * d..][..d]).copied().collect()
}

/// The training pass of the quantiser of `config`. An index has no bounds, but the code that it looks
/// up has: "found".
fn record(rig: &mut Rig, config: &Config, z: Act) -> Quantised {
    let mut s = rig.scope();
    let quantiser = quantiser::build(config);
    let made = ok(quantiser.training(&mut s, z));
    let found = ok(quantiser.lookup(&mut s, &made.idx));
    ok(s.tape.output("found", found));
    made
}

/// Codes, both losses, gradients of the latents and of the matrix. The record's matrix is [out, in].
/// The frozen table has no gradient.
#[test]
fn simvq_as_in_torch() {
    for (name, estimator) in [("simvq_ste", "straight-through"), ("simvq_rot", "rotation")] {
        let fixture = Fixture::load("quantisers");
        let case = cases("quantisers").into_iter().find(|c| c["name"] == name).expect("a case");
        let at = |tensor: &str| format!("{name}.{tensor}");
        let [k, d] = fixture.shape(&at("frozen"))[..] else { panic!("two dimensions") };
        let number = |key: &str| case[key].as_f64().expect("a number") as f32;
        let beta = number("input_to_quantize_commit_loss_weight");
        assert_eq!(number("commitment_weight"), 1.0);
        let config = settings(&[
            "kind=simvq",
            &format!("estimator={estimator}"),
            &format!("model.num_vq_embeddings={k}"),
            &format!("model.vq_embed_dim={d}"),
            &format!("model.commitment_cost={beta}"),
        ]);
        let mut rig = Rig::default();
        rig.recorded_in_f32 = true;
        let z = rig.leaf("z", &fixture.shape(&at("z")), fixture.f32(&at("z")));
        let weight = fixture.weights(&at("param.code_transform.weight"));
        rig.param("quantize.proj.weight", &[d, d], weight);
        rig.state(FROZEN, fixture.f32(&at("frozen")));
        let made = record(&mut rig, &config, z);
        let [commitment, codebook] = &made.terms[..] else { panic!("two terms") };
        assert_eq!((commitment.weight, codebook.weight), (beta, 1.0));
        ok(rig.tape.report("commitment", commitment.value));
        ok(rig.tape.report("codebook", codebook.value));
        let losses: Vec<_> = made.terms.iter().map(|t| (t.value, t.weight)).collect();
        rig.finish(made.code, fixture.f32(&at("gy")), &losses);

        let (latents, y) = (fixture.f32(&at("z")), fixture.f32(&at("y")));
        let codes = gather(&fixture.f32(&at("codebook")), &fixture.index(&at("idx")), d);
        rig.expect("y", codes.clone(), 0.0);
        rig.expect("found", codes.clone(), 0.0);
        // Torch's value of the estimators: z + (code - z), with two roundings, or the latent turned.
        for (row, (z, q)) in latents.chunks_exact(d).zip(codes.chunks_exact(d)).enumerate() {
            let lift = |x: &[f32]| x.iter().map(|&x| Bounded::exact(x)).collect::<Vec<_>>();
            let turned = rotated(&lift(z), &lift(q));
            for i in 0..d {
                let (z, q, got) = (f64::from(z[i]), f64::from(q[i]), f64::from(y[row * d + i]));
                let tolerance = match estimator {
                    "rotation" => turned[i].tolerance() + U * q.abs(),
                    _ => U * (2.0 * (z - q).abs() + 2.0 * q.abs()),
                };
                assert!((got - q).abs() <= tolerance, "{name} row {row}: {got} is not {q}");
            }
        }
        // (1 + beta) times either loss.
        let mse = fixture.f32(&at("loss"))[0] / (1.0 + beta);
        rig.expect("commitment", vec![mse], 0.0);
        rig.expect("codebook", vec![mse], 0.0);
        rig.expect("gz", fixture.f32(&at("gz")), 0.0);
        let gradient = fixture.weights(&at("gparam.code_transform.weight"));
        rig.expect("gquantize.proj.weight", gradient, 0.0);
        on_each_device(name, &rig);
    }
}

/// Three levels, each with a book of its own: the sum of the codes, and the indices by the codes of
/// every level.
#[test]
fn residual_levels_as_in_torch() {
    let fixture = Fixture::load("quantisers");
    let case = cases("quantisers").into_iter().find(|c| c["name"] == "rvq").expect("a case");
    let levels = case["levels"].as_u64().expect("levels") as usize;
    let [k, d] = fixture.shape("rvq.codebook0")[..] else { panic!("two dimensions") };
    let config = settings(&[
        &format!("residual_levels={levels}"),
        &format!("model.num_vq_embeddings={k}"),
        &format!("model.vq_embed_dim={d}"),
    ]);
    let mut rig = Rig::default();
    rig.recorded_in_f32 = true;
    let z = rig.leaf("z", &fixture.shape("rvq.z"), fixture.f32("rvq.z"));
    let books: Vec<_> =
        (0..levels).map(|level| fixture.f32(&format!("rvq.codebook{level}"))).collect();
    for (level, book) in books.iter().enumerate() {
        rig.state(&of_head(CODEBOOK, level), book.clone());
    }
    let made = record(&mut rig, &config, z);
    assert_eq!(made.searches.len(), levels);
    for search in &made.searches {
        ok(rig.tape.output(&search.book.state("code"), search.nearest.code));
    }
    let y = fixture.f32("rvq.y");
    rig.finish(made.code, vec![0.0; y.len()], &[]);
    rig.expect("y", y.clone(), 0.0);
    rig.expect("found", y, 0.0);
    let idx = fixture.index("rvq.idx");
    for (level, book) in books.iter().enumerate() {
        let own: Vec<u32> = idx.iter().skip(level).step_by(levels).copied().collect();
        rig.expect(&of_head("code", level), gather(book, &own, d), 0.0);
    }
    on_each_device("rvq", &rig);
}
