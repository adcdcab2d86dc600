//! Grids larger than those a denoiser was trained on: by windows of its own size that slide with half
//! overlap, left to right and top to bottom, each in-painted given what its predecessors fixed.

use crate::error::{Error, Result};
use crate::rng::philox4x32;

/// Places of a latent grid: rows, columns.
pub type Size = [usize; 2];

/// A grid of codes that windows fill.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// Of the whole grid.
    pub whole: Size,
    /// Of one window: what the denoiser was trained on.
    pub window: Size,
    /// Codes a place; they lie beside each other.
    pub heads: usize,
    pub samples: usize,
    /// The mask token.
    pub mask: u32,
}

impl Windows {
    /// First rows and columns of the windows, in the order in which they are made. Each begins half a
    /// window after the one before it; the last one ends with the grid.
    pub fn corners(&self) -> Vec<Size> {
        let starts = |axis: usize| -> Vec<usize> {
            let last = self.whole[axis].saturating_sub(self.window[axis]);
            let half = (self.window[axis] / 2).max(1);
            (0..last).step_by(half).chain([last]).collect()
        };
        let columns = starts(1);
        starts(0).into_iter().flat_map(|r| columns.iter().map(move |&c| [r, c])).collect()
    }

    /// Codes of the whole grids [samples, rows, columns * heads]. `make(i, given)` makes window i of every
    /// sample, [samples, rows, columns * heads], the mask where nothing is given, and changes nothing that
    /// is.
    ///
    /// # Errors
    /// A grid smaller than the window; what `make` says.
    pub fn fill(
        &self,
        mut make: impl FnMut(usize, &[u32]) -> Result<Vec<u32>>,
    ) -> Result<Vec<u32>> {
        let Windows { whole, window, heads, samples, mask } = *self;
        if whole[0] < window[0] || whole[1] < window[1] {
            return Err(Error::failed("the whole grid is smaller than a window of it"));
        }
        let width = whole[1] * heads;
        let mut codes = vec![mask; samples * whole[0] * width];
        for (i, [top, left]) in self.corners().into_iter().enumerate() {
            // A row of a window of a sample lies in one piece.
            let piece = |sample: usize, row: usize| {
                let at = (sample * whole[0] + top + row) * width + left * heads;
                at..at + window[1] * heads
            };
            let pieces = || {
                (0..samples).flat_map(|sample| (0..window[0]).map(move |row| piece(sample, row)))
            };
            let given: Vec<u32> = pieces().flat_map(|at| codes[at].to_vec()).collect();
            let made = make(i, &given)?;
            for (at, row) in pieces().zip(made.chunks(window[1] * heads)) {
                codes[at].copy_from_slice(row);
            }
        }
        Ok(codes)
    }
}

/// The seed of window `i` of a run: its own, or all windows would draw the same numbers. The first one
/// has that of the run, so that a grid of one window is what it is without windows.
pub fn seed_of(seed: u64, i: usize) -> u64 {
    if i == 0 {
        return seed;
    }
    let words = philox4x32([i as u32, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 99;

    #[test]
    fn windows_cover_the_grid_with_half_overlap() {
        let at =
            |whole, window| Windows { whole, window, heads: 1, samples: 1, mask: MASK }.corners();
        assert_eq!(at([4, 4], [4, 4]), [[0, 0]]);
        assert_eq!(at([4, 8], [4, 4]), [[0, 0], [0, 2], [0, 4]]);
        assert_eq!(at([6, 5], [4, 4]), [[0, 0], [0, 1], [2, 0], [2, 1]]);
        assert_eq!(at([1, 3], [1, 1]), [[0, 0], [0, 1], [0, 2]]);
    }

    /// Every place is made once, by the first window that holds it, and given to all later ones; of every
    /// sample and every code of a place.
    #[test]
    fn what_is_made_stays() {
        let windows = Windows { whole: [7, 9], window: [4, 4], heads: 2, samples: 3, mask: MASK };
        let corners = windows.corners();
        let codes = windows
            .fill(|i, given| {
                assert_eq!(given.len(), 3 * 4 * 8);
                let make = |&g: &u32| if g == MASK { i as u32 } else { g };
                Ok(given.iter().map(make).collect())
            })
            .unwrap();
        for (place, &code) in codes.iter().enumerate() {
            let (row, col) = (place / 18 % 7, place % 18 / 2);
            let holds =
                |c: &[usize; 2]| (c[0]..c[0] + 4).contains(&row) && (c[1]..c[1] + 4).contains(&col);
            assert_eq!(corners.iter().position(holds), Some(code as usize), "{row} {col}");
        }
        let small = Windows { whole: [3, 9], ..windows };
        assert!(small.fill(|_, given| Ok(given.to_vec())).is_err());
    }

    #[test]
    fn windows_have_seeds_of_their_own() {
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|i| seed_of(7, i)).collect();
        assert!(seeds.len() == 100 && seed_of(7, 0) == 7);
    }
}
