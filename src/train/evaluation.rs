//! Held-out images through an autoencoder and back: the evaluation plan and what it measures.

use super::augment::dynamic_range_db;
use super::autoencoder::AutoencoderJob;
use super::codes::fill_batch;
use super::judged_weights;
use super::session::Numbers;
use crate::config::Bottleneck;
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::metrics::{HeadUsage, QualitySum, Scoring};
use crate::model::quantiser::of_head;
use crate::model::{Scope, autoencoder};
use crate::plan::{Options, ParamTable, Plan, Store};
use crate::tape::Tape;

/// The evaluation plan and its buffers.
#[derive(Debug)]
pub(super) struct Evaluation {
    plan: Plan,
    pixels: Vec<f32>,
}

/// A batch of images, there and back; pixels in [0, 1].
#[derive(Debug)]
pub struct Batch<'a> {
    /// The images, as rows of the data set.
    pub rows: &'a [u32],
    pub targets: &'a [f32],
    pub outputs: &'a [f32],
    /// Code indices, in order of image and place, for each head.
    pub codes: &'a [Vec<u32>],
    /// Of a KL-VAE: the divergence of each image from the unit Gaussian, in nats.
    pub kl: &'a [f64],
}

impl AutoencoderJob {
    pub(super) fn record_evaluation(&self, tape: &mut Tape, table: &mut ParamTable) -> Result<()> {
        let mut s = Scope::new(tape, table);
        let x = s.tape.input("x", &self.data.images.batch_dims(self.micro()))?;
        let made = autoencoder::reconstruct(&mut s, &self.config, x)?;
        for (head, idx) in made.idx.into_iter().enumerate() {
            tape.output(&of_head("idx", head), idx)?;
        }
        if let Some(moments) = made.moments {
            tape.output("moments", moments)?;
        }
        tape.output("image", made.image)
    }

    /// Compiles a recorded evaluation pass in `store`.
    pub(super) fn compile_evaluation(
        &mut self,
        store: &mut Store,
        tape: &Tape,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        let options = Options { weights: judged_weights(&self.config.train), ..Options::default() };
        let plan = Plan::compile(store, tape, &options, progress)?;
        let pixels = vec![0.0; self.micro() * self.data.images.image_len()];
        self.evaluation = Some(Evaluation { plan, pixels });
        Ok(())
    }

    /// Runs the evaluation plan over `rows`; `see` gets a batch at a time, in order.
    ///
    /// Ctrl-C does not end it: in a run the step that it belongs to is yet to be saved. Elsewhere `see`
    /// may say so.
    pub fn run_evaluation(
        &mut self,
        store: &mut Store,
        rows: &[u32],
        mut see: impl FnMut(&Batch<'_>) -> Result<()>,
    ) -> Result<()> {
        let (micro, tokens, len) = (self.micro(), self.tokens, self.data.images.image_len());
        let coded = self.config.model.bottleneck == Bottleneck::Vq;
        let heads = if coded { self.config.quantiser.heads() } else { 0 };
        let seed = self.config.train.seed;
        let data = &self.data.images;
        let Some(evaluation) = &mut self.evaluation else {
            return Err(Error::failed("the evaluation plan was not compiled"));
        };
        let plan = &evaluation.plan;
        let (input, image) = (plan.input("x")?, plan.output("image")?);
        let to_unit = |v: &mut f32| *v = (*v * 0.5 + 0.5).clamp(0.0, 1.0);
        for (turn, chunk) in rows.chunks(micro).enumerate() {
            fill_batch(data, chunk, &mut evaluation.pixels);
            store.write_f32(input, &evaluation.pixels)?;
            let scalars = StepScalars {
                seed_lo: seed as u32,
                seed_hi: (seed >> 32) as u32,
                sample_base: (turn * micro) as u32,
                ..StepScalars::default()
            };
            plan.run_lane(store, 0, &scalars)?;
            let mut outputs = store.read_f32(image)?;
            let mut codes = vec![];
            for head in 0..heads {
                let mut idx = store.read_u32(plan.output(&of_head("idx", head))?)?;
                idx.truncate(chunk.len() * tokens);
                codes.push(idx);
            }
            let kl = match coded {
                true => vec![],
                false => {
                    let moments = store.read_f32(plan.output("moments")?)?;
                    let images = moments.chunks_exact(moments.len() / micro).take(chunk.len());
                    images.map(|m| divergence(m, self.config.model.vq_embed_dim)).collect()
                }
            };
            outputs.iter_mut().for_each(to_unit);
            let mut targets = evaluation.pixels.clone();
            targets.iter_mut().for_each(to_unit);
            let n = chunk.len() * len;
            see(&Batch {
                rows: chunk,
                targets: &targets[..n],
                outputs: &outputs[..n],
                codes: &codes,
                kl: &kl,
            })?;
        }
        Ok(())
    }

    /// What the images are and what they stand for.
    pub fn scoring(&self) -> Scoring {
        let images = &self.data.images;
        let dynamic_range_db = dynamic_range_db(&self.config, images);
        Scoring { shape: images.image_shape(), dynamic_range_db }
    }

    /// Metrics on the held-out images; `see` gets their reconstructions, a batch at a time.
    ///
    /// Of several heads `codes_used` is the sum, `perplexity` the mean and `coverage` the least.
    pub(super) fn measure(
        &mut self,
        store: &mut Store,
        mut see: impl FnMut(&[f32]),
    ) -> Result<Numbers> {
        let data = self.data.clone();
        let heads = self.config.quantiser.heads();
        let mut quality = QualitySum::with_scoring(self.scoring());
        let mut usage = HeadUsage::new(&vec![self.config.model.num_vq_embeddings; heads]);
        let (mut nats, mut images) = (0.0, 0usize);
        self.run_evaluation(store, &data.split.test, |batch| {
            see(batch.outputs);
            quality.add(batch.targets, batch.outputs);
            nats += batch.kl.iter().sum::<f64>();
            images += batch.rows.len();
            let mut codes = batch.codes.iter().enumerate();
            codes.try_for_each(|(head, codes)| usage.add(head, codes))
        })?;
        let Some(q) = quality.mean() else { return Ok(vec![]) };
        let mut numbers: Numbers = vec![("psnr".into(), q.psnr)];
        numbers.extend(q.ssim.map(|v| ("ssim".into(), v)));
        for (name, value) in [
            ("ssim_uniform7", q.ssim_uniform7),
            ("ms_ssim", q.ms_ssim),
            ("foreground_psnr", q.foreground_psnr),
            ("db_mae", q.db_mae),
            ("lsd", q.lsd),
            ("centroid_error", q.centroid_error),
            ("bandwidth_error", q.bandwidth_error),
            ("envelope_w1", q.envelope_w1),
        ] {
            numbers.extend(value.map(|v| (name.into(), v)));
        }
        if self.config.model.bottleneck == Bottleneck::Kl {
            let nats = nats / images.max(1) as f64;
            numbers.push(("kl".into(), nats));
            numbers.push(("bits_per_image".into(), nats / std::f64::consts::LN_2));
            return Ok(numbers);
        }
        let each = usage.summaries();
        let used: usize = each.iter().map(|u| u.unique).sum();
        let perplexity = each.iter().map(|u| u.perplexity).sum::<f64>() / heads as f64;
        let coverage = each.iter().map(|u| u.coverage).fold(f64::INFINITY, f64::min);
        numbers.push(("codes_used".into(), used as f64));
        numbers.push(("perplexity".into(), perplexity));
        numbers.push(("coverage".into(), coverage));
        self.monitor.held_out = Some(usage);
        Ok(numbers)
    }
}

/// KL(N(mean, var) || N(0, 1)) of one image in nats, from its moments [.., mean d | log var d]; log var
/// within [-30, 20], as the sampler takes it.
fn divergence(moments: &[f32], d: usize) -> f64 {
    let place = |place: &[f32]| -> f64 {
        let (mean, logvar) = place.split_at(d);
        let one = |(&m, &l): (&f32, &f32)| {
            let (m, l) = (f64::from(m), f64::from(l).clamp(-30.0, 20.0));
            0.5 * (m * m + l.exp() - 1.0 - l)
        };
        mean.iter().zip(logvar).map(one).sum()
    };
    moments.chunks_exact(2 * d).map(place).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_by_hand() {
        assert_eq!(divergence(&[0.0, 0.0, 0.0, 0.0], 2), 0.0);
        // Mean 2 of variance 1: 2 nats; variance 4 of mean 0: (4 - 1 - ln 4) / 2.
        let four = 4f32.ln();
        let want = 2.0 + 0.5 * (f64::from(four).exp() - 1.0 - f64::from(four));
        assert_eq!(divergence(&[2.0, 0.0, 0.0, four], 2), want);
        assert_eq!(divergence(&[0.0, 90.0], 1), 0.5 * (20f64.exp() - 21.0));
    }
}
