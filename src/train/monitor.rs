//! The codebook monitor: what the codes of an evaluation say about the codebook, and what to do.
//!
//! Codes are counted over the whole held-out part, and over as many of the images that are trained on as
//! a statement on K codes needs. The steps of an epoch themselves count nothing on the host: reading K
//! counts back after each of them would make every step wait for the device.

use super::autoencoder::AutoencoderJob;
use crate::config::Bottleneck;
use crate::error::Result;
use crate::metrics::collapse::{Diagnosis, Remedy, arguments};
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

impl AutoencoderJob {
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

    /// The first thing to try against a collapse that the last evaluation showed.
    pub(super) fn remedy(&self) -> Option<Remedy> {
        let codebook = self.codebook();
        self.monitor.judged().iter().find_map(|usage| match usage.diagnose(&codebook) {
            Diagnosis::Collapsed { remedies, .. } => self.first_useful(remedies),
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
                    if let Some(Remedy { changes, why }) = self.first_useful(remedies) {
                        line.push_str(&format!(" (help: {}; {why})", arguments(&changes)));
                    }
                    lines.push(line);
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::Dataset;
    use crate::data::split::Split;
    use crate::device::CpuDevice;
    use crate::train::{Job, Material};
    use std::sync::Arc;

    /// 12 images of 16 x 16 to train and two to hold out: 4 x 4 places of two residual levels, 4 codes.
    fn job() -> AutoencoderJob {
        let pixels = (0..14 * 256).map(|i| (i * 37 % 251) as u8).collect();
        let images = Dataset::from_u8(pixels, [14, 16, 16, 1], None, vec![], "test").unwrap();
        let split = Split { train: (0..12).collect(), test: vec![12, 13], ..Split::default() };
        let sets = [
            "model.family=compact",
            "model.block_out_channels=[4, 4, 4]",
            "model.norm_num_groups=2",
            "model.latent_channels=4",
            "model.vq_embed_dim=4",
            "model.num_vq_embeddings=4",
            "quantiser.residual_levels=2",
            "train.batch=2",
        ];
        let config = Config::parse("monitor", "", &sets.map(String::from)).unwrap();
        AutoencoderJob::new(config, Arc::new(Material { images, split })).unwrap()
    }

    /// Every head is counted on held-out images, 2 x 16 tokens, and on images that are trained on: 50
    /// tokens for each of 4 codes are those of 12.5 images, more than there are.
    #[test]
    fn every_head_is_counted_on_both_parts() {
        let mut job = job();
        let device = Box::new(CpuDevice::new(1).unwrap());
        let mut session = job.session(device, None, &mut |_, _| {}).unwrap();
        job.evaluate(&mut session.store).unwrap();
        let entries = job.monitored();
        for (name, tokens) in
            [("usage", 32), ("usage.1", 32), ("training_usage", 192), ("training_usage.1", 192)]
        {
            let counts = entries[name]["counts"].as_array().unwrap();
            let sum: u64 = counts.iter().map(|c| c.as_u64().unwrap()).sum();
            assert_eq!((counts.len(), sum), (4, tokens), "{name}");
            let dead = counts.iter().filter(|c| c.as_u64() == Some(0)).count();
            assert_eq!(entries[name]["dead_codes"].as_array().unwrap().len(), dead, "{name}");
        }
        let lines = job.diagnoses();
        for start in ["held out: codes ", "training images: codes "] {
            for head in [0, 1] {
                let line = format!("codebook {head}, {start}");
                assert!(lines.iter().any(|l| l.starts_with(&line)), "{line}: {lines:?}");
            }
        }
    }

    fn counted(heads: [&[u32]; 2]) -> Option<HeadUsage> {
        let mut usage = HeadUsage::new(&[4, 4]);
        for (head, codes) in heads.into_iter().enumerate() {
            usage.add(head, codes).unwrap();
        }
        Some(usage)
    }

    /// The images that are trained on are judged where they were counted; a refusal is told once.
    #[test]
    fn collapse_is_told_and_a_refusal_once() {
        let mut job = job();
        let (even, one) = ([0, 1, 2, 3].repeat(50), [2; 200]);
        job.monitor.evaluations = 1;
        job.monitor.held_out = counted([&[0, 1], &[0, 1]]);
        let refused = |job: &AutoencoderJob| {
            job.diagnoses().iter().filter(|l| l.contains("not judged")).count()
        };
        assert_eq!(refused(&job), 2, "{:?}", job.diagnoses());
        job.monitor.evaluations = 2;
        assert_eq!(refused(&job), 0);
        job.monitor.training = counted([&even, &one]);
        let warnings: Vec<String> =
            job.diagnoses().into_iter().filter(|l| l.starts_with("warning")).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("codebook 1 has collapsed"), "{warnings:?}");
        assert!(job.remedy().is_some());
        job.monitor.training = counted([&even, &even]);
        assert!(job.remedy().is_none());
    }
}
