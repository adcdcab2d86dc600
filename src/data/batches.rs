//! The order in which images are seen: a pure function of (seed, epoch), so that a resumed run
//! continues in the middle of an epoch exactly where the stopped one was.

use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// Full batches over an endless sequence of shuffled epochs.
///
/// Position `p = step * batch + j` of the sequence is entry `p % n` of the permutation of epoch
/// `p / n`. A batch may straddle two epochs, so all batches have the same size and no image is
/// dropped; over any whole number of epochs each image is seen equally often.
#[derive(Debug, Clone)]
pub struct BatchOrder {
    batch: usize,
    seed: u64,
    epoch: u64,
    /// The permutation of `epoch`; reused in place, never reallocated.
    order: Vec<u32>,
}

impl BatchOrder {
    /// An order over images `0..n`. Fails if there are none, or more than 2^32 - 1, or the batch is
    /// empty.
    pub fn new(n: usize, batch: usize, seed: u64) -> Result<Self> {
        if n == 0 || u32::try_from(n).is_err() {
            return Err(Error::data(format!("cannot make batches from {n} images")));
        }
        if batch == 0 {
            return Err(Error::usage("train.batch must be at least 1"));
        }
        let mut order = BatchOrder { batch, seed, epoch: 0, order: vec![0; n] };
        order.shuffle(0);
        Ok(order)
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Epochs completed before this step, with the fraction of the current one.
    pub fn epochs_before(&self, step: u64) -> f64 {
        step as f64 * self.batch as f64 / self.order.len() as f64
    }

    /// Writes the image numbers of batch `step` (from 0) into `out`, whose length is the batch
    /// size or, for the lanes of a step, any part of it starting at the front.
    pub fn indices(&mut self, step: u64, out: &mut [u32]) {
        let n = self.order.len() as u64;
        // Two factors below 2^64 need 128 bits; epochs themselves stay below 2^64.
        let position = u128::from(step) * self.batch as u128;
        let mut epoch = (position / u128::from(n)) as u64;
        let mut at = (position % u128::from(n)) as usize;
        let mut out = out;
        while !out.is_empty() {
            if epoch != self.epoch {
                self.shuffle(epoch);
            }
            let count = out.len().min(self.order.len() - at);
            let (now, rest) = std::mem::take(&mut out).split_at_mut(count);
            now.copy_from_slice(&self.order[at..at + count]);
            out = rest;
            epoch += 1;
            at = 0;
        }
    }

    /// Fisher-Yates in place: the same bits as `Rng::permutation`, without its allocation.
    fn shuffle(&mut self, epoch: u64) {
        let mut rng = Rng::new(self.seed, Stream::Shuffle, epoch);
        for (i, slot) in self.order.iter_mut().enumerate() {
            *slot = i as u32;
        }
        for i in (1..self.order.len()).rev() {
            self.order.swap(i, rng.below(i as u32 + 1) as usize);
        }
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_once_an_epoch() {
        let (n, batch) = (47, 10);
        let mut order = BatchOrder::new(n, batch, 3).unwrap();
        let mut sequence = Vec::new();
        let mut out = vec![0; batch];
        for step in 0..47 {
            order.indices(step, &mut out);
            sequence.extend_from_slice(&out);
        }
        for (epoch, chunk) in sequence.chunks(n).enumerate() {
            let want = Rng::new(3, Stream::Shuffle, epoch as u64).permutation(n);
            assert_eq!(chunk, want, "epoch {epoch}");
        }
        assert_ne!(sequence[..n], sequence[n..2 * n]);
        assert_eq!(order.epochs_before(47), 10.0);
    }

    /// Any step alone gives what a run from the start gives: that is what resuming relies on.
    #[test]
    fn steps_are_independent() {
        for (n, batch) in [(5, 3), (3, 7), (1, 4), (64, 64)] {
            let mut forward = BatchOrder::new(n, batch, 9).unwrap();
            let mut want = vec![vec![0; batch]; 40];
            for (step, out) in want.iter_mut().enumerate() {
                forward.indices(step as u64, out);
            }
            for step in (0..40).rev() {
                let mut fresh = BatchOrder::new(n, batch, 9).unwrap();
                let mut out = vec![0; batch];
                fresh.indices(step, &mut out);
                assert_eq!(out, want[step as usize], "fresh, n {n} batch {batch} step {step}");
                forward.indices(step, &mut out);
                assert_eq!(out, want[step as usize], "backwards, step {step}");
            }
        }
    }

    #[test]
    fn seeds_differ_and_limits_hold() {
        let first = |seed| {
            let mut out = [0; 20];
            BatchOrder::new(1000, 20, seed).unwrap().indices(0, &mut out);
            out
        };
        assert_ne!(first(0), first(1));
        assert_eq!(first(1), first(1));
        assert_eq!(BatchOrder::new(0, 4, 0).unwrap_err().exit_code(), 4);
        assert_eq!(BatchOrder::new(4, 0, 0).unwrap_err().exit_code(), 2);
        let mut out = [9; 4];
        BatchOrder::new(3, 4, 0).unwrap().indices(u64::MAX / 8, &mut out);
        assert!(out.iter().all(|&i| i < 3));
    }
}
