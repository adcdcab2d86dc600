//! What differs between two settings, key by key.

use std::fmt;

use toml::{Table, Value};

use super::diagnose::join;
use super::sections::Config;
use crate::error::{Error, Result};

/// One key whose value changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub key: String,
    /// As TOML; `None` where the key was or is not set.
    pub old: Option<Value>,
    pub new: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |v: &Option<Value>| v.as_ref().map_or("unset".into(), Value::to_string);
        write!(f, "{} {} -> {}", self.key, text(&self.old), text(&self.new))
    }
}

/// All changes from `old` to `new`, in the order of the keys.
pub fn changes(old: &Config, new: &Config) -> Result<Vec<Change>> {
    let table = |config: &Config| {
        Table::try_from(config).map_err(|e| Error::failed("the settings are not TOML").why(e))
    };
    let mut found = Vec::new();
    walk(&table(old)?, &table(new)?, "", &mut found);
    Ok(found)
}

fn walk(old: &Table, new: &Table, path: &str, found: &mut Vec<Change>) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let key = join(path, name);
        match (old.get(name), new.get(name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => walk(old, new, &key, found),
            (old, new) if old != new => {
                found.push(Change { key, old: old.cloned(), new: new.cloned() });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_changed_and_nothing_else() {
        let old = Config::load(None, &[]).unwrap();
        assert_eq!(changes(&old, &old).unwrap(), []);
        let sets =
            ["train.lr=0.5", "model.block_out_channels=[8]", "data.split={ by = \"folder\" }"];
        let new = Config::load(None, &sets.map(String::from)).unwrap();
        let text: Vec<String> =
            changes(&old, &new).unwrap().iter().map(Change::to_string).collect();
        let want = [
            "data.split.by \"fraction\" -> \"folder\"",
            "data.split.fraction 0.1 -> unset",
            "data.split.seed 0 -> unset",
            "model.block_out_channels [32, 64, 64] -> [8]",
            "train.lr 0.0003 -> 0.5",
        ];
        assert_eq!(text, want);
    }
}
