//! What a run tells TensorBoard: every line of its metrics, and its pictures.

use crate::error::{Error, Result};
use crate::report::tensorboard::EVENT_FILES;
use crate::report::{EVAL, EventWriter, History, codes, encode};
use serde_json::Value;
use std::path::Path;

/// The event file of this process, made with its first line.
#[derive(Debug, Default)]
pub(super) struct Events {
    writer: Option<EventWriter>,
    /// Of a continued run: steps up to this one stay as earlier files tell them.
    pub continued: Option<u64>,
}

impl Events {
    /// The numbers of a line of `metrics.jsonl`: `train/NAME`, and `eval/NAME` of an evaluation, parts
    /// of objects as `eval/OUTER.INNER`; and how often each code was used, as a picture.
    pub fn record(&mut self, folder: &Path, line: &Value) -> Result<()> {
        let mut told = History::default();
        told.add(line);
        let Some((&step, numbers)) = told.steps.first_key_value() else { return Ok(()) };
        let tag = |name: &str| match name.strip_prefix(EVAL) {
            Some(metric) => format!("eval/{metric}"),
            None => format!("train/{name}"),
        };
        let named: Vec<(String, f64)> = numbers.iter().map(|(n, v)| (tag(n), *v)).collect();
        let writer = self.writer(folder)?;
        writer.scalars(step, named.iter().map(|(name, value)| (name.as_str(), *value)))?;
        let codebooks = told.codebooks("usage");
        if !codebooks.is_empty() {
            let png = encode(&codes::picture(&codebooks))
                .map_err(|e| Error::failed("the picture cannot be encoded").why(e))?;
            writer.image(step, "codes_usage", &png)?;
        }
        match line["eval"].is_object() {
            true => writer.flush(),
            false => Ok(()),
        }
    }

    /// The pictures of a step: the PNG files of `samples` whose names end in the step.
    pub fn pictures(&mut self, folder: &Path, samples: &Path, step: u64) -> Result<()> {
        let bad = |e: std::io::Error| {
            Error::disk("the pictures of the step cannot be read").at_path(samples).why(e)
        };
        let mut paths = vec![];
        for entry in samples.read_dir().map_err(bad)? {
            paths.push(entry.map_err(bad)?.path());
        }
        paths.sort();
        for path in paths {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            let Some((name, number)) = stem.as_deref().and_then(|s| s.rsplit_once('_')) else {
                continue;
            };
            if number.parse() != Ok(step) || path.extension().is_none_or(|e| e != "png") {
                continue;
            }
            let png = std::fs::read(&path).map_err(bad)?;
            self.writer(folder)?.image(step, name, &png)?;
        }
        Ok(())
    }

    /// Are there event files of earlier processes?
    pub fn any(folder: &Path) -> bool {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with(EVENT_FILES))
    }

    pub fn flush(&mut self) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), EventWriter::flush)
    }

    fn writer(&mut self, folder: &Path) -> Result<&mut EventWriter> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => EventWriter::create(folder, self.continued.map(|step| step + 1))?,
        };
        Ok(self.writer.insert(writer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;

    /// All five measures of every head, and a picture.
    #[test]
    fn measures_of_codebooks_arrive() {
        let dir = Scratch::new("events-codebooks");
        let folder = dir.path("");
        std::fs::create_dir_all(&folder).unwrap();
        let usage = serde_json::json!({
            "unique_share": 0.5, "perplexity": 1.0, "coverage": 0.5, "active_share": 0.5, "dead": 1,
            "counts": [3, 0], "dead_codes": [1],
        });
        let mut events = Events::default();
        let line = serde_json::json!({
            "step": 7, "loss": 0.5, "eval": { "psnr": 20.0, "usage": usage, "usage.1": usage },
        });
        events.record(&folder, &line).unwrap();
        events.record(&folder, &serde_json::json!({ "note": "of no step" })).unwrap();
        let file = folder.read_dir().unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(file).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        for tag in ["train/loss", "eval/psnr", "codes_usage", "PNG"] {
            assert!(has(tag), "{tag}");
        }
        for head in ["eval/usage", "eval/usage.1"] {
            for measure in ["unique_share", "perplexity", "coverage", "active_share", "dead"] {
                assert!(has(&format!("{head}.{measure}")), "{head}.{measure}");
            }
        }
        assert!(!has("dead_codes") && !has("train/step"));
    }
}
