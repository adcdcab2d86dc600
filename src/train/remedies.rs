//! What to try against a collapse of the codebook, and what was tried.

use super::Snapshot;
use super::autoencoder::AutoencoderJob;
use crate::config::Config;
use crate::metrics::collapse::{Codebook, Remedy};

/// Remedies against a collapse: may a run begin anew under them, and which ones it has tried.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remedies {
    pub allowed: bool,
    /// The keys that were changed: `quantiser.revive_every`.
    tried: Vec<String>,
}

/// The key of `quantiser.revive_every=25`, first of the changes that make up a remedy.
fn key(changes: &[String]) -> &str {
    changes.first().and_then(|first| first.split('=').next()).unwrap_or_default()
}

impl Remedies {
    /// Their place in a checkpoint's metadata.
    pub(super) const TRIED: &str = "remedies_tried";

    /// None tried yet but those that the checkpoint of a continued run tells.
    pub fn new(allowed: bool, snapshot: Option<&Snapshot>) -> Self {
        let told = snapshot.and_then(|s| s.meta.get(Self::TRIED));
        let tried = told.map(|text| text.split(',').map(String::from).collect());
        Remedies { allowed, tried: tried.unwrap_or_default() }
    }

    /// Remembers that these changes were made.
    pub fn add(&mut self, changes: &[String]) {
        self.tried.push(key(changes).into());
    }

    /// Entries of a checkpoint's metadata.
    pub(super) fn meta(&self) -> Option<(String, String)> {
        (!self.tried.is_empty()).then(|| (Self::TRIED.into(), self.tried.join(",")))
    }
}

impl AutoencoderJob {
    /// What the remedies depend on.
    pub(super) fn codebook(&self) -> Codebook<'_> {
        let Config { quantiser, model, .. } = &self.config;
        let tokens = (self.data.split.train.len() * self.tokens) as u64;
        Codebook { quantiser, model, training_tokens: Some(tokens) }
    }

    /// The first remedy that was not tried, that the other settings allow and that changes anything.
    pub(super) fn first_useful(&self, remedies: Vec<Remedy>) -> Option<Remedy> {
        let text = self.config.to_toml().ok()?;
        let useful = |remedy: &Remedy| {
            let known = self.remedies.tried.iter().any(|tried| tried == key(&remedy.changes));
            let changed = Config::parse("settings", &text, &remedy.changes);
            !known && changed.is_ok_and(|changed| changed != self.config)
        };
        remedies.into_iter().find(useful)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_outlives_the_process() {
        let mut remedies = Remedies::new(true, None);
        assert_eq!(remedies.meta(), None);
        remedies.add(&["quantiser.revive_every=25".into()]);
        remedies.add(&["quantiser.kind=fsq".into(), "quantiser.distance=euclid".into()]);
        let snapshot =
            Snapshot { meta: remedies.meta().into_iter().collect(), ..Snapshot::default() };
        assert_eq!(Remedies::new(true, Some(&snapshot)), remedies);
        assert_eq!(remedies.tried, ["quantiser.revive_every", "quantiser.kind"]);
    }
}
