//! The simulator as a whole: scenes, images, data sets, refusals.

use super::body::Lengths;
use super::echo::{Placement, Scene};
use super::gait::{Gait, PLAIN};
use super::*;

fn spec(preset: Preset, size: usize, n: usize) -> SynthSpec {
    SynthSpec { preset, size, n, seed: 7, floor_db: None, classes: None }
}

/// Energy of the error over the energy of the signal, dB.
pub fn error_db(got: &[Complex<f32>], exact: &[Complex<f64>]) -> f64 {
    let wide = |z: &Complex<f32>| Complex::new(f64::from(z.re), f64::from(z.im));
    let error: f64 = got.iter().zip(exact).map(|(z, w)| (wide(z) - w).norm_sqr()).sum();
    let signal: f64 = exact.iter().map(|z| z.norm_sqr()).sum();
    10.0 * (error / signal).log10()
}

/// Interpolation between nodes must stay 20 dB under the 40 dB that an image shows.
#[test]
fn human_echo_matches_its_definition() {
    let wavelength = Preset::Human.wavelength();
    for (class, name) in human::CLASSES.iter().enumerate() {
        let scene = human::draw(class, &mut Rng::new(5, Stream::Test, class as u64));
        let mut echo = Vec::new();
        scene.echo(wavelength, human::RATE, 6349, &mut Default::default(), &mut echo);
        assert_eq!(echo.len(), 6349);
        let exact = scene.echo_by_definition(wavelength, human::RATE, 6349);
        let db = error_db(&echo, &exact);
        assert!(db < -60.0, "{name}: {db:.1} dB");
    }
}

/// The trunk reflects most, so the brightest row is the walking speed. Around it the trunk's own
/// sway swings by 0.19 m/s (pelvis) and 0.09 m/s (lean), 1.4 rows of 0.2 m/s.
#[test]
fn torso_of_a_walker_is_at_walking_speed() {
    let receiver = Preset::Human.receiver(64, (45.0, 45.0));
    for (v, heading) in [(1.2, 0.0), (1.7, std::f64::consts::PI)] {
        let gait = Gait::new(Lengths::of(1.75), v, 0.1, PLAIN);
        let speed = gait.speed();
        let place = Placement { range: 9.0, lateral: 0.0, heading, radar_height: 1.1 };
        let rng = &mut Rng::new(1, Stream::Test, 0);
        let scene = Scene::new(Box::new(gait), place, rng);
        let mut echo = Vec::new();
        let wavelength = Preset::Human.wavelength();
        let samples = receiver.samples();
        scene.echo(wavelength, human::RATE, samples, &mut Default::default(), &mut echo);
        let image = receiver.image(&mut echo, rng, &mut Default::default(), None);
        let radial = -heading.cos() * speed;
        let expected = 31.5 - radial / (wavelength * human::RATE / 4.0) * 32.0;
        let sum = |row: usize| image[row * 64..(row + 1) * 64].iter().sum::<f32>();
        let row = (0..64).max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap();
        assert!((row as f64 - expected).abs() < 2.0, "row {row}, not {expected:.1}");
    }
}

/// A two-blade rotor at 40 Hz, seen through the receiver: 80 flashes a second, 10 in 128 ms.
#[test]
fn flashes_are_columns_of_the_image() {
    let rotor = rotor::Rotor {
        blades: 2,
        length: 0.7,
        rate: 40.0,
        phase: 0.0,
        gain: 1.0,
        cos_elevation: 1.0,
        offset: 0.0,
    };
    let craft = rotor::Craft { velocity: 0.0, body: 0.3, body_turns: 0.2, rotors: vec![rotor] };
    let receiver = Preset::Rotor.receiver(64, (45.0, 45.0));
    let mut echo = Vec::new();
    craft.echo(Preset::Rotor.wavelength(), rotor::RATE, receiver.samples(), &mut echo);
    let rng = &mut Rng::new(1, Stream::Test, 0);
    let image = receiver.image(&mut echo, rng, &mut Default::default(), None);
    // The tips reach 176 m/s, row 8. Rows 10 to 20 are half to all of that: only flashes are
    // there, apart from the tip's own faint line.
    let column = |c: usize| (10..20).map(|row| image[row * 64 + c]).sum::<f32>() / 10.0;
    let level: Vec<f32> = (0..64).map(column).collect();
    let (low, high) = level.iter().fold((1f32, 0f32), |(l, h), &x| (l.min(x), h.max(x)));
    let bright: Vec<bool> = level.iter().map(|&x| x > 0.5 * (low + high)).collect();
    let flashes = bright.windows(2).filter(|w| !w[0] && w[1]).count();
    assert_eq!(flashes, 10, "{level:?}");
}

/// Mean and variance of the mean of a class' feature vectors.
struct Moments {
    mean: Vec<f64>,
    uncertainty: f64,
}

impl Moments {
    fn of(features: &[Vec<f64>]) -> Self {
        let n = features.len() as f64;
        let mean: Vec<f64> = (0..features[0].len())
            .map(|i| features.iter().map(|f| f[i]).sum::<f64>() / n)
            .collect();
        let square = |f: &Vec<f64>| distance(f, &mean);
        let uncertainty = features.iter().map(square).sum::<f64>() / (n * (n - 1.0));
        Moments { mean, uncertainty }
    }

    /// Squared distance of two means over its expectation for one and the same class: 1 then, and
    /// above 4 in fewer than 5 % of draws, even if a single direction carries all the variance
    /// (chi-square with one degree of freedom: 3.84).
    fn separation(&self, other: &Moments) -> f64 {
        distance(&self.mean, &other.mean) / (self.uncertainty + other.uncertainty)
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum()
}

/// An image added to its mirror image about zero Doppler, since half of the scenes go each way.
fn folded(image: &[f64], size: usize) -> Vec<f64> {
    let mirror = |row: usize| &image[(size - 1 - row) * size..][..size];
    let rows = (0..size / 2).map(|row| image[row * size..][..size].iter().zip(mirror(row)));
    rows.flatten().map(|(a, b)| a + b).collect()
}

/// Autocorrelation along time at lags of 1 to half the columns: flashes are periodic but start
/// anywhere, so that two helicopters have the same mean image.
fn rhythm(image: &[f64], size: usize) -> Vec<f64> {
    let mut centred = image.to_vec();
    for row in centred.chunks_mut(size) {
        let mean = row.iter().sum::<f64>() / size as f64;
        row.iter_mut().for_each(|x| *x -= mean);
    }
    let product = |lag: usize| -> f64 {
        centred.chunks(size).flat_map(|row| row.iter().zip(&row[lag..])).map(|(a, b)| a * b).sum()
    };
    (1..=size / 2).map(|lag| product(lag) / product(0)).collect()
}

#[test]
fn class_means_differ() {
    const SIZE: usize = 32;
    for (preset, per_class) in [(Preset::Human, 40), (Preset::Rotor, 100)] {
        let names = preset.class_names();
        let n = names.len() * per_class;
        let set =
            generate(&SynthSpec { floor_db: Some((38.0, 38.0)), ..spec(preset, SIZE, n) }).unwrap();
        let features = |class: usize, feature: fn(&[f64], usize) -> Vec<f64>| -> Vec<Vec<f64>> {
            let images = set.pixels_u8.chunks(SIZE * SIZE).skip(class).step_by(names.len());
            images
                .map(|image| image.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>())
                .map(|image| feature(&image, SIZE))
                .collect()
        };
        for a in 0..names.len() {
            let all = features(a, folded);
            let (first, second) = all.split_at(per_class / 2);
            let same = Moments::of(first).separation(&Moments::of(second));
            assert!(same < 4.0, "{} from itself: {same:.2}", names[a]);
            for b in 0..a {
                let feature = if names[a] == "helicopter4" && names[b] == "helicopter2" {
                    rhythm
                } else {
                    folded
                };
                let [a_mean, b_mean] = [a, b].map(|class| Moments::of(&features(class, feature)));
                let separation = a_mean.separation(&b_mean);
                assert!(separation > 4.0, "{} from {}: {separation:.2}", names[a], names[b]);
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for spec in [spec(Preset::Human, 32, 12), spec(Preset::Rotor, 64, 15)] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| generate(&spec)).unwrap()
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
        // And each image is a pure function of its index.
        for index in [0, 7, 11] {
            let (image, label) = image(&spec, index as u64).unwrap();
            let area = spec.size * spec.size;
            let bytes: Vec<u8> = image.iter().map(|x| (x * 255.0).round() as u8).collect();
            assert_eq!(bytes, one.pixels_u8[index * area..(index + 1) * area]);
            assert_eq!(label, one.labels[index]);
        }
    }
}

#[test]
fn every_size_and_class_gives_an_image() {
    for preset in [Preset::Human, Preset::Rotor] {
        for size in SIZES {
            let classes: Vec<usize> = (0..preset.all_class_names().len()).collect();
            let n = classes.len();
            let spec = SynthSpec { classes: Some(classes), ..spec(preset, size, n) };
            let set = generate(&spec).unwrap();
            assert_eq!(set.pixels_u8.len(), n * size * size);
            assert_eq!(set.class_names, preset.all_class_names());
            for (image, &label) in set.pixels_u8.chunks(size * size).zip(&set.labels) {
                // The scale ends at the 99.8th percentile: at least two pixels in a thousand
                // reach white, and noise keeps most of the rest from it.
                let white = image.iter().filter(|&&x| x == 255).count();
                let name = &set.class_names[label as usize];
                assert!(white * 1000 >= image.len(), "{preset} {size} {name}: {white}");
                assert!(white * 20 < image.len(), "{preset} {size} {name}: {white}");
            }
        }
    }
}

#[test]
fn seeds_and_indices_differ() {
    let a = spec(Preset::Rotor, 32, 2);
    let b = SynthSpec { seed: 8, ..a.clone() };
    let pixels = |spec: &SynthSpec, index| image(spec, index).unwrap().0;
    assert_ne!(pixels(&a, 0), pixels(&b, 0));
    assert_ne!(pixels(&a, 0), pixels(&a, 5), "same class, another scene");
}

#[test]
fn clean_twin_is_the_scene_without_noise() {
    let at = |floor: f64| {
        let spec = SynthSpec { floor_db: Some((floor, floor)), ..spec(Preset::Human, 64, 1) };
        (image_pair(&spec, 3).unwrap(), image(&spec, 3).unwrap())
    };
    let ((loud, image), (quiet, _), (silent, _)) = (at(24.0), at(45.0), at(200.0));
    assert_eq!((loud.noisy.clone(), loud.label), image);
    assert_eq!(loud.clean, quiet.clean, "the scene does not depend on the noise");
    let distance = |pair: &ImagePair| {
        pair.noisy.iter().zip(&pair.clean).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
    };
    assert!(distance(&loud) > distance(&quiet) && distance(&quiet) > 0.0);
    // 200 dB down is below the resolution of f32.
    assert!(distance(&silent) < 1e-6, "{}", distance(&silent));
}

#[test]
fn labels_follow_the_chosen_classes() {
    let spec = SynthSpec { classes: Some(vec![4, 1]), ..spec(Preset::Rotor, 32, 5) };
    let set = generate(&spec).unwrap();
    assert_eq!(set.labels, [4, 1, 4, 1, 4]);
    assert_eq!(set.class_names, Preset::Rotor.class_names());
    let people = SynthSpec { preset: Preset::Human, ..spec };
    assert_eq!(people.class_names().len(), 10);
    let birds = SynthSpec { classes: Some(vec![10]), ..people };
    assert_eq!(birds.class_names()[10], "bird");
}

#[test]
fn bad_specs_are_refused() {
    let good = spec(Preset::Human, 64, 1);
    let mut bad: Vec<SynthSpec> =
        [0, 1, 16, 48, 63, 256].map(|size| SynthSpec { size, ..good.clone() }).to_vec();
    for classes in [vec![], vec![0, 11]] {
        bad.push(SynthSpec { classes: Some(classes), ..good.clone() });
    }
    for floor in [(38.0, 24.0), (f64::NAN, 30.0), (-1.0, 30.0), (30.0, f64::INFINITY)] {
        bad.push(SynthSpec { floor_db: Some(floor), ..good.clone() });
    }
    for spec in bad {
        for error in [image(&spec, 0).unwrap_err(), generate(&spec).unwrap_err()] {
            assert_eq!(error.kind, crate::error::Kind::Usage, "{spec:?}");
        }
    }
    assert_eq!(
        generate(&SynthSpec { n: 0, ..good.clone() }).unwrap_err().kind,
        crate::error::Kind::Usage
    );
    assert_eq!(
        generate(&SynthSpec { n: usize::MAX / 4, ..good }).unwrap_err().kind,
        crate::error::Kind::Failed
    );
    assert!("people".parse::<Preset>().is_err());
    for preset in [Preset::Human, Preset::Rotor] {
        assert_eq!(preset.to_string().parse::<Preset>().unwrap(), preset);
    }
}
