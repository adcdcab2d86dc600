//! Doppler envelopes of a spectrogram: where its energy lies, frame by frame.
//!
//! ```text
//! p(f,t) = max(x(f,t) - q60(x), 0) + 1e-6        q60: 60th percentile of the image
//! C(f,t) = cumsum_f p / sum_f p
//! L(t), U(t) = first f with C >= 0.05, with C >= 0.95
//! c(t) = sum_f f p / sum_f p,    b(t) = sqrt(sum_f (f - c)^2 p / sum_f p)
//! ```
//! Rows are Doppler, the top row the largest positive one; columns are time. f runs from the bottom
//! row up and is counted in bins from the centre of the image, so a row r of H has
//! f = (H - 1)/2 - r: positive Doppler, an approaching target, is positive. Percentile envelopes are
//! the convention of the field; the small constant keeps empty frames defined (c = 0 there).

/// Share of the pixels taken for noise floor.
const FLOOR_QUANTILE: f64 = 0.6;
const EPSILON: f64 = 1e-6;
const LOWER: f64 = 0.05;
const UPPER: f64 = 0.95;

/// Curves over time, one value a frame, in Doppler bins from the centre.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelopes {
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    pub centroid: Vec<f64>,
    /// Standard deviation of p over f about the centroid.
    pub bandwidth: Vec<f64>,
}

/// Envelopes of one plane of `height` x `width`; `None` if it is empty or not finite.
pub fn envelopes(image: &[f32], height: usize, width: usize) -> Option<Envelopes> {
    let floor = quantile(image, FLOOR_QUANTILE)?;
    let mut out = Envelopes { lower: vec![], upper: vec![], centroid: vec![], bandwidth: vec![] };
    let centre = (height as f64 - 1.0) / 2.0;
    let mut p = vec![0.0; height];
    for t in 0..width {
        for (k, p) in p.iter_mut().enumerate() {
            *p = (f64::from(image[(height - 1 - k) * width + t]) - floor).max(0.0) + EPSILON;
        }
        let bins = || p.iter().enumerate().map(|(k, p)| (k as f64 - centre, p));
        // In the order of the running sum, so that C ends at exactly 1.
        let total: f64 = p.iter().sum();
        let centroid = bins().map(|(f, p)| f * p).sum::<f64>() / total;
        let variance = bins().map(|(f, p)| (f - centroid).powi(2) * p).sum::<f64>() / total;
        let first = |share: f64| {
            let mut sum = 0.0;
            let reached = |p: &f64| {
                sum += p;
                sum / total >= share
            };
            p.iter().position(reached).unwrap_or(height - 1) as f64 - centre
        };
        out.lower.push(first(LOWER));
        out.upper.push(first(UPPER));
        out.centroid.push(centroid);
        out.bandwidth.push(variance.sqrt());
    }
    Some(out)
}

/// The `q` quantile with linear interpolation between order statistics (NumPy's default); `None` for
/// no values or one that is not finite.
fn quantile(values: &[f32], q: f64) -> Option<f64> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let (_, &mut low, rest) = sorted.select_nth_unstable_by(below, f32::total_cmp);
    let high = rest.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    let (low, high) = (f64::from(low), f64::from(high));
    Some(low + (at - below as f64) * (high - low))
}

/// Mean absolute differences of the curves of two images, in Doppler bins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnvelopeError {
    pub lower: f64,
    pub upper: f64,
    pub centroid: f64,
    pub bandwidth: f64,
}

impl EnvelopeError {
    pub(super) const NAN: EnvelopeError =
        EnvelopeError { lower: f64::NAN, upper: f64::NAN, centroid: f64::NAN, bandwidth: f64::NAN };

    /// Of two planes of `height` x `width`; `None` if one of them has no [`envelopes`].
    pub fn between(reference: &[f32], output: &[f32], height: usize, width: usize) -> Option<Self> {
        let a = envelopes(reference, height, width)?;
        let b = envelopes(output, height, width)?;
        let mean = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
        };
        Some(EnvelopeError {
            lower: mean(&a.lower, &b.lower),
            upper: mean(&a.upper, &b.upper),
            centroid: mean(&a.centroid, &b.centroid),
            bandwidth: mean(&a.bandwidth, &b.bandwidth),
        })
    }

    /// The same in Hz, for bins of `bin_hz` (PRF / rows if the image shows the whole band).
    pub fn in_hz(self, bin_hz: f64) -> Self {
        EnvelopeError {
            lower: self.lower * bin_hz,
            upper: self.upper * bin_hz,
            centroid: self.centroid * bin_hz,
            bandwidth: self.bandwidth * bin_hz,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bright pixel a frame, rows 1 and 3 of 5: f = +1 and -1. The rest lies at the floor.
    #[test]
    fn lines_by_hand() {
        let mut image = [0.0; 10];
        image[2] = 1.0;
        image[7] = 1.0;
        let e = envelopes(&image, 5, 2).unwrap();
        assert_eq!((&e.lower[..], &e.upper[..]), (&[1.0, -1.0][..], &[1.0, -1.0][..]));
        // The floor is symmetric and adds nothing to sum f p; its squared distances from +1 sum to
        // 1 + 0 + 1 + 4 + 9.
        let total = 1.0 + 5e-6;
        let c = 1.0 / total;
        assert!((e.centroid[0] - c).abs() < 1e-15 && (e.centroid[1] + c).abs() < 1e-15);
        assert!((e.bandwidth[0] - (1e-6 * 15.0 / total).sqrt()).abs() < 1e-7);
        let error = EnvelopeError::between(&image, &[0.0; 10], 5, 2).unwrap();
        // No energy: c = 0, L and U at the edges, where 1/5 and 5/5 of the floor are reached.
        assert!((error.centroid - c).abs() < 1e-15);
        assert_eq!((error.lower, error.upper), (2.0, 2.0));
        assert_eq!(error.in_hz(8.0).lower, 16.0);
    }

    #[test]
    fn undefined_where_empty_or_not_finite() {
        assert_eq!(envelopes(&[], 0, 0), None);
        assert_eq!(envelopes(&[0.0, f32::NAN], 2, 1), None);
        assert_eq!(EnvelopeError::between(&[0.0, 1.0], &[0.0, f32::INFINITY], 2, 1), None);
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[], 0.6), None);
        assert_eq!(quantile(&[7.0], 0.6), Some(7.0));
        assert_eq!(quantile(&[4.0, 0.0, 1.0, 3.0, 2.0, 5.0], 0.6), Some(3.0));
        assert_eq!(quantile(&[0.0, 4.0, 8.0], 0.625), Some(5.0));
    }
}
