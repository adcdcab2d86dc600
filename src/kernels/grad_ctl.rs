//! The control words of an optimiser step: gradient norm, whether to apply the step at all, clip
//! factor, and how many steps were skipped.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, flag, float, wrong_binds,
};
use crate::naive_forms;

/// Bindings: partials [p] (sums of squares of the gradients summed over the lanes), ctl [4]:
///
/// * ctl[0] = norm of the mean gradient = `inv_lanes` sqrt(sum of partials);
/// * ctl[1] = 1 if the norm is finite, else 0: then nothing downstream changes any state;
/// * ctl[2] = min(1, clip / (norm + 1e-6)), the factor of `torch.nn.utils.clip_grad_norm_`;
///   1 without clipping, 0 in a skipped step;
/// * ctl[3] += 1 in a skipped step.
#[derive(Debug, Clone)]
pub struct GradCtl {
    pub p: usize,
    /// Largest norm; <= 0: no clipping.
    pub clip: f32,
}

impl GradCtl {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(partials), Bind::Out(ctl), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let mut sum = T::zero();
        for &partial in partials.iter() {
            sum += partial;
        }
        // The device sums in f32: a sum beyond f32 is infinite in any precision.
        if sum.value() > f32::MAX.into() {
            sum = T::of(f64::INFINITY);
        }
        let finite = sum.value().is_finite();
        let norm = T::of(io.step.inv_lanes.into()) * sum.sqrt();
        let scale = T::of(self.clip.into()) / (norm + T::of(1e-6));
        let clips = self.clip > 0.0 && scale < T::one();
        ctl[0] = norm;
        ctl[1] = if finite { T::one() } else { T::zero() };
        ctl[2] = match (finite, clips) {
            (false, _) => T::zero(),
            (true, true) => scale,
            (true, false) => T::one(),
        };
        if !finite {
            ctl[3] += T::one();
        }
    }
}

impl Kernel for GradCtl {
    fn name(&self) -> &'static str {
        "grad_ctl"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/grad_ctl.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let clips = self.clip > 0.0;
        let mut consts = vec![flag("CLIPS", clips)];
        if clips {
            consts.push(float("CLIP", self.clip));
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.p as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.p, 4]
    }
    fn grid(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn cost(&self) -> Cost {
        Cost { flops: self.p as u64, bytes: 4 * self.p as u64 }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let lanes = |inv_lanes| StepScalars { inv_lanes, ..StepScalars::default() };
    let ctl = || Fill::F32(vec![9.0, 9.0, 9.0, 2.0]);
    let squares = || Fill::Uniform(0.0, 3.0);
    let mut cases = vec![];
    for (p, clip, inv_lanes) in
        [(1, 0.0, 1.0), (41, 1.0, 0.25), (256, 1.0e9, 1.0), (700, 0.5, 1.0 / 3.0)]
    {
        cases.push(
            Case::new(
                format!("p={p} clip={clip} inv_lanes={inv_lanes}"),
                GradCtl { p, clip },
                vec![squares(), ctl()],
            )
            .with_step(lanes(inv_lanes)),
        );
    }
    let holes = [("NaN", f32::NAN), ("infinity", f32::INFINITY), ("overflow", 2.0e38)];
    for (what, hole) in holes {
        let mut partials = vec![1.0; 300];
        (partials[7], partials[270]) = (hole, hole);
        let kernel = GradCtl { p: 300, clip: 1.0 };
        cases.push(Case::new(what, kernel, vec![Fill::F32(partials), ctl()]));
    }
    cases
}
