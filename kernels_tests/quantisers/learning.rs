//! What moves latents and codes.

use super::{Made, SETTINGS, SIDE, draw, settings};
use crate::device;
use crate::rig::{Rig, ok};
use vqforge::config::Config;
use vqforge::model::quantiser::{CODEBOOK_PARAM, build};
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

/// z - r, r - q, .. of one row and one part: what each level saw, and the code it took.
fn levels_of(z: &[f32], books: &[Vec<f32>]) -> Vec<(Vec<f64>, usize)> {
    let (mut rest, mut all) = (z.iter().map(|&z| z.into()).collect::<Vec<f64>>(), vec![]);
    for book in books {
        let code = |i: usize| book[i * z.len()..(i + 1) * z.len()].iter().map(|&e| f64::from(e));
        let d2 = |i: usize| rest.iter().zip(code(i)).map(|(r, e)| (r - e) * (r - e)).sum::<f64>();
        let all_d2: Vec<f64> = (0..book.len() / z.len()).map(d2).collect();
        let best =
            (0..all_d2.len()).min_by(|&a, &b| all_d2[a].total_cmp(&all_d2[b])).expect("codes");
        let left = rest.iter().zip(code(best)).map(|(r, e)| r - e).collect();
        all.push((std::mem::replace(&mut rest, left), best));
    }
    all
}

/// Levels and parts side by side: every level pulls the latent, as a whole and not through the codes
/// of the levels before it, and every code is pulled to what was left over for it; both by the mean
/// over all channels.
#[test]
fn levels_and_parts_have_their_share() {
    const N: usize = 11;
    for entries in [
        &["residual_levels=3"] as &[&str],
        &["num_codebooks=2"],
        &["num_codebooks=2", "residual_levels=2"],
    ] {
        let config: Config = settings(&[entries, &["kind=gradient"]].concat());
        let (levels, parts) = (config.quantiser.residual_levels, config.quantiser.num_codebooks);
        let (k, d) = (config.model.num_vq_embeddings, config.model.vq_embed_dim);
        let (width, beta) = (d / parts, config.model.commitment_cost);
        let (z, gy) = (draw("latents", N * d), draw("upstream", N * d));
        let mut rig = Rig::default();
        let leaf = rig.leaf("z", &[N, d], z.clone());
        let name = |head: usize| match head {
            0 => CODEBOOK_PARAM.to_string(),
            n => format!("quantize.{n}.embedding.weight"),
        };
        let books: Vec<Vec<f32>> =
            (0..levels * parts).map(|head| draw(&name(head), k * width)).collect();
        for (head, book) in books.iter().enumerate() {
            rig.param(&name(head), &[k, width], book.clone());
        }
        let made = ok(build(&config).training(&mut rig.scope(), leaf));
        let losses: Vec<_> = made.terms.iter().map(|t| (t.value, t.weight)).collect();
        rig.finish(made.code, gy.clone(), &losses);

        let mut gz: Vec<f64> = gy.iter().map(|&g| g.into()).collect();
        let mut of_books = vec![vec![0.0; k * width]; books.len()];
        for row in 0..N {
            for part in 0..parts {
                let first = row * d + part * width;
                let heads = part * levels..(part + 1) * levels;
                let seen = levels_of(&z[first..first + width], &books[heads.clone()]);
                for (head, (rest, code)) in heads.zip(seen) {
                    for (i, r) in rest.iter().enumerate() {
                        let at = code * width + i;
                        let pull = 2.0 * (r - f64::from(books[head][at])) / (N * d) as f64;
                        gz[first + i] += beta * pull;
                        of_books[head][at] -= pull;
                    }
                }
            }
        }
        let rounded = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        rig.expect("gz", rounded(gz), 0.0);
        for (head, gradient) in of_books.into_iter().enumerate() {
            rig.expect(&format!("g{}", name(head)), rounded(gradient), 0.0);
        }
        let (used, _) = rig.check(device::cpu(1), &format!("{entries:?}"));
        println!("{entries:?}: {used:.3} of the tolerance");
    }
}

/// A training step of every quantiser reaches the encoder, and every codebook that is a parameter.
#[test]
fn every_quantiser_trains() {
    for (name, entries) in SETTINGS {
        let gradients = gradients(entries, "0.25");
        for (param, gradient) in &gradients {
            let gradient: Vec<f32> = gradient.iter().map(|&g| f32::from_bits(g)).collect();
            assert!(gradient.iter().all(|g| g.is_finite()), "{name}: {param}");
            if param.starts_with("quantize.") {
                assert!(gradient.iter().any(|&g| g != 0.0), "{name}: {param} has no gradient");
            }
        }
        let reached = |(param, gradient): &(String, Vec<u32>)| {
            param.starts_with("encoder") && gradient.iter().any(|&g| f32::from_bits(g) != 0.0)
        };
        assert!(gradients.iter().any(reached), "{name}: the encoder has no gradient");
    }
}
