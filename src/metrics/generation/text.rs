//! An evaluation as a table for a console.

use super::evaluation::{Beside, Evaluation};
use super::{Copies, Judged};

/// Where the columns begin.
const NAME: usize = 26;
const COLUMN: usize = 20;

impl Evaluation {
    /// The lines of a table: a number of the samples, the same of real images, what it means.
    pub fn table(&self) -> Vec<String> {
        let c = &self.circumstances;
        let mut lines = vec![
            format!(
                "{} samples, {} held-out and {} training images; compared: {} each of samples, \
                 reference and other real images",
                c.samples, c.held_out, c.training, self.set_size
            ),
            line("", "samples", "real", ""),
        ];
        lines.extend(row("KID x 1000", "0 is best", &self.kid, |k| {
            format!("{:.2} +- {:.2}", 1e3 * k.mmd2, 1e3 * k.standard_error)
        }));
        lines.extend(row("Frechet distance", "as real is best", &self.frechet, |f| {
            format!("{:.4}", f.distance)
        }));
        let pr = &self.precision_recall;
        lines.extend(row("precision", "share that looks real", pr, |p| percent(p.precision)));
        lines.extend(row("recall", "share of real ones reached", pr, |p| percent(p.recall)));
        lines.extend(row("motion", "envelopes, in deviations", &self.motion, |m| {
            format!("{:.3}", m.distance)
        }));
        let memory = &self.memorisation;
        let share = |copies: &Copies| percent(copies.share);
        lines.extend(row("copies by features", "1 % by chance", &memory.features, share));
        lines.extend(row("copies by pixels", "1 % by chance", &memory.pixels, share));
        match &self.transfer {
            Judged::Value(t) => {
                let (tstr, trts, trtr) = (percent(t.tstr), percent(t.trts), percent(t.trtr));
                let about = "classifier trained on these, tested on held-out ones";
                lines.push(line("TSTR, TRTR", &tstr, &trtr, about));
                lines.push(line("TRTS", &trts, "", "classifier of real ones, on samples"));
            }
            Judged::NotJudged { not_judged } => lines.push(refused("TSTR, TRTS", not_judged)),
        }
        lines.extend(self.warnings.iter().map(|w| format!("warning: {w}")));
        lines
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn line(name: &str, samples: &str, real: &str, about: &str) -> String {
    format!("{name:NAME$}{samples:COLUMN$}{real:COLUMN$}{about}").trim_end().to_string()
}

fn refused(name: &str, reason: &str) -> String {
    format!("{name:NAME$}not judged: {reason}")
}

/// A row; where the samples are not judged, why.
fn row<T>(name: &str, about: &str, of: &Beside<T>, text: impl Fn(&T) -> String) -> Vec<String> {
    match (&of.samples, &of.floor) {
        (Judged::Value(samples), floor) => {
            let real = floor.value().map_or("not judged".into(), &text);
            vec![line(name, &text(samples), &real, about)]
        }
        (Judged::NotJudged { not_judged }, _) => vec![refused(name, not_judged)],
    }
}
