//! How large the losses of each step of a chain are: what [`super::draw_steps`] draws by.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, float, grid_1d, int, wrong_binds};
use crate::naive_forms;

/// What is kept of a running mean square at each draw, and the share of the new square (VQ-Diffusion's
/// released code).
const KEPT: f32 = 0.9;
const NEW: f32 = 0.1;

/// h_t <- .9 h_t + .1 L^2 and n_t <- n_t + 1 for every sample of step t and loss L, one after the other in
/// the order of the batch. Nothing changes unless ctl[1] > 0 ([`super::grad_ctl::GradCtl`]): a loss that
/// is not finite would stay. A count stops at 2^24, which is often enough.
///
/// Bindings: losses [2, batch] ([`super::sample_losses`]), ctl [4], history [steps] and count [steps]
/// (both read and written).
#[derive(Debug, Clone)]
pub struct LossHistory {
    pub batch: usize,
    pub steps: usize,
}

impl LossHistory {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(losses), Bind::In(ctl), Bind::Out(history), Bind::Out(count), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let apply = ctl[1] > T::zero();
        if !apply {
            return;
        }
        let (losses, times) = losses.split_at(self.batch);
        for (&loss, time) in losses.iter().zip(times) {
            let t = time.value() as usize;
            history[t] = T::of(KEPT.into()) * history[t] + T::of(NEW.into()) * loss * loss;
            count[t] += T::one();
        }
    }
}

impl Kernel for LossHistory {
    fn name(&self) -> &'static str {
        "loss_history"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/loss_history.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("STEPS", self.steps),
            int("BATCH", self.batch),
            float("KEPT", KEPT),
            float("NEW", NEW),
        ]
    }
    fn lens(&self) -> Vec<usize> {
        vec![2 * self.batch, 4, self.steps, self.steps]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.steps, 64)
    }
    fn cost(&self) -> Cost {
        let (batch, steps) = (self.batch as u64, self.steps as u64);
        Cost { flops: 5 * batch + batch * steps, bytes: 8 * batch + 16 * steps }
    }
    fn rounds(&self) -> usize {
        self.batch
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (batch, steps, apply) in
        [(1, 1, 1.0), (9, 2, 1.0), (41, 100, 1.0), (300, 65, 1.0), (16, 10, 0.0)]
    {
        // Every step several times over, its losses of unlike sizes.
        let loss = |b: usize| 1.5 * (b % 7) as f32 + 0.25;
        let times = (0..batch).map(|b| (b * b % steps) as f32);
        let losses = (0..batch).map(loss).chain(times).collect();
        let ctl = Fill::F32(vec![1.0, apply, 1.0, 0.0]);
        let fills = vec![Fill::F32(losses), ctl, Fill::Uniform(0.0, 9.0), Fill::Ints(0, 20)];
        let name = format!("{batch} of {steps} apply={apply}");
        cases.push(Case::new(name, LossHistory { batch, steps }, fills));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::StepScalars;

    /// Three losses of one step: .9 (.9 (.9 h + .1 a^2) + .1 b^2) + .1 c^2, the last weighing most.
    #[test]
    fn losses_count_in_the_order_of_the_batch() {
        let run = |losses: [f64; 3], apply: f64| {
            let (mut history, mut count) = ([5.0, 1000.0, 3.0], [7.0, 1.0, 2.0]);
            let ctl = [0.0, apply, 1.0, 0.0];
            let losses = [&losses[..], &[1.0; 3]].concat();
            let mut io = Io::new(StepScalars::default());
            io.binds[0] = Bind::In(&losses);
            io.binds[1] = Bind::In(&ctl);
            io.binds[2] = Bind::Out(&mut history);
            io.binds[3] = Bind::Out(&mut count);
            LossHistory { batch: 3, steps: 3 }.naive64(&mut io);
            (history, count)
        };
        let (history, count) = run([1.0, 2.0, 10.0], 1.0);
        let (kept, new) = (f64::from(KEPT), f64::from(NEW));
        let want = kept.powi(3) * 1000.0 + kept * kept * new + kept * new * 4.0 + new * 100.0;
        assert!((history[1] - want).abs() < 1e-12 * want, "{history:?}");
        assert_eq!((history[0], history[2], count), (5.0, 3.0, [7.0, 4.0, 2.0]));
        assert!(run([10.0, 2.0, 1.0], 1.0).0[1] < history[1] - 1.8, "the order is lost");
        assert_eq!(run([1.0, f64::NAN, 3.0], 0.0), ([5.0, 1000.0, 3.0], [7.0, 1.0, 2.0]));
    }
}
