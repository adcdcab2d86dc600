//! The optimiser's launches: gradient norm, control words, AdamW over segments.

use super::compile::Planned;
use super::store::{ALIGN, Store};
use crate::device::{Launch, Range};
use crate::error::Result;
use crate::kernels::adamw::AdamW;
use crate::kernels::grad_ctl::{GradCtl, LossScaling};
use crate::kernels::grad_norm::GradNormPartials;
use crate::tape::{GOOD_STEPS, LOSS_SCALE, Precision};
use std::sync::Arc;

/// AdamW (Loshchilov & Hutter 2019) with gradient clipping by global norm and an exponential moving
/// average of the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimiser {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f32,
    pub weight_decay: f32,
    /// Largest gradient norm; 0: no clipping.
    pub clip: f32,
    /// Keep an average of the weights (its decay is a step scalar).
    pub average: bool,
}

impl Default for Optimiser {
    fn default() -> Self {
        Optimiser {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            average: false,
        }
    }
}

/// Partial sums of squares a segment.
const PARTIALS: usize = 128;

/// The control words of a group of parameters: its gradient norm, and whether and how to step.
pub(super) fn control_words(store: &mut Store, group: &str) -> Result<Range> {
    store.state(&format!("{group}ctl"), 4)
}

/// Gradient norm over the segments of a group -> the control words (norm, apply, factor, skipped).
pub(super) fn control(
    store: &mut Store,
    optimiser: &Optimiser,
    precision: Precision,
    group: &str,
) -> Result<Vec<Planned>> {
    let segments = store.group_segments(group);
    let count = segments.len() * PARTIALS;
    let partials = store.state(&format!("{group}grad_norm"), count)?;
    let control = control_words(store, group)?;
    let mut list = vec![];
    for (i, s) in segments.iter().enumerate() {
        let own = Range { offset: i * PARTIALS, len: PARTIALS, ..partials };
        let grad = Range { buffer: s.grad, offset: 0, len: s.words };
        list.push(Planned {
            launch: Launch {
                kernel: Arc::new(GradNormPartials { n: s.words, partials: PARTIALS }),
                binds: vec![grad, own],
            },
            writes: vec![false, true],
            op: "grad_norm",
        });
    }
    let mut binds = vec![partials, control];
    let scaling = (precision == Precision::Mixed).then(LossScaling::default);
    if scaling.is_some() {
        binds.extend([loss_scale(store)?, store.state(GOOD_STEPS, 1)?]);
    }
    list.push(Planned {
        writes: (0..binds.len()).map(|i| i >= 1).collect(),
        launch: Launch {
            kernel: Arc::new(GradCtl { p: count, clip: optimiser.clip, scaling }),
            binds,
        },
        op: "grad_norm",
    });
    Ok(list)
}

/// The state of loss scaling, at its start unless a step or a checkpoint has set it.
fn loss_scale(store: &mut Store) -> Result<Range> {
    let range = store.state(LOSS_SCALE, 1)?;
    if store.read_f32(range)? == [0.0] {
        store.write_f32(range, &[LossScaling::START])?;
    }
    Ok(range)
}

/// One AdamW dispatch a segment.
pub(super) fn apply(store: &mut Store, optimiser: &Optimiser, group: &str) -> Result<Vec<Planned>> {
    let control = control_words(store, group)?;
    let mut list = vec![];
    for s in store.group_segments(group) {
        let all = |buffer| Range { buffer, offset: 0, len: s.words };
        let decay = Range { buffer: s.decay, offset: 0, len: s.words / ALIGN };
        let mut binds = vec![all(s.grad), decay, control, all(s.param), all(s.m), all(s.v)];
        if optimiser.average {
            binds.push(all(s.ema));
        }
        let kernel = AdamW {
            n: s.words,
            beta1: optimiser.beta1,
            beta2: optimiser.beta2,
            eps: optimiser.eps,
            weight_decay: optimiser.weight_decay,
            ema: optimiser.average,
        };
        let writes = (0..binds.len()).map(|i| i >= 3).collect();
        list.push(Planned {
            launch: Launch { kernel: Arc::new(kernel), binds },
            writes,
            op: "adamw",
        });
    }
    Ok(list)
}
