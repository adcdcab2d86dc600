//! The optimiser's formula.

use super::{STEPS, with_lanes};
use crate::compare::within_bound;
use crate::engine::{self, Run, Tiny};
use vqforge::kernels::{Bounded, Real};
use vqforge::plan::Kind;

/// Clipping by the norm of the mean gradient, then AdamW (Loshchilov & Hutter 2019, algorithm 2) with
/// bias corrections and decoupled decay, then the weight average: recomputed from the gradients that
/// the device holds, within the rounding that the formula itself implies.
#[test]
fn the_update_follows_its_formula() {
    for (tiny, lanes) in [(Tiny::VqVae, 3), (Tiny::Denoiser, 1), (Tiny::Tangle, 4)] {
        let mut run = Run::new(tiny, engine::cpu(2), true, with_lanes(lanes));
        let specs = run.store.table().specs().to_vec();
        let mut clipped = 0;
        for t in 1..=STEPS as i32 {
            let mut read = |kind: Kind| -> Vec<Vec<f32>> {
                (0..specs.len()).map(|i| run.store.read_param(kind, i).expect("read")).collect()
            };
            let before = [Kind::Param, Kind::M, Kind::V, Kind::Ema].map(&mut read);
            run.advance();
            let mut read = |kind: Kind| -> Vec<Vec<f32>> {
                (0..specs.len()).map(|i| run.store.read_param(kind, i).expect("read")).collect()
            };
            let grads = read(Kind::Grad);
            let got = [Kind::Param, Kind::M, Kind::V, Kind::Ema].map(&mut read);

            let train = &run.config.train;
            let mean = Bounded::of(1.0 / lanes as f64);
            let mut squares = Bounded::zero();
            for &g in grads.iter().flatten() {
                squares += Bounded::exact(g) * Bounded::exact(g);
            }
            let norm = mean * squares.sqrt();
            let clips = train.clip > 0.0 && norm.value() > train.clip;
            clipped += usize::from(clips);
            let scale = match clips {
                true => Bounded::of(train.clip) / (norm + Bounded::of(1e-6)),
                false => Bounded::one(),
            };
            let of = Bounded::of;
            let rate = train.lr * (f64::from(t) / train.warmup as f64).min(1.0);
            let [b1, b2] = train.betas;
            let average = train.ema_decay.min(f64::from(t) / (9.0 + f64::from(t)));
            for (i, spec) in specs.iter().enumerate() {
                let decay = if spec.decay { train.weight_decay } else { 0.0 };
                let mut want: [Vec<Bounded>; 4] = Default::default();
                for j in 0..spec.shape.elements() {
                    let [p, m, v, ema] = before.each_ref().map(|b| Bounded::exact(b[i][j]));
                    let g = scale * mean * Bounded::exact(grads[i][j]);
                    let m = of(b1) * m + of(1.0 - b1) * g;
                    let v = of(b2) * v + of(1.0 - b2) * g * g;
                    let mhat = m / of(1.0 - b1.powi(t));
                    let vhat = v / of(1.0 - b2.powi(t));
                    let p = p - of(rate) * of(decay) * p;
                    let p = p - of(rate) * mhat / (vhat.sqrt() + of(train.eps));
                    let ema = ema + of(1.0 - average) * (p - ema);
                    want.iter_mut().zip([p, m, v, ema]).for_each(|(w, x)| w.push(x));
                }
                for ((kind, got), want) in ["param", "m", "v", "ema"].iter().zip(&got).zip(&want) {
                    within_bound(&got[i], want)
                        .unwrap_or_else(|e| panic!("{tiny:?} step {t}, {kind} {}: {e}", spec.name));
                }
            }
        }
        let expected = run.config.train.clip > 0.0;
        assert_eq!(clipped > 0, expected, "{tiny:?}: whether the clip was reached");
    }
}
