//! The roofline of a device, measured by two kernels that do nothing else.

use super::measure::Bench;
use crate::device::{Device, Sample};
use crate::error::Result;
use crate::kernels::copy::Copy;
use crate::kernels::fma_probe::FmaProbe;
use crate::kernels::{Case, Cost, Fill};
use serde::{Deserialize, Serialize};

/// What nothing on this device exceeds for long: the best sample of each probe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Floating-point operations a second in fused multiply-adds from registers, two each.
    pub flops: f64,
    /// Bytes a second read and written in copying a buffer far larger than the caches.
    pub bytes: f64,
}

impl Peaks {
    /// The time in which no implementation of this work can be beaten, in seconds: whichever of its
    /// arithmetic and its memory traffic takes longer.
    pub fn bound(&self, cost: Cost) -> f64 {
        (cost.flops as f64 / self.flops).max(cost.bytes as f64 / self.bytes)
    }

    /// Share of the roofline that `seconds` for this work reach. Above 1 where results of the last
    /// cache count as written although they have not reached the memory yet.
    pub fn share(&self, cost: Cost, seconds: f64) -> f64 {
        self.bound(cost) / seconds
    }

    /// Measures both, in at most about `seconds` (more on a device that takes longer for the
    /// smallest probe).
    pub fn measure(device: &mut dyn Device, seconds: f64) -> Result<Self> {
        let mut flops = 0.0f64;
        for chains in FmaProbe::CHAINS {
            let rate = fma_rate(device, chains, seconds / 5.0)?;
            flops = flops.max(rate);
        }
        Ok(Peaks { flops, bytes: copy_rate(device, seconds / 5.0)? })
    }
}

/// Seconds of the best of the samples of `case` that fit about `seconds`.
///
/// Where this process does the work it is processor time over threads: it does not grow while other
/// programs take a core away, so it is what all threads reach together when none does.
fn best(device: &mut dyn Device, case: &Case, seconds: f64) -> Result<f64> {
    let threads = device.host_threads();
    let mut bench = Bench::prepare(device, case, std::slice::from_ref(&case.kernel), None)?;
    let first = bench.warm_up()?;
    let samples = bench.interleaved((seconds / first).clamp(3.0, 30.0) as usize)?.remove(0);
    let time = |s: &Sample| match threads {
        Some(threads) if s.cpu_seconds > 0.0 => s.cpu_seconds / threads as f64,
        _ => s.seconds,
    };
    Ok(samples.iter().map(time).fold(f64::INFINITY, f64::min))
}

fn fma_rate(device: &mut dyn Device, chains: usize, seconds: f64) -> Result<f64> {
    // A million invocations fill any GPU.
    const N: usize = 1 << 22;
    let case = |rounds| {
        let factors = Fill::F32(vec![0.4, 0.6]);
        let fills = vec![Fill::Uniform(0.5, 1.5), factors, Fill::Poison];
        Case::new("fma probe", FmaProbe { n: N, chains, rounds }, fills)
    };
    // As many rounds as make a run long beside its start, and short beside the time there is.
    let once = best(device, &case(16), 0.0)?;
    let longer = (seconds / 10.0).min(0.02) / once;
    let case = case(((16.0 * longer) as usize).next_multiple_of(4).clamp(16, 16_384));
    Ok(case.kernel.cost().flops as f64 / best(device, &case, seconds)?)
}

fn copy_rate(device: &mut dyn Device, seconds: f64) -> Result<f64> {
    // 128 MiB read and 128 MiB written, or what the device binds.
    let limits = device.limits();
    let bytes = limits.max_binding_bytes.min(limits.max_buffer_bytes).min(128 << 20);
    let n = (bytes / 16 * 4) as usize;
    let case =
        Case::new("copy", Copy { n, accum: false }, vec![Fill::Uniform(0.0, 1.0), Fill::Poison]);
    Ok(case.kernel.cost().bytes as f64 / best(device, &case, seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;

    #[test]
    fn the_slower_of_the_two_bounds() {
        let peaks = Peaks { flops: 1e12, bytes: 1e11 };
        let product = Cost { flops: 2_000_000_000, bytes: 12_000_000 };
        assert_eq!(peaks.bound(product), 2e-3);
        assert_eq!(peaks.share(product, 4e-3), 0.5);
        let copy = Cost { flops: 0, bytes: 200_000_000 };
        assert_eq!(peaks.bound(copy), 2e-3);
        assert_eq!(peaks.share(copy, 2e-3), 1.0);
    }

    /// Both rates are those of a computer, and the kernels of the rows cannot exceed the probe.
    #[test]
    fn probes_measure_something() {
        let mut device = CpuDevice::new(1).unwrap();
        let peaks = Peaks::measure(&mut device, 0.2).unwrap();
        assert!((1e8..1e14).contains(&peaks.flops), "{peaks:?}");
        assert!((1e8..1e13).contains(&peaks.bytes), "{peaks:?}");
    }
}
