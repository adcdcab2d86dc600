//! What one trained arm scored on the held-out images.

use crate::config::{Bottleneck, Config};
use crate::error::Result;
use crate::metrics::{FeatureDistance, HeadUsage, ImageScores, QualitySum, Usage};
use crate::plan::Store;
use crate::train::autoencoder::AutoencoderJob;
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
}

/// Runs the held-out images through a trained arm. Also gives the reconstructions of `shown`, places in
/// the held-out part, in [0, 1].
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
    };
    Ok((outcome, pictures))
}
