//! Devices: a GPU through wgpu, or the CPU. Both hold buffers of 32-bit words and run prepared
//! lists of kernel launches; neither knows what the kernels are for.

mod cpu;
mod features;
mod gpu;
mod gpu_clock;
mod gpu_pass;
mod gpu_pipeline;
pub mod scratch;
mod select;
mod timing;
pub mod tuner;
mod widen;

pub use cpu::CpuDevice;
pub use gpu::GpuDevice;
pub use select::{AdapterSummary, list, noop, open};
pub use timing::{Flush, Sample, Timer};
pub use tuner::Tuner;

use crate::error::Result;
use crate::kernels::{Caps, Kernel, StepScalars};
use std::sync::Arc;

/// Index of a device buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// A prepared list of launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListId(pub u32);

/// How many buffers and lists a device had at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    buffers: usize,
    lists: usize,
    /// [`Stats::buffers`] and [`Stats::buffer_bytes`].
    counted: (u64, u64),
}

/// A range of a buffer, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub buffer: BufferId,
    pub offset: usize,
    pub len: usize,
}

/// One kernel with its storage bindings resolved.
#[derive(Debug, Clone)]
pub struct Launch {
    pub kernel: Arc<dyn Kernel>,
    pub binds: Vec<Range>,
}

/// What a plan must respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_binding_bytes: u64,
    pub max_buffer_bytes: u64,
}

/// What a device did so far; the difference of two snapshots is the cost of what lay between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub buffers: u64,
    pub buffer_bytes: u64,
    pub pipelines: u64,
    pub dispatches: u64,
    pub submits: u64,
    /// CPU time spent encoding and submitting.
    pub encode_ns: u64,
}

pub trait Device: Send {
    /// Adapter and backend in one line.
    fn describe(&self) -> String;
    /// "cpu" or "gpu".
    fn kind(&self) -> &'static str;
    /// Driver and its version: measurements are kept by it.
    fn driver(&self) -> String;
    /// Which variants of the kernels run here.
    fn caps(&self) -> &Caps;
    fn limits(&self) -> Limits;
    /// Threads of this process that share the work; `None` where it is done elsewhere.
    fn host_threads(&self) -> Option<usize> {
        None
    }
    fn stats(&self) -> Stats;
    /// A zeroed buffer.
    fn create_buffer(&mut self, words: usize, label: &str) -> Result<BufferId>;
    fn write(&mut self, buffer: BufferId, offset: usize, words: &[u32]) -> Result<()>;
    /// Waits for all submitted work, then copies out.
    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u32]) -> Result<()>;
    /// Compiles the kernels and resolves all bindings; `run` then allocates nothing.
    /// `progress(done, all)` is called while pipelines compile.
    fn prepare(
        &mut self,
        launches: &[Launch],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ListId>;
    /// How this device runs `kernel`: itself, or the variant that the tuner measured to be faster.
    /// `half_products`: factors of products may be rounded to f16.
    fn choose(
        &mut self,
        kernel: &Arc<dyn Kernel>,
        _half_products: bool,
    ) -> Result<Arc<dyn Kernel>> {
        Ok(kernel.clone())
    }
    /// Hands the device its tuner; one without variants has no use for it.
    fn set_tuner(&mut self, _tuner: Tuner) {}
    fn tuner(&self) -> Option<&Tuner> {
        None
    }
    /// What [`Device::release`] goes back to.
    fn mark(&self) -> Mark;
    /// Drops the buffers and lists made since; compiled pipelines stay.
    fn release(&mut self, mark: Mark);
    /// Runs lists one after another: one submission on a GPU.
    fn run(&mut self, lists: &[ListId], step: &StepScalars) -> Result<()>;
    /// The clock that [`Device::time`] reads.
    fn timer(&self) -> Timer {
        Timer::Wall
    }
    /// Runs a list `samples` times and measures each; the device is idle before and after every
    /// one. The first run of a list should not be among them: drivers compile lazily, scratch
    /// buffers grow.
    fn time(&mut self, list: ListId, step: &StepScalars, samples: usize) -> Result<Vec<Sample>> {
        timing::by_wall_clock(self, list, step, samples)
    }
    /// Drops all buffers and lists; compiled pipelines stay.
    fn clear(&mut self);
    /// Waits for all submitted work; reports a lost device.
    fn finish(&mut self) -> Result<()>;
}
