//! Percentiles.

/// The percentile (0 to 100) of values that are not NaN, with linear interpolation between ranks;
/// reorders them. 0 where there are none.
pub fn percentile(values: &mut [f32], percent: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = percent.clamp(0.0, 100.0) / 100.0 * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(rank as usize, f32::total_cmp);
    let low = f64::from(*low);
    let high = above.iter().copied().min_by(f32::total_cmp).map_or(low, f64::from);
    low + (high - low) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_ranks() {
        let mut values = [4.0f32, -1.0, 2.0, 3.0, 0.0];
        for (percent, want) in [(0.0, -1.0), (25.0, 0.0), (37.5, 1.0), (62.5, 2.5), (100.0, 4.0)] {
            assert_eq!(percentile(&mut values, percent), want);
        }
        assert_eq!(percentile(&mut [7.0], 99.8), 7.0);
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }
}
