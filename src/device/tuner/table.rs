//! What the tuner measured, one readable line a kernel.
//!
//! ```text
//! # vqforge tuner table 1: speed-up, variant, hash of the shaders, kernel
//! 1.43x | 128x64x16 | 9c1d2e3f | matmul Matmul { batch: 1, m: 2048, .. }
//! ```

use crate::error::{Error, Result};
use crate::kernels::Kernel;
use std::collections::BTreeMap;
use std::fmt::Write;

const TITLE: &str = "# vqforge tuner table 1: speed-up, variant, hash of the shaders, kernel";

/// One measured kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Name and specialisation of the kernel.
    pub key: String,
    /// [`Kernel::variant`] of the winner.
    pub variant: String,
    /// Of the kernel's and its variants' sources.
    pub hash: String,
    /// Time of the baseline over that of the winner; 1 where the baseline won.
    pub gain: f64,
}

/// Choices by kernel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    choices: BTreeMap<String, Choice>,
}

/// Name and specialisation: the sizes are part of a kernel's `Debug` form. Where products may round
/// their factors there are other candidates.
pub(super) fn key(kernel: &dyn Kernel, half_products: bool) -> String {
    let suffix = if half_products { ", half products" } else { "" };
    format!("{} {kernel:?}{suffix}", kernel.name())
}

impl Table {
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&Choice> {
        self.choices.get(key)
    }

    pub fn insert(&mut self, choice: Choice) {
        self.choices.insert(choice.key.clone(), choice);
    }

    /// Adds the choices of `other` that are not here.
    pub fn merge(&mut self, other: Table) {
        for (key, choice) in other.choices {
            self.choices.entry(key).or_insert(choice);
        }
    }

    pub fn choices(&self) -> impl Iterator<Item = &Choice> {
        self.choices.values()
    }

    pub fn text(&self) -> String {
        let mut out = format!("{TITLE}\n");
        for c in self.choices() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:.2}x | {} | {} | {}", c.gain, c.variant, c.hash, c.key);
        }
        out
    }

    /// # Errors
    /// A line that is not of this format, with its number.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table = Table::default();
        if text.lines().next() != Some(TITLE) {
            return Err(Error::disk("not a tuner table of this version").at("line 1"));
        }
        for (i, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let choice = parse_line(line).ok_or_else(|| {
                Error::disk("cannot read the tuner table")
                    .at(format!("line {}", i + 1))
                    .why(format!("`{line}` is not `gain | variant | hash | kernel`"))
            })?;
            table.insert(choice);
        }
        Ok(table)
    }
}

fn parse_line(line: &str) -> Option<Choice> {
    let mut parts = line.splitn(4, " | ");
    let gain: f64 = parts.next()?.strip_suffix('x')?.parse().ok()?;
    let (variant, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
    (gain.is_finite() && gain > 0.0).then(|| Choice {
        key: key.into(),
        variant: variant.into(),
        hash: hash.into(),
        gain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(key: &str, gain: f64) -> Choice {
        Choice { key: key.into(), variant: "64x32x16".into(), hash: "0123abcd".into(), gain }
    }

    #[test]
    fn text_and_back() {
        let mut table = Table::default();
        table.insert(choice("matmul Matmul { m: 1, act: None }", 1.5));
        table.insert(choice("conv2d Conv2d { n: 1 }", 1.0));
        assert_eq!(Table::parse(&table.text()).unwrap(), table);
    }

    #[test]
    fn damage_is_located() {
        let good = format!("{TITLE}\n");
        assert!(Table::parse(&good).unwrap().is_empty());
        for bad in ["", "# other\n", "1.5x | a | b | c\n"] {
            assert!(Table::parse(bad).unwrap_err().to_string().contains("line 1"), "{bad}");
        }
        for bad in ["1.5 | a | b | c", "nanx | a | b | c", "1.5x | a | b", "-1x | a | b | c"] {
            let e = Table::parse(&format!("{good}\n{bad}\n")).unwrap_err().to_string();
            assert!(e.contains("line 3") && e.contains(bad), "{e}");
        }
    }

    #[test]
    fn merging_keeps_what_is_here() {
        let mut table = Table::default();
        table.insert(choice("k", 2.0));
        let mut other = Table::default();
        other.insert(choice("k", 3.0));
        other.insert(choice("l", 4.0));
        table.merge(other);
        let gains: Vec<f64> = table.choices().map(|c| c.gain).collect();
        assert_eq!(gains, [2.0, 4.0]);
    }
}
