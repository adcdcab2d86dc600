//! What a compute pass is made of: launches with everything resolved, in portions that end before
//! a driver's watchdog barks.

use std::iter::Peekable;

/// Estimated work per submission, in (pessimistic) seconds, kept below the operating systems' GPU
/// watchdogs of about two seconds.
const SUBMISSION_SECONDS: f64 = 0.5;
const SLOW_FLOPS: f64 = 2.0e11;
const SLOW_BYTES: f64 = 2.0e10;

/// One launch, ready to be encoded.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroup,
    pub grid: [u32; 3],
    /// Estimated, on a slow GPU.
    pub seconds: f64,
    pub name: &'static str,
}

/// Time that work takes on a slow GPU.
pub(super) fn slow_seconds(cost: crate::kernels::Cost) -> f64 {
    cost.flops as f64 / SLOW_FLOPS + cost.bytes as f64 / SLOW_BYTES
}

/// Encodes one submission's worth of `dispatches`, at least one; the last one's name and how many.
pub(super) fn encode<'a>(
    pass: &mut wgpu::ComputePass<'_>,
    dispatches: &mut Peekable<impl Iterator<Item = &'a Dispatch>>,
) -> (&'static str, u64) {
    let (mut last, mut done) = ("nothing", 0);
    let mut seconds = 0.0;
    let mut current: Option<&wgpu::ComputePipeline> = None;
    while let Some(d) =
        dispatches.next_if(|d| done == 0 || seconds + d.seconds <= SUBMISSION_SECONDS)
    {
        seconds += d.seconds;
        if current != Some(&d.pipeline) {
            pass.set_pipeline(&d.pipeline);
            current = Some(&d.pipeline);
        }
        pass.set_bind_group(0, &d.group, &[]);
        pass.dispatch_workgroups(d.grid[0], d.grid[1], d.grid[2]);
        last = d.name;
        done += 1;
    }
    (last, done)
}
