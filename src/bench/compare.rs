//! Two records row by row.

use super::Report;
use super::stats::geometric_mean;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// How a row's time changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    pub name: String,
    /// Median of the first record by median of the second: above 1 where the second is faster.
    pub ratio: f64,
    /// The quartiles do not overlap: more than the spread of the samples.
    pub clear: bool,
}

/// Second record against first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub schema: String,
    /// In the first record's order.
    pub rows: Vec<Ratio>,
    pub geometric_mean: f64,
    pub only_in_first: Vec<String>,
    pub only_in_second: Vec<String>,
    /// Reasons to doubt the ratios.
    pub warnings: Vec<String>,
}

/// Compares by the devices' clocks, or with `cpu` by processor time, which other work on the machine
/// disturbs less.
///
/// # Errors
/// No row is in both (exit code 4).
pub fn compare(first: &Report, second: &Report, cpu: bool) -> Result<Comparison> {
    let summaries = |report: &Report| -> BTreeMap<String, super::Summary> {
        let pick = |r: &super::Measurement| if cpu { r.cpu_seconds } else { Some(r.seconds) };
        report.rows.iter().filter_map(|r| Some((r.key(), pick(r)?))).collect()
    };
    let (before, mut after) = (summaries(first), summaries(second));
    let (mut rows, mut only_in_first) = (vec![], vec![]);
    for name in first.rows.iter().map(|r| r.key()) {
        let Some(old) = before.get(&name) else { continue };
        match after.remove(&name) {
            Some(new) => rows.push(Ratio {
                ratio: old.median / new.median,
                clear: old.q1 > new.q3 || new.q1 > old.q3,
                name,
            }),
            None => only_in_first.push(name),
        }
    }
    let ratios: Vec<f64> = rows.iter().map(|r| r.ratio).collect();
    let mean = geometric_mean(&ratios).ok_or_else(|| {
        Error::data("the two records have no row in common")
            .help("record both with the same filter")
    })?;
    let mut warnings = vec![];
    if first.device != second.device {
        warnings.push(format!("the devices differ: {} and {}", first.device, second.device));
    }
    if first.timer != second.timer && !cpu {
        warnings.push(format!("the clocks differ: {:?} and {:?}", first.timer, second.timer));
    }
    for (which, report) in [("first", first), ("second", second)] {
        for c in report.controls.iter().filter(|c| (c.ratio - 1.0).abs() > 0.05) {
            let (name, ratio) = (&c.name, c.ratio);
            warnings.push(format!("the {which} record's control {name} reads {ratio:.2}x"));
        }
        for r in report.wrong() {
            warnings.push(format!("the {which} record's {} has wrong outputs", r.key()));
        }
    }
    Ok(Comparison {
        schema: "vqforge-bench-cmp/1".into(),
        rows,
        geometric_mean: mean,
        only_in_first,
        only_in_second: after.into_keys().collect(),
        warnings,
    })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
        for r in &self.rows {
            let within = if r.clear { "" } else { "  within the spread" };
            writeln!(f, "{:width$} {:>7.2}x{within}", r.name, r.ratio)?;
        }
        let by_ratio = |a: &&Ratio, b: &&Ratio| a.ratio.total_cmp(&b.ratio);
        let (n, mean) = (self.rows.len(), self.geometric_mean);
        writeln!(f, "\nsecond against first over {n} rows: {mean:.3}x (geometric mean)")?;
        if let (Some(best), Some(worst)) =
            (self.rows.iter().max_by(by_ratio), self.rows.iter().min_by(by_ratio))
        {
            writeln!(f, "best   {:.2}x  {}", best.ratio, best.name)?;
            writeln!(f, "worst  {:.2}x  {}", worst.ratio, worst.name)?;
        }
        for (which, names) in [("first", &self.only_in_first), ("second", &self.only_in_second)] {
            for name in names {
                writeln!(f, "only in the {which}: {name}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::report;
    use super::*;

    #[test]
    fn ratios_mean_and_what_is_missing() {
        let first = report(&[("a", 4.0), ("b", 1.0), ("old", 1.0), ("c", 1.0)]);
        let second = report(&[("new", 1.0), ("c", 1.05), ("b", 2.0), ("a", 2.0)]);
        let c = compare(&first, &second, false).unwrap();
        let rows: Vec<(&str, f64, bool)> =
            c.rows.iter().map(|r| (r.name.as_str(), r.ratio, r.clear)).collect();
        assert_eq!(rows, [("a", 2.0, true), ("b", 0.5, true), ("c", 1.0 / 1.05, false)]);
        assert!((c.geometric_mean - (1.0f64 / 1.05).cbrt()).abs() < 1e-12);
        assert_eq!((c.only_in_first, c.only_in_second), (vec!["old".into()], vec!["new".into()]));
        assert!(c.warnings.is_empty(), "{:?}", c.warnings);
        let by_cpu = compare(&first, &second, true).unwrap();
        assert_eq!(by_cpu.rows[0].ratio, 2.0);
    }

    /// A record against itself is 1.00x throughout.
    #[test]
    fn the_same_record() {
        let one = report(&[("a", 4.0), ("b", 1.0)]);
        let c = compare(&one, &one, false).unwrap();
        assert_eq!(c.geometric_mean, 1.0);
        assert!(c.rows.iter().all(|r| r.ratio == 1.0 && !r.clear));
        let text = c.to_string();
        for part in ["over 2 rows: 1.000x", "best   1.00x", "worst  1.00x", "within the spread"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn doubts_are_spoken() {
        let first = report(&[("a", 1.0)]);
        let mut second = first.clone();
        second.device = "another".into();
        second.controls[0].ratio = 0.9;
        second.rows[0].check.mismatches = 1;
        let c = compare(&first, &second, false).unwrap();
        for (warning, part) in c.warnings.iter().zip(["devices differ", "0.90x", "wrong outputs"]) {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(c.warnings.len(), 3);
        assert_eq!(compare(&first, &report(&[("b", 1.0)]), false).unwrap_err().exit_code(), 4);
    }

    /// A variant is a row of its own.
    #[test]
    fn variants_have_their_own_keys() {
        let mut first = report(&[("a", 1.0), ("a", 2.0)]);
        first.rows[1].variant = "subgroups".into();
        let c = compare(&first, &first, false).unwrap();
        assert_eq!(c.rows[1].name, "a [subgroups]");
    }
}
