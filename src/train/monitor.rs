//! The codebook monitor: what the codes of an evaluation say about the codebook, and what to do.
//!
//! Codes are counted over the whole held-out part, and over as many of the images that are trained on as
//! a statement on K codes needs. The steps of an epoch themselves count nothing on the host: reading K
//! counts back after each of them would make every step wait for the device.

use super::autoencoder::AutoencoderJob;
use crate::config::Bottleneck;
use crate::error::Result;
use crate::metrics::collapse::{Codebook, Diagnosis, Remedy};
use crate::metrics::{HeadUsage, Usage};
use crate::model::quantiser::of_head;
use crate::plan::Store;

/// Dead codes that are listed; beyond that their number says enough.
const LISTED: usize = 256;
/// Tokens of training images a code that are counted. A code just active, at 8 % of the uniform share,
/// is chosen four times among them, and missed with a probability of exp(-4) = 2 %.
const TOKENS_A_CODE: usize = 50;

/// What the last evaluation counted.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    pub held_out: Option<HeadUsage>,
    /// On images that are trained on.
    pub training: Option<HeadUsage>,
    /// Evaluations of this process.
    pub evaluations: u64,
}

impl Monitor {
    fn held_out(&self) -> Vec<Usage> {
        self.held_out.as_ref().map(HeadUsage::summaries).unwrap_or_default()
    }

    fn training(&self) -> Vec<Usage> {
        self.training.as_ref().map(HeadUsage::summaries).unwrap_or_default()
    }

    /// What a collapse is judged by: the images that are trained on, which are enough where there are
    /// enough of them.
    fn judged(&self) -> Vec<Usage> {
        if self.training.is_some() { self.training() } else { self.held_out() }
    }
}

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

    /// Counts the codes of images that are trained on, spread over all of them.
    pub(super) fn count_training(&mut self, store: &mut Store) -> Result<()> {
        self.monitor.evaluations += 1;
        if self.config.model.bottleneck != Bottleneck::Vq {
            return Ok(());
        }
        let (codes, train) = (self.config.model.num_vq_embeddings, &self.data.split.train);
        let wanted = (TOKENS_A_CODE * codes).div_ceil(self.tokens.max(1)).min(train.len());
        let rows: Vec<u32> = (0..wanted).map(|i| train[i * train.len() / wanted]).collect();
        let mut usage = HeadUsage::new(&vec![codes; self.config.quantiser.heads()]);
        self.run_evaluation(store, &rows, |batch| {
            let mut heads = batch.codes.iter().enumerate();
            heads.try_for_each(|(head, codes)| usage.add(head, codes))
        })?;
        self.monitor.training = Some(usage);
        Ok(())
    }

    /// The five measures, counts and dead codes of each head, over the whole held-out part ("usage",
    /// "usage.1", ...) and over images that are trained on ("training_usage", ...).
    pub(super) fn monitored(&self) -> serde_json::Value {
        let mut entries = serde_json::Map::new();
        let counted =
            [("usage", &self.monitor.held_out), ("training_usage", &self.monitor.training)];
        for (what, usage) in counted {
            let heads = usage.iter().flat_map(HeadUsage::heads).enumerate();
            for (number, head) in heads {
                let mut entry = serde_json::json!(head.summary());
                let dead = head.dead_codes();
                entry["dead_codes"] = serde_json::json!(dead[..dead.len().min(LISTED)]);
                entry["counts"] = serde_json::json!(head.counts());
                entries.insert(of_head(what, number), entry);
            }
        }
        if entries.is_empty() { serde_json::Value::Null } else { entries.into() }
    }

    /// The first thing to try against a collapse that the last evaluation showed, none of whose
    /// settings are in `tried`.
    pub(super) fn remedy(&self, tried: &[String]) -> Option<Remedy> {
        let codebook = self.codebook();
        self.monitor.judged().iter().find_map(|usage| match usage.diagnose(&codebook) {
            Diagnosis::Collapsed { remedies, .. } => {
                let new = |r: &Remedy| !tried.iter().any(|t| key(t) == key(&r.setting));
                remedies.into_iter().find(new)
            }
            _ => None,
        })
    }

    /// The use of each head, and a warning for every one that has collapsed, with what was seen and
    /// what to do. That there are too few tokens to judge is said once.
    pub(super) fn diagnoses(&self) -> Vec<String> {
        let (codebook, judged) = (self.codebook(), self.monitor.judged());
        let name = |number: usize| match judged.len() {
            0 | 1 => "codebook".to_string(),
            _ => format!("codebook {number}"),
        };
        let mut lines = vec![];
        for (images, usages) in
            [("held out", self.monitor.held_out()), ("training images", self.monitor.training())]
        {
            let each = usages.iter().enumerate();
            lines
                .extend(each.map(|(number, usage)| format!("{}, {images}: {usage}", name(number))));
        }
        for (number, usage) in judged.iter().enumerate() {
            match usage.diagnose(&codebook) {
                Diagnosis::Healthy => {}
                refused @ Diagnosis::Refused { .. } => {
                    if self.monitor.evaluations <= 1 {
                        lines.push(format!("warning: the {} is {refused}", name(number)));
                    }
                }
                Diagnosis::Collapsed { symptoms, remedies } => {
                    let seen: Vec<_> = symptoms.iter().map(ToString::to_string).collect();
                    let (which, seen) = (name(number), seen.join(", "));
                    let mut line = format!("warning: the {which} has collapsed: {seen}");
                    if let Some(Remedy { setting, why }) = remedies.first() {
                        line.push_str(&format!(" (help: {setting}; {why})"));
                    }
                    lines.push(line);
                }
            }
        }
        lines
    }
}
