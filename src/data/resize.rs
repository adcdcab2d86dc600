//! Resizing by area: each output pixel is the mean of the input under it, with fractional weights
//! at the borders. Downscaling therefore never aliases, and enlarging by a whole factor repeats
//! pixels. Rows and columns are scaled independently.

/// For each output position the first input it covers and the weights of it and its neighbours.
struct Spans {
    first: Vec<usize>,
    weights: Vec<Vec<f64>>,
}

fn spans(from: usize, to: usize) -> Spans {
    let ratio = from as f64 / to as f64;
    let mut spans = Spans { first: Vec::new(), weights: Vec::new() };
    for i in 0..to {
        let (low, high) = (i as f64 * ratio, (i + 1) as f64 * ratio);
        let first = (low.floor() as usize).min(from - 1);
        let last = (high.ceil() as usize).clamp(first + 1, from);
        let cover = |j: usize| (high.min((j + 1) as f64) - low.max(j as f64)).max(0.0);
        let weights: Vec<f64> = (first..last).map(cover).collect();
        let sum: f64 = weights.iter().sum();
        spans.first.push(first);
        spans.weights.push(weights.iter().map(|w| w / sum).collect());
    }
    spans
}

/// A prepared change of size, applied to any number of images.
pub struct Resizer {
    rows: Spans,
    columns: Spans,
    channels: usize,
    from_columns: usize,
    to_columns: usize,
}

impl Resizer {
    /// From and to `(rows, columns)`, all at least 1.
    pub fn new(from: (usize, usize), to: (usize, usize), channels: usize) -> Self {
        let (rows, columns) = (spans(from.0, to.0), spans(from.1, to.1));
        Resizer { rows, columns, channels, from_columns: from.1, to_columns: to.1 }
    }

    /// Resizes one image of rows x columns x channels.
    pub fn apply(&self, image: &[f32], out: &mut [f32]) {
        let channels = self.channels;
        let mut line = vec![0f64; self.from_columns * channels];
        for (y, out) in out.chunks_exact_mut(self.to_columns * channels).enumerate() {
            line.fill(0.0);
            for (j, weight) in self.rows.weights[y].iter().enumerate() {
                let source = &image[(self.rows.first[y] + j) * line.len()..][..line.len()];
                for (sum, v) in line.iter_mut().zip(source) {
                    *sum += weight * f64::from(*v);
                }
            }
            for (x, out) in out.chunks_exact_mut(channels).enumerate() {
                let first = self.columns.first[x];
                for (k, out) in out.iter_mut().enumerate() {
                    let weights = self.columns.weights[x].iter().enumerate();
                    let terms = weights.map(|(j, w)| w * line[(first + j) * channels + k]);
                    *out = terms.sum::<f64>() as f32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_factors() {
        let image: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let mut half = [0.0; 4];
        Resizer::new((4, 4), (2, 2), 1).apply(&image, &mut half);
        assert_eq!(half, [2.5, 4.5, 10.5, 12.5]);
        let mut same = [0.0; 16];
        Resizer::new((4, 4), (4, 4), 1).apply(&image, &mut same);
        assert_eq!(same, image[..]);
        let mut twice = [0.0; 16];
        Resizer::new((2, 2), (4, 4), 1).apply(&half, &mut twice);
        assert_eq!(twice[..6], [2.5, 2.5, 4.5, 4.5, 2.5, 2.5]);
    }

    /// The mean over the image is kept for any ratio, and channels do not mix.
    #[test]
    fn mean_is_kept() {
        let (h, w, c) = (13, 41, 2);
        let image: Vec<f32> =
            (0..h * w * c).map(|i| if i % 2 == 0 { (i * 37 % 101) as f32 } else { 5.0 }).collect();
        for to in [(7, 9), (1, 1), (26, 60)] {
            let mut out = vec![0.0; to.0 * to.1 * c];
            Resizer::new((h, w), to, c).apply(&image, &mut out);
            let mean = |v: &[f32]| {
                v.iter().step_by(2).map(|&v| f64::from(v)).sum::<f64>() / (v.len() / 2) as f64
            };
            // One f32 rounding of values up to 101.
            assert!((mean(&out) - mean(&image)).abs() <= 101.0 * f64::from(f32::EPSILON));
            // Weights add to 1 up to f64 rounding, which the cast to f32 absorbs.
            assert!(out.iter().skip(1).step_by(2).all(|&v| v == 5.0));
        }
    }
}
