//! Peak signal-to-noise ratio for values in [0, 1].

/// Mean squared error of two images of equal length, summed in f64 in order.
pub fn mse(reference: &[f32], output: &[f32]) -> f64 {
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    reference.iter().zip(output).map(square).sum::<f64>() / reference.len() as f64
}

/// `10 log10(1 / mse)` in dB for a peak of 1; infinite where the images are equal.
pub fn psnr(mse: f64) -> f64 {
    -10.0 * mse.log10()
}

/// PSNR over the pixels of `reference` above its median + 3 median absolute deviations, or `None`
/// if there are none.
///
/// Most of a radar spectrogram is a noise floor that no codec can predict; the plain PSNR mostly
/// measures that floor, this one the echo.
pub fn foreground_psnr(reference: &[f32], output: &[f32]) -> Option<f64> {
    let threshold = foreground_threshold(reference)?;
    let (mut sum, mut count) = (0.0, 0u64);
    for (&a, &b) in reference.iter().zip(output) {
        if f64::from(a) > threshold {
            sum += (f64::from(a) - f64::from(b)).powi(2);
            count += 1;
        }
    }
    (count > 0).then(|| psnr(sum / count as f64))
}

/// Median + 3 MAD of an image, `None` for an empty one.
pub fn foreground_threshold(image: &[f32]) -> Option<f64> {
    let mut values: Vec<f64> = image.iter().map(|&v| f64::from(v)).collect();
    let median = median(&mut values)?;
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    Some(median + 3.0 * self::median(&mut values)?)
}

/// The middle value, or the mean of the two middle ones. Reorders `values`.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if !below.is_empty() && below.len() == middle && middle * 2 == values.len() {
        let lower = values[..middle].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return Some((lower + upper) / 2.0);
    }
    Some(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(psnr(0.01), 20.0);
        assert_eq!(psnr(mse(&[0.5; 7], &[0.5; 7])), f64::INFINITY);
        assert_eq!(mse(&[0.0, 1.0], &[0.5, 0.5]), 0.25);
        assert!(psnr(mse(&[f32::NAN], &[0.0])).is_nan());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [3.0, 1.0]), Some(2.0));
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    /// Median 0.25, deviations 0.125 0 0.125 0 0.5: MAD 0.125, so only 0.75 lies above 0.625.
    #[test]
    fn foreground() {
        let image = [0.125, 0.25, 0.375, 0.25, 0.75];
        assert_eq!(foreground_threshold(&image), Some(0.625));
        let output = [9.0, 9.0, 9.0, 9.0, 0.5];
        assert_eq!(foreground_psnr(&image, &output), Some(psnr(0.0625)));
        assert_eq!(foreground_psnr(&[0.5; 9], &[0.1; 9]), None);
        assert_eq!(foreground_psnr(&[], &[]), None);
    }
}
