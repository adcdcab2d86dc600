//! What a file of signals or a MATLAB file holds, and what its arrays could be, before anything
//! says how to make images of them.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::arrays::{self, Node};
use super::npz::{CLASS_NAMES, Member};
use super::open::{Kind, sniff};
use crate::error::Result;

/// Arrays with guesses at their roles.
#[derive(Debug, Clone, Serialize)]
pub struct Holdings {
    pub source: String,
    pub members: Vec<Member>,
    pub warnings: Vec<String>,
}

impl Holdings {
    /// `None` for what is not a file of signals: folders, and arrays without complex numbers.
    pub fn read(path: &Path) -> Result<Option<Holdings>> {
        if !path.is_file() {
            return Ok(None);
        }
        let kind = sniff(path)?;
        let (named, warnings) = arrays::read_file(path)?;
        let complex = named.iter().any(|n| n.node.arrays().iter().any(|a| a.is_complex()));
        if kind != Kind::Mat && !complex {
            return Ok(None);
        }
        let member = |n: &arrays::Named| {
            let (dtype, shape) = n.node.describe();
            Member { name: n.name.clone(), dtype, shape, role: role(&n.name, &n.node) }
        };
        Ok(Some(Holdings {
            source: path.display().to_string(),
            members: named.iter().map(member).collect(),
            warnings,
        }))
    }
}

fn role(name: &str, node: &Node) -> String {
    if CLASS_NAMES.contains(&name.to_lowercase().as_str()) && !node.texts().is_empty() {
        return "class names".into();
    }
    let arrays = node.arrays();
    let Some(first) = arrays.first() else { return "text".into() };
    if let Node::List(nodes) = node {
        let nested = nodes.iter().any(|n| matches!(n, Node::List(_)));
        let sizes = |axis: usize| {
            let all = arrays.iter().filter_map(|a| a.shape.get(axis));
            format!("{}..{}", all.clone().min().unwrap_or(&0), all.max().unwrap_or(&0))
        };
        let axes: Vec<String> = (0..first.shape.len()).map(sizes).collect();
        let what = if first.is_complex() { "recordings" } else { "recordings or images" };
        let classes = if nested { format!(" in {} classes", nodes.len()) } else { String::new() };
        return format!("{} {what}{classes}, sizes [{}]", arrays.len(), axes.join(", "));
    }
    if !first.is_complex() && first.ints().is_some() {
        return "labels, subjects or other integers".into();
    }
    let long: Vec<usize> = first.shape.iter().copied().filter(|&d| d != 1).collect();
    match (first.is_complex(), long.len()) {
        (true, 0 | 1) => "a signal over slow time".into(),
        (true, 2) => "signals over slow time, or fast-slow, or doppler-time".into(),
        (true, 3) => "fast-slow, doppler-time or range-doppler of several recordings".into(),
        (true, _) => "range-doppler of several recordings".into(),
        (false, 0..=2) if first.shape.last() == Some(&2) => "I and Q of a signal".into(),
        (false, 0..=2) => "a spectrogram (doppler-time), or numbers".into(),
        (false, _) => "images, or I and Q, or spectrograms".into(),
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.source)?;
        for Member { name, dtype, shape, role } in &self.members {
            writeln!(f, "  {:<10}{name}: {dtype} {shape:?}, {role}", "array")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  {:<10}{warning}", "warning")?;
        }
        let help = "vqforge data convert IN --preset NAME makes images of signals";
        write!(f, "  {:<10}{help}", "help")
    }
}
