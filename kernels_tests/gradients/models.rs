//! What carries no gradient by itself (detached values, the straight-through estimator), and whole
//! models.

use super::{Graph, ROUNDING};
use crate::engine::{BATCH, Tiny};
use crate::quantiser::margins;
use vqforge::config::QuantiserKind;
use vqforge::error::Result;
use vqforge::kernels::StepScalars;
use vqforge::model::quantiser::CODEBOOK_PARAM;
use vqforge::model::{Scope, autoencoder};
use vqforge::ops::{self, Activation};
use vqforge::plan::ParamInit;
use vqforge::rng::{Rng, Stream};
use vqforge::shader::Element;
use vqforge::tape::{Home, ValueId};

/// The gradients of `first` are the slopes of `second`, its twin, in which what carries no gradient
/// is a constant.
fn prove_twins(name: &str, first: &mut Graph, second: &mut Graph) {
    for graph in [&mut *first, &mut *second] {
        graph.tape.backward(&graph.seeds).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let total = |graph: &Graph| {
        let mut run = graph.interpreter();
        run.run(&graph.step);
        graph.losses.iter().map(|&(l, w)| f64::from(w) * run.get(l)[0]).sum::<f64>()
    };
    let (a, b) = (total(first), total(second));
    assert!((a - b).abs() <= 2.0 * ROUNDING * a.abs(), "{name}: losses {a} and {b}");
    second.compare(name, &first.gradients(), 2);
}

/// silu(x) + stop(silu(x)) slopes like silu(x) + constant.
#[test]
fn detach() {
    for x in [vec![1], vec![5, 3], vec![2, 8]] {
        let record = |fixed: Option<Vec<f64>>| -> Result<(Graph, Vec<f64>)> {
            let mut g = Graph::new(6);
            let leaf = g.leaf(&x)?;
            let y = ops::activation(&mut g.tape, leaf, Activation::Silu)?;
            let other = match fixed {
                None => g.tape.detach(y),
                Some(values) => {
                    let input = g.tape.input("fixed", &x)?;
                    g.floats.push((input.into(), values));
                    input
                }
            };
            let sum = ops::add(&mut g.tape, y, other)?;
            g.head(sum)?;
            let mut run = g.interpreter();
            run.run(&g.step);
            let value = run.get(y).to_vec();
            drop(run);
            Ok((g, value))
        };
        let (mut first, value) = record(None).unwrap_or_else(|e| panic!("{e}"));
        let (mut second, _) = record(Some(value)).unwrap_or_else(|e| panic!("{e}"));
        prove_twins(&format!("detach {x:?}"), &mut first, &mut second);
    }
}

/// The value of the code with the gradient of z slopes like z + constant.
#[test]
fn straight_through() {
    for x in [vec![1, 1], vec![5, 3], vec![2, 2, 8]] {
        let record = |moved: bool| -> Result<Graph> {
            let mut g = Graph::new(7);
            let leaf = g.leaf(&x)?;
            let z = ops::activation(&mut g.tape, leaf, Activation::Silu)?;
            let n = x.iter().product();
            let code: Vec<f64> = (0..n).map(|_| g.number()).collect();
            let mut run = g.interpreter();
            run.run(&g.step);
            let shift: Vec<f64> = code.iter().zip(run.get(z)).map(|(c, z)| c - z).collect();
            drop(run);
            let input = g.tape.input("code", &x)?;
            let y = if moved {
                g.floats.push((input.into(), shift));
                ops::add(&mut g.tape, z, input)?
            } else {
                g.floats.push((input.into(), code));
                ops::straight_through(&mut g.tape, z, input)?
            };
            // z is used a second time, so that the estimator's gradient is added to another.
            let again = ops::activation(&mut g.tape, y, Activation::GeluTanh)?;
            g.head(again)?;
            g.head(z)?;
            Ok(g)
        };
        let mut first = record(false).unwrap_or_else(|e| panic!("{e}"));
        let mut second = record(true).unwrap_or_else(|e| panic!("{e}"));
        prove_twins(&format!("straight_through {x:?}"), &mut first, &mut second);
    }
}

/// The training tape of a tiny model with its own backward pass, and values to run it on.
fn trained(tiny: Tiny, batch: usize, losses: &[(&str, f32)]) -> Graph {
    let (tape, table) = tiny.record(batch);
    let mut g = Graph::new(8);
    let by_name = |name: &str| {
        let found = tape.values().find(|(_, v)| v.home == Home::Sum(name.into()));
        found.unwrap_or_else(|| panic!("no sum {name}")).0
    };
    g.losses = losses.iter().map(|&(name, weight)| (by_name(name), weight)).collect();
    (g.tape, g.table) = (tape, table);
    fill(&mut g, tiny, batch);
    g
}

/// Parameters at random (a function of their names), inputs and states of the model.
fn fill(g: &mut Graph, tiny: Tiny, batch: usize) {
    g.values.clear();
    for spec in g.table.specs() {
        let seed = spec.name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let mut rng = Rng::new(seed, Stream::Test, 1);
        let fan_in = spec.shape.rows().max(1) as f64;
        let bound = if spec.shape.rank() > 1 { 1.5 / fan_in.sqrt() } else { 0.6 };
        let norm = spec.name.contains("norm") && spec.name.ends_with("weight");
        let centre = if norm && spec.shape.rank() == 1 { 1.0 } else { 0.0 };
        let draw = |_| centre + rng.range(-bound, bound);
        g.values.push((0..spec.shape.elements()).map(draw).collect());
    }
    let inputs = tiny.samples(0, batch);
    let states = tiny.states();
    for (id, value) in g.tape.values() {
        match &value.home {
            Home::Input(name) => {
                let Some((_, words)) = inputs.iter().find(|(n, _)| n == name) else { continue };
                match value.element {
                    Element::U32 => g.indices.push((id, words.clone())),
                    Element::F32 | Element::F16 => {
                        let floats = words.iter().map(|&w| f32::from_bits(w).into()).collect();
                        g.floats.push((id, floats));
                    }
                }
            }
            Home::State(name) => {
                if let Some((_, values)) = states.iter().find(|(n, _)| n == name) {
                    g.floats.push((id, values.iter().map(|&v| v.into()).collect()));
                }
            }
            _ => {}
        }
    }
}

/// The whole VQ-VAE. The twin computes z + (code - z) with the bracket a constant, and compares z with
/// constant codes and codes with a constant z: its true slopes are what the estimator promises. Along
/// the way the training tape itself is run at every displaced point: no code may flip.
#[test]
fn whole_vqvae() {
    for tiny in [Tiny::VqVae, Tiny::VqVaeByGradient, Tiny::VqModel] {
        let config = tiny.config(1);
        let (model, kind) = (&config.model, config.quantiser.kind);
        let beta = model.commitment_cost as f32;
        let mut weights = vec![("reconstruction", 1.0), ("commitment", beta)];
        if kind == QuantiserKind::Gradient {
            weights.push(("codebook", 1.0));
        }
        const SAMPLES: usize = 2;
        let first = trained(tiny, SAMPLES, &weights);
        let gradients = first.gradients();

        let find = |kernel: &str| {
            let node = first.tape.nodes().iter().find(|n| n.kernel.name() == kernel);
            node.unwrap_or_else(|| panic!("no {kernel}")).binds.clone()
        };
        let (z_id, idx_id) = (find("nearest_code")[0], find("nearest_code")[2]);
        let (code_id, book_id) = (find("gather")[2], find("nearest_code")[1]);
        let mut run = first.interpreter();
        run.run(&first.step);
        let (z, code, idx) =
            (run.get(z_id).to_vec(), run.get(code_id).to_vec(), run.get_idx(idx_id).to_vec());
        let margins = margins(&z, run.get(book_id), model.vq_embed_dim);
        let margin = margins.iter().fold(f64::INFINITY, |a, &b| a.min(b));
        let used = idx.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(used > 2, "{tiny:?}: only {used} codes are used");

        let mut twin = Graph::new(8);
        let recorded = (|g: &mut Graph| -> Result<()> {
            let dims = [SAMPLES, 8, 8, 1];
            let mut s = Scope::new(&mut g.tape, &mut g.table);
            let x = s.tape.input("x", &dims)?;
            let latent = autoencoder::encode(&mut s, model, x)?;
            let shape = s.tape.shape(latent);
            let [shift, fixed_code, fixed_z] = [
                s.tape.input("shift", shape.dims())?,
                s.tape.input("code", shape.dims())?,
                s.tape.input("z", shape.dims())?,
            ];
            let book = match kind {
                QuantiserKind::Gradient => {
                    let dims = [model.num_vq_embeddings, model.vq_embed_dim];
                    Some(s.param(CODEBOOK_PARAM, &dims, ParamInit::Zeros, false)?)
                }
                _ => None,
            };
            let passed = ops::add(s.tape, latent, shift)?;
            let image = autoencoder::decode(&mut s, model, passed)?;
            let reconstruction = ops::mse(s.tape, image, x)?;
            let commitment = ops::mse(s.tape, latent, fixed_code)?;
            g.losses = vec![(reconstruction.into(), 1.0), (commitment.into(), beta)];
            if let Some(book) = book {
                let idx = s.tape.constant_idx(&[idx.len()], idx.clone())?;
                let code = ops::embedding(s.tape, idx, book)?;
                g.losses.push((ops::mse(s.tape, code, fixed_z)?.into(), 1.0));
            }
            let moved = code.iter().zip(&z).map(|(c, z)| c - z).collect();
            fill(g, tiny, SAMPLES);
            g.floats.extend([
                (shift.into(), moved),
                (fixed_code.into(), code.clone()),
                (fixed_z.into(), z.clone()),
            ]);
            Ok(())
        })(&mut twin);
        recorded.unwrap_or_else(|e| panic!("{tiny:?}: {e}"));

        let mut at_twin = twin.interpreter();
        at_twin.run(&twin.step);
        for (&(loss, _), (name, _)) in twin.losses.iter().zip(&weights) {
            let sum = first.tape.values().find(|(_, v)| v.home == Home::Sum((*name).into()));
            let (a, b) = (at_twin.get(loss)[0], run.get(sum.expect("sum").0)[0]);
            assert!((a - b).abs() <= 2.0 * ROUNDING * b.abs(), "{tiny:?}, {name}: {a} and {b}");
        }
        twin.compare(&format!("{tiny:?}"), &gradients, 8);
        println!("{tiny:?}: {} parameters, least margin {margin:.1e}", twin.table.elements());
        no_code_flips(tiny, &first, idx_id, &idx);
    }
}

/// The training tape at h = 2^-14 (where no margin is crossed) in eight random directions.
fn no_code_flips(tiny: Tiny, g: &Graph, idx_id: ValueId, idx: &[u32]) {
    const H: f64 = 1.0 / 16_384.0;
    let places = g.places();
    let mut run = g.interpreter();
    let mut rng = Rng::new(98, Stream::Test, 0);
    for turn in 0..8 {
        for sign in [H, -H] {
            for &(id, i) in &places {
                let moved = g.values[i].iter().map(|p| p + sign * rng.normal());
                run.set(id, &moved.collect::<Vec<_>>());
            }
            run.run(&g.step);
            assert_eq!(run.get_idx(idx_id), idx, "{tiny:?}: a code flipped in direction {turn}");
        }
    }
}

#[test]
fn whole_denoiser() {
    const SAMPLES: usize = 3;
    let mut g = trained(Tiny::Denoiser, SAMPLES, &[("nats_per_token", 1.0)]);
    g.step = StepScalars { seed_lo: 9, sample_base: BATCH as u32, ..StepScalars::default() };
    g.compare("denoiser", &g.gradients(), 8);
    for tiny in [Tiny::Modern, Tiny::VqDiffusion] {
        let mut g = trained(tiny, SAMPLES, &[("nats_per_token", 1.0)]);
        g.step = StepScalars { seed_lo: 9, sample_base: BATCH as u32, ..StepScalars::default() };
        g.compare(&format!("{tiny:?}"), &g.gradients(), 8);
    }
}

/// The whole KL-VAE: with the noise of a step fixed by its counter the loss is a smooth function of
/// the parameters.
#[test]
fn whole_kl_vae() {
    const SAMPLES: usize = 2;
    let weight = Tiny::KlVae.config(1).kl.weight as f32;
    let mut g = trained(Tiny::KlVae, SAMPLES, &[("reconstruction", 1.0), ("kl", weight)]);
    g.step = StepScalars { seed_lo: 9, sample_base: BATCH as u32, ..StepScalars::default() };
    let gradients = g.gradients();
    g.compare("KL-VAE", &gradients, 8);
}
