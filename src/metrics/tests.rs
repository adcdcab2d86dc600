//! Against scikit-image, SciPy and NumPy: `kernels_tests/fixtures/metrics/make.py`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Values {
    dynamic_range_db: f64,
    pairs: Vec<Pair>,
    w1: [f64; FEATURES],
    real_std: [f64; FEATURES],
}

#[derive(Deserialize)]
struct Pair {
    height: usize,
    width: usize,
    scales: usize,
    ms_ssim: f64,
    ssim_gaussian: f64,
    ssim_uniform7: f64,
    psnr: f64,
    db_mae: f64,
    db_rmse: f64,
    lsd: f64,
    centroid_error: f64,
    bandwidth_error: f64,
    lower_error: f64,
    upper_error: f64,
    features: [f64; FEATURES],
}

fn values() -> Values {
    serde_json::from_str(include_str!("../../kernels_tests/fixtures/metrics/values.json")).unwrap()
}

/// A ridge over a noise floor in 256ths, from integers as in `make.py`.
fn image(h: usize, w: usize, seed: u32, shift: i64) -> Vec<f32> {
    let (hi, wi) = (h as i64, w as i64);
    let pixel = |i: usize| {
        let mut n = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
        n ^= n >> 15;
        n = n.wrapping_mul(2_246_822_519);
        n ^= n >> 13;
        let (r, x) = ((i / w) as i64, (i % w) as i64);
        let zigzag = ((3 * x + 17 * i64::from(seed)) % wi - wi / 2).abs() * hi / (2 * wi);
        let ridge = hi / 2 + shift + zigzag - hi / 8;
        let level = (180 - (640 / hi) * (r - ridge).abs()).max(0) + i64::from(n & 63);
        level as f32 / 256.0
    };
    (0..h * w).map(pixel).collect()
}

/// Sums of at most 2^16 terms of like sign are off by 2^16 eps on either side, relatively; the
/// variances of SSIM are differences of two such sums over 121 pixels, above C2 = 9e-4.
const SUMS: f64 = 2.0 * 65_536.0 * f64::EPSILON;
const SSIM: f64 = 5.0 * 4.0 * 121.0 * f64::EPSILON / 9e-4;

#[track_caller]
fn close(got: f64, want: f64, bound: f64) {
    assert!((got - want).abs() <= bound * want.abs().max(1.0), "{got} {want} {bound:e}");
}

#[test]
fn pairs_as_recorded() {
    let values = values();
    assert_eq!(values.pairs.len(), 4);
    for p in &values.pairs {
        let (h, w) = (p.height, p.width);
        let (a, second) = (image(h, w, 1, 0), image(h, w, 2, 1));
        let mix = |(a, b): (&f32, &f32)| ((a + b) * 128.0).round_ties_even() / 256.0;
        let b: Vec<f32> = a.iter().zip(&second).map(mix).collect();
        let scoring = Scoring { shape: [h, w, 1], dynamic_range_db: Some(values.dynamic_range_db) };
        let scores = score_images(&a, &b, &scoring).unwrap()[0];
        close(scores.psnr.unwrap(), p.psnr, SUMS);
        close(scores.ssim.unwrap(), p.ssim_gaussian, SSIM);
        close(scores.ssim_uniform7.unwrap(), p.ssim_uniform7, SSIM);
        close(scores.ms_ssim.unwrap(), p.ms_ssim, SSIM);
        close(scores.db_mae.unwrap(), p.db_mae, SUMS);
        close(scores.lsd.unwrap(), p.lsd, SUMS);
        // Sums of f p with signs: relative to sum |f| p, at most h / 2 times sum p.
        let bins = SUMS * h as f64;
        close(scores.centroid_error.unwrap(), p.centroid_error, bins);
        close(scores.bandwidth_error.unwrap(), p.bandwidth_error, bins);
        let multi = ms_ssim(&a, &b, [h, w, 1], &Window::gaussian()).unwrap();
        assert_eq!((multi.scales, Some(multi.value)), (p.scales, scores.ms_ssim));
        for convention in SsimConvention::ALL {
            let want = match convention {
                SsimConvention::Gaussian => p.ssim_gaussian,
                SsimConvention::Uniform7 => p.ssim_uniform7,
            };
            close(ssim(&a, &b, [h, w, 1], &convention.window()).unwrap(), want, SSIM);
        }
        close(db_error(&a, &b, values.dynamic_range_db).unwrap().rmse, p.db_rmse, SUMS);
        let envelopes = EnvelopeError::between(&a, &b, h, w).unwrap();
        close(envelopes.lower, p.lower_error, bins);
        close(envelopes.upper, p.upper_error, bins);
        for (got, want) in features(&a, h, w).unwrap().iter().zip(p.features) {
            close(*got, want, bins);
        }
    }
}

#[test]
fn sets_as_recorded() {
    let values = values();
    let set = |images: Vec<Vec<f32>>| set_features(&images.concat(), 32, 24);
    let real = set((0..9).map(|s| image(32, 24, s, 0)).collect());
    let made = set((0..7u32).map(|s| image(32, 24, 100 + s, i64::from(s % 5))).collect());
    let distances = feature_distances(&real, &made).unwrap();
    for (k, distance) in distances.iter().enumerate() {
        assert_eq!(distance.feature, FEATURE_NAMES[k]);
        close(distance.w1, values.w1[k], 32.0 * SUMS);
        close(distance.real_std, values.real_std[k], 32.0 * SUMS);
        close(distance.normalised.unwrap(), values.w1[k] / values.real_std[k], 1024.0 * SUMS);
    }
}
