//! Orders in which tokens are revealed.

use crate::rng::Rng;

/// Masked tokens by falling confidence: the log-probability of what was drawn, with Gumbel noise of scale
/// `noise` (MaskGIT, 2202.04200). Ties go to the first.
pub(super) fn most_confident(
    x: &[u32],
    logp: &[f32],
    mask: u32,
    noise: f64,
    rng: &mut Rng,
) -> Vec<usize> {
    let masked = (0..x.len()).filter(|&i| x[i] == mask);
    let confidence = |i: usize| (f64::from(logp[i]) - noise * rng.exponential().ln(), i);
    let mut order: Vec<(f64, usize)> = masked.map(confidence).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, i)| i).collect()
}

/// Masked tokens in an order drawn without replacement, each time in proportion to `purity` among those
/// left (2205.16007, section 4.2): by rising E / purity with independent exponentials E.
pub(super) fn purest(x: &[u32], purity: &[f32], mask: u32, rng: &mut Rng) -> Vec<usize> {
    let masked = (0..x.len()).filter(|&i| x[i] == mask);
    let mut order: Vec<(f64, usize)> =
        masked.map(|i| (rng.exponential() / f64::from(purity[i]), i)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, i)| i).collect()
}

/// Every cell of a grid once, in the order in which the points (radical inverse of n in base 2, in base
/// 3), n = 1, 2, .., first fall into it (Halton 1960).
pub(super) fn halton(rows: usize, cols: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(rows * cols);
    let mut seen = vec![false; rows * cols];
    for n in 1u64.. {
        if order.len() == rows * cols {
            break;
        }
        let place = |base: u64, sides: usize| (radical_inverse(n, base) * sides as f64) as usize;
        let cell = place(2, rows) * cols + place(3, cols);
        if !std::mem::replace(&mut seen[cell], true) {
            order.push(cell);
        }
    }
    order
}

/// The digits of n after the point, in reverse.
fn radical_inverse(mut n: u64, base: u64) -> f64 {
    let (mut value, mut digit) = (0.0, 1.0);
    while n > 0 {
        digit /= base as f64;
        value += digit * (n % base) as f64;
        n /= base;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn halton_by_hand() {
        // (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9), (5/8, 7/9), (3/8, 2/9).
        assert_eq!(halton(4, 3)[..6], [7, 5, 9, 1, 8, 3]);
        for (rows, cols) in [(1, 1), (1, 7), (16, 16), (5, 13)] {
            let mut all = halton(rows, cols);
            all.sort_unstable();
            assert_eq!(all, (0..rows * cols).collect::<Vec<_>>());
        }
        assert!(halton(0, 4).is_empty());
    }

    /// After a quarter of the cells every 4 x 4 block of 16 x 16, 16 cells with 4 of them expected, has at
    /// least one and at most twice as many.
    #[test]
    fn halton_spreads() {
        let mut blocks = [0; 16];
        for cell in &halton(16, 16)[..64] {
            blocks[cell / 16 / 4 * 4 + cell % 16 / 4] += 1;
        }
        assert!(blocks.iter().all(|&n| (1..=8).contains(&n)), "{blocks:?}");
    }

    #[test]
    fn confidence_without_noise_is_the_log_probability() {
        let mut rng = Rng::new(1, Stream::Test, 0);
        let (x, logp) = ([9, 4, 9, 9, 9], [-2.0, -0.1, -1.0, -3.0, -1.0]);
        assert_eq!(most_confident(&x, &logp, 9, 0.0, &mut rng), [2, 4, 0, 3]);
    }
}
