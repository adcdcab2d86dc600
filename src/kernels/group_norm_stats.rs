//! Group norm (Wu & He 2018) over channels-last activations: the statistics.

use super::cpu::blocks::{fold, repeat, repeated_width, rows_per_block, table};
use super::cpu::math::vectorised;
use super::group_norm::{GroupNormShape, label, shapes};
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, float, int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;
use std::cell::RefCell;

/// Bindings: x, stats [n, groups, 2] = (mean, 1 / sqrt(var + eps)).
#[derive(Debug, Clone)]
pub struct GroupNormStats {
    pub shape: GroupNormShape,
}

impl GroupNormStats {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(stats), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let GroupNormShape { n, hw, c, groups, eps, .. } = self.shape;
        let width = c / groups;
        let count = T::of((hw * width) as f64);
        for sample in 0..n {
            for group in 0..groups {
                let values =
                    |i: usize| x[(sample * hw + i / width) * c + group * width + i % width];
                let mut sum = T::zero();
                for i in 0..hw * width {
                    sum += values(i);
                }
                let mean = sum / count;
                let mut squares = T::zero();
                for i in 0..hw * width {
                    squares += (values(i) - mean) * (values(i) - mean);
                }
                let variance = squares / count;
                let at = (sample * groups + group) * 2;
                stats[at] = mean;
                stats[at + 1] = T::one() / (variance + T::of(eps.into())).sqrt();
            }
        }
    }
}

impl Kernel for GroupNormStats {
    fn name(&self) -> &'static str {
        "group_norm_stats"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/group_norm_stats.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        /// Elements that an invocation reads at once.
        const BATCH: usize = 8;
        const INVOCATIONS: usize = 256;
        let (s, strip) = (&self.shape, self.shape.strip());
        let wide = strip.is_wide();
        // Invocations of a wide group meet its elements in turn; otherwise each keeps to a column.
        let tree = if wide { 1 } else { strip.columns };
        let rows = (s.hw * strip.columns).div_ceil(BATCH * tree).next_power_of_two();
        let rows = rows.clamp(1, INVOCATIONS / tree);
        let mut consts = s.consts();
        consts.extend(strip.consts());
        consts.extend([
            int("WG", rows * tree),
            int("TREE", tree),
            int("HALF", rows.next_power_of_two() / 2),
            int("SLOTS", if wide { s.lanes() } else { s.group_width() }),
            float("EPS", s.eps),
        ]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.shape.hw as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.shape.len(), self.shape.stats_len()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0])
    }
    fn grid(&self) -> [u32; 3] {
        [self.shape.strip().count(&self.shape) as u32, self.shape.n as u32, 1]
    }
    fn cost(&self) -> Cost {
        let (x, stats) = (self.shape.len() as u64, self.shape.stats_len() as u64);
        Cost { flops: 4 * x, bytes: 4 * (x + stats) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::Out(stats), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let shape = &self.shape;
        let (sample, block) = (shape.hw * shape.c, rows_per_block(shape.c) * shape.c);
        let blocks = sample.div_ceil(block);
        let mut partials = PARTIALS.take();
        partials.clear();
        partials.resize(shape.n * blocks * shape.groups, Moments::default());
        // One table of groups a block, then the blocks of a sample in order.
        partials.par_chunks_mut(shape.groups).enumerate().for_each(|(unit, groups)| {
            let begin = unit % blocks * block;
            let end = (begin + block).min(sample);
            let x = &x[unit / blocks * sample..][begin..end];
            CHANNELS.with_borrow_mut(|scratch| {
                vectorised(
                    #[inline(always)]
                    || block_moments(x, shape.c, scratch, groups),
                );
            });
        });
        for (sample, stats) in stats.chunks_exact_mut(2 * shape.groups).enumerate() {
            let tables = &partials[sample * blocks * shape.groups..][..blocks * shape.groups];
            for (group, stat) in stats.chunks_exact_mut(2).enumerate() {
                let of_blocks = tables.iter().skip(group).step_by(shape.groups);
                let all = of_blocks.fold(Moments::default(), |a, b| a.join(*b));
                let variance = all.squares / all.count;
                stat[0] = all.mean as f32;
                stat[1] = (1.0 / (variance + f64::from(shape.eps)).sqrt()) as f32;
            }
        }
        PARTIALS.set(partials);
    }
    naive_forms!();
}

thread_local! {
    static PARTIALS: RefCell<Vec<Moments>> = const { RefCell::new(Vec::new()) };
    static CHANNELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Count, mean and sum of squared deviations of a set.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Moments of the union (Chan, Golub & LeVeque 1979).
    fn join(self, o: Moments) -> Moments {
        if self.count == 0.0 {
            return o;
        }
        let count = self.count + o.count;
        let delta = o.mean - self.mean;
        Moments {
            count,
            mean: self.mean + delta * (o.count / count),
            squares: self.squares + o.squares + delta * delta * (self.count * o.count / count),
        }
    }
}

/// Moments of every group of a block of rows. Two passes over the block, which is in the cache, the
/// first relative to the block's first row, so that f32 sums lose nothing to a common offset.
#[inline(always)]
fn block_moments(x: &[f32], c: usize, scratch: &mut Vec<f32>, groups: &mut [Moments]) {
    let w = repeated_width(c).min(x.len());
    let [shift, sums, squares] = table(scratch, w);
    shift[..c].copy_from_slice(&x[..c]);
    repeat(shift, c);
    sums.fill(0.0);
    squares.fill(0.0);
    add_rows(
        x,
        shift,
        sums,
        #[inline(always)]
        |d| d,
    );
    fold(sums, c);
    let rows = (x.len() / c) as f64;
    for (shift, &sum) in shift.iter_mut().zip(&sums[..c]) {
        *shift += (f64::from(sum) / rows) as f32;
    }
    repeat(shift, c);
    add_rows(
        x,
        shift,
        squares,
        #[inline(always)]
        |d| d * d,
    );
    fold(squares, c);
    let width = c / groups.len();
    let channels = shift.chunks_exact(width).zip(squares.chunks_exact(width));
    for (group, (means, squares)) in groups.iter_mut().zip(channels) {
        // All channels count alike: their means first, then the deviations from it.
        let mean = means.iter().map(|&m| f64::from(m)).sum::<f64>() / width as f64;
        let mut all = 0.0;
        for (&m, &square) in means.iter().zip(squares) {
            all += f64::from(square) + rows * (f64::from(m) - mean) * (f64::from(m) - mean);
        }
        *group = Moments { count: rows * width as f64, mean, squares: all };
    }
}

/// sums[i] += f(x - shift[i]) over rows of the width of `shift`, four at a time.
#[inline(always)]
fn add_rows(x: &[f32], shift: &[f32], sums: &mut [f32], f: impl Fn(f32) -> f32) {
    let w = shift.len();
    let mut quads = x.chunks_exact(4 * w);
    for rows in &mut quads {
        let (ab, cd) = rows.split_at(2 * w);
        let ((a, b), (c, d)) = (ab.split_at(w), cd.split_at(w));
        for i in 0..w {
            let k = shift[i];
            sums[i] += (f(a[i] - k) + f(b[i] - k)) + (f(c[i] - k) + f(d[i] - k));
        }
    }
    for row in quads.remainder().chunks(w) {
        for ((sum, &x), &k) in sums.iter_mut().zip(row).zip(shift) {
            *sum += f(x - k);
        }
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for shape in shapes().filter(|s| !s.silu) {
        for (data, fill) in [
            ("", Fill::Normal { mean: 0.3, std: 2.0 }),
            (" mean 1e3", Fill::Normal { mean: 1e3, std: 1.0 }),
            (" constant", Fill::Ints(7, 7)),
        ] {
            let name = format!("{}{data}", label(&shape));
            let kernel = GroupNormStats { shape: shape.clone() };
            cases.push(Case::new(name, kernel, vec![fill, Fill::Poison]));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::StepScalars;

    /// The bound of the kernel tests is wide where |mean| >> std. The statistics are better than it
    /// asks: a variance taken as E[x^2] - E[x]^2 in f32 would be off by 1e6 * 2^-24 = 6 %.
    #[test]
    fn a_large_mean_costs_no_digits() {
        let shape = GroupNormShape { n: 1, hw: 1024, c: 64, groups: 8, eps: 1e-6, silu: false };
        let x: Vec<f32> = Fill::Normal { mean: 1e3, std: 1.0 }
            .bits(shape.len(), 5)
            .into_iter()
            .map(f32::from_bits)
            .collect();
        let wide: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let kernel = GroupNormStats { shape: shape.clone() };
        let (mut got, mut want) = (vec![0.0f32; 16], vec![0.0f64; 16]);
        let mut io = Io::new(StepScalars::default());
        io.binds[0] = Bind::In(&x);
        io.binds[1] = Bind::Out(&mut got);
        kernel.cpu(&mut io);
        let mut io = Io::new(StepScalars::default());
        io.binds[0] = Bind::In(&wide);
        io.binds[1] = Bind::Out(&mut want);
        kernel.naive64(&mut io);
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= 1e-6 * want, "{got} {want}");
        }
    }
}
