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
    /// Judges samples that were made in `circumstances`; its numbers of images and its features are
    /// filled in here. `open` opens a device for each classifier.
    ///
    /// # Errors
    /// Samples of another shape or with classes that the data do not have; nothing held out; images with
    /// sides below 8; a classifier that diverges.
    pub fn appraise(
        &self,
        data: &Material,
        samples: &Dataset,
        circumstances: Circumstances,
        open: &dyn Fn() -> Result<Box<dyn Device>>,
        say: &mut dyn FnMut(&str),
    ) -> Result<Evaluation> {
        let (images, split) = (&data.images, &data.split);
        fits(samples, images)?;
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

/// Samples that can be compared with the images.
fn fits(samples: &Dataset, images: &Dataset) -> Result<()> {
    let [ours, theirs] = [samples, images].map(Dataset::image_shape);
    if ours != theirs {
        let text = |[h, w, c]: [usize; 3]| format!("{h} x {w} with {c} channels");
        return Err(Error::data("the samples do not look like the data")
            .at(&samples.source)
            .why(format!("images of {}, not of {}", text(ours), text(theirs)))
            .help("give samples of the run's own size"));
    }
    let (most, classes) = (samples.labels.iter().flatten().max(), images.classes());
    match most {
        Some(&most) if images.labels.is_some() && most as usize >= classes => {
            Err(Error::data(format!("a sample is of class {most}"))
                .at(&samples.source)
                .why(format!("the data have {classes} classes, from 0")))
        }
        _ => Ok(()),
    }
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
