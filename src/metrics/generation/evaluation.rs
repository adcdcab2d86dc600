//! Everything that is said of a set of samples, as one object: what `vqforge eval` writes as JSON.

use serde::{Deserialize, Serialize};

use super::memorisation::{self, Memorisation, copies, nearest_pairs};
use super::motion::{Motion, motion, motions};
use super::{
    EqualSets, Frechet, Judged, Kid, Matrix, PrecisionRecall, equal_sets, frechet, kid,
    precision_recall,
};
use crate::data::Dataset;

/// Of the JSON: counts up when a field changes its meaning or goes.
pub const FORMAT: u32 = 1;

/// A number of the samples and the same of held-out real images, each against the same other held-out
/// images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside<T> {
    pub samples: Judged<T>,
    pub floor: Judged<T>,
}

/// What was compared. In JSON, all fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Circumstances {
    /// The run folder, the data, and the file of samples (`null`: made by the run), as they were named.
    pub run: String,
    pub data: String,
    pub samples_file: Option<String>,
    /// How the samples were made; `null` if they came from a file.
    pub sampling: Option<Sampling>,
    /// Images: samples, held out, trained on.
    pub samples: usize,
    pub held_out: usize,
    pub training: usize,
    pub features: FeatureFacts,
}

/// In JSON, all fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Sampling {
    pub sampler: String,
    pub steps: usize,
    pub guidance: f64,
    pub seed: u64,
}

/// The network whose features are compared. In JSON, all fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct FeatureFacts {
    /// What it learned on the training images.
    pub task: String,
    pub dimensions: usize,
    /// Of its training, as of those for `transfer`.
    pub steps: u64,
    pub seed: u64,
    /// Share of right answers in the last fifth of its training, and by chance.
    pub accuracy: f64,
    pub chance: f64,
}

/// Accuracies of classifiers of one architecture, number of steps and seed, trained and tested on
/// samples or real images. In JSON, all fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Trained on samples, tested on held-out real images: are the samples good to learn from? All
    /// samples are trained on.
    pub tstr: f64,
    /// Trained on real images, tested on samples: are they of the class they were asked to be of?
    pub trts: f64,
    /// Trained on real images, tested on held-out ones: what the others can at best be expected to be.
    pub trtr: f64,
}

/// Images of a class in each of the three sets. In JSON, all fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSize {
    /// `null`: of all images, without classes.
    pub class: Option<u32>,
    pub images: usize,
}

/// The JSON of `vqforge eval`: every field is always there. What could not be judged is
/// `{"not_judged": reason}` in place of its object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub format: u32,
    pub circumstances: Circumstances,
    /// Images in each of the sets compared by `kid`, `frechet`, `precision_recall` and `motion`: the
    /// samples, the reference (held out) and the floor (held out, disjoint). In total, and of each class.
    pub set_size: usize,
    pub set_classes: Vec<ClassSize>,
    pub kid: Beside<Kid>,
    pub frechet: Beside<Frechet>,
    pub precision_recall: Beside<PrecisionRecall>,
    /// Of the envelopes, against the reference.
    pub motion: Beside<Motion>,
    /// Of all samples, and of the floor; thresholds are those of the reference.
    pub memorisation: Memorisation,
    pub transfer: Judged<Transfer>,
    /// Plain sentences on what limits the numbers.
    pub warnings: Vec<String>,
}

/// Images of one kind with their features, in the order of each other.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub features: &'a Matrix,
    /// [n, h, w, c] in [0, 1].
    pub pixels: &'a [f32],
    /// Classes of all.
    pub labels: Option<&'a [u32]>,
}

/// The images that were trained on: the rows of a data set with their features.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    pub features: &'a Matrix,
    pub images: &'a Dataset,
    pub rows: &'a [u32],
}

/// All that features, pixels and labels say; `transfer` is another's business. Images are of the shape
/// of the training images.
pub fn evaluate(
    samples: Side<'_>,
    held_out: Side<'_>,
    training: Training<'_>,
    seed: u64,
    circumstances: Circumstances,
) -> Evaluation {
    let counts = [held_out.features.len(), samples.features.len()];
    let sets = equal_sets(held_out.labels, samples.labels, counts, seed);
    let reference = held_out.features.select(&sets.reference);
    let floor = held_out.features.select(&sets.floor);
    let made = samples.features.select(&sets.samples);
    let shape = training.images.image_shape();
    Evaluation {
        format: FORMAT,
        set_size: sets.size(),
        set_classes: sets
            .classes
            .iter()
            .map(|&(class, images)| ClassSize { class, images })
            .collect(),
        kid: Beside { samples: kid(&made, &reference, seed), floor: kid(&floor, &reference, seed) },
        frechet: Beside { samples: frechet(&made, &reference), floor: frechet(&floor, &reference) },
        precision_recall: Beside {
            samples: precision_recall(&reference, &made),
            floor: precision_recall(&reference, &floor),
        },
        motion: of_motion(samples.pixels, held_out.pixels, shape, &sets),
        memorisation: of_memory(samples, held_out, training, &sets),
        transfer: Judged::not("no classifier was trained on the samples"),
        warnings: left_out(&sets, training.images),
        circumstances,
    }
}

fn of_motion(
    samples: &[f32],
    held_out: &[f32],
    shape: [usize; 3],
    sets: &EqualSets,
) -> Beside<Motion> {
    match (motions(samples, shape), motions(held_out, shape)) {
        (Judged::Value(made), Judged::Value(real)) => Beside {
            samples: motion(&real, &made, &sets.by_class(&sets.samples)),
            floor: motion(&real, &real, &sets.by_class(&sets.floor)),
        },
        (Judged::NotJudged { not_judged }, _) | (_, Judged::NotJudged { not_judged }) => {
            Beside { samples: Judged::not(&not_judged), floor: Judged::not(not_judged) }
        }
    }
}

fn of_memory(
    samples: Side<'_>,
    held_out: Side<'_>,
    training: Training<'_>,
    sets: &EqualSets,
) -> Memorisation {
    use memorisation::{Nearest, nearest_features, nearest_pixels};
    let beside = |made: &[Nearest], real: &[Nearest]| {
        let pick =
            |rows: &[u32]| -> Vec<Nearest> { rows.iter().map(|&i| real[i as usize]).collect() };
        let (reference, floor) = (pick(&sets.reference), pick(&sets.floor));
        Beside { samples: copies(made, &reference), floor: copies(&floor, &reference) }
    };
    let in_features =
        |side: Side<'_>| nearest_features(side.features, training.features, training.rows);
    let in_pixels = |side: Side<'_>| nearest_pixels(side.pixels, training.images, training.rows);
    let (features, pixels) = (in_features(samples), in_pixels(samples));
    Memorisation {
        features: beside(&features, &in_features(held_out)),
        nearest_in_features: nearest_pairs(&features),
        pixels: beside(&pixels, &in_pixels(held_out)),
        nearest_in_pixels: nearest_pairs(&pixels),
    }
}

fn left_out(sets: &EqualSets, images: &Dataset) -> Vec<String> {
    let line = |&(class, held_out, samples): &(u32, usize, usize)| {
        let class = images.class_name(class);
        format!("{class} is not compared: {held_out} held-out images, {samples} samples of it")
    };
    sets.left_out.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::gaussians;
    use super::*;

    /// Images whose features are their pixels' first two, twice as many held out as samples.
    fn evaluated(scale: f64, shift: f32) -> Evaluation {
        let n = 480;
        let pixels: Vec<u8> = (0..n * 64).map(|i| (i * 7919 % 251) as u8).collect();
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
        let names = ["a", "b"].map(String::from).into();
        let shape = [n, 8, 8, 1];
        let images = Dataset::from_u8(pixels, shape, Some(labels.clone()), names, "test").unwrap();
        let rows = |from: u32, to: u32| (from..to).collect::<Vec<u32>>();
        let pixels = |rows: &[u32], shift: f32| {
            let mut out = vec![0.0; rows.len() * 64];
            images.images(rows, &mut out);
            out.iter_mut().for_each(|v| *v = (*v + shift).min(1.0));
            out
        };
        let (training, held_out, made) = (rows(0, 80), rows(80, 380), rows(380, 480));
        let features =
            [gaussians(80, 2, 0, 1.0), gaussians(300, 2, 1, 1.0), gaussians(100, 2, 2, scale)];
        let real_pixels = pixels(&held_out, 0.0);
        let made_pixels = pixels(&made, shift);
        let of = |rows: &[u32]| rows.iter().map(|&r| labels[r as usize]).collect::<Vec<u32>>();
        let (real_labels, made_labels) = (of(&held_out), of(&made));
        evaluate(
            Side { features: &features[2], pixels: &made_pixels, labels: Some(&made_labels) },
            Side { features: &features[1], pixels: &real_pixels, labels: Some(&real_labels) },
            Training { features: &features[0], images: &images, rows: &training },
            0,
            Circumstances::default(),
        )
    }

    /// The floor knows nothing of the samples; worse samples are worse beside the same floor.
    #[test]
    fn samples_beside_the_floor() {
        let (good, bad) = (evaluated(1.0, 0.0), evaluated(3.0, 0.0));
        assert_eq!((good.set_size, good.set_classes.len()), (100, 2));
        let kid = |e: &Evaluation| (*e.kid.samples.value().unwrap(), *e.kid.floor.value().unwrap());
        assert_eq!(kid(&good).1, kid(&bad).1);
        let (sample, floor) = kid(&good);
        assert!(
            sample.mmd2.abs() < 4.0 * sample.standard_error
                && floor.mmd2.abs() < sample.mmd2.abs() + 4.0 * floor.standard_error
        );
        assert!(kid(&bad).0.mmd2 > 4.0 * kid(&bad).0.standard_error);
        let frechet = |e: &Evaluation| e.frechet.samples.value().unwrap().distance;
        assert!(frechet(&bad) > 3.0 && frechet(&good) < 0.5);
        let precise = |e: &Evaluation| e.precision_recall.samples.value().unwrap().precision;
        assert!(precise(&bad) < precise(&good));
        assert!(good.memorisation.pixels.floor.value().is_some());
    }

    /// What is written is read again, with and without results. The reader of JSON is off by a unit in
    /// the last place now and then, which is no matter.
    #[test]
    fn json_there_and_back() {
        let mut full = evaluated(1.0, 0.1);
        full.transfer = Judged::Value(Transfer { tstr: 0.5, trts: 0.25, trtr: 1.0 });
        let mut few = full.clone();
        few.kid.samples = Judged::not("why not");
        few.transfer = Judged::not("no labels");
        let read = |e: &Evaluation| -> Evaluation {
            serde_json::from_str(&serde_json::to_string(e).unwrap()).unwrap()
        };
        let (again, few) = (read(&full), read(&few));
        assert_eq!(again.transfer, full.transfer);
        let near = |a: f64, b: f64| (a - b).abs() <= 4.0 * f64::EPSILON * b.abs();
        let kid = |e: &Evaluation| e.kid.samples.value().unwrap().mmd2;
        assert!(near(kid(&again), kid(&full)));
        let motion = |e: &Evaluation| e.motion.floor.value().unwrap().distance;
        assert!(near(motion(&again), motion(&full)));
        assert_eq!(few.kid.samples.reason(), Some("why not"));
        assert_eq!(few.transfer.reason(), Some("no labels"));
        assert!(few.kid.floor.value().is_some() && few.frechet == again.frechet);
    }

    /// A number that is not judged says why in its row, and the others stand in theirs.
    #[test]
    fn the_table_has_every_number() {
        let mut e = evaluated(1.0, 0.0);
        e.frechet.samples = Judged::not("too few of them");
        e.warnings.push("take care".into());
        let text = e.table().join("\n");
        let kid = format!("{:.2} +-", 1e3 * e.kid.samples.value().unwrap().mmd2);
        for part in [
            &kid[..],
            "not judged: too few of them",
            "not judged: no classifier",
            "precision",
            "copies by pixels",
            "warning: take care",
            "compared: 100 each",
        ] {
            assert!(text.contains(part), "nothing about {part:?} in\n{text}");
        }
    }
}
