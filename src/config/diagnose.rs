//! From a parser's byte range to a message a person can act on.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::data::SplitTable;
use super::sections::Config;
use super::suggest::nearest;
use crate::error::Error;

/// A configuration file and its name.
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn new(name: String, text: String) -> Self {
        Source { name, text }
    }

    /// The parser's error with its place, the key it is about and what to do.
    pub fn explain(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..0);
        let key = self.key_at(&span);
        explain_message(error.message(), key.as_deref()).at(self.place(span))
    }

    /// Where a key is set, or the nearest table above it; `None` if the file says nothing of it.
    pub fn locate(&self, key: &str) -> Option<String> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut table = document.get_ref();
        let mut span = None;
        for part in key.split('.') {
            let Some((name, value)) = table.iter().find(|(n, _)| n.get_ref() == part) else {
                break;
            };
            span = Some(name.span());
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        span.map(|span| self.place(span))
    }

    /// The dotted name of the innermost entry whose key or value covers a byte range.
    fn key_at(&self, span: &Range<usize>) -> Option<String> {
        fn walk(table: &DeTable, span: &Range<usize>, path: &str) -> Option<String> {
            let covers = |s: Range<usize>| s.start <= span.start && span.end <= s.end;
            for (name, value) in table.iter() {
                let here = join(path, name.get_ref());
                if let DeValue::Table(inner) = value.get_ref()
                    && let Some(found) = walk(inner, span, &here)
                {
                    return Some(found);
                }
                if covers(name.span()) || covers(value.span()) {
                    return Some(here);
                }
            }
            None
        }
        walk(DeTable::parse(&self.text).ok()?.get_ref(), span, "")
    }

    /// `file:line:column` with the line and a caret under the range.
    fn place(&self, span: Range<usize>) -> String {
        let start = floor_boundary(&self.text, span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let number = self.text[..start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count();
        let end = floor_boundary(&self.text, span.end.clamp(start, line_start + line.len().max(1)));
        let carets = self.text.get(start..end).map_or(1, |s| s.chars().count()).max(1);
        let margin = " ".repeat(number.to_string().len());
        format!(
            "{}:{number}:{}\n      {margin} |\n      {number} | {}\n      {margin} | {}{}",
            self.name,
            column + 1,
            line.replace('\t', " "),
            " ".repeat(column),
            "^".repeat(carets)
        )
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// Words for a message of the deserialiser about `key`, where that is known.
pub fn explain_message(message: &str, key: Option<&str>) -> Error {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let prefix = key.map_or(String::new(), |key| format!("{key}: "));
    match quoted.split_first() {
        Some((name, known)) if message.starts_with("unknown field") => {
            let full = key.map_or((*name).to_string(), str::to_string);
            let error = Error::usage(format!("unknown key '{full}'"));
            match suggest_key(&full, name, known) {
                Some(help) => error.help(help),
                None => error
                    .why(format!("keys here are {}", known.join(", ")))
                    .help("remove it or correct its name"),
            }
        }
        Some((name, known)) if message.starts_with("unknown variant") => {
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "use one of them".into(),
            };
            let known = known.iter().map(|k| format!("\"{k}\"")).collect::<Vec<_>>().join(", ");
            Error::usage(format!("{prefix}\"{name}\" is not one of {known}")).help(help)
        }
        _ => {
            let message = plain_types(message.trim_end().replace('\n', ", "));
            Error::usage(format!("{prefix}{message}"))
                .help("see `vqforge train --help` and the files in configs/")
        }
    }
}

/// The names of Rust types in a message, as a user would say them.
fn plain_types(message: String) -> String {
    let Some((start, expected)) = message.rsplit_once("expected ") else { return message };
    let plain = match expected {
        "f64" => "a number",
        "u64" | "usize" => "a whole number, 0 or more",
        "i64" => "a whole number",
        _ if expected.starts_with("struct ") => "a section",
        _ => expected,
    };
    format!("{start}expected {plain}")
}

/// Help for a key that does not exist: a neighbour, or the section it belongs to.
fn suggest_key(full: &str, name: &str, known: &[&str]) -> Option<String> {
    if full == "data.path" || full == "data.file" {
        return Some("the data are named on the command line: --data PATH".into());
    }
    if let Some(near) = nearest(name, known.iter().copied()) {
        return Some(format!("did you mean '{near}'?"));
    }
    let all = every_key();
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or(key).to_string();
    // Of several keys of that name the one that is least deep, the first of equals.
    let depth = |key: &&String| key.matches('.').count();
    let called = |name: &str| all.iter().filter(|key| leaf(key) == name).min_by_key(depth);
    if let Some(elsewhere) = called(name) {
        return Some(format!("did you mean '{elsewhere}'?"));
    }
    let leaves: Vec<String> = all.iter().map(|key| leaf(key)).collect();
    let near = nearest(name, leaves.iter().map(String::as_str))?;
    let key = called(near)?;
    Some(format!("did you mean '{key}'?"))
}

/// All keys of the configuration, dotted.
pub fn every_key() -> Vec<String> {
    fn walk(table: &toml::Table, path: &str, keys: &mut Vec<String>) {
        for (name, value) in table {
            let here = join(path, name);
            match value {
                toml::Value::Table(inner) => walk(inner, &here, keys),
                _ => keys.push(here),
            }
        }
    }
    let mut config = Config::default();
    config.data.split = SplitTable {
        by: config.data.split.by,
        name: Some(String::new()),
        test: Some(Vec::new()),
        size: Some(0),
        fraction: Some(0.0),
        seed: Some(0),
    };
    config.diffusion.importance = Some(false);
    config.data.embeddings = Some(String::new());
    let mut keys = Vec::new();
    if let Ok(table) = toml::Table::try_from(&config) {
        walk(&table, "", &mut keys);
    }
    keys
}
