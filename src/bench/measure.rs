//! Timing launches against each other: the same buffers, emptied caches, alternating order.

use crate::device::scratch;
use crate::device::{Device, Flush, Launch, ListId, Mark, Range, Sample};
use crate::error::Result;
use crate::kernels::{Case, Fill, Kernel, StepScalars};
use std::sync::Arc;

/// Implementations of one case with their buffers, ready to be timed.
pub(super) struct Bench<'a> {
    device: &'a mut dyn Device,
    lists: Vec<ListId>,
    binds: Vec<Range>,
    flush: Option<Flush>,
    step: StepScalars,
    /// What the device held before.
    mark: Mark,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.device.release(self.mark);
    }
}

impl<'a> Bench<'a> {
    /// Fills the device with what `kernels`, all with the bindings of `case`, need, until this is
    /// dropped. With a `flush` the caches are emptied before every sample.
    pub(super) fn prepare(
        device: &'a mut dyn Device,
        case: &Case,
        kernels: &[Arc<dyn Kernel>],
        flush: Option<Flush>,
    ) -> Result<Self> {
        let mark = device.mark();
        let mut bench =
            Bench { device, lists: vec![], binds: vec![], flush, step: case.step, mark };
        let fills = case.fills.iter().zip(case.kernel.lens()).enumerate();
        let contents = fills.map(|(i, (fill, len))| fill.repeated(len, i as u64 + 1));
        bench.binds = scratch::upload(bench.device, contents)?;
        for kernel in kernels {
            let launch = Launch { kernel: kernel.clone(), binds: bench.binds.clone() };
            bench.lists.push(bench.device.prepare(&[launch], &mut |_, _| {})?);
        }
        Ok(bench)
    }

    /// Runs everything once, which compiles and grows scratch buffers, and once more: the seconds
    /// that a sample of each takes, flush included.
    pub(super) fn warm_up(&mut self) -> Result<f64> {
        for i in 0..self.lists.len() {
            self.sample(i)?;
        }
        let started = std::time::Instant::now();
        for i in 0..self.lists.len() {
            self.sample(i)?;
        }
        Ok(started.elapsed().as_secs_f64().max(1e-9))
    }

    fn sample(&mut self, i: usize) -> Result<Sample> {
        if let Some(flush) = self.flush {
            flush.run(self.device)?;
        }
        let mut samples = self.device.time(self.lists[i], &self.step, 1)?;
        Ok(samples.remove(0))
    }

    /// `rounds` samples of each implementation. Every other round goes backwards, so that a drift of
    /// the clock rate favours none of them.
    pub(super) fn interleaved(&mut self, rounds: usize) -> Result<Vec<Vec<Sample>>> {
        let mut all = vec![vec![]; self.lists.len()];
        for round in 0..rounds {
            for turn in 0..self.lists.len() {
                let i = if round % 2 == 0 { turn } else { self.lists.len() - 1 - turn };
                all[i].push(self.sample(i)?);
            }
        }
        Ok(all)
    }

    /// Output words, of those that `case` fills with poison, which implementation `i` leaves as they
    /// were.
    pub(super) fn unwritten(&mut self, case: &Case, i: usize) -> Result<usize> {
        let outputs = case.fills.iter().zip(&self.binds);
        let outputs: Vec<_> = outputs.filter(|(fill, _)| matches!(fill, Fill::Poison)).collect();
        for (fill, range) in &outputs {
            self.device.write(range.buffer, 0, &fill.bits(range.len, 0))?;
        }
        self.device.run(&[self.lists[i]], &self.step)?;
        let mut left = 0;
        for (fill, range) in outputs {
            let (poison, mut words) = (fill.bits(1, 0)[0], vec![0; range.len]);
            self.device.read(range.buffer, 0, &mut words)?;
            left += words.iter().filter(|&&w| w == poison).count();
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::kernels::copy::Copy;
    use crate::kernels::{Bind, Bounded, Const, Cost, Io};

    /// A kernel that covers half of its outputs.
    #[derive(Debug, Clone)]
    struct Half(Copy);

    impl Kernel for Half {
        fn name(&self) -> &'static str {
            "copy"
        }
        fn wgsl(&self) -> &str {
            self.0.wgsl()
        }
        fn consts(&self) -> Vec<Const> {
            self.0.consts()
        }
        fn dims(&self) -> Vec<u32> {
            self.0.dims()
        }
        fn lens(&self) -> Vec<usize> {
            self.0.lens()
        }
        fn grid(&self) -> [u32; 3] {
            self.0.grid()
        }
        fn cost(&self) -> Cost {
            self.0.cost()
        }
        fn naive32(&self, io: &mut Io<'_, f32>) {
            if let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds {
                y[..50].copy_from_slice(&x[..50]);
            }
        }
        fn naive64(&self, _: &mut Io<'_, f64>) {}
        fn naive_bounded(&self, _: &mut Io<'_, Bounded>) {}
    }

    /// It is found out although the whole kernel has written all of them before.
    #[test]
    fn unwritten_outputs_are_counted() {
        let mut device = CpuDevice::new(1).unwrap();
        let whole = Copy { n: 100, accum: false };
        let case = Case::new("copy", whole.clone(), vec![Fill::normal(), Fill::Poison]);
        let kernels: [Arc<dyn Kernel>; 2] = [case.kernel.clone(), Arc::new(Half(whole))];
        let flush = Flush::new(&mut device, 1 << 16).unwrap();
        let before = device.stats().buffers;
        let mut bench = Bench::prepare(&mut device, &case, &kernels, Some(flush)).unwrap();
        bench.warm_up().unwrap();
        let timed = bench.interleaved(3).unwrap();
        assert_eq!((timed.len(), timed[0].len(), timed[1].len()), (2, 3, 3));
        assert_eq!(bench.unwritten(&case, 0).unwrap(), 0);
        assert_eq!(bench.unwritten(&case, 1).unwrap(), 50);
        drop(bench);
        assert_eq!(device.stats().buffers, before);
    }
}
