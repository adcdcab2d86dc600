//! What a run tells TensorBoard: every line of its metrics, and its pictures.

use crate::error::{Error, Result};
use crate::report::EventWriter;
use crate::report::tensorboard::EVENT_FILES;
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
    /// The numbers of a line of `metrics.jsonl`: `train/NAME`, and `eval/NAME` of an evaluation.
    pub fn record(&mut self, folder: &Path, line: &Value) -> Result<()> {
        let Some(step) = line["step"].as_u64() else { return Ok(()) };
        let writer = self.writer(folder)?;
        let mut named: Vec<(String, f64)> = vec![];
        for (group, object) in [("train", line), ("eval", &line["eval"])] {
            let entries = object.as_object().into_iter().flatten();
            let numbers = entries.filter_map(|(name, value)| Some((name, value.as_f64()?)));
            named.extend(
                numbers
                    .filter(|(name, _)| *name != "step")
                    .map(|(name, value)| (format!("{group}/{name}"), value)),
            );
        }
        writer.scalars(step, named.iter().map(|(name, value)| (name.as_str(), *value)))?;
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
