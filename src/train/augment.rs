//! Random changes of training images: shifts and crops in time, small shifts in Doppler, gain,
//! noise, masks. Which ones are safe for labels is said at [`Augment`].

use crate::config::{Augment, Config, Edge, Loss};
use crate::data::Dataset;
use crate::data::resize::Resizer;
use crate::rng::{Rng, Stream};

/// Black to white, dB, where nothing says it: the usual clip.
const RANGE_DB: f64 = 40.0;

/// Decibels between black and white of `images`, for whatever is measured or changed in dB:
/// `data.augment.range_db` if it is set, else as the data were made, else what the loss is told of
/// them. `None` where nothing says that pixels are decibels: `loss.dynamic_range_db` as it is by
/// default, with no term of the loss in dB, says nothing.
pub fn dynamic_range_db(config: &Config, images: &Dataset) -> Option<f64> {
    let by_hand = config.data.augment.range_db;
    if by_hand > 0.0 {
        return Some(by_hand);
    }
    let loss = &config.loss;
    let told = loss.dynamic_range_db != Loss::default().dynamic_range_db
        || loss.log_spectral > 0.0
        || loss.multi_resolution > 0.0;
    images.range_db().or(told.then_some(loss.dynamic_range_db))
}

/// The `[data.augment]` settings for `images`, with the range that changes in dB refer to.
pub fn resolved(config: &Config, images: &Dataset) -> Augment {
    let range_db = dynamic_range_db(config, images).unwrap_or(RANGE_DB);
    Augment { range_db, ..config.data.augment.clone() }
}

/// The random numbers of row `row` of the batch of step `step`: the same whatever happened before,
/// so that a resumed run sees the same images. `row` is below 65,536.
pub fn rng(seed: u64, step: u64, row: usize) -> Rng {
    Rng::new(seed, Stream::Augment, (step << 16) | row as u64)
}

/// Changes one image of `[height, width, channels]` in [0, 1] in place; it stays in [0, 1]. Changes in
/// dB need `range_db` above 0: see [`resolved`].
///
/// A pure function of the settings, the image and the state of `rng`. Each change that is on takes
/// its numbers in a fixed order; changes that are off take none.
pub fn augment(config: &Augment, image: &mut [f32], shape: [usize; 3], rng: &mut Rng) {
    let [height, width, channels] = shape;
    if image.is_empty() || image.len() != height * width * channels {
        return;
    }
    let row = width * channels;
    if config.flip_time > 0.0 && rng.uniform() < config.flip_time {
        let source = image.to_vec();
        gather_columns(image, &source, shape, |x| width - 1 - x);
    }
    if config.flip_doppler > 0.0 && rng.uniform() < config.flip_doppler {
        let source = image.to_vec();
        gather_rows(image, &source, row, |y| height - 1 - y);
    }
    if config.time_crop > 0.0 {
        crop(image, shape, rng.range(0.0, config.time_crop), rng.uniform());
    }
    if config.time_shift > 0.0 {
        let by = signed(rng, config.time_shift, width);
        let source = image.to_vec();
        gather_columns(image, &source, shape, |x| {
            let from = x as isize - by;
            match config.time_edge {
                Edge::Circular => from.rem_euclid(width as isize) as usize,
                Edge::Repeat => from.clamp(0, width as isize - 1) as usize,
            }
        });
    }
    if config.doppler_shift > 0.0 {
        let by = signed(rng, config.doppler_shift, height);
        let source = image.to_vec();
        gather_rows(image, &source, row, |y| {
            (y as isize - by).clamp(0, height as isize - 1) as usize
        });
    }
    let range = config.range_db;
    if config.gain_db > 0.0 {
        let gain = (rng.range(-config.gain_db, config.gain_db) / range) as f32;
        image.iter_mut().for_each(|v| *v = (*v + gain).clamp(0.0, 1.0));
    }
    if config.noise_db > 0.0 {
        let scale = config.noise_db / range;
        image.iter_mut().for_each(|v| *v = (*v + (scale * rng.normal()) as f32).clamp(0.0, 1.0));
    }
    if config.time_mask > 0.0 {
        for _ in 0..config.time_masks {
            let len = (rng.range(0.0, config.time_mask) * width as f64).round() as usize;
            let from = rng.below((width - len + 1) as u32) as usize;
            for line in image.chunks_exact_mut(row) {
                line[from * channels..(from + len) * channels].fill(0.0);
            }
        }
    }
}

/// A whole shift in -most..=most, `most` being a share of `len`.
fn signed(rng: &mut Rng, share: f64, len: usize) -> isize {
    let most = (share * len as f64).round() as u32;
    rng.below(2 * most + 1) as isize - most as isize
}

fn gather_columns(
    image: &mut [f32],
    source: &[f32],
    [_, width, channels]: [usize; 3],
    from: impl Fn(usize) -> usize,
) {
    let row = width * channels;
    for (out, line) in image.chunks_exact_mut(row).zip(source.chunks_exact(row)) {
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            pixel.copy_from_slice(&line[from(x) * channels..][..channels]);
        }
    }
}

fn gather_rows(image: &mut [f32], source: &[f32], row: usize, from: impl Fn(usize) -> usize) {
    for (y, out) in image.chunks_exact_mut(row).enumerate() {
        out.copy_from_slice(&source[from(y) * row..][..row]);
    }
}

/// Cuts a share of the columns off, `place` of it at the start, and stretches what is left.
fn crop(image: &mut [f32], [height, width, channels]: [usize; 3], share: f64, place: f64) {
    let cut = ((share * width as f64).round() as usize).min(width - 1);
    if cut == 0 {
        return;
    }
    let from = (place * (cut + 1) as f64) as usize;
    let kept = width - cut;
    let rows = image.chunks_exact(width * channels);
    let inside: Vec<f32> = rows
        .flat_map(|line| line[from * channels..(from + kept) * channels].iter().copied())
        .collect();
    Resizer::new((height, kept), (height, width), channels).apply(&inside, image);
    image.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [5, 8, 2];

    fn image() -> Vec<f32> {
        (0..80).map(|i| (i * 37 % 80) as f32 / 80.0).collect()
    }

    fn changed(config: &Augment, seed: u64) -> Vec<f32> {
        let mut out = image();
        augment(config, &mut out, SHAPE, &mut rng(seed, 3, 7));
        out
    }

    #[test]
    fn nothing_by_default_and_no_numbers_drawn() {
        assert!(!Augment::default().is_on());
        assert_eq!(changed(&Augment::default(), 1), image());
        let mut r = rng(1, 2, 3);
        augment(&Augment::default(), &mut image(), SHAPE, &mut r);
        assert_eq!(r.next_u32(), rng(1, 2, 3).next_u32());
    }

    /// All changes at once: the same for the same (seed, step, row), different for each other, and
    /// within [0, 1].
    #[test]
    fn pure_and_bounded() {
        let config = Augment {
            time_shift: 0.5,
            time_crop: 0.5,
            doppler_shift: 0.2,
            gain_db: 6.0,
            range_db: 40.0,
            noise_db: 3.0,
            time_masks: 2,
            time_mask: 0.3,
            flip_time: 0.5,
            flip_doppler: 0.5,
            ..Augment::default()
        };
        assert!(config.is_on());
        let run = |seed, step, row| {
            let mut out = image();
            augment(&config, &mut out, SHAPE, &mut rng(seed, step, row));
            assert!(out.iter().all(|v| (0.0..=1.0).contains(v)));
            out
        };
        assert_eq!(run(1, 2, 3), run(1, 2, 3));
        for other in [run(2, 2, 3), run(1, 3, 3), run(1, 2, 4)] {
            assert_ne!(other, run(1, 2, 3));
        }
    }

    #[test]
    fn shifts_move_whole_columns_and_rows() {
        let circular = Augment { time_shift: 0.375, ..Augment::default() };
        let repeat = Augment { time_edge: Edge::Repeat, ..circular.clone() };
        let at = |v: &[f32], y: usize, x: usize| v[(y * 8 + x) * 2 + 1];
        let source = image();
        let mut shifts = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let (turned, pushed) = (changed(&circular, seed), changed(&repeat, seed));
            let by = (-3..=3).find(|by| {
                (0..8).all(|x| {
                    at(&turned, 2, x) == at(&source, 2, (x as i32 - by).rem_euclid(8) as usize)
                })
            });
            let by = by.unwrap_or_else(|| panic!("seed {seed} is no shift"));
            shifts.insert(by);
            for x in 0..8 {
                let from = (x as i32 - by).clamp(0, 7) as usize;
                assert_eq!(at(&pushed, 4, x), at(&source, 4, from));
            }
        }
        assert_eq!(shifts.len(), 7, "every shift from -3 to 3 occurs: {shifts:?}");
        let doppler = Augment { doppler_shift: 0.2, ..Augment::default() };
        let rows: Vec<Vec<f32>> = (0..20).map(|seed| changed(&doppler, seed)).collect();
        for moved in &rows {
            let known = [-1i32, 0, 1].iter().any(|by| {
                (0..5).all(|y| {
                    let from = (y - by).clamp(0, 4) as usize;
                    moved[y as usize * 16..][..16] == source[from * 16..][..16]
                })
            });
            assert!(known);
        }
        assert!(rows.iter().any(|r| r[..] != source[..]));
    }

    #[test]
    fn flips_gain_masks_and_crops() {
        let source = image();
        let both = Augment { flip_time: 1.0, flip_doppler: 1.0, ..Augment::default() };
        let turned = changed(&both, 1);
        for i in 0..40 {
            assert_eq!(turned[i * 2..][..2], source[(39 - i) * 2..][..2]);
        }
        let gain = Augment { gain_db: 4.0, range_db: 40.0, ..Augment::default() };
        let louder = changed(&gain, 5);
        let step = louder[40] - source[40];
        assert!(step != 0.0 && step.abs() <= 0.1);
        for (a, b) in louder.iter().zip(&source) {
            // `step` carries the rounding of one sum below 1, and `a` that of another.
            assert!((a - (b + step).clamp(0.0, 1.0)).abs() <= f32::EPSILON, "one gain for all");
        }
        let ones = |config: &Augment, seed| {
            let mut out = vec![1.0f32; 80];
            augment(config, &mut out, SHAPE, &mut rng(seed, 0, 0));
            out
        };
        let mask = Augment { time_masks: 1, time_mask: 0.5, ..Augment::default() };
        for seed in 0..30 {
            let black = ones(&mask, seed).iter().filter(|&&v| v == 0.0).count();
            assert!(black.is_multiple_of(10) && black <= 40, "{black}");
        }
        assert!((0..30).any(|seed| ones(&mask, seed).contains(&0.0)));
        // Stretching keeps a constant.
        let crop = Augment { time_crop: 0.9, ..Augment::default() };
        assert!((0..30).all(|seed| ones(&crop, seed).iter().all(|&v| v == 1.0)));
        assert!((0..5).any(|seed| changed(&crop, seed) != source));
    }

    /// n = 16,384 pixels in the middle of the range, 10 standard deviations from either end, at 45 dB:
    /// the mean of the noise is off by 1/sqrt(n) and its standard deviation by 1/sqrt(2 n) standard
    /// deviations; four of these are allowed. The size of a gain is uniform up to its setting.
    #[test]
    fn noise_and_gain_have_the_size_that_is_set() {
        let (n, range_db) = (16_384, 45.0);
        let noise = Augment { noise_db: 2.25, range_db, ..Augment::default() };
        let mut out = vec![0.5f32; n];
        augment(&noise, &mut out, [128, 128, 1], &mut rng(1, 2, 3));
        let db: Vec<f64> = out.iter().map(|v| (f64::from(*v) - 0.5) * range_db).collect();
        let mean = db.iter().sum::<f64>() / n as f64;
        let sd = (db.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        assert!(mean.abs() <= 4.0 * 2.25 / (n as f64).sqrt(), "{mean}");
        assert!((sd - 2.25).abs() <= 4.0 * 2.25 / (2.0 * n as f64).sqrt(), "{sd}");
        let gain = Augment { gain_db: 9.0, range_db, ..Augment::default() };
        let gains = (0..200).map(|seed| {
            let mut out = [0.5f32; 4];
            augment(&gain, &mut out, [2, 2, 1], &mut rng(seed, 0, 0));
            (f64::from(out[0]) - 0.5).abs() * range_db
        });
        // 0.5 and the sum are rounded to f32. That none of 200 is above 95 % has odds of .95^200.
        let most = gains.fold(0.0, f64::max);
        assert!(most <= 9.0 + 45.0 * f64::from(f32::EPSILON) && most >= 0.95 * 9.0, "{most}");
    }

    #[test]
    fn the_range_is_what_is_known_of_the_data() {
        use crate::data::{Scale, Unit};
        let set = |text: &str| Config::parse("test", "", &[text.to_string()]).unwrap();
        let data = |source: &str| {
            Dataset::from_u8(vec![0; 4], [1, 2, 2, 1], None, vec![], source).unwrap()
        };
        let plain = Config::default();
        let photographs = data("photographs");
        assert_eq!(dynamic_range_db(&plain, &photographs), None);
        assert_eq!(resolved(&plain, &photographs).range_db, 40.0);
        assert_eq!(dynamic_range_db(&plain, &data("synth:rotor")), Some(40.0));
        let mut known = data("levels");
        known.scale = Scale::MaxDb { clip_db: 45.0, unit: Unit::Power };
        assert_eq!(dynamic_range_db(&plain, &known), Some(45.0));
        assert_eq!(resolved(&plain, &known).range_db, 45.0);
        // The file's own knowledge comes before the loss, what is set for it before both.
        let loss = set("loss.dynamic_range_db=60");
        assert_eq!(dynamic_range_db(&loss, &photographs), Some(60.0));
        assert_eq!(dynamic_range_db(&loss, &known), Some(45.0));
        assert_eq!(dynamic_range_db(&set("loss.log_spectral=1e-3"), &photographs), Some(40.0));
        assert_eq!(dynamic_range_db(&set("data.augment.range_db=50"), &known), Some(50.0));
        known.scale = Scale::Affine { low: 0.0, high: 3.0 };
        assert_eq!(dynamic_range_db(&plain, &known), None, "of no known unit");
    }
}
