//! Angles of rotary positions on a grid.

/// (cos, sin) of the angles of every place [rows * cols, pairs, 2]. The first half of a head's pairs turns
/// with the row, the other half with the column: pair i of a half by place base^(-i / half), RoFormer's
/// frequencies (2104.09864, section 3.2.2) for half a head. Computed in f64.
pub(super) fn angles([rows, cols]: [usize; 2], pairs: usize, base: f64) -> Vec<f32> {
    let half = pairs / 2;
    let mut table = Vec::with_capacity(2 * rows * cols * pairs);
    for place in 0..rows * cols {
        for at in [place / cols, place % cols] {
            for i in 0..half {
                let angle = at as f64 * base.powf(-(i as f64) / half as f64);
                table.extend([angle.cos() as f32, angle.sin() as f32]);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Place (2, 3) of a head of eight channels: two pairs by row, two by column.
    #[test]
    fn row_then_column() {
        let size = [3, 5];
        let table = angles(size, 4, 10_000.0);
        assert_eq!(table.len(), 15 * 8);
        let at = &table[(2 * 5 + 3) * 8..][..8];
        for (pair, angle) in at.chunks(2).zip([2.0f64, 0.02, 3.0, 0.03]) {
            assert_eq!(pair, [angle.cos() as f32, angle.sin() as f32]);
        }
    }
}
