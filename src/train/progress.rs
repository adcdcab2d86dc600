//! The live line of a run.

use super::session::Numbers;
use crate::config::Train;
use std::time::Instant;

/// Cells of the bar.
const BAR: u64 = 12;

/// What the live line is made of.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// The step at which this process began.
    first: u64,
    total: u64,
    batch: usize,
}

impl Progress {
    pub fn new(train: &Train, first: u64) -> Self {
        Progress { started: Instant::now(), first, total: train.steps, batch: train.batch }
    }

    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Training images a second, everything included.
    pub fn rate(&self, step: u64) -> f64 {
        (step - self.first) as f64 * self.batch as f64 / self.seconds().max(1e-9)
    }

    /// At most 79 columns while numbers are few; what matters least comes last.
    pub fn line(&self, step: u64, loss: f64, numbers: &Numbers) -> String {
        let filled = step * BAR / self.total.max(1);
        let bar: String = (0..BAR).map(|i| if i < filled { '#' } else { ' ' }).collect();
        let left = (self.total - step) as f64 * self.seconds() / (step - self.first).max(1) as f64;
        let mut line = format!(
            "step {step}/{} [{bar}] {:.0} img/s  ETA {}  loss {}",
            self.total,
            self.rate(step),
            clock(left),
            short(loss)
        );
        for (name, value) in numbers.iter().take(2) {
            line.push_str(&format!("  {name} {}", short(*value)));
        }
        line
    }
}

/// Four significant digits.
pub fn short(v: f64) -> String {
    match v.abs() {
        a if a >= 1000.0 || v == v.trunc() => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.2}"),
        a if a >= 0.1 => format!("{v:.4}"),
        _ => format!("{v:.3e}"),
    }
}

/// Seconds as people say them.
pub fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let shown = [0.0, 1.0, 12345.6, 29.8123, 0.51234, 0.0123449, -0.5].map(short);
        assert_eq!(shown, ["0", "1", "12346", "29.81", "0.5123", "1.234e-2", "-0.5000"]);
        assert_eq!(
            [0.4, 59.6, 61.0, 3599.0, 7260.0].map(clock),
            ["0s", "1m00s", "1m01s", "59m59s", "2h01m"]
        );
    }

    #[test]
    fn the_line_fits_a_terminal() {
        let progress = Progress::new(&Train { steps: 100_000, ..Train::default() }, 0);
        let numbers = vec![("psnr".to_string(), 29.812), ("ssim".to_string(), 0.9312)];
        let line = progress.line(0, 0.0132, &numbers);
        assert!(line.len() <= 95 && line.find("psnr").is_some_and(|at| at < 79), "{line}");
        assert!(progress.line(100_000, f64::NAN, &numbers).contains("[############]"));
    }
}
