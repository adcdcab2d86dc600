//! Files of a folder and the classes they lie in: `root/*`, `root/<class>/*`, or either of them below
//! `root/train` and `root/test`. Files are taken in the byte order of their names; hidden ones are left
//! out.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file with its class folder, and 0 or 1 for the part, train or test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: PathBuf,
    pub class: Option<String>,
    pub part: i64,
}

/// The files that count, and what was left out, in words.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Whether there are `train` and `test` folders.
    pub parts: bool,
    pub warnings: Vec<String>,
}

/// What counts in a folder.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Endings of file names, whatever the case.
    pub endings: &'static [&'static str],
    /// What such files are called in messages: `PNG`.
    pub name: &'static str,
}

/// Lists a folder; where nothing counts the entries are empty.
///
/// # Errors
/// Exit code 4: a folder that cannot be listed.
pub fn list(root: &Path, wanted: Wanted) -> Result<Listing> {
    let top = contents(root, wanted)?;
    let part = |name: &str| top.folders.iter().find(|p| p.file_name() == Some(OsStr::new(name)));
    let mut listing = Listing::default();
    match (part("train"), part("test")) {
        (Some(train), Some(test)) => {
            for other in top.folders.iter().filter(|p| *p != train && *p != test) {
                let other = other.display();
                listing.warnings.push(format!("{other} is neither train nor test: ignored"));
            }
            let beside = top.files.len();
            if beside > 0 {
                let text = format!("{beside} {} files beside train and test", wanted.name);
                listing.warnings.push(format!("{text} in {} are ignored", root.display()));
            }
            listing.collect(train, 0, wanted)?;
            listing.collect(test, 1, wanted)?;
            listing.parts = true;
        }
        _ => listing.collect(root, 0, wanted)?,
    }
    Ok(listing)
}

impl Listing {
    /// The files of one part: those in class folders if there are any, else the loose ones.
    fn collect(&mut self, root: &Path, part: i64, wanted: Wanted) -> Result<()> {
        let top = contents(root, wanted)?;
        let before = self.entries.len();
        let mut others = top.others;
        for folder in &top.folders {
            let inside = contents(folder, wanted)?;
            others += inside.others;
            if !inside.folders.is_empty() {
                self.warnings.push(format!("folders below {} are ignored", folder.display()));
            }
            let class = folder.file_name().map(|n| n.to_string_lossy().into_owned());
            let entry = |path| Entry { path, class: class.clone(), part };
            self.entries.extend(inside.files.into_iter().map(entry));
        }
        if self.entries.len() == before {
            let entry = |path| Entry { path, class: None, part };
            self.entries.extend(top.files.into_iter().map(entry));
        } else if !top.files.is_empty() {
            let (count, name) = (top.files.len(), wanted.name);
            let text = format!("{count} {name} files beside the class folders of");
            self.warnings.push(format!("{text} {} are ignored", root.display()));
        }
        if others > 0 {
            let text = format!("{others} files below {} are not {}", root.display(), wanted.name);
            self.warnings.push(format!("{text}: ignored"));
        }
        Ok(())
    }

    /// Class numbers and the names of the classes; neither where a file is in no class folder, with a
    /// warning if others are.
    pub fn classes(&mut self) -> (Option<Vec<u32>>, Vec<String>) {
        let names: BTreeSet<&String> =
            self.entries.iter().filter_map(|e| e.class.as_ref()).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let label = |e: &Entry| names.binary_search(e.class.as_ref()?).ok().map(|c| c as u32);
        let labels: Option<Vec<u32>> = self.entries.iter().map(label).collect();
        if labels.is_none() && !names.is_empty() {
            self.warnings.push("some files are in no class folder: no labels are used".into());
        }
        let names = if labels.is_some() { names } else { Vec::new() };
        (labels, names)
    }
}

/// What lies directly in a folder.
#[derive(Default)]
struct Contents {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    /// Files that do not count.
    others: usize,
}

fn contents(folder: &Path, wanted: Wanted) -> Result<Contents> {
    let bad = |e: std::io::Error| Error::data("the folder cannot be listed").at_path(folder).why(e);
    let mut found = Contents::default();
    for entry in std::fs::read_dir(folder).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        let ends = |e: &OsStr| wanted.endings.iter().any(|w| e.eq_ignore_ascii_case(w));
        if path.is_dir() {
            found.folders.push(path);
        } else if path.extension().is_some_and(ends) {
            found.files.push(path);
        } else {
            found.others += 1;
        }
    }
    found.files.sort();
    found.folders.sort();
    Ok(found)
}
