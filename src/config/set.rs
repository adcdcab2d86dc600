//! `--set section.key=value`: one typed change of the settings.

use std::fmt;

use toml::Value;

use super::diagnose::{explain_message, join};
use super::sections::Config;
use crate::error::{Error, Result};

/// A parsed `--set`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    pub key: String,
    pub value: Value,
    /// As given, for messages.
    text: String,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--set {}", self.text.replace('\n', " "))
    }
}

/// Parses all of them; a key given twice is an error, because one of the two is a mistake.
pub fn parse_all(sets: &[String]) -> Result<Vec<Override>> {
    let mut all: Vec<Override> = Vec::new();
    for text in sets {
        let one = Override::parse(text)?;
        if all.iter().any(|o| o.key == one.key) {
            return Err(Error::usage(format!("{} is set twice", one.key)).at(one));
        }
        all.push(one);
    }
    Ok(all)
}

impl Override {
    pub fn parse(text: &str) -> Result<Override> {
        let bad = |what: &str| {
            Error::usage(what)
                .at(format!("--set {}", text.replace('\n', " ")))
                .help("write --set train.lr=3e-4")
        };
        let (key, value) = text.split_once('=').ok_or_else(|| bad("there is no '='"))?;
        let (key, value) = (key.trim(), value.trim());
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        };
        if !key.split('.').all(plain) {
            return Err(bad("the key is not section.key"));
        }
        let parsed = value.parse::<Value>().or_else(|e| {
            // Shells eat quotes: `--set quantiser.kind=ema` means the string.
            let first = value.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
            let word = value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:".contains(c));
            if first && word {
                return Ok(Value::String(value.into()));
            }
            Err(bad(&format!("{key}: the value is not TOML"))
                .why(e.message().trim_end().replace('\n', ", ")))
        })?;
        Ok(Override { key: key.into(), value: parsed, text: text.into() })
    }

    /// Does this change set `key`, or a table that holds it?
    pub fn touches(&self, key: &str) -> bool {
        key.strip_prefix(&self.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The settings with this change, refused if the key is unknown or the type is wrong.
    pub fn apply(&self, config: &Config) -> Result<Config> {
        let failed = |e: &dyn fmt::Display| Error::usage(format!("{}: {e}", self.key)).at(self);
        let mut table = toml::Table::try_from(config).map_err(|e| failed(&e))?;
        let (parents, leaf) = match self.key.rsplit_once('.') {
            Some((parents, leaf)) => (parents.split('.').collect(), leaf),
            None => (Vec::new(), self.key.as_str()),
        };
        let mut at = &mut table;
        let mut path = String::new();
        for part in parents {
            path = join(&path, part);
            let entry = at.entry(part).or_insert_with(|| Value::Table(toml::Table::new()));
            let Value::Table(inner) = entry else {
                return Err(Error::usage(format!("unknown key '{}'", self.key))
                    .at(self)
                    .why(format!("{path} is a value, not a section"))
                    .help(format!("use --set {path}=...")));
            };
            at = inner;
        }
        at.insert(leaf.into(), self.value.clone());
        table.try_into().map_err(|e: toml::de::Error| {
            let unknown = match e.message().split('`').nth(1) {
                Some(name) if e.message().starts_with("unknown field") => name,
                _ => return explain_message(e.message(), Some(&self.key)).at(self),
            };
            // The unknown name is a part of the key, or an entry of the table that was given.
            let parts: Vec<&str> = self.key.split('.').collect();
            let key = match parts.iter().position(|part| *part == unknown) {
                Some(at) => parts[..=at].join("."),
                None => join(&self.key, unknown),
            };
            explain_message(e.message(), Some(&key)).at(self)
        })
    }
}
