//! What a kernel form reads and writes, in binding order.

/// Storage bindings a kernel may have: WebGPU's default limit.
pub const MAX_BINDS: usize = 8;

/// One storage binding. Integer bindings stay `u32` in every form.
#[derive(Debug)]
pub enum Bind<'a, T> {
    In(&'a [T]),
    InU(&'a [u32]),
    Out(&'a mut [T]),
    OutU(&'a mut [u32]),
    /// Unused entry of the fixed array.
    None,
}

/// The scalars that change from step to step: one small uniform (`shaders/lib/step.wgsl`), written
/// once a step.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct StepScalars {
    /// Steps done before this one.
    pub step: u32,
    pub seed_lo: u32,
    pub seed_hi: u32,
    /// Global index of this lane's first sample: `step * batch + lane * lane_batch`.
    pub sample_base: u32,
    /// Learning rate of this step.
    pub lr: f32,
    /// `1 / (1 - beta1^t)` and `1 / (1 - beta2^t)`, computed on the host in f64.
    pub bias1: f32,
    pub bias2: f32,
    /// Decay of the weight average at this step.
    pub ema_decay: f32,
    /// `1 / lanes`: the factor from summed to mean gradients.
    pub inv_lanes: f32,
    /// Row of the scalar ring this step writes.
    pub ring_row: u32,
    /// Of samplers: see [`super::draw_tokens`].
    pub temperature: f32,
    pub guidance: f32,
    /// Share of the probability that draws are from, the likeliest tokens first; 1: all of it.
    pub top_p: f32,
    /// Number of the likeliest tokens that draws are from; 0: all of them.
    pub top_k: u32,
    /// Log-probabilities are multiplied by 1 + `purity` times the row's largest probability.
    pub purity: f32,
}

impl Default for StepScalars {
    fn default() -> Self {
        StepScalars {
            step: 0,
            seed_lo: 0,
            seed_hi: 0,
            sample_base: 0,
            lr: 0.0,
            bias1: 1.0,
            bias2: 1.0,
            ema_decay: 0.0,
            inv_lanes: 1.0,
            ring_row: 0,
            temperature: 1.0,
            guidance: 1.0,
            top_p: 1.0,
            top_k: 0,
            purity: 0.0,
        }
    }
}

/// Bindings and step scalars of one launch.
#[derive(Debug)]
pub struct Io<'a, T> {
    pub binds: [Bind<'a, T>; MAX_BINDS],
    pub step: StepScalars,
}

impl<'a, T> Io<'a, T> {
    pub fn new(step: StepScalars) -> Self {
        Io { binds: [const { Bind::None }; MAX_BINDS], step }
    }
}

/// A device handed a kernel bindings of the wrong kind. Reflection is checked when a plan is built,
/// so this is a defect of the engine, never of its input.
#[cold]
pub fn wrong_binds(kernel: &str) -> ! {
    unreachable!("kernel {kernel}: bindings differ from its shader")
}
