//! Indices stand for what was decoded: on every device, bit for bit, for every quantiser.

use super::{Made, SETTINGS, SIDE, draw, settings};
use crate::engine::places;
use vqforge::config::{Config, QuantiserKind};
use vqforge::model::quantiser::{self, of_head};
use vqforge::model::{Scope, autoencoder};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::Idx;

const IMAGES: usize = 3;
const DIMS: [usize; 4] = [IMAGES, SIDE, SIDE, 1];
/// Places of the latent grid of all images.
const TOKENS: usize = IMAGES * SIDE / 4 * SIDE / 4;

fn name_all(s: &mut Scope<'_>, name: &str, idx: &[Idx]) {
    for (head, &idx) in idx.iter().enumerate() {
        s.tape.output(&of_head(name, head), idx).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Images -> indices by the encoder alone, -> images by the decoder alone: what goes through both at
/// once gives. The training pass decodes the same codes as the evaluation.
#[test]
fn decoded_indices_are_the_direct_path() {
    let mut rng = Rng::new(4, Stream::Test, 0);
    let x: Vec<f32> = (0..IMAGES * SIDE * SIDE).map(|_| rng.range(-1.0, 1.0) as f32).collect();
    for place in places() {
        for (name, entries) in SETTINGS {
            let config = settings(entries);
            let heads = config.quantiser.heads();
            let what = format!("{name} on {}", place.kind);
            let inputs: (&[(&str, &[f32])], _) = (&[("x", &x)], &[] as &[_]);
            // One after the other: they take the same device.
            let (want, indices) = {
                let mut direct = Made::new((place.fresh)(), &config, inputs, |s| {
                    let x = s.tape.input("x", &DIMS)?;
                    let made = autoencoder::reconstruct(s, &config, x)?;
                    name_all(s, "idx", &made.idx);
                    s.tape.output("image", made.image)
                });
                (direct.bits("image"), direct.of_heads("idx", heads))
            };
            for (idx, head) in indices.iter().zip(0..) {
                assert!(
                    idx.iter().any(|&i| i != idx[0]),
                    "{what}: head {head} is always {}",
                    idx[0]
                );
            }
            let coded = Made::new((place.fresh)(), &config, inputs, |s| {
                let x = s.tape.input("x", &DIMS)?;
                let idx = autoencoder::codes(s, &config, x)?;
                name_all(s, "idx", &idx);
                Ok(())
            })
            .of_heads("idx", heads);
            assert_eq!(coded, indices, "{what}: by the encoder alone");
            let trained = Made::new((place.fresh)(), &config, inputs, |s| {
                let x = s.tape.input("x", &DIMS)?;
                let pass = autoencoder::training(s, &config, x)?;
                s.tape.output("image", pass.image)
            })
            .bits("image");
            assert!(trained == want, "{what}: in training");
            let names: Vec<String> = (0..heads).map(|head| of_head("idx", head)).collect();
            let words: Vec<_> =
                names.iter().zip(&coded).map(|(n, idx)| (n.as_str(), &idx[..])).collect();
            let decoded = Made::new((place.fresh)(), &config, (&[], &words), |s| {
                let idx: Result<Vec<_>, _> =
                    names.iter().map(|name| s.tape.input_idx(name, &[TOKENS])).collect();
                let side = SIDE / 4;
                let image = autoencoder::decode_indices(s, &config, &idx?, [IMAGES, side, side])?;
                s.tape.output("image", image)
            })
            .bits("image");
            assert!(decoded == want, "{what}: by the decoder alone");
        }
    }
}

/// The quantiser alone: the codes of the training pass, of the evaluation and of the indices.
#[test]
fn training_quantising_and_looking_up_agree() {
    const N: usize = 37;
    for place in places() {
        for (name, entries) in SETTINGS {
            let config = settings(entries);
            let d = config.model.vq_embed_dim;
            let z = draw("latents", N * d);
            let mut made = Made::new((place.fresh)(), &config, (&[("z", &z)], &[]), |s| {
                let quantiser = quantiser::build(&config);
                let z = s.tape.input("z", &[N, d])?;
                let trained = quantiser.training(s, z)?;
                let (idx, code) = quantiser.quantise(s, z)?;
                let found = quantiser.lookup(s, &idx)?;
                assert_eq!((trained.idx.len(), idx.len()), (quantiser.heads(), quantiser.heads()));
                name_all(s, "trained", &trained.idx);
                name_all(s, "idx", &idx);
                s.tape.output("trained_code", trained.code)?;
                s.tape.output("code", code)?;
                s.tape.output("found", found)
            });
            let what = format!("{name} on {}", place.kind);
            let code = made.bits("code");
            assert!(made.bits("trained_code") == code, "{what}: codes of the training pass");
            assert!(made.bits("found") == code, "{what}: codes of the indices");
            for head in 0..config.quantiser.heads() {
                let [a, b] = ["trained", "idx"].map(|n| made.bits(&of_head(n, head)));
                assert_eq!(a, b, "{what}: head {head}");
                assert!(a.iter().all(|&i| (i as usize) < config.model.num_vq_embeddings));
            }
        }
    }
}

/// A latent whose code is `code`, of a channel with so many levels: the inverse of the bounding
/// function of finite scalars.
fn unbounded(code: f32, levels: usize) -> f32 {
    if levels == 2 {
        return 0.3 * code;
    }
    let half = (levels - 1) as f64 * 1.001 / 2.0;
    let offset = if levels.is_multiple_of(2) { 0.5 } else { 0.0 };
    let bounded = f64::from(code) * (levels / 2) as f64;
    (((bounded + offset) / half).atanh() - (offset / half).atanh()) as f32
}

/// Latents that lie on the codes.
fn latents_on(codes: &[f32], config: &Config) -> Vec<f32> {
    match config.quantiser.kind {
        QuantiserKind::Fsq => {
            let levels = &config.quantiser.fsq_levels;
            let of = |(i, &code): (usize, &f32)| unbounded(code, levels[i % levels.len()]);
            codes.iter().enumerate().map(of).collect()
        }
        _ => codes.to_vec(),
    }
}

/// Every index of every head stands for a code of its own, whose index it is. Levels of residual
/// quantisers see differences of codes only, and are left to the tests above.
#[test]
fn every_index_comes_back() {
    for place in places() {
        for (name, entries) in SETTINGS {
            let config = settings(entries);
            let (k, d) = (config.model.num_vq_embeddings, config.model.vq_embed_dim);
            let (books, levels) =
                (config.quantiser.num_codebooks, config.quantiser.residual_levels);
            if levels > 1 {
                continue;
            }
            // Every part in another order.
            let all: Vec<Vec<u32>> =
                (0..books).map(|g| (0..k).map(|i| ((i + g) % k) as u32).collect()).collect();
            let names: Vec<String> = (0..books).map(|head| of_head("idx", head)).collect();
            let words: Vec<_> = names.iter().zip(&all).map(|(n, i)| (n.as_str(), &i[..])).collect();
            let mut table = Made::new((place.fresh)(), &config, (&[], &words), |s| {
                let idx: Result<Vec<_>, _> =
                    names.iter().map(|name| s.tape.input_idx(name, &[k])).collect();
                let codes = quantiser::build(&config).lookup(s, &idx?)?;
                s.tape.output("codes", codes)
            });
            let codes = table.floats("codes");
            drop(table);
            assert_eq!(codes.len(), k * d);
            let z = latents_on(&codes, &config);
            let mut made = Made::new((place.fresh)(), &config, (&[("z", &z)], &[]), |s| {
                let z = s.tape.input("z", &[k, d])?;
                let (idx, code) = quantiser::build(&config).quantise(s, z)?;
                name_all(s, "idx", &idx);
                s.tape.output("code", code)
            });
            let what = format!("{name} on {}", place.kind);
            for (name, all) in names.iter().zip(&all) {
                assert!(made.bits(name) == *all, "{what}: other indices for {name}");
            }
            assert!(made.floats("code") == codes, "{what}: other codes");
            let mut rows: Vec<Vec<u32>> = codes
                .chunks_exact(d / books)
                .step_by(books)
                .map(|row| row.iter().map(|e| e.to_bits()).collect())
                .collect();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), k, "{what}: indices of the same code");
        }
    }
}
