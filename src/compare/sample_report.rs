//! The samples of a comparison as a table: a row for each route of an arm, real images in the last.

use super::samples::{Route, SampleOutcome};
use crate::metrics::generation::{Evaluation, Judged};

/// A number of an evaluation: of its samples, and of held-out images in their place.
type Both = [Option<f64>; 2];
type Column = (&'static str, usize, fn(&Evaluation) -> Both);

/// Head, decimals, and the number.
const COLUMNS: [Column; 9] = [
    ("KID x 1000", 2, |e| of(&e.kid.samples, &e.kid.floor, |k| 1e3 * k.mmd2)),
    ("standard error", 2, |e| of(&e.kid.samples, &e.kid.floor, |k| 1e3 * k.standard_error)),
    ("Frechet", 3, |e| of(&e.frechet.samples, &e.frechet.floor, |f| f.distance)),
    ("precision %", 1, |e| {
        let both = &e.precision_recall;
        of(&both.samples, &both.floor, |p| 100.0 * p.precision)
    }),
    ("recall %", 1, |e| {
        let both = &e.precision_recall;
        of(&both.samples, &both.floor, |p| 100.0 * p.recall)
    }),
    ("motion", 3, |e| of(&e.motion.samples, &e.motion.floor, |m| m.distance)),
    ("TSTR %", 1, |e| {
        let transfer = e.transfer.value();
        [transfer.map(|t| 100.0 * t.tstr), transfer.map(|t| 100.0 * t.trtr)]
    }),
    ("TRTS %", 1, |e| [e.transfer.value().map(|t| 100.0 * t.trts), None]),
    ("copies %", 1, |e| {
        let both = &e.memorisation.features;
        of(&both.samples, &both.floor, |c| 100.0 * c.share)
    }),
];

fn of<T>(samples: &Judged<T>, floor: &Judged<T>, number: impl Fn(&T) -> f64) -> Both {
    [samples.value().map(&number), floor.value().map(&number)]
}

/// The routes that have outcomes, in their order.
fn routes(outcomes: &[SampleOutcome]) -> Vec<(&str, Route)> {
    let mut known = vec![];
    for one in outcomes {
        let route = (one.arm.as_str(), one.route);
        if !known.contains(&route) {
            known.push(route);
        }
    }
    known
}

/// Head and cells: means over seeds. Nothing of no outcomes.
pub(super) fn table(outcomes: &[SampleOutcome]) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    // Of a seed that failed there is nothing, and then no mean over seeds.
    let evaluations = |arm: &str, route: Route| -> Vec<&Evaluation> {
        let own = outcomes.iter().filter(|o| o.arm == arm && o.route == route);
        own.map(|o| o.evaluation.value()).collect::<Option<_>>().unwrap_or_default()
    };
    let cells = |evaluations: &[&Evaluation], side: usize| -> Vec<String> {
        let cell = |(_, digits, number): &Column| {
            let known: Option<Vec<f64>> = evaluations.iter().map(|e| number(e)[side]).collect();
            let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
            let known = known.filter(|all| !all.is_empty());
            known.map(|all| format!("{:.digits$}", mean(&all))).unwrap_or_default()
        };
        COLUMNS.iter().map(cell).collect()
    };
    let first = outcomes.iter().find_map(|o| o.evaluation.value());
    let mut rows: Vec<Vec<String>> = vec![];
    for (arm, route) in routes(outcomes) {
        let names = vec![arm.to_string(), route.name().to_string()];
        rows.push([names, cells(&evaluations(arm, route), 0)].concat());
    }
    if let Some(first) = first {
        let names = vec!["real images".to_string(), String::new()];
        rows.push([names, cells(&[first], 1)].concat());
    }
    let names = ["arm", "diffusion"].map(String::from).into_iter();
    let head = names.chain(COLUMNS.iter().map(|(head, ..)| head.to_string())).collect();
    (!outcomes.is_empty()).then_some((head, rows))
}

/// What the columns are.
pub(super) const LEGEND: &str = "Means over seeds. KID: squared kernel distance, and Frechet distance, of the \
    features of a classifier trained on the training images; its standard error is by the jackknife. Motion: \
    of the Doppler envelopes, in their standard deviations. TSTR, TRTS: right answers on held-out images of a \
    classifier trained on samples, and on samples of one trained on real images; in the row of real images, on \
    held-out images of the latter. Copies: samples nearer to a training image than 99 % of held-out images are. \
    Real images: other held-out ones in the place of samples.";
