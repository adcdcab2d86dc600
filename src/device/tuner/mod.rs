//! The tuner: which variant of a kernel runs on this adapter. Capabilities filter the candidates
//! ([`Kernel::variants`]), measurement chooses among them.
//!
//! Variants may add up in another order, so a choice is never made unseen: without
//! [`Mode::Now`] only what the table holds is taken, what a process took is listed by
//! [`Tuner::used`], and a resumed run is given that list back.

mod measure;
mod table;

pub use measure::Refused;
pub use table::{Choice, Table};

use super::Device;
use crate::error::{Error, Result};
use crate::kernels::{Caps, Kernel};
use crate::shader;
use std::collections::HashMap;
use std::sync::Arc;

/// Candidates tried for one kernel, at most.
const CANDIDATES: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Baselines only.
    #[default]
    Off,
    /// What was measured before; baselines for the rest.
    Cache,
    /// What was measured before; the rest is measured now.
    Now,
}

impl std::str::FromStr for Mode {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Mode::Off),
            "cache" => Ok(Mode::Cache),
            "now" => Ok(Mode::Now),
            _ => Err(Error::usage(format!("no tuning mode is called {text}"))
                .help("use off, cache or now")),
        }
    }
}

/// Called after each measurement with the whole table, to keep it, the new choice, and the variants
/// that were not fit to be chosen.
pub type Keep = Box<dyn FnMut(&Table, &Choice, &[Refused]) + Send>;

/// See the module documentation.
#[derive(Default)]
pub struct Tuner {
    mode: Mode,
    known: Table,
    used: Table,
    /// Kernels already decided upon, by key.
    decided: HashMap<String, Arc<dyn Kernel>>,
    keep: Option<Keep>,
}

impl std::fmt::Debug for Tuner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tuner({:?}, {} known)", self.mode, self.known.len())
    }
}

impl Tuner {
    pub fn new(mode: Mode, known: Table, keep: Keep) -> Self {
        Tuner { mode, known, keep: Some(keep), ..Self::default() }
    }

    /// Takes exactly what `table` holds: for resumed runs and tests.
    pub fn fixed(table: Table) -> Self {
        Tuner { mode: Mode::Cache, known: table, ..Self::default() }
    }

    /// The choices made so far.
    pub fn used(&self) -> &Table {
        &self.used
    }

    /// Kernels decided upon so far, those without variants or measurements among them.
    pub fn decided(&self) -> usize {
        self.decided.len()
    }

    /// The variant of `kernel` to run on `device`.
    ///
    /// # Errors
    /// A shader that does not compile, a lost device.
    pub fn choose(
        &mut self,
        device: &mut dyn Device,
        kernel: &Arc<dyn Kernel>,
        caps: &Caps,
    ) -> Result<Arc<dyn Kernel>> {
        if self.mode == Mode::Off {
            return Ok(kernel.clone());
        }
        let key = table::key(&**kernel, caps.half_products);
        if let Some(decided) = self.decided.get(&key) {
            return Ok(decided.clone());
        }
        let chosen = self.decide(device, kernel, caps, &key)?;
        self.decided.insert(key, chosen.clone());
        Ok(chosen)
    }

    fn decide(
        &mut self,
        device: &mut dyn Device,
        kernel: &Arc<dyn Kernel>,
        caps: &Caps,
        key: &str,
    ) -> Result<Arc<dyn Kernel>> {
        // Preprocessing two dozen shaders takes longer than looking up that there is no need to.
        if self.mode == Mode::Cache && self.known.get(key).is_none() {
            return Ok(kernel.clone());
        }
        let mut variants = kernel.variants(caps);
        variants.retain(|v| caps.allow(v.needs()));
        variants.truncate(CANDIDATES);
        if variants.is_empty() {
            return Ok(kernel.clone());
        }
        // What was measured of other candidates says nothing about these.
        let hash = fingerprint(kernel, &variants)?;
        let named = |name: &str| {
            std::iter::once(kernel).chain(&variants).find(|v| v.variant() == name).cloned()
        };
        let known = self.known.get(key).filter(|c| c.hash == hash && named(&c.variant).is_some());
        let known = known.cloned();
        let choice = match (known, self.mode) {
            (Some(choice), _) => choice,
            (None, Mode::Now) => {
                let outcome = measure::fastest(device, kernel, &variants)?;
                let measure::Outcome { variant, gain, refused } = outcome;
                let choice = Choice { key: key.into(), variant, hash, gain };
                self.known.insert(choice.clone());
                if let Some(keep) = &mut self.keep {
                    keep(&self.known, &choice, &refused);
                }
                choice
            }
            (None, _) => return Ok(kernel.clone()),
        };
        let chosen = named(&choice.variant).unwrap_or_else(|| kernel.clone());
        self.used.insert(choice);
        Ok(chosen)
    }
}

/// Of the sources of a kernel and its variants: a changed shader is measured anew.
fn fingerprint(kernel: &Arc<dyn Kernel>, variants: &[Arc<dyn Kernel>]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for candidate in std::iter::once(kernel).chain(variants) {
        hasher.update(shader::source(&**candidate)?.as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..8].to_string())
}
