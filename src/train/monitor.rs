//! The codebook monitor: what the codes of an evaluation say about the codebook, and what to do.

use super::autoencoder::AutoencoderJob;
use crate::metrics::collapse::{Codebook, Diagnosis, Remedy};
use crate::metrics::{CodeUsage, Usage};

/// Dead codes that are listed; beyond that their number says enough.
const LISTED: usize = 256;

/// `quantiser.revive_every` of `--set quantiser.revive_every=25`.
fn key(setting: &str) -> &str {
    setting.trim_start_matches("--set ").split('=').next().unwrap_or(setting)
}

impl AutoencoderJob {
    /// What the remedies depend on.
    fn codebook(&self) -> Codebook {
        let q = &self.config.quantiser;
        let tokens = (self.data.split.train.len() * self.tokens) as u64;
        Codebook {
            revive_every: q.kind.has_book().then_some(q.revive_every),
            training_tokens: Some(tokens),
            dim: self.config.model.vq_embed_dim / q.num_codebooks.max(1),
        }
    }

    fn heads(&self) -> impl Iterator<Item = (&CodeUsage, Usage)> {
        let heads = self.usage.iter().flat_map(|usage| usage.heads());
        heads.map(|head| (head, head.summary()))
    }

    /// The five measures, counts and dead codes of each head, over the whole held-out part.
    pub(super) fn monitored(&self) -> serde_json::Value {
        let heads: Vec<_> = self
            .heads()
            .map(|(head, summary)| {
                let mut entry = serde_json::json!(summary);
                let dead = head.dead_codes();
                entry["dead_codes"] = serde_json::json!(dead[..dead.len().min(LISTED)]);
                entry["counts"] = serde_json::json!(head.counts());
                entry
            })
            .collect();
        match &heads[..] {
            [] => serde_json::Value::Null,
            [one] => serde_json::json!({ "usage": one }),
            [first, ..] => serde_json::json!({ "usage": first, "usage_of_heads": heads }),
        }
    }

    /// The first thing to try against a collapse that the last evaluation showed, none of whose
    /// settings are in `tried`.
    pub(super) fn remedy(&self, tried: &[String]) -> Option<Remedy> {
        let codebook = self.codebook();
        self.heads().find_map(|(_, usage)| match usage.diagnose(&codebook) {
            Diagnosis::Collapsed { remedies, .. } => {
                let new = |r: &Remedy| !tried.iter().any(|t| key(t) == key(&r.setting));
                remedies.into_iter().find(new)
            }
            _ => None,
        })
    }

    /// A warning for every head that has collapsed, with what was seen and what to do.
    pub(super) fn diagnoses(&self) -> Vec<String> {
        let (codebook, mut lines) = (self.codebook(), vec![]);
        for (number, (_, usage)) in self.heads().enumerate() {
            let Diagnosis::Collapsed { symptoms, remedies } = usage.diagnose(&codebook) else {
                continue;
            };
            let seen: Vec<_> = symptoms.iter().map(ToString::to_string).collect();
            let which = if number == 0 { String::new() } else { format!(" {number}") };
            let mut line =
                format!("warning: the codebook{which} has collapsed: {}", seen.join(", "));
            if let Some(Remedy { setting, why }) = remedies.first() {
                line.push_str(&format!(" (help: {setting}; {why})"));
            }
            lines.push(line);
        }
        lines
    }
}
