//! A codebook before the first step.

use super::{images, length, run_of, settings, state};
use crate::rig::{U, ok};
use vqforge::config::Distance;
use vqforge::model::quantiser::{CODEBOOK, CODEBOOK_PARAM, EMA_M, EMA_N, of_head};
use vqforge::model::{Scope, autoencoder, quantiser};
use vqforge::plan::{Kind, Options, Plan};
use vqforge::tape::Tape;
use vqforge::train::{Console, Job, Session};

/// What the codebook is searched for in all training images, and the codes that are found.
fn assignments(session: &mut Session, head: usize) -> (Vec<f32>, Vec<u32>) {
    let config = session.config.clone();
    let (mut tape, mut table) = (Tape::new(), session.store.table().clone());
    let mut s = Scope::new(&mut tape, &mut table);
    let all = images(IMAGES, ALIKE);
    let n = IMAGES - 1;
    let x = ok(s.tape.input("x", &all.batch_dims(n)));
    let z = ok(autoencoder::encode(&mut s, &config.model, x));
    let made = ok(quantiser::build(&config).training(&mut s, z));
    ok(tape.output("z", made.searches[head].z));
    ok(tape.output("idx", made.idx[head]));
    let plan = ok(Plan::compile(&mut session.store, &tape, &Options::default(), &mut |_, _| {}));
    let mut pixels = vec![0.0; n * all.image_len()];
    all.images(&(0..n as u32).collect::<Vec<_>>(), &mut pixels);
    pixels.iter_mut().for_each(|v| *v = *v * 2.0 - 1.0);
    ok(session.store.write_f32(ok(plan.input("x")), &pixels));
    ok(plan.run_lane(&mut session.store, 0, &Default::default()));
    let z = ok(session.store.read_f32(ok(plan.output("z"))));
    (z, ok(session.store.read_u32(ok(plan.output("idx")))))
}

const IMAGES: usize = 25;
/// Images from this one on are the same: latents come many times, and codes begin at the same ones.
const ALIKE: usize = 9;
/// More rounds than Lloyd's iteration takes here to stand still.
const ROUNDS: &str = "kmeans_iters=40";

/// Codes, the latents, their codes, and how often each is chosen.
struct Started {
    session: Session,
    codes: Vec<Vec<f32>>,
    z: Vec<f32>,
    idx: Vec<u32>,
    chosen: Vec<usize>,
}

fn start(entries: &[&str], head: usize) -> Started {
    let config = settings(&[entries, &[ROUNDS]].concat());
    let k = config.model.num_vq_embeddings;
    let d = config.model.vq_embed_dim / config.quantiser.num_codebooks;
    let (mut job, mut session) = run_of(config, images(IMAGES, ALIKE));
    ok(job.start(&mut session, &mut Console::new(true)));
    let codes = match entries.contains(&"kind=gradient") {
        true => {
            let index = session.store.table().find(CODEBOOK_PARAM).expect("a codebook");
            let average = ok(session.store.read_param(Kind::Ema, index));
            let codes = ok(session.store.read_param(Kind::Param, index));
            assert_eq!(average, codes, "evaluations use the average");
            codes
        }
        false => state(&mut session, &of_head(CODEBOOK, head)),
    };
    let (z, idx) = assignments(&mut session, head);
    let mut chosen = vec![0; k];
    idx.iter().for_each(|&i| chosen[i as usize] += 1);
    let codes = codes.chunks_exact(d).map(<[f32]>::to_vec).collect();
    Started { session, codes, z, idx, chosen }
}

/// After the last round codes are the means of the latents that choose them, or their directions;
/// N = n (for the tokens of a step) and m = N c, so that the first update begins with the same codes:
/// what it would make of the averages alone is c up to eps/N.
#[test]
fn averages_start_at_the_means() {
    for (entries, head) in [
        (&[] as &[&str], 0),
        (&["distance=cosine"], 0),
        (&["residual_levels=2"], 1),
        (&["num_codebooks=2"], 1),
    ] {
        let mut s = start(entries, head);
        let (n, m) = (
            state(&mut s.session, &of_head(EMA_N, head)),
            state(&mut s.session, &of_head(EMA_M, head)),
        );
        let config = &s.session.config;
        let cosine = config.quantiser.distance == Distance::Cosine;
        let (k, d, eps) = (n.len(), m.len() / n.len(), config.quantiser.ema_eps);
        let share = (config.train.batch * 4) as f64 / s.idx.len() as f64;
        let total: f64 = n.iter().map(|&n| f64::from(n)).sum();
        for (i, code) in s.codes.iter().enumerate() {
            let of = f64::from(n[i]);
            let want = s.chosen[i] as f64 * share;
            assert!((of - want).abs() <= 4.0 * U * want, "{entries:?} {i}: N {of}, chosen {want}");
            let rows = s.z.chunks_exact(d).zip(&s.idx).filter(|&(_, &idx)| idx as usize == i);
            let mut mean = vec![0.0; d];
            for (row, _) in rows {
                mean.iter_mut()
                    .zip(row)
                    .for_each(|(m, &z)| *m += f64::from(z) / s.chosen[i] as f64);
            }
            let size = match cosine {
                true => mean.iter().map(|m| m * m).sum::<f64>().sqrt(),
                false => 1.0,
            };
            // A sum of at most as many terms as there are latents, none much longer than the longest.
            let largest = s.z.iter().fold(0.0f32, |a, z| a.max(z.abs()));
            let tolerance = (s.idx.len() + 4) as f64 * U * f64::from(largest) / size;
            for (j, &e) in code.iter().enumerate() {
                let error = (f64::from(e) - mean[j] / size).abs();
                assert!(error <= tolerance, "{entries:?} {i}: {e} is not the mean {}", mean[j]);
                assert_eq!(m[i * d + j], n[i] * e, "{entries:?} {i}: m is not N c");
                let smoothed = (of + eps) / (total + k as f64 * eps) * total;
                let again = f64::from(m[i * d + j]) / smoothed;
                let close = eps / of + k as f64 * eps / total + 2.0 * U;
                let error = (again - f64::from(e)).abs();
                assert!(error <= close * f64::from(e.abs()), "{entries:?} {i}: {again} for {e}");
            }
            if cosine {
                let off = (length(code) - 1.0).abs();
                assert!(off <= 2.0 * U, "{i}: a code of length {}", length(code));
            }
        }
    }
}

/// Codes begin at latents, several at the same one: all but one of these have empty clusters, and
/// move to others.
#[test]
fn empty_clusters_are_seeded_again() {
    for entries in [&[] as &[&str], &["distance=cosine"], &["kind=gradient"]] {
        let s = start(entries, 0);
        let mut twins = 0;
        for (i, code) in s.codes.iter().enumerate() {
            assert!(s.chosen[i] > 0, "{entries:?}: code {i} has no latents");
            twins += s.codes[..i].iter().filter(|other| *other == code).count();
        }
        assert_eq!(twins, 0, "{entries:?}: codes are the same");
        // The premise: without a round the codes are latents as they come, and these come often.
        if entries.is_empty() {
            let none = settings(&["kmeans_iters=0"]);
            let (mut job, mut session) = run_of(none, images(IMAGES, ALIKE));
            ok(job.start(&mut session, &mut Console::new(true)));
            let codes = state(&mut session, CODEBOOK);
            let d = session.config.model.vq_embed_dim;
            let mut rows: Vec<Vec<u32>> =
                codes.chunks_exact(d).map(|r| r.iter().map(|e| e.to_bits()).collect()).collect();
            rows.sort_unstable();
            rows.dedup();
            assert!(rows.len() < codes.len() / d, "no code comes twice");
        }
    }
}
