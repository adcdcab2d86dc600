//! Judges samples: trains the classifier on the training images, compares features, pixels and motion of
//! samples and held-out images, and trains a second classifier on the samples.

use super::Material;
use super::classify::{Classifier, Recognised, right};
use super::recognise::Task;
use crate::data::Dataset;
use crate::data::split::Split;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::metrics::generation::evaluation::{FeatureFacts, Side, Training};
use crate::metrics::generation::{Circumstances, Evaluation, Judged, Transfer, evaluate};

/// How the judging classifiers are trained.
#[derive(Debug, Clone, Copy)]
pub struct Judge {
    pub steps: u64,
    /// Of the classifiers, the halves of the held-out images and the subsets: of its own, so that samples
    /// of another seed are judged alike.
    pub seed: u64,
}

/// Below so many times what chance gives, features have learned nothing.
const NOTHING_LEARNED: f64 = 1.2;

impl Judge {
    /// Judges samples that are [`fitting`] and were made in `circumstances`; its numbers of images and its
    /// features are filled in here. `open` opens a device for each classifier.
    ///
    /// # Errors
    /// Nothing held out; images with sides below 8; a classifier that diverges.
    pub fn appraise(
        &self,
        data: &Material,
        samples: &Dataset,
        circumstances: Circumstances,
        open: &dyn Fn() -> Result<Box<dyn Device>>,
        say: &mut dyn FnMut(&str),
    ) -> Result<Evaluation> {
        let (images, split) = (&data.images, &data.split);
        if split.test.is_empty() {
            return Err(Error::data("nothing is held out, so nothing can be judged")
                .at(&images.source)
                .help("hold images out: see data.split"));
        }
        say("training the classifier on real images");
        let mut real = Classifier::train(open()?, data, self.steps, self.seed)?;
        say("looking at the images");
        let everything: Vec<u32> = (0..samples.n as u32).collect();
        let made = looked_at(&mut real, samples, &everything)?;
        let held_out = looked_at(&mut real, images, &split.test)?;
        let training = looked_at(&mut real, images, &split.train)?;
        let task = real.task();
        let circumstances = Circumstances {
            samples: samples.n,
            held_out: split.test.len(),
            training: split.train.len(),
            features: FeatureFacts {
                task: task.describe(),
                dimensions: made.features.width(),
                steps: self.steps,
                seed: self.seed,
                accuracy: real.accuracy_in_training,
                chance: 1.0 / task.classes() as f64,
            },
            ..circumstances
        };
        say("comparing the images");
        let made_pixels = pixels(samples, &everything);
        let held_out_pixels = pixels(images, &split.test);
        let known = |rows: &[u32]| -> Option<Vec<u32>> {
            let labels = images.labels.as_ref()?;
            Some(rows.iter().map(|&row| labels[row as usize]).collect())
        };
        let held_out_labels = known(&split.test);
        let mut evaluation = evaluate(
            Side {
                features: &made.features,
                pixels: &made_pixels,
                labels: samples.labels.as_deref(),
            },
            Side {
                features: &held_out.features,
                pixels: &held_out_pixels,
                labels: held_out_labels.as_deref(),
            },
            Training { features: &training.features, images, rows: &split.train },
            self.seed,
            circumstances,
        );
        let features = &evaluation.circumstances.features;
        if features.accuracy < NOTHING_LEARNED * features.chance {
            evaluation.warnings.push(format!(
                "the features learned little: {:.0} % right, {:.0} % by chance",
                100.0 * features.accuracy,
                100.0 * features.chance
            ));
        }
        evaluation.transfer = match (task, &samples.labels) {
            (Task::Turns, _) => Judged::not("the data have no classes to recognise"),
            (_, None) => Judged::not("the samples have no labels"),
            (Task::Classes(classes), Some(_)) => {
                say("training the classifier on samples");
                let own = as_training(samples, images, classes);
                let mut of_samples = Classifier::train(open()?, &own, self.steps, self.seed)?;
                Judged::Value(Transfer {
                    tstr: of_samples.accuracy(images, &split.test)?,
                    trts: right(&made.classes, samples, &everything),
                    trtr: right(&held_out.classes, images, &split.test),
                })
            }
        };
        Ok(evaluation)
    }
}

/// Samples that can be judged beside the images: of their shape, and numbered as their classes are. Where
/// both have names for them, classes are told by name: another program may count them otherwise.
///
/// # Errors
/// Samples of another shape, or of a class that the images do not have.
pub fn fitting(mut samples: Dataset, images: &Dataset) -> Result<Dataset> {
    let [ours, theirs] = [&samples, images].map(Dataset::image_shape);
    if ours != theirs {
        let text = |[h, w, c]: [usize; 3]| format!("{h} x {w} with {c} channels");
        return Err(Error::data("the samples do not look like the data")
            .at(&samples.source)
            .why(format!("images of {}, not of {}", text(ours), text(theirs)))
            .help("give samples of the run's own size"));
    }
    let (Some(labels), Some(_)) = (&mut samples.labels, &images.labels) else { return Ok(samples) };
    let classes = images.classes() as u32;
    let named = !samples.class_names.is_empty() && !images.class_names.is_empty();
    let number = |label: u32| {
        let name = samples.class_names.get(label as usize).filter(|_| named);
        let known = |name: &String| images.class_names.iter().position(|own| own == name);
        name.map_or(Some(label), |name| known(name).map(|own| own as u32))
    };
    for label in labels.iter_mut() {
        let own = number(*label).filter(|&own| own < classes);
        *label = own.ok_or_else(|| {
            let name = samples.class_names.get(*label as usize);
            let name = name.cloned().unwrap_or_else(|| label.to_string());
            let known: Vec<String> = (0..classes).map(|class| images.class_name(class)).collect();
            Error::data(format!("a sample is of the class {name}"))
                .at(&samples.source)
                .why(format!("the data have: {}", known.join(", ")))
        })?;
    }
    if named {
        samples.class_names.clone_from(&images.class_names);
    }
    Ok(samples)
}

fn looked_at(classifier: &mut Classifier, images: &Dataset, rows: &[u32]) -> Result<Recognised> {
    let found = classifier.recognise(images, rows)?;
    if found.features.rows().flatten().all(|v| v.is_finite()) {
        return Ok(found);
    }
    Err(Error::diverged("the features of the images are not finite")
        .at(&images.source)
        .why("the classifier diverged in its training"))
}

fn pixels(images: &Dataset, rows: &[u32]) -> Vec<f32> {
    let mut pixels = vec![0.0; rows.len() * images.image_len()];
    images.images(rows, &mut pixels);
    pixels
}

/// The samples as images to train on, with all classes of the data whether samples have them or not.
fn as_training(samples: &Dataset, images: &Dataset, classes: usize) -> Material {
    let class_names = (0..classes as u32).map(|class| images.class_name(class)).collect();
    let split = Split { train: (0..samples.n as u32).collect(), ..Split::default() };
    Material { images: Dataset { class_names, ..samples.clone() }, split }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str], labels: &[u32]) -> Dataset {
        let names = names.iter().map(|n| (*n).to_string()).collect();
        let pixels = vec![7; labels.len() * 64];
        let shape = [labels.len(), 8, 8, 1];
        Dataset::from_u8(pixels, shape, Some(labels.to_vec()), names, "test").unwrap()
    }

    #[test]
    fn classes_go_by_name() {
        let data = set(&["walk", "fall", "sit"], &[0, 1, 2]);
        let numbered = |names: &[&str], labels: &[u32]| {
            fitting(set(names, labels), &data).map(|fitted| fitted.labels.unwrap())
        };
        assert_eq!(numbered(&["fall", "walk"], &[0, 1, 1]).unwrap(), [1, 0, 0]);
        assert_eq!(numbered(&[], &[2, 0]).unwrap(), [2, 0]);
        // A class without samples may have any name; one with samples may not.
        assert_eq!(numbered(&["run", "sit"], &[1]).unwrap(), [2]);
        let error = numbered(&["run", "sit"], &[1, 0]).unwrap_err().to_string();
        assert!(error.contains("class run") && error.contains("walk, fall, sit"), "{error}");
        assert!(numbered(&[], &[0, 3]).unwrap_err().to_string().contains("class 3"));
        // Nothing is asked of labels that nothing is compared with.
        let unlabelled = Dataset { labels: None, ..data.clone() };
        assert_eq!(fitting(set(&[], &[9]), &unlabelled).unwrap().labels.unwrap(), [9]);
    }

    /// The classifier of the samples knows all classes, whether samples have them or not.
    #[test]
    fn samples_to_train_on() {
        let data = set(&["walk", "fall"], &[0, 1, 2]);
        let own = as_training(&set(&[], &[0, 0, 1, 0]), &data, data.classes());
        assert_eq!((own.images.classes(), own.split.train.clone()), (3, vec![0, 1, 2, 3]));
    }
}
