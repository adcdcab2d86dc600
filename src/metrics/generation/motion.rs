//! Do the samples of each class move as the real images of that class do? The 1-Wasserstein distances
//! of the [envelope features](crate::metrics::kinematics), class by class: a walk that moves as a fall
//! does is wrong though both are there.

use serde::{Deserialize, Serialize};

use super::Judged;
use crate::metrics::kinematics::{
    FEATURES, FeatureDistance, feature_distances, features, mean_distance,
};

/// Images of a class that a standard deviation needs.
const FEWEST: usize = 2;

/// The envelope features of images: `None` where an image has none.
pub type Features = Vec<Option<[f64; FEATURES]>>;

/// How far apart the motion of two sets is. In JSON, all fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Motion {
    /// The mean of the distances of the classes: standard deviations of the real images.
    pub distance: f64,
    pub classes: Vec<ClassMotion>,
}

/// Of one class, or of all images where there are none. In JSON, all fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMotion {
    /// The class; `null` without classes.
    pub class: Option<u32>,
    /// Images in each of the two sets.
    pub images: usize,
    /// The mean over features of their distances over the real standard deviation; `null` if the real
    /// images are all alike.
    pub distance: Option<f64>,
    /// In Doppler bins, the last in bins a frame.
    pub features: Vec<FeatureDistance>,
}

/// Of all images of `[height, width, channels]`; not judged with more than one channel.
pub fn motions(images: &[f32], [height, width, channels]: [usize; 3]) -> Judged<Features> {
    use rayon::prelude::*;
    if channels != 1 {
        return Judged::not(format!("envelopes are those of one channel, not of {channels}"));
    }
    let len = (height * width).max(1);
    let of = |image: &[f32]| features(image, height, width);
    Judged::Value(images.par_chunks_exact(len).map(of).collect())
}

/// Between the images of either set; `classes` names the class of each class's images, first of the
/// real set, then of the other.
pub fn motion(
    real: &Features,
    other: &Features,
    classes: &[(Option<u32>, Vec<u32>, Vec<u32>)],
) -> Judged<Motion> {
    let pick = |set: &Features, rows: &[u32]| -> Vec<[f64; FEATURES]> {
        rows.iter().filter_map(|&row| set[row as usize]).collect()
    };
    let mut each = vec![];
    for (class, of_real, of_other) in classes {
        let (a, b) = (pick(real, of_real), pick(other, of_other));
        if a.len().min(b.len()) < FEWEST {
            continue;
        }
        let features = feature_distances(&a, &b).unwrap_or_default();
        let distance = mean_distance(&features);
        each.push(ClassMotion { class: *class, images: a.len(), distance, features });
    }
    let known: Vec<f64> = each.iter().filter_map(|class| class.distance).collect();
    if known.is_empty() {
        return Judged::not(format!("no class has {FEWEST} images that move differently"));
    }
    let distance = known.iter().sum::<f64>() / known.len() as f64;
    Judged::Value(Motion { distance, classes: each })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright pixel a frame in 9 rows, at these rows.
    fn line(rows: &[usize]) -> Vec<f32> {
        let mut image = vec![0.0; 9 * rows.len()];
        rows.iter().enumerate().for_each(|(frame, row)| image[row * rows.len() + frame] = 1.0);
        image
    }

    /// Samples shifted by one bin up: envelopes and centroid are one bin off in each class, spreads and
    /// steps are not.
    #[test]
    fn a_shift_is_a_shift() {
        let images = [[2, 4, 6], [3, 5, 3], [5, 6, 7], [4, 3, 2]];
        let real: Vec<f32> = images.iter().flat_map(|rows| line(rows)).collect();
        let up: Vec<f32> = images.iter().flat_map(|rows| line(&rows.map(|r| r - 1))).collect();
        let [real, up] = [real, up].map(|set| match motions(&set, [9, 3, 1]) {
            Judged::Value(v) => v,
            Judged::NotJudged { not_judged } => panic!("{not_judged}"),
        });
        let classes: Vec<_> =
            [(Some(0), vec![0, 1], vec![0, 1]), (Some(1), vec![2, 3], vec![3, 2])].into();
        let Judged::Value(got) = motion(&real, &up, &classes) else { panic!("judged") };
        for class in &got.classes {
            let w1: Vec<f64> = class.features.iter().map(|f| f.w1).collect();
            // The floor draws centroids to the middle by 9e-6 of at most 4 bins.
            for (got, want) in w1.iter().zip([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]) {
                assert!((got - want).abs() < 1e-4, "{w1:?}");
            }
            assert_eq!(class.images, 2);
        }
        let mean = got.classes.iter().map(|c| c.distance.unwrap()).sum::<f64>() / 2.0;
        assert_eq!(got.distance, mean);
        let Judged::Value(same) = motion(&real, &real, &classes) else { panic!("judged") };
        assert_eq!(same.distance, 0.0);
        // The same images of the wrong classes are far apart.
        let wrong: Vec<_> =
            [(Some(0), vec![0, 1], vec![2, 3]), (Some(1), vec![2, 3], vec![0, 1])].into();
        let Judged::Value(wrong) = motion(&real, &real, &wrong) else { panic!("judged") };
        assert!(wrong.distance > 0.1, "{wrong:?}");
    }

    #[test]
    fn not_judged() {
        assert!(motions(&[0.0; 12], [2, 2, 3]).reason().is_some_and(|r| r.contains("not of 3")));
        let one: Features = vec![Some([1.0; FEATURES])];
        let classes = [(None, vec![0], vec![0])];
        assert!(motion(&one, &one, &classes).reason().is_some());
        // Alike, and infinitely many deviations from the others.
        let two: Features = vec![Some([1.0; FEATURES]); 2];
        let other: Features = vec![Some([2.0; FEATURES]); 2];
        assert!(motion(&two, &other, &[(None, vec![0, 1], vec![0, 1])]).reason().is_some());
    }
}
