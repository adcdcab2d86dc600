//! What a run wrote into metrics.jsonl, by step.

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// In front of the names of what was measured on held-out data.
pub const EVAL: &str = "eval.";

/// The numbers of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// By step, then by name. What stood under "eval" is called `eval.NAME`, parts of nested objects
    /// `eval.OUTER.INNER`; true and false are 1 and 0. Of two lines of one step the later counts.
    pub steps: BTreeMap<u64, BTreeMap<String, f64>>,
    /// The latest use of every code, where an evaluation has a list called `counts`.
    pub counts: Option<Vec<u64>>,
    /// Lines that could not be read: the last one of a killed run, as a rule.
    pub unreadable: usize,
}

impl History {
    /// Of a file; one that is not there has no steps.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::disk("cannot read the metrics").at_path(path).why(e)),
        }
    }

    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            let (Some(step), Value::Object(entries)) = (value["step"].as_u64(), &value) else {
                history.unreadable += 1;
                continue;
            };
            let row = history.steps.entry(step).or_default();
            for (name, value) in entries.iter().filter(|(name, _)| *name != "step") {
                flatten(name, value, row, &mut history.counts);
            }
        }
        history
    }

    /// All names, in alphabetical order.
    pub fn names(&self) -> BTreeSet<&str> {
        self.steps.values().flat_map(|row| row.keys().map(String::as_str)).collect()
    }

    /// The finite values of a name over the steps.
    pub fn column(&self, name: &str) -> Vec<(f64, f64)> {
        let values = self.steps.iter().filter_map(|(&s, row)| Some((s as f64, *row.get(name)?)));
        values.filter(|(_, v)| v.is_finite()).collect()
    }

    pub fn last_step(&self) -> Option<u64> {
        self.steps.keys().next_back().copied()
    }
}

/// Numbers by their full names. Lists other than `counts`, texts and nothing are left out.
fn flatten(
    name: &str,
    value: &Value,
    row: &mut BTreeMap<String, f64>,
    counts: &mut Option<Vec<u64>>,
) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                flatten(&format!("{name}.{key}"), value, row, counts);
            }
        }
        Value::Array(list) if name.ends_with("counts") => {
            if let Some(numbers) = list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>() {
                *counts = Some(numbers);
            }
        }
        Value::Bool(yes) => {
            row.insert(name.into(), f64::from(u8::from(*yes)));
        }
        _ => {
            if let Some(number) = value.as_f64() {
                row.insert(name.into(), number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_step_meet_and_odd_entries_are_borne() {
        let text = r#"{"step":1,"loss":2.5,"skipped":true,"note":"x","list":[1,2]}
{"step":2,"loss":null}
{"step":2,"eval":{"psnr":21.5,"usage":{"unique":3,"counts":[4,0,1]}}}

{"loss":3}
not json
{"step":2,"eval":{"psnr":22.5}}
{"step":3,"lo"#;
        let history = History::parse(text);
        assert_eq!(history.unreadable, 3);
        assert_eq!(history.column("loss"), [(1.0, 2.5)]);
        assert_eq!(history.column("eval.psnr"), [(2.0, 22.5)]);
        assert_eq!(history.counts, Some(vec![4, 0, 1]));
        let names: Vec<&str> = history.names().into_iter().collect();
        assert_eq!(names, ["eval.psnr", "eval.usage.unique", "loss", "skipped"]);
        assert_eq!(history.last_step(), Some(2));
    }

    #[test]
    fn nothing() {
        assert_eq!(History::read(Path::new("no/such/file")).unwrap(), History::default());
        assert_eq!(History::parse(""), History::default());
    }
}
