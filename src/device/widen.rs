//! Halves on the CPU: f16 words become f32 before a kernel runs, and are rounded back after it.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use rayon::prelude::*;

/// Elements a task converts; even, so that tasks share no word.
const CHUNK: usize = 1 << 14;

/// `out[i]` = half i of `words`, exactly. The last half of an odd number is padding.
pub(super) fn widen(words: &[u32], out: &mut [f32]) {
    let halves: &[u16] = bytemuck::cast_slice(words);
    let halves: &[half::f16] = halves.reinterpret_cast();
    let tasks = out.par_chunks_mut(CHUNK).zip(halves.par_chunks(CHUNK));
    tasks.for_each(|(out, halves)| halves[..out.len()].convert_to_f32_slice(out));
}

/// Half i of `words` = `values[i]`, rounded to nearest, ties to even; beyond 65,520 infinite.
pub(super) fn narrow(values: &[f32], words: &mut [u32]) {
    let halves: &mut [u16] = bytemuck::cast_slice_mut(words);
    let halves: &mut [half::f16] = halves.reinterpret_cast_mut();
    let tasks = values.par_chunks(CHUNK).zip(halves.par_chunks_mut(CHUNK));
    tasks.for_each(|(values, halves)| halves[..values.len()].convert_from_f32_slice(values));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every f16 survives the way to f32 and back; between two of them the nearer one wins.
    #[test]
    fn all_halves() {
        let words: Vec<u32> = (0..1u32 << 15).map(|i| (2 * i) | ((2 * i + 1) << 16)).collect();
        let mut values = vec![0.0; 1 << 16];
        widen(&words, &mut values);
        assert_eq!((values[0x3c00], values[0x7bff], values[1]), (1.0, 65504.0, 2f32.powi(-24)));
        let mut back = vec![0; words.len()];
        narrow(&values, &mut back);
        let nan = |bits: u32| bits & 0x7fff > 0x7c00;
        for (w, b) in words.iter().zip(&back) {
            for shift in [0, 16] {
                let (w, b) = (w >> shift & 0xffff, b >> shift & 0xffff);
                assert!(w == b || nan(w) && nan(b), "{w:#x} {b:#x}");
            }
        }
    }

    #[test]
    fn rounding_overflow_and_odd_lengths() {
        let ulp = 2f32.powi(-10);
        let values = [1.0 + 0.5 * ulp, 1.0 + 1.5 * ulp, 1.0 + 0.501 * ulp, 65519.0, -65520.0];
        let mut words = [u32::MAX; 3];
        narrow(&values, &mut words);
        assert_eq!(words, [0x3c02_3c00, 0x7bff_3c01, 0xffff_fc00]);
        let mut back = [0.0; 5];
        widen(&words, &mut back);
        assert_eq!(back, [1.0, 1.0 + 2.0 * ulp, 1.0 + ulp, 65504.0, f32::NEG_INFINITY]);
    }
}
