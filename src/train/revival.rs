//! The revival of dead codes.

use super::autoencoder::AutoencoderJob;
use super::codebook::to_unit_length;
use crate::config::{Distance, QuantiserKind};
use crate::device::Range;
use crate::error::Result;
use crate::model::quantiser::{Book, EMA_M, EMA_N, of_head};
use crate::plan::{Kind, Plan, Store};
use crate::rng::{Rng, Stream};

/// The state that remembers the moving counts at the last check for dead codes.
pub(super) const CHECKED: &str = "ema_n_checked";
/// States that gather latents before a check, with their squared distances.
const RESERVOIR: &str = "reservoir";
const RESERVOIR_D2: &str = "reservoir_d2";

/// Latents that dead codes may move to.
struct Candidates {
    z: Vec<f32>,
    d2: Vec<f32>,
}

impl AutoencoderJob {
    /// tau: a code that is chosen less often a step is dead.
    pub(super) fn revival_count(&self) -> f32 {
        let tokens = self.config.train.batch * self.tokens;
        let uniform = tokens as f64 / self.config.model.num_vq_embeddings as f64;
        (self.config.quantiser.revive_threshold * uniform) as f32
    }

    /// After a step: gathers latents, or checks for dead codes, if it is time for that.
    ///
    /// While the rate rises encoder and codes have hardly moved yet, and which codes are chosen says
    /// little: checks then only take note of the counts.
    pub(super) fn look_after(
        &self,
        store: &mut Store,
        plan: &Plan,
        step: u64,
        head: usize,
    ) -> Result<()> {
        let (q, train) = (&self.config.quantiser, &self.config.train);
        if q.revive_every == 0 || !q.kind.has_book() {
            return Ok(());
        }
        // 1: the step of the check; 2: the one before it.
        let turn = q.revive_every - step % q.revive_every;
        // Steps that are done at the check.
        let done = step + turn;
        let book = &self.books[head];
        if done as f64 >= q.revive_stop * train.steps as f64 {
            return Ok(());
        }
        if done <= train.warmup {
            return if turn == 1 { self.note_counts(store, book) } else { Ok(()) };
        }
        if turn <= q.revive_reservoir && q.revive_reservoir > 1 {
            self.gather(store, plan, step, turn, book)?;
        }
        match turn {
            1 => self.revive(store, plan, step, book),
            _ => Ok(()),
        }
    }

    /// Remembers the moving counts, of which the next check takes what was added since.
    fn note_counts(&self, store: &mut Store, book: &Book) -> Result<()> {
        let counts = store.find_state(&book.state(EMA_N))?;
        let counts = store.read_f32(counts)?;
        let checked = store.state(&book.state(CHECKED), book.k)?;
        store.write_f32(checked, &counts)
    }

    /// Latents a step that the reservoir takes: all of them would be the copy of the step.
    fn share(&self, latents: usize) -> usize {
        latents.div_ceil(self.config.quantiser.revive_reservoir as usize)
    }

    /// The states that gather `rows` latents. Their names tell the size: a run that goes on with
    /// another batch or reservoir begins to gather anew.
    fn reservoir(&self, store: &mut Store, book: &Book, rows: usize) -> Result<[Range; 2]> {
        Ok([
            store.state(&book.state(&format!("{RESERVOIR}_{rows}")), rows * book.d)?,
            store.state(&book.state(&format!("{RESERVOIR_D2}_{rows}")), rows)?,
        ])
    }

    /// Puts a share of the step's latents, the far ones with preference, into the reservoir.
    fn gather(
        &self,
        store: &mut Store,
        plan: &Plan,
        step: u64,
        turn: u64,
        book: &Book,
    ) -> Result<()> {
        let (z, d2) = self.latents(store, plan, book)?;
        let (share, d) = (self.share(d2.len()), book.d);
        let all = share * self.config.quantiser.revive_reservoir as usize;
        let [z_range, d2_range] = self.reservoir(store, book, all)?;
        let (mut kept_z, mut kept_d2) = (store.read_f32(z_range)?, store.read_f32(d2_range)?);
        let mut rng = self.rng(step, book, 1);
        let first = (turn as usize - 1) * share;
        for (i, row) in picks(&d2, share, &mut rng).into_iter().enumerate() {
            let at = first + i;
            kept_z[at * d..(at + 1) * d].copy_from_slice(&z[row * d..(row + 1) * d]);
            kept_d2[at] = d2[row];
        }
        store.write_f32(z_range, &kept_z)?;
        store.write_f32(d2_range, &kept_d2)
    }

    /// One sequence a (step, head, purpose).
    fn rng(&self, step: u64, book: &Book, purpose: u64) -> Rng {
        let index = step | (book.head as u64) << 48 | purpose << 56;
        Rng::new(self.config.train.seed, Stream::Revival, index)
    }

    fn latents(&self, store: &mut Store, plan: &Plan, book: &Book) -> Result<(Vec<f32>, Vec<f32>)> {
        let z = store.read_f32(plan.output(&book.state("z"))?)?;
        let d2 = store.read_f32(plan.output(&book.state("d2"))?)?;
        Ok((z, d2))
    }

    fn candidates(&self, store: &mut Store, plan: &Plan, book: &Book) -> Result<Candidates> {
        let steps = self.config.quantiser.revive_reservoir as usize;
        if steps == 1 {
            let (z, d2) = self.latents(store, plan, book)?;
            return Ok(Candidates { z, d2 });
        }
        let latents = plan.output(&book.state("d2"))?.len;
        let [z, d2] = self.reservoir(store, book, steps * self.share(latents))?;
        Ok(Candidates { z: store.read_f32(z)?, d2: store.read_f32(d2)? })
    }

    /// Dead codes move to latents of this step (or of the reservoir), picked with probability
    /// proportional to their squared distance and jittered by a hundredth of the latents' spread. A
    /// pure function of (seed, step) and of what the steps computed, so a resumed run does the same.
    ///
    /// Dead means: hardly chosen since the last check. The moving count itself takes hundreds of
    /// steps to forget a good start (32 tokens a step at decay .99 need 300 steps to fall to 1.6),
    /// but what was added to it since the last check is known: N - g^w N_then, over 1 - g^w.
    fn revive(&self, store: &mut Store, plan: &Plan, step: u64, book: &Book) -> Result<()> {
        let (k, d) = (book.k, book.d);
        let n_range = store.find_state(&book.state(EMA_N))?;
        let checked = store.state(&book.state(CHECKED), k)?;
        let mut counts = store.read_f32(n_range)?;
        let before = store.read_f32(checked)?;
        let tau = self.revival_count();
        let kept = self.config.quantiser.ema_decay.powi(self.config.quantiser.revive_every as i32);
        let recent = |i: usize| (f64::from(counts[i]) - kept * f64::from(before[i])) / (1.0 - kept);
        let mut dead: Vec<usize> = (0..k).filter(|&i| recent(i) < f64::from(tau)).collect();
        if dead.is_empty() {
            return store.write_f32(checked, &counts);
        }
        let Candidates { z, d2 } = self.candidates(store, plan, book)?;
        // At most half of the latents, so that picks stay distinct, and none of those that lie on a
        // code already or that a reservoir begun in the middle has not gathered.
        let away = d2.iter().filter(|&&d2| d2 > 0.0).count();
        dead.truncate(away.min(d2.len() / 2));
        let mut rng = self.rng(step, book, 0);
        let rms = (z.iter().map(|v| f64::from(v * v)).sum::<f64>() / z.len() as f64).sqrt();
        let mut codes = book.read(store)?;
        for (&code, row) in dead.iter().zip(picks(&d2, dead.len(), &mut rng)) {
            counts[code] = tau;
            let e = &mut codes[code * d..(code + 1) * d];
            for (e, z) in e.iter_mut().zip(&z[row * d..(row + 1) * d]) {
                *e = z + (0.01 * rms * rng.normal()) as f32;
            }
            if book.distance == Distance::Cosine {
                to_unit_length(e);
            }
        }
        store.write_f32(n_range, &counts)?;
        store.write_f32(checked, &counts)?;
        book.write_revived(store, &codes, &dead, tau)
    }
}

impl Book {
    /// Writes the codes of which those of `dead` have moved: as averages of tau latents, or with
    /// moments that know nothing yet.
    fn write_revived(
        &self,
        store: &mut Store,
        codes: &[f32],
        dead: &[usize],
        tau: f32,
    ) -> Result<()> {
        let d = self.d;
        if self.kind != QuantiserKind::Gradient {
            let range = store.find_state(&of_head(EMA_M, self.head))?;
            let mut sums = store.read_f32(range)?;
            for i in dead.iter().flat_map(|code| code * d..(code + 1) * d) {
                sums[i] = tau * codes[i];
            }
            store.write_f32(range, &sums)?;
            return self.write(store, codes);
        }
        let index = self.index(store)?;
        for (kind, forget) in
            [(Kind::Param, false), (Kind::Ema, false), (Kind::M, true), (Kind::V, true)]
        {
            let mut words = store.read_param(kind, index)?;
            for i in dead.iter().flat_map(|code| code * d..(code + 1) * d) {
                words[i] = if forget { 0.0 } else { codes[i] };
            }
            store.write_param(kind, index, &words)?;
        }
        Ok(())
    }
}

/// `count` distinct rows, with probability proportional to `weights` (exponential races).
pub(super) fn picks(weights: &[f32], count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut races: Vec<(f64, usize)> = weights
        .iter()
        .enumerate()
        .map(|(i, &w)| (rng.exponential() / f64::from(w.max(1e-30)), i))
        .collect();
    races.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    races.into_iter().take(count).map(|(_, i)| i).collect()
}
