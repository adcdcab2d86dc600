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
    /// `eval.OUTER.INNER`; true and false are 1 and 0, null is NaN. Of two lines of one step the later counts.
    pub steps: BTreeMap<u64, BTreeMap<String, f64>>,
    /// The latest use of the codes of each codebook, by the name in front of its `counts`: see
    /// [`codebooks`](Self::codebooks).
    pub use_of_codes: BTreeMap<String, CodeCounts>,
    /// Lines that could not be read: the last one of a killed run, as a rule.
    pub unreadable: usize,
}

/// The use of every code of a codebook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodeCounts {
    /// How often each code was chosen.
    pub counts: Vec<u64>,
    /// Codes that were not, as many as are told.
    pub dead: Vec<u64>,
}

/// The name of what is told of a head: that of the first has no number.
pub fn of_head(what: &str, head: usize) -> String {
    if head == 0 { what.into() } else { format!("{what}.{head}") }
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
            if !history.add(&value) {
                history.unreadable += 1;
            }
        }
        history
    }

    /// Adds a line; false if it is none of a step.
    pub fn add(&mut self, line: &Value) -> bool {
        let (Some(step), Value::Object(entries)) = (line["step"].as_u64(), line) else {
            return false;
        };
        let row = self.steps.entry(step).or_default();
        for (name, value) in entries.iter().filter(|(name, _)| *name != "step") {
            flatten(name, value, row, &mut self.use_of_codes);
        }
        true
    }

    /// The use of the codes of each head, in order, as an evaluation tells it under `what`: "usage"
    /// on held-out data, "training_usage" on images that are trained on.
    pub fn codebooks(&self, what: &str) -> Vec<&CodeCounts> {
        let name = |head| of_head(&format!("{EVAL}{what}"), head);
        (0..).map_while(|head| self.use_of_codes.get(&name(head))).collect()
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

    /// The last finite value of an evaluation's metric.
    pub fn last(&self, metric: &str) -> Option<f64> {
        Some(self.column(&format!("{EVAL}{metric}")).last()?.1)
    }

    pub fn last_step(&self) -> Option<u64> {
        self.steps.keys().next_back().copied()
    }
}

/// Numbers by their full names, and the use of codes. Other lists and texts are left out.
fn flatten(
    name: &str,
    value: &Value,
    row: &mut BTreeMap<String, f64>,
    books: &mut BTreeMap<String, CodeCounts>,
) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                flatten(&format!("{name}.{key}"), value, row, books);
            }
        }
        Value::Array(list) => {
            let Some((outer, what @ ("counts" | "dead_codes"))) = name.rsplit_once('.') else {
                return;
            };
            let numbers: Option<Vec<u64>> = list.iter().map(Value::as_u64).collect();
            let book = books.entry(outer.into()).or_default();
            let told = if what == "counts" { &mut book.counts } else { &mut book.dead };
            *told = numbers.unwrap_or_default();
        }
        // What JSON makes of NaN and infinity.
        Value::Null => {
            row.insert(name.into(), f64::NAN);
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
{"step":2,"eval":{"psnr":21.5,"usage":{"unique":2,"counts":[4,0,1],"dead_codes":[1]},"usage.1":{"unique":1,"counts":[0,5]}}}

{"loss":3}
not json
{"step":2,"eval":{"psnr":22.5}}
{"step":3,"lo"#;
        let history = History::parse(text);
        assert_eq!(history.unreadable, 3);
        assert_eq!(history.column("loss"), [(1.0, 2.5)]);
        assert!(history.steps[&2]["loss"].is_nan());
        assert_eq!(history.column("eval.psnr"), [(2.0, 22.5)]);
        let [first, second] = history.codebooks("usage")[..] else { panic!("two heads") };
        assert_eq!((&first.counts[..], &first.dead[..]), (&[4, 0, 1][..], &[1][..]));
        assert_eq!((&second.counts[..], second.dead.len()), (&[0, 5][..], 0));
        assert!(history.codebooks("training_usage").is_empty());
        let names: Vec<&str> = history.names().into_iter().collect();
        assert_eq!(
            names,
            ["eval.psnr", "eval.usage.1.unique", "eval.usage.unique", "loss", "skipped"]
        );
        assert_eq!(history.last_step(), Some(2));
    }

    #[test]
    fn nothing() {
        assert_eq!(History::read(Path::new("no/such/file")).unwrap(), History::default());
        assert_eq!(History::parse(""), History::default());
    }
}
