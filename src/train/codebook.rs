//! The codebook of a VQ-VAE run outside of its steps: the k-means start and the revival of dead codes.

use super::Session;
use super::codes::fill_batch;
use super::vqvae::VqVaeJob;
use crate::error::Result;
use crate::model::Scope;
use crate::model::vqvae::{self, CODEBOOK, EMA_M, EMA_N};
use crate::ops;
use crate::plan::{Options, Plan, Store};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;

/// The state that remembers the moving counts at the last check for dead codes.
const CHECKED: &str = "ema_n_checked";
impl VqVaeJob {
    /// Latents of the first training images, as many as the settings ask for.
    fn first_latents(&self, session: &mut Session) -> Result<Vec<f32>> {
        let wanted = self.config.quantiser.kmeans_samples.max(self.config.model.num_vq_embeddings);
        let d = self.config.model.vq_embed_dim;
        let dims = self.data.images.batch_dims(self.micro());
        let (mut tape, mut table) = (Tape::new(), session.store.table().clone());
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &dims)?;
        let z = vqvae::encode(&mut s, &self.config.model, x)?;
        tape.output("z", z)?;
        let plan = Plan::compile(&mut session.store, &tape, &Options::default(), &mut |_, _| {})?;
        let mut rng = Rng::new(self.config.train.seed, Stream::KMeans, 0);
        let train = &self.data.split.train;
        let order = rng.permutation(train.len());
        let order: Vec<u32> = order.into_iter().map(|i| train[i as usize]).collect();
        let mut pixels = vec![0.0; self.pixels.len()];
        let mut latents = vec![];
        for chunk in order.chunks(self.micro()) {
            fill_batch(&self.data.images, chunk, &mut pixels);
            session.store.write_f32(plan.input("x")?, &pixels)?;
            plan.run_lane(&mut session.store, 0, &Default::default())?;
            let z = session.store.read_f32(plan.output("z")?)?;
            latents.extend_from_slice(&z[..chunk.len() * self.tokens * d]);
            if latents.len() >= wanted * d {
                break;
            }
        }
        latents.truncate(wanted * d);
        Ok(latents)
    }

    /// k-means (Lloyd) on the first latents: codes start where latents are. Codes that end empty
    /// move to latents picked with probability proportional to their squared distance.
    pub(super) fn kmeans(&self, session: &mut Session) -> Result<()> {
        let (k, d) = (self.config.model.num_vq_embeddings, self.config.model.vq_embed_dim);
        let latents = self.first_latents(session)?;
        let n = latents.len() / d;
        let mut rng = Rng::new(self.config.train.seed, Stream::KMeans, 1);
        let mut book = vec![];
        let order = rng.permutation(n);
        for i in 0..k {
            let row = order[i % n] as usize;
            book.extend_from_slice(&latents[row * d..(row + 1) * d]);
        }
        let mut tape = Tape::new();
        let z = tape.input("z", &[n, d])?;
        let codebook = tape.state(CODEBOOK, &[k, d])?;
        let nearest = ops::nearest_code(&mut tape, z, codebook)?;
        let (counts, sums) = ops::code_sums(&mut tape, nearest.idx, z, k)?;
        tape.output("counts", counts)?;
        tape.output("sums", sums)?;
        tape.output("d2", nearest.d2)?;
        ops::kmeans_update(&mut tape, (counts, sums), codebook)?;
        let store = &mut session.store;
        let plan = Plan::compile(store, &tape, &Options::default(), &mut |_, _| {})?;
        store.write_f32(plan.input("z")?, &latents)?;
        let state = store.find_state(CODEBOOK)?;
        store.write_f32(state, &book)?;
        let mut counts = vec![0.0; k];
        for round in 0..=self.config.quantiser.kmeans_iters {
            super::stop::check()?;
            plan.run_lane(store, 0, &Default::default())?;
            counts = store.read_f32(plan.output("counts")?)?;
            let d2 = store.read_f32(plan.output("d2")?)?;
            let empty: Vec<usize> = (0..k).filter(|&i| counts[i] == 0.0).collect();
            let last = round == self.config.quantiser.kmeans_iters;
            if !empty.is_empty() && !last {
                let mut book = store.read_f32(state)?;
                for (&code, row) in empty.iter().zip(picks(&d2, empty.len(), &mut rng)) {
                    book[code * d..(code + 1) * d]
                        .copy_from_slice(&latents[row * d..(row + 1) * d]);
                }
                store.write_f32(state, &book)?;
            }
        }
        // The averages start as if every step so far had seen these latents.
        let book = store.read_f32(state)?;
        let tokens = (self.config.train.batch * self.tokens) as f32;
        let tau = self.revival_count();
        let counts: Vec<f32> = counts.iter().map(|c| (c * tokens / n as f32).max(tau)).collect();
        let sums: Vec<f32> = book.iter().enumerate().map(|(i, e)| e * counts[i / d]).collect();
        let (ema_n, ema_m) = (store.state(EMA_N, k)?, store.state(EMA_M, k * d)?);
        let checked = store.state(CHECKED, k)?;
        store.write_f32(ema_n, &counts)?;
        store.write_f32(checked, &counts)?;
        store.write_f32(ema_m, &sums)
    }

    /// tau: a code that is chosen less often a step is dead.
    fn revival_count(&self) -> f32 {
        let tokens = self.config.train.batch * self.tokens;
        let uniform = tokens as f64 / self.config.model.num_vq_embeddings as f64;
        (self.config.quantiser.revive_threshold * uniform) as f32
    }

    /// Dead codes move to latents of this step, picked with probability proportional to their
    /// squared distance and jittered by a hundredth of the latents' spread. A pure function of
    /// (seed, step) and of what the steps computed, so a resumed run does the same.
    ///
    /// Dead means: hardly chosen since the last check. The moving count itself takes hundreds of
    /// steps to forget a good start (32 tokens a step at decay .99 need 300 steps to fall to 1.6),
    /// but what was added to it since the last check is known: N - g^w N_then, over 1 - g^w.
    pub(super) fn revive(&self, store: &mut Store, plan: &Plan, step: u64) -> Result<()> {
        let (k, d) = (self.config.model.num_vq_embeddings, self.config.model.vq_embed_dim);
        let [n_range, m_range] = [store.find_state(EMA_N)?, store.find_state(EMA_M)?];
        let (book_range, checked) = (store.find_state(CODEBOOK)?, store.state(CHECKED, k)?);
        let mut counts = store.read_f32(n_range)?;
        let before = store.read_f32(checked)?;
        let tau = self.revival_count();
        let kept = self.config.quantiser.ema_decay.powi(self.config.quantiser.revive_every as i32);
        let recent = |i: usize| (f64::from(counts[i]) - kept * f64::from(before[i])) / (1.0 - kept);
        let mut dead: Vec<usize> = (0..k).filter(|&i| recent(i) < f64::from(tau)).collect();
        if dead.is_empty() {
            return store.write_f32(checked, &counts);
        }
        let (z, d2) = (store.read_f32(plan.output("z")?)?, store.read_f32(plan.output("d2")?)?);
        // At most half of the step's latents, so that picks stay distinct.
        dead.truncate(d2.len() / 2);
        let mut rng = Rng::new(self.config.train.seed, Stream::Revival, step);
        let rms = (z.iter().map(|v| f64::from(v * v)).sum::<f64>() / z.len() as f64).sqrt();
        let (mut sums, mut book) = (store.read_f32(m_range)?, store.read_f32(book_range)?);
        for (&code, row) in dead.iter().zip(picks(&d2, dead.len(), &mut rng)) {
            counts[code] = tau;
            for j in 0..d {
                let e = z[row * d + j] + (0.01 * rms * rng.normal()) as f32;
                book[code * d + j] = e;
                sums[code * d + j] = tau * e;
            }
        }
        store.write_f32(n_range, &counts)?;
        store.write_f32(checked, &counts)?;
        store.write_f32(m_range, &sums)?;
        store.write_f32(book_range, &book)
    }
}

/// `count` distinct rows, with probability proportional to `weights` (exponential races).
fn picks(weights: &[f32], count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut races: Vec<(f64, usize)> = weights
        .iter()
        .enumerate()
        .map(|(i, &w)| (rng.exponential() / f64::from(w.max(1e-30)), i))
        .collect();
    races.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    races.into_iter().take(count).map(|(_, i)| i).collect()
}
