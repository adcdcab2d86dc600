//! The control words of an optimiser step: gradient norm, whether to apply the step at all, clip
//! factor, and how many steps were skipped. In mixed precision also the scale of the loss.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, flag, float, int, wrong_binds,
};
use crate::naive_forms;

/// Bindings: partials [p] (sums of squares of the gradients summed over the lanes), ctl [4]:
///
/// * ctl[0] = norm of the mean gradient = `inv_lanes` sqrt(sum of partials);
/// * ctl[1] = 1 if the norm is finite, else 0: then nothing downstream changes any state;
/// * ctl[2] = min(1, clip / (norm + 1e-6)), the factor of `torch.nn.utils.clip_grad_norm_`;
///   1 without clipping, 0 in a skipped step;
/// * ctl[3] += 1 in a skipped step.
///
/// With [`LossScaling`] further bindings scale [1], good [1]. The gradients are `scale` times too
/// large, so the norm is divided by it, and so is ctl[2], the factor that the optimiser takes them
/// by. Then the scale is halved after a skipped step and doubled after so many good ones in a row.
#[derive(Debug, Clone)]
pub struct GradCtl {
    pub p: usize,
    /// Largest norm; <= 0: no clipping.
    pub clip: f32,
    pub scaling: Option<LossScaling>,
}

/// Dynamic loss scaling (Micikevicius et al. 2018, section 3.2) with the rates of PyTorch's
/// `GradScaler`: the largest power of two at which no gradient overflows, found by trying. All
/// factors are powers of two, so that scaling alone changes no bit of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossScaling {
    /// Good steps in a row after which the scale is doubled.
    pub interval: u32,
}

impl LossScaling {
    /// Scale of the first step.
    pub const START: f32 = 65_536.0;
    /// Below this, gradients that overflow do so by themselves.
    pub const LEAST: f32 = 1.0;
    /// Far above what f16 gradients can be scaled by; keeps f32 ones of a vanishing loss finite.
    pub const MOST: f32 = 16_777_216.0;
}

impl Default for LossScaling {
    fn default() -> Self {
        LossScaling { interval: 2000 }
    }
}

impl GradCtl {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(partials), Bind::Out(ctl), more @ ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (mut one, mut none) = ([T::one()], [T::zero()]);
        let (scale, good) = match (self.scaling, more) {
            (None, _) => (&mut one[0], &mut none[0]),
            (_, [Bind::Out(scale), Bind::Out(good), ..]) => (&mut scale[0], &mut good[0]),
            _ => wrong_binds(self.name()),
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
        let unscale = T::one() / *scale;
        let norm = T::of(io.step.inv_lanes.into()) * unscale * sum.sqrt();
        let factor = T::of(self.clip.into()) / (norm + T::of(1e-6));
        let clips = self.clip > 0.0 && factor < T::one();
        ctl[0] = norm;
        ctl[1] = if finite { T::one() } else { T::zero() };
        ctl[2] = match (finite, clips) {
            (false, _) => T::zero(),
            (true, true) => unscale * factor,
            (true, false) => unscale,
        };
        if !finite {
            ctl[3] += T::one();
        }
        let Some(scaling) = self.scaling else { return };
        *good += T::one();
        if !finite {
            let halved = (0.5 * scale.value()).max(LossScaling::LEAST.into());
            (*scale, *good) = (T::of(halved), T::zero());
        } else if good.value() >= f64::from(scaling.interval) {
            let doubled = (2.0 * scale.value()).min(LossScaling::MOST.into());
            (*scale, *good) = (T::of(doubled), T::zero());
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
        let mut consts = vec![flag("CLIPS", clips), flag("SCALED", self.scaling.is_some())];
        if clips {
            consts.push(float("CLIP", self.clip));
        }
        if let Some(scaling) = self.scaling {
            consts.push(int("INTERVAL", scaling.interval as usize));
            consts.push(float("LEAST", LossScaling::LEAST));
            consts.push(float("MOST", LossScaling::MOST));
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.p as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let scaling = self.scaling.map_or(vec![], |_| vec![1, 1]);
        [vec![self.p, 4], scaling].concat()
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
                GradCtl { p, clip, scaling: None },
                vec![squares(), ctl()],
            )
            .with_step(lanes(inv_lanes)),
        );
    }
    let holes = [("NaN", f32::NAN), ("infinity", f32::INFINITY), ("overflow", 2.0e38)];
    for (what, hole) in holes {
        let mut partials = vec![1.0; 300];
        (partials[7], partials[270]) = (hole, hole);
        let kernel = GradCtl { p: 300, clip: 1.0, scaling: None };
        let fills = vec![Fill::F32(partials.clone()), ctl()];
        cases.push(Case::new(what, kernel.clone(), fills));
        // An overflow halves the scale, but not below 1.
        for (scale, good) in [(65_536.0, 7.0), (1.0e9, 0.0), (1.0, 0.0)] {
            let scaling = Some(LossScaling { interval: 8 });
            let fills = vec![
                Fill::F32(partials.clone()),
                ctl(),
                Fill::F32(vec![scale]),
                Fill::F32(vec![good]),
            ];
            let name = format!("{what} scale={scale}");
            cases.push(Case::new(name, GradCtl { scaling, ..kernel.clone() }, fills));
        }
    }
    for (clip, scale, good) in
        [(0.0, 1024.0, 3.0), (1.0, 65_536.0, 7.0), (1.0e-3, 0.5, 0.0), (1.0, 16_777_216.0, 7.0)]
    {
        let kernel = GradCtl { p: 300, clip, scaling: Some(LossScaling { interval: 8 }) };
        let large = Fill::Uniform(0.0, 1.0e9);
        let fills = vec![large, ctl(), Fill::F32(vec![scale]), Fill::F32(vec![good])];
        let case = Case::new(format!("clip={clip} scale={scale} good={good}"), kernel, fills);
        cases.push(case.with_step(lanes(0.5)));
    }
    cases
}
