//! What one trained arm scored on the held-out images.

use super::arms::ArmSpec;
use crate::config::{Bottleneck, Config};
use crate::error::{Error, Result};
use crate::metrics::{FeatureDistance, HeadUsage, ImageScores, QualitySum, Usage};
use crate::plan::Store;
use crate::train::autoencoder::AutoencoderJob;
use crate::train::stop;
use crate::verdict::ArmKind;
use serde::{Deserialize, Serialize};

/// Of one arm and one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub arm: String,
    pub seed: u64,
    pub steps: u64,
    pub parameters: usize,
    /// Bits an image: places x codes a place x log2 K, or KL / ln 2 of a KL-VAE.
    pub bits: f64,
    /// The same with the entropy of the codes in place of log2 K.
    pub entropy_bits: Option<f64>,
    /// Of each head.
    pub usage: Vec<Usage>,
    /// How often each code of the first head was chosen.
    pub counts: Vec<u64>,
    /// Of every held-out image, in order.
    pub scores: Vec<ImageScores>,
    /// How far the Doppler envelopes are from those of the originals, over all held-out images.
    #[serde(default)]
    pub envelopes: Vec<FeatureDistance>,
    /// The range in dB of the scores in dB.
    #[serde(default)]
    pub dynamic_range_db: Option<f64>,
    /// Why there are no scores: the training diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Outcome {
    /// Of a run that came to nothing.
    pub fn of_failure(arm: &str, seed: u64, reason: String) -> Self {
        Outcome {
            arm: arm.into(),
            seed,
            steps: 0,
            parameters: 0,
            bits: 0.0,
            entropy_bits: None,
            usage: vec![],
            counts: vec![],
            scores: vec![],
            envelopes: vec![],
            dynamic_range_db: None,
            failed: Some(reason),
        }
    }

    /// JSON knows no NaN: it would be read back as the score of an exact copy, or not at all.
    fn finite(self) -> Result<Self> {
        let all = |s: &ImageScores| {
            let some =
                [s.psnr, s.ssim, s.ssim_uniform7, s.ms_ssim, s.foreground_psnr, s.db_mae, s.lsd];
            let more = [s.centroid_error, s.bandwidth_error];
            s.mse.is_finite() && some.iter().chain(&more).flatten().all(|v| v.is_finite())
        };
        match self.bits.is_finite() && self.scores.iter().all(all) {
            true => Ok(self),
            false => Err(Error::diverged("its scores are not finite numbers")),
        }
    }
}

/// What can be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The arms none of whose runs failed.
    pub arms: Vec<ArmSpec>,
    pub outcomes: Vec<Outcome>,
    /// A sentence about each run that failed.
    pub notes: Vec<String>,
}

/// Leaves out arms of which a run failed: pairs are compared, so that every seed is needed.
///
/// # Errors
/// Exit code 7: no arm with codes, or no KL-VAE, is left.
pub fn standing(arms: &[ArmSpec], outcomes: &[Outcome]) -> Result<Standing> {
    let fell = |arm: &str| outcomes.iter().any(|o| o.arm == arm && o.failed.is_some());
    let reasons = outcomes.iter().filter_map(|o| Some((o, o.failed.as_ref()?)));
    let notes: Vec<String> = reasons
        .map(|(o, why)| {
            format!("{} is not judged: its run with seed {} failed: {why}", o.arm, o.seed)
        })
        .collect();
    let arms: Vec<ArmSpec> = arms.iter().filter(|arm| !fell(&arm.name)).cloned().collect();
    let outcomes = outcomes.iter().filter(|o| !fell(&o.arm)).cloned().collect();
    let missing = |kind| !arms.iter().any(|arm| arm.kind == kind);
    if !notes.is_empty() && (missing(ArmKind::Vq) || missing(ArmKind::Vae)) {
        return Err(Error::diverged("nothing is left to compare")
            .why(notes.join("; "))
            .help("lower train.lr or train.clip and begin another comparison"));
    }
    Ok(Standing { arms, outcomes, notes })
}

/// Runs the held-out images through a trained arm. Also gives the reconstructions of `shown`, places in
/// the held-out part, in [0, 1].
///
/// # Errors
/// Ctrl-C; scores that are not finite (exit code 7).
pub fn examine(
    name: &str,
    config: &Config,
    job: &mut AutoencoderJob,
    store: &mut Store,
    rows: &[u32],
    shown: &[usize],
) -> Result<(Outcome, Vec<f32>)> {
    let scoring = job.scoring();
    let coded = config.model.bottleneck == Bottleneck::Vq;
    let heads = if coded { config.quantiser.heads() } else { 0 };
    let codes = config.model.num_vq_embeddings;
    let places = job.tokens() as f64;
    let mut usage = HeadUsage::new(&vec![codes; heads]);
    let mut quality = QualitySum::with_scoring(scoring);
    let (mut scores, mut nats, mut pictures) = (vec![], 0.0, vec![]);
    let len: usize = scoring.shape.iter().product();
    job.run_evaluation(store, rows, |batch| {
        stop::check()?;
        let first = scores.len();
        scores.extend(quality.score(batch.targets, batch.outputs));
        nats += batch.kl.iter().sum::<f64>();
        for place in shown.iter().filter(|&&s| (first..scores.len()).contains(&s)) {
            let at = (place - first) * len;
            pictures.extend_from_slice(&batch.outputs[at..at + len]);
        }
        let mut codes = batch.codes.iter().enumerate();
        codes.try_for_each(|(head, codes)| usage.add(head, codes))
    })?;
    let (bits, entropy_bits) = match coded {
        true => {
            let bits = places * heads as f64 * (codes as f64).log2();
            (bits, Some(places * usage.entropy_bits()))
        }
        false => (nats / rows.len().max(1) as f64 / std::f64::consts::LN_2, None),
    };
    let outcome = Outcome {
        arm: name.into(),
        seed: config.train.seed,
        steps: config.train.steps,
        parameters: store.table().elements(),
        bits,
        entropy_bits,
        usage: usage.summaries(),
        counts: usage.heads().first().map(|u| u.counts().to_vec()).unwrap_or_default(),
        scores,
        envelopes: quality.envelopes(),
        dynamic_range_db: scoring.dynamic_range_db,
        failed: None,
    };
    Ok((outcome.finite()?, pictures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{vae_arms, vq_arms};

    fn scored(arm: &str, seed: u64, psnr: f64) -> Outcome {
        let scores = vec![ImageScores {
            mse: 0.1,
            psnr: Some(psnr),
            ssim: None,
            ssim_uniform7: None,
            ms_ssim: None,
            foreground_psnr: None,
            db_mae: None,
            lsd: None,
            centroid_error: None,
            bandwidth_error: None,
        }];
        Outcome { scores, failed: None, ..Outcome::of_failure(arm, seed, String::new()) }
    }

    #[test]
    fn what_is_no_number_is_no_score() {
        assert!(scored("ema", 0, 20.0).finite().is_ok());
        for bad in [f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(scored("ema", 0, bad).finite().unwrap_err().exit_code(), 7);
        }
        let bits = Outcome { bits: f64::INFINITY, ..scored("kl", 0, 20.0) };
        assert_eq!(bits.finite().unwrap_err().exit_code(), 7);
    }

    #[test]
    fn an_arm_stands_with_all_its_seeds() {
        let arms = [vq_arms("ema,fsq").unwrap(), vae_arms("1e-6").unwrap()].concat();
        let mut outcomes: Vec<Outcome> = vec![];
        for seed in 0..2 {
            outcomes.extend(arms.iter().map(|arm| scored(&arm.name, seed, 20.0)));
        }
        let all = standing(&arms, &outcomes).unwrap();
        assert_eq!((all.arms.len(), all.outcomes.len(), all.notes.len()), (3, 6, 0));
        outcomes[3] = Outcome::of_failure("ema", 1, "it diverged".into());
        let some = standing(&arms, &outcomes).unwrap();
        assert_eq!(some.arms, arms[1..]);
        assert!(some.outcomes.len() == 4 && some.outcomes.iter().all(|o| o.arm != "ema"));
        assert_eq!(some.notes, ["ema is not judged: its run with seed 1 failed: it diverged"]);
        outcomes[5] = Outcome::of_failure("kl=1e-6", 1, "it diverged".into());
        assert_eq!(standing(&arms, &outcomes).unwrap_err().exit_code(), 7);
    }
}
