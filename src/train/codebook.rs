//! A codebook outside of the steps: where its codes are kept, and its k-means start.

use super::Session;
use super::autoencoder::AutoencoderJob;
use super::codes::fill_batch;
use super::revival::{CHECKED, picks};
use crate::config::{Distance, QuantiserKind};
use crate::error::{Error, Result};
use crate::model::quantiser::{self, Book, EMA_M, EMA_N};
use crate::model::{Scope, autoencoder};
use crate::ops;
use crate::plan::{Kind, Options, Plan, Store};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;

impl Book {
    /// The codes [k, d], from the state or the parameter that holds them.
    pub(super) fn read(&self, store: &mut Store) -> Result<Vec<f32>> {
        match self.kind {
            QuantiserKind::Gradient => store.read_param(Kind::Param, self.index(store)?),
            _ => {
                let state = store.state(&self.home(), self.k * self.d)?;
                store.read_f32(state)
            }
        }
    }

    pub(super) fn write(&self, store: &mut Store, codes: &[f32]) -> Result<()> {
        if self.kind != QuantiserKind::Gradient {
            let state = store.state(&self.home(), self.k * self.d)?;
            return store.write_f32(state, codes);
        }
        let index = self.index(store)?;
        store.write_param(Kind::Param, index, codes)?;
        store.write_param(Kind::Ema, index, codes)
    }

    /// The parameter that holds the codes.
    pub(super) fn index(&self, store: &Store) -> Result<usize> {
        let name = self.param();
        store
            .table()
            .find(&name)
            .ok_or_else(|| Error::failed(format!("the model has no parameter {name}")))
    }

    /// Makes codes of length 1 where only their directions count.
    fn settle(&self, codes: &mut [f32]) {
        if self.distance == Distance::Cosine {
            codes.chunks_exact_mut(self.d).for_each(to_unit_length);
        }
    }
}

/// Of a zero vector nothing.
pub(super) fn to_unit_length(code: &mut [f32]) {
    let length = code.iter().map(|&e| f64::from(e).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        code.iter_mut().for_each(|e| *e = (f64::from(*e) / length) as f32);
    }
}

impl AutoencoderJob {
    /// What the codebook of `head` is searched for in the first training images, as much as the
    /// settings ask for. The codebooks of earlier heads must be there.
    fn first_latents(&self, session: &mut Session, head: usize) -> Result<Vec<f32>> {
        let wanted = self.config.quantiser.kmeans_samples.max(self.config.model.num_vq_embeddings);
        let d = self.books[head].d;
        let dims = self.data.images.batch_dims(self.micro());
        let (mut tape, mut table) = (Tape::new(), session.store.table().clone());
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &dims)?;
        let z = autoencoder::encode(&mut s, &self.config.model, x)?;
        let made = quantiser::build(&self.config).training(&mut s, z)?;
        tape.output("z", made.searches[head].z)?;
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

    /// The codes of `head` before the first step: k-means (Lloyd) on the first latents, so that codes
    /// start where latents are. Codes that end empty move to latents picked with probability
    /// proportional to their squared distance. Where no iteration is asked for, codes that learn by
    /// gradient keep their random start, and the frozen table of SimVQ is drawn from N(0, 1/d).
    pub(super) fn first_codes(&self, session: &mut Session, head: usize) -> Result<()> {
        let (book, rounds) = (&self.books[head], self.config.quantiser.kmeans_iters);
        if book.kind == QuantiserKind::Gradient && rounds == 0 {
            return Ok(());
        }
        let (k, d) = (book.k, book.d);
        if book.kind == QuantiserKind::Simvq && rounds == 0 {
            let mut rng = Rng::new(self.config.train.seed, Stream::Codebook, head as u64);
            let scale = 1.0 / (d as f64).sqrt();
            let table: Vec<f32> = (0..k * d).map(|_| (scale * rng.normal()) as f32).collect();
            return book.write(&mut session.store, &table);
        }
        let latents = self.first_latents(session, head)?;
        let n = latents.len() / d;
        let mut rng = Rng::new(self.config.train.seed, Stream::KMeans, 1 + 2 * head as u64);
        let order = rng.permutation(n);
        let row = |row: usize| &latents[row * d..(row + 1) * d];
        let mut codes: Vec<f32> =
            (0..k).flat_map(|i| row(order[i % n] as usize)).copied().collect();
        let mut tape = Tape::new();
        let z = tape.input("z", &[n, d])?;
        let table = tape.input("codes", &[k, d])?;
        let nearest = ops::nearest_code(&mut tape, z, table)?;
        let (counts, sums) = ops::code_sums(&mut tape, nearest.idx, z, k)?;
        tape.output("counts", counts)?;
        tape.output("sums", sums)?;
        tape.output("d2", nearest.d2)?;
        let store = &mut session.store;
        let plan = Plan::compile(store, &tape, &Options::default(), &mut |_, _| {})?;
        store.write_f32(plan.input("z")?, &latents)?;
        let mut counts = vec![0.0; k];
        for round in 0..=rounds {
            super::stop::check()?;
            book.settle(&mut codes);
            store.write_f32(plan.input("codes")?, &codes)?;
            plan.run_lane(store, 0, &Default::default())?;
            counts = store.read_f32(plan.output("counts")?)?;
            let sums = store.read_f32(plan.output("sums")?)?;
            for (code, (count, sum)) in
                codes.chunks_exact_mut(d).zip(counts.iter().zip(sums.chunks_exact(d)))
            {
                if *count > 0.0 {
                    code.iter_mut().zip(sum).for_each(|(e, s)| *e = s / count);
                }
            }
            let empty: Vec<usize> = (0..k).filter(|&i| counts[i] == 0.0).collect();
            if !empty.is_empty() && round < rounds {
                let d2 = store.read_f32(plan.output("d2")?)?;
                for (&code, from) in empty.iter().zip(picks(&d2, empty.len(), &mut rng)) {
                    codes[code * d..(code + 1) * d].copy_from_slice(row(from));
                }
            }
        }
        book.settle(&mut codes);
        book.write(store, &codes)?;
        if !book.counts(&self.config) {
            return Ok(());
        }
        // The averages start as if every step so far had seen these latents.
        let tokens = (self.config.train.batch * self.tokens) as f32;
        let tau = self.revival_count();
        let counts: Vec<f32> = counts.iter().map(|c| (c * tokens / n as f32).max(tau)).collect();
        let sums: Vec<f32> = codes.iter().enumerate().map(|(i, e)| e * counts[i / d]).collect();
        for (name, data) in [(EMA_N, &counts), (CHECKED, &counts), (EMA_M, &sums)] {
            if name == EMA_M && book.kind == QuantiserKind::Gradient {
                continue;
            }
            let state = store.state(&book.state(name), data.len())?;
            store.write_f32(state, data)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let mut code = [3.0, 4.0];
        to_unit_length(&mut code);
        assert_eq!(code, [0.6, 0.8]);
        let mut none = [0.0; 2];
        to_unit_length(&mut none);
        assert_eq!(none, [0.0; 2]);
    }
}
