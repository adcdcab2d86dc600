//! Settings: defaults, then a TOML file, then `--set section.key=value`, later ones winning.
//!
//! A file is checked twice. Its shape (unknown keys, wrong types) is checked while it is read;
//! the values are checked once everything is merged, in [`check`]. Either way the message points
//! at the line and column, or names the `--set`, that is to blame. Errors have exit code 2.

pub mod augment;
pub mod check;
pub mod data;
pub mod denoiser;
pub mod diagnose;
pub mod diff;
pub mod diffusion;
pub mod loss;
pub mod quantiser;
pub mod sections;
pub mod set;
pub mod signal;
pub mod suggest;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use augment::{Augment, Edge};
pub use data::*;
pub use denoiser::*;
pub use diffusion::*;
pub use loss::*;
pub use quantiser::*;
pub use sections::*;
pub use signal::Signal;

use crate::error::{Error, Result};
use diagnose::Source;

impl Config {
    /// The settings of a run: `path` (if any) over the defaults, `sets` over both.
    ///
    /// Each of `sets` is `section.key=value` with a TOML value; a bare word counts as a string.
    pub fn load(path: Option<&Path>, sets: &[String]) -> Result<Config> {
        let Some(path) = path else { return Self::resolve(None, sets) };
        let text = std::fs::read(path).map_err(|e| {
            Error::usage("the configuration cannot be read")
                .at_path(path)
                .why(e)
                .help("name a TOML file, for example one of configs/")
        })?;
        let text = String::from_utf8(text).map_err(|e| {
            Error::usage("the configuration is not UTF-8 text").at_path(path).why(e)
        })?;
        Self::resolve(Some(&Source::new(path.display().to_string(), text)), sets)
    }

    /// As [`load`](Self::load), from text in memory.
    pub fn parse(name: &str, text: &str, sets: &[String]) -> Result<Config> {
        Self::resolve(Some(&Source::new(name.into(), text.into())), sets)
    }

    fn resolve(file: Option<&Source>, sets: &[String]) -> Result<Config> {
        let mut config = match file {
            None => Config::default(),
            Some(source) => toml::from_str(&source.text).map_err(|e| source.explain(&e))?,
        };
        let overrides = set::parse_all(sets)?;
        for one in &overrides {
            config = one.apply(&config)?;
        }
        config.data.split.fill_defaults();
        let Config { model, quantiser, .. } = &mut config;
        quantiser.settle(model);
        check::check(&config).map_err(|violation| {
            let set = overrides.iter().rev().find(|o| o.touches(&violation.key));
            let place = match (set, file) {
                (Some(set), _) => Some(set.to_string()),
                (None, Some(source)) => source.locate(&violation.key),
                (None, None) => None,
            };
            let error = Error::usage(format!("{}: {}", violation.key, violation.what));
            let error = match place {
                Some(place) => error.at(place),
                None => error,
            };
            error.help(violation.help)
        })?;
        Ok(config)
    }

    /// All resolved values as TOML. Reading it back gives an equal configuration.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::failed("the configuration cannot be written as TOML").why(e))
    }
}
