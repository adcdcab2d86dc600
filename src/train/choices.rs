//! The variants of kernels that a run was made with, in its folder: a continued run takes these and no
//! others, for variants round differently.

use super::RunFolder;
use crate::data::atomic::write_atomically;
use crate::device::tuner::Table;
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

const CHOICES: &str = "tune.txt";

/// The choices of the run in `run`; none where it took baselines only.
///
/// # Errors
/// Exit code 5: the file is there and cannot be read.
pub fn of_run(run: &Path) -> Result<Table> {
    let path = run.join(CHOICES);
    if !path.exists() {
        return Ok(Table::default());
    }
    let bad = |e: &dyn std::fmt::Display| {
        Error::disk("cannot read the run's choices of kernels")
            .at_path(&path)
            .why(e)
            .help("put the file back, or delete it: the rest of the run will differ a little then")
    };
    let text = std::fs::read_to_string(&path).map_err(|e| bad(&e))?;
    Table::parse(&text).map_err(|e| bad(&e))
}

/// Adds what was chosen since; a choice once made stays.
pub fn add(folder: &RunFolder, used: Table) -> Result<()> {
    let before = of_run(folder.path())?;
    let mut all = before.clone();
    all.merge(used);
    if all == before {
        return Ok(());
    }
    write_atomically(&folder.file(CHOICES), |w| w.write_all(all.text().as_bytes()))
}

/// Drops what a process chose that was killed before its first checkpoint.
pub fn forget(folder: &RunFolder) -> Result<()> {
    let path = folder.file(CHOICES);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::disk("cannot remove the choices of an abandoned run").at_path(&path).why(e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::device::tuner::Choice;

    #[test]
    fn choices_add_up_and_stay() {
        let dir = Scratch::new("choices");
        let run = dir.path("run");
        let folder = RunFolder::create(Some(&run), "x").unwrap();
        let table = |choices: &[(&str, &str)]| {
            let mut table = Table::default();
            for (key, variant) in choices {
                let (key, variant, hash) = (key.to_string(), variant.to_string(), "0".into());
                table.insert(Choice { key, variant, hash, gain: 1.5 });
            }
            table
        };
        add(&folder, Table::default()).unwrap();
        assert!(!run.join(CHOICES).exists(), "baselines leave no file");
        add(&folder, table(&[("a", "4x4"), ("b", "8x8")])).unwrap();
        add(&folder, table(&[("b", "2x2"), ("c", "1x1")])).unwrap();
        add(&folder, table(&[])).unwrap();
        let all = table(&[("a", "4x4"), ("b", "8x8"), ("c", "1x1")]);
        assert_eq!(of_run(&run).unwrap(), all);
        std::fs::write(run.join(CHOICES), "damage").unwrap();
        assert_eq!(of_run(&run).unwrap_err().exit_code(), 5);
        assert_eq!(add(&folder, table(&[])).unwrap_err().exit_code(), 5, "never written over");
        for _ in 0..2 {
            forget(&folder).unwrap();
            assert!(of_run(&run).unwrap().is_empty());
        }
    }
}
