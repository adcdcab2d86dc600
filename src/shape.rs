//! Shapes of tensors: up to four dimensions, row-major, NHWC.

use crate::error::{Error, Result};
use std::fmt;

pub const MAX_RANK: usize = 4;

/// Elements of the largest tensor: kernels index with u32 and leave one bit of headroom.
pub const MAX_ELEMENTS: usize = (1 << 31) - 1;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// # Errors
    /// Rank above [`MAX_RANK`], a zero dimension, or more than [`MAX_ELEMENTS`] elements.
    pub fn new(dims: &[usize]) -> Result<Self> {
        let elements = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let fits = elements.is_some_and(|n| n > 0 && n <= MAX_ELEMENTS);
        if dims.len() > MAX_RANK || !fits {
            return Err(Error::failed(format!("shape {dims:?} is not possible"))
                .why(format!("1 to {MAX_ELEMENTS} elements in at most {MAX_RANK} dimensions")));
        }
        let mut all = [1; MAX_RANK];
        all[..dims.len()].copy_from_slice(dims);
        Ok(Shape { dims: all, rank: dims.len() })
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Size of the last dimension: channels.
    pub fn channels(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Product of all dimensions but the last: pixels or tokens.
    pub fn rows(&self) -> usize {
        self.elements() / self.channels()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.dims().iter().map(ToString::to_string).collect();
        write!(f, "[{}]", dims.join("x"))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(Shape::new(&[2, 3, 4]).unwrap().rows(), 6);
        assert_eq!(Shape::new(&[]).unwrap().elements(), 1);
        for bad in [&[0][..], &[1 << 16, 1 << 16], &[usize::MAX, 2], &[1; 5]] {
            assert!(Shape::new(bad).is_err(), "{bad:?}");
        }
    }
}
