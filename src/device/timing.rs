//! How long a prepared list takes, and how to empty the caches between two measurements.

use super::{Device, Launch, ListId, Range};
use crate::error::Result;
use crate::kernels::StepScalars;
use crate::kernels::fill::FillWord;
use cpu_time::ProcessTime;
use std::sync::Arc;
use std::time::Instant;

/// What [`Device::time`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timer {
    /// The GPU's own clock at both ends of a compute pass: submission and waiting are left out.
    Timestamps,
    /// The host's clock, from before the submission until the device has finished.
    Wall,
}

/// One measured run of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// By the clock of [`Device::timer`].
    pub seconds: f64,
    /// Processor time of all threads of this process meanwhile. On a machine that others use too,
    /// this divided by the threads says more about a CPU device (or a software GPU) than the clock
    /// on the wall; of a real GPU it says nothing.
    pub cpu_seconds: f64,
}

/// Processor time of this process so far; absent where the system does not tell.
pub(super) struct CpuClock(Option<ProcessTime>);

impl CpuClock {
    pub(super) fn start() -> Self {
        CpuClock(ProcessTime::try_now().ok())
    }

    /// Seconds since the start, NaN where the system does not tell.
    pub(super) fn seconds(&self) -> f64 {
        let now = ProcessTime::try_now().ok();
        match (self.0, now) {
            (Some(start), Some(now)) => now.duration_since(start).as_secs_f64(),
            _ => f64::NAN,
        }
    }
}

/// Samples by the host's clock.
pub(super) fn by_wall_clock(
    device: &mut (impl Device + ?Sized),
    list: ListId,
    step: &StepScalars,
    samples: usize,
) -> Result<Vec<Sample>> {
    let mut all = Vec::with_capacity(samples);
    for _ in 0..samples {
        device.finish()?;
        let (wall, cpu) = (Instant::now(), CpuClock::start());
        device.run(&[list], step)?;
        device.finish()?;
        all.push(Sample { seconds: wall.elapsed().as_secs_f64(), cpu_seconds: cpu.seconds() });
    }
    Ok(all)
}

/// Writes a buffer larger than the last cache level, so that what was there before has to be
/// fetched from memory again.
#[derive(Debug, Clone, Copy)]
pub struct Flush {
    list: ListId,
}

impl Flush {
    /// A flush of `bytes`, at most what the device binds at once. 128 MiB exceed the last cache of
    /// most GPUs and of a processor's share.
    pub fn new(device: &mut dyn Device, bytes: u64) -> Result<Self> {
        let limits = device.limits();
        let bytes = bytes.min(limits.max_binding_bytes).min(limits.max_buffer_bytes);
        let n = (bytes / 16 * 4) as usize;
        let buffer = device.create_buffer(n, "cache flush")?;
        let launch = Launch {
            kernel: Arc::new(FillWord { n, bits: 0 }),
            binds: vec![Range { buffer, offset: 0, len: n }],
        };
        Ok(Flush { list: device.prepare(&[launch], &mut |_, _| {})? })
    }

    /// Empties the caches; the device is idle afterwards.
    pub fn run(&self, device: &mut dyn Device) -> Result<()> {
        device.run(&[self.list], &StepScalars::default())?;
        device.finish()
    }
}
