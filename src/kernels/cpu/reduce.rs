//! Reductions over a row in a fixed order that vectorises: sixteen partial results side by side,
//! combined in a binary tree. Floating-point addition is not associative, so LLVM may not do this
//! by itself. Call inside [`super::math::vectorised`].

const LANES: usize = 16;

#[inline(always)]
fn tree(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = combine(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of f(x) over a row.
#[inline(always)]
pub fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] += f(block[i]);
        }
    }
    for i in 0..tail.len() {
        lanes[i] += f(tail[i]);
    }
    tree(lanes, |a, b| a + b)
}

/// Sum of f(k, x_k) over a row.
#[inline(always)]
pub fn sum_at(x: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for (b, block) in blocks.iter().enumerate() {
        for i in 0..LANES {
            lanes[i] += f(b * LANES + i, block[i]);
        }
    }
    for i in 0..tail.len() {
        lanes[i] += f(x.len() - tail.len() + i, tail[i]);
    }
    tree(lanes, |a, b| a + b)
}

/// Sum of f(x, y) over two rows of one length.
#[inline(always)]
pub fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (x_blocks, x_tail) = x.as_chunks::<LANES>();
    let (y_blocks, y_tail) = y.as_chunks::<LANES>();
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_tail.iter().zip(y_tail)) {
        *lane += f(x, y);
    }
    tree(lanes, |a, b| a + b)
}

/// Largest element of a row; a NaN may be skipped.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], block[i]);
        }
    }
    for i in 0..tail.len() {
        lanes[i] = larger(lanes[i], tail[i]);
    }
    tree(lanes, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for n in [0, 1, 15, 16, 17, 41, 64] {
            let x: Vec<f32> = (0..n).map(|i| (i * i % 29) as f32).collect();
            let ones = vec![1.0; n];
            let want: f32 = x.iter().sum();
            assert_eq!(sum(&x, |v| v), want);
            let places: f32 = (0..n).map(|k| (k as f32) * x[k]).sum();
            assert_eq!(sum_at(&x, |k, v| k as f32 * v), places);
            assert_eq!(sum2(&x, &ones, |v, one| v * one), want);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
