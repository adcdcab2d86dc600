//! Images to codes: runs a trained tokenizer over a data set and remembers the result.

use super::checkpoint::{Snapshot, Tensor};
use crate::config::Config;
use crate::data::provenance::Provenance;
use crate::data::{Dataset, Pixels, Scale};
use crate::device::Device;
use crate::device::tuner::{Table, Tuner};
use crate::error::{Error, Result};
use crate::model::quantiser::of_head;
use crate::model::{Scope, autoencoder};
use crate::plan::{Options, ParamTable, Plan, Store};
use crate::tape::{Act, Tape};
use std::path::Path;

/// A trained autoencoder, as `train diffusion` and `sample` use it: a VQ-VAE, or for Gaussian diffusion a
/// KL-VAE, which has no codes.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub config: Config,
    pub snapshot: Snapshot,
}

/// The tokenizer's copy in the run folder of a diffusion.
pub const TOKENIZER: &str = "tokenizer.safetensors";

/// Images encoded at once.
const BATCH: usize = 32;

impl Tokenizer {
    /// The best checkpoint of a run folder, or the last where there is no best.
    pub fn open(run: &Path) -> Result<Self> {
        Self::from_snapshot(Snapshot::load_best(run)?).map_err(|e| e.at_path(run))
    }

    /// # Errors
    /// A run that has no codes.
    pub fn from_snapshot(snapshot: Snapshot) -> Result<Self> {
        let kind = snapshot.meta("kind")?;
        if kind != "vqvae" {
            let error = Error::usage("the tokenizer must be a vqvae run")
                .why(format!("this one is a {kind} run"));
            return Err(match kind {
                "klvae" => error.help("its latents can be learned with diffusion.process=gaussian"),
                _ => error,
            });
        }
        Self::of_latents(snapshot)
    }

    /// As [`from_snapshot`](Self::from_snapshot), for Gaussian diffusion: the latents of a KL-VAE will do.
    pub fn of_latents(snapshot: Snapshot) -> Result<Self> {
        let kind = snapshot.meta("kind")?;
        if !["vqvae", "klvae"].contains(&kind) {
            return Err(Error::usage("the tokenizer must be a vqvae or a klvae run")
                .why(format!("this one is a {kind} run")));
        }
        let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
        Ok(Tokenizer { config, snapshot })
    }

    /// Content hash: names the codes it made.
    pub fn hash(&self) -> Result<&str> {
        self.snapshot.meta("hash")
    }

    /// Codes a place: residual levels times codebooks.
    pub fn heads(&self) -> usize {
        self.config.quantiser.heads()
    }

    /// The scale that was fitted on the tokenizer's training images.
    pub fn scale(&self) -> Result<Option<Scale>> {
        let text = self.snapshot.meta.get("scale");
        text.map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|e| Error::disk("the checkpoint's scale of the data cannot be read").why(e))
    }

    /// How the pixels of the tokenizer's images came to be; checkpoints of older versions do not say.
    pub fn provenance(&self) -> Result<Option<Provenance>> {
        let text = self.snapshot.meta.get("provenance");
        text.map(|text| Provenance::parse(text))
            .transpose()
            .map_err(|e| Error::disk("the checkpoint's provenance cannot be read").why(e))
    }

    /// Rows and columns of codes for the data. The codes of a place lie beside each other, so that
    /// there are as many columns as the latent grid has, times the heads.
    pub fn grid(&self, data: &Dataset) -> Result<(usize, usize)> {
        let model = &self.config.model;
        if data.channels != model.in_channels {
            return Err(Error::data(format!(
                "the images have {} channels, the tokenizer wants {}",
                data.channels, model.in_channels
            ))
            .at(&data.source));
        }
        let (rows, cols) = model.latent_size(data.height, data.width)?;
        Ok((rows, cols * self.heads()))
    }

    /// A store on `device` that holds the tokenizer's weights, for a tape recorded by `record`.
    pub fn plan(
        &self,
        device: Box<dyn Device>,
        record: impl FnOnce(&mut Scope<'_>) -> Result<()>,
    ) -> Result<(Store, Plan)> {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        record(&mut Scope::new(&mut tape, &mut table))?;
        let mut store = Store::new(device, table, 0)?;
        self.snapshot.restore(&mut store)?;
        let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {})?;
        Ok((store, plan))
    }

    /// Codes of every image, in order, n * rows * cols indices; and what the tuner chose for them.
    pub fn encode(&self, device: Box<dyn Device>, data: &Dataset) -> Result<(Vec<u32>, Table)> {
        let (rows, cols) = self.grid(data)?;
        let mut codes = vec![];
        let record = |s: &mut Scope<'_>, x| {
            let codes = autoencoder::codes(s, &self.config, x)?;
            let mut named = codes.into_iter().enumerate();
            named.try_for_each(|(head, idx)| s.tape.output(&of_head("idx", head), idx))
        };
        let choices = self.over(device, data, record, |store, plan, images| {
            let mut heads = vec![];
            for head in 0..self.heads() {
                heads.push(store.read_u32(plan.output(&of_head("idx", head))?)?);
            }
            codes.extend(side_by_side(&heads, images * rows * cols / self.heads()));
            Ok(())
        })?;
        Ok((codes, choices))
    }

    /// Runs what `record` makes of the images over all of them, in order; `read` takes the outputs of so
    /// many. What the tuner chose for it.
    pub(super) fn over(
        &self,
        device: Box<dyn Device>,
        data: &Dataset,
        record: impl FnOnce(&mut Scope<'_>, Act) -> Result<()>,
        mut read: impl FnMut(&mut Store, &Plan, usize) -> Result<()>,
    ) -> Result<Table> {
        let (mut store, plan) = self.plan(device, |s| {
            let x = s.tape.input("x", &data.batch_dims(BATCH))?;
            record(s, x)
        })?;
        let input = plan.input("x")?;
        let mut pixels = vec![0.0; BATCH * data.image_len()];
        let all: Vec<u32> = (0..data.n as u32).collect();
        for chunk in all.chunks(BATCH) {
            super::stop::check()?;
            fill_batch(data, chunk, &mut pixels);
            store.write_f32(input, &pixels)?;
            plan.run_lane(&mut store, 0, &Default::default())?;
            read(&mut store, &plan, chunk.len())?;
        }
        Ok(store.device.tuner().map(Tuner::used).cloned().unwrap_or_default())
    }
}

/// The codes of the first `places` places, those of all heads beside each other.
pub(super) fn side_by_side(heads: &[Vec<u32>], places: usize) -> impl Iterator<Item = u32> {
    (0..places).flat_map(move |i| heads.iter().map(move |idx| idx[i]))
}

/// The codes of one head out of those of all, which lie beside each other.
pub fn of_one_head(codes: &[u32], head: usize, heads: usize) -> Vec<u32> {
    codes.iter().skip(head).step_by(heads).copied().collect()
}

/// Pixels of `rows` in [-1, 1]; a short batch is filled up with its last image.
pub fn fill_batch(data: &Dataset, rows: &[u32], out: &mut [f32]) {
    fill_batch_with(data, rows, out, |_, _| {});
}

/// As [`fill_batch`], with a change of every image, in [0, 1], by its place in the batch.
pub fn fill_batch_with(
    data: &Dataset,
    rows: &[u32],
    out: &mut [f32],
    change: impl Fn(usize, &mut [f32]),
) {
    let len = data.image_len();
    for (i, image) in out.chunks_exact_mut(len).enumerate() {
        let row = rows[i.min(rows.len() - 1)];
        data.image(row as usize, image);
        change(i, image);
        image.iter_mut().for_each(|v| *v = *v * 2.0 - 1.0);
    }
}

/// The codes in `cache`, if they were made by this tokenizer from this data.
pub fn recall(cache: &Path, tokenizer: &Tokenizer, data: &Dataset) -> Result<Option<Vec<u32>>> {
    let codes = recall_as("codes", cache, tokenizer, data)?;
    Ok(codes.map(|bits| bits.iter().map(|x| x.to_bits()).collect()))
}

/// Writes `codes` into `cache`.
pub fn remember(cache: &Path, tokenizer: &Tokenizer, data: &Dataset, codes: &[u32]) -> Result<()> {
    // Indices travel as the bits of f32: the container is one type and compares exactly.
    let bits = codes.iter().map(|&c| f32::from_bits(c)).collect();
    remember_as("codes", cache, tokenizer, data, bits)
}

/// What lies in `cache` under `name`, if this tokenizer made it from this data.
pub(super) fn recall_as(
    name: &str,
    cache: &Path,
    tokenizer: &Tokenizer,
    data: &Dataset,
) -> Result<Option<Vec<f32>>> {
    let Ok(mut known) = Snapshot::load(cache) else { return Ok(None) };
    if known.meta.get("key") != Some(&key(tokenizer, data)?) {
        return Ok(None);
    }
    Ok(known.tensors.remove(name).map(|tensor| tensor.data))
}

/// Writes `values` into `cache` under `name`.
pub(super) fn remember_as(
    name: &str,
    cache: &Path,
    tokenizer: &Tokenizer,
    data: &Dataset,
    values: Vec<f32>,
) -> Result<()> {
    let mut snapshot = Snapshot::default();
    snapshot.meta.insert("key".into(), key(tokenizer, data)?);
    snapshot.tensors.insert(name.into(), Tensor { shape: vec![values.len()], data: values });
    snapshot.save(cache)
}

fn key(tokenizer: &Tokenizer, data: &Dataset) -> Result<String> {
    Ok(format!("{} {}", tokenizer.hash()?, fingerprint(data)))
}

/// A hash of the images and their labels: tells one data set from another.
pub fn fingerprint(data: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{} {:?}", data.n, data.image_shape()).as_bytes());
    match &data.pixels {
        Pixels::U8(pixels) => hasher.update(pixels),
        Pixels::F32(pixels) => hasher.update(bytemuck::cast_slice(pixels)),
    };
    if let Some(labels) = &data.labels {
        hasher.update(bytemuck::cast_slice(labels));
    }
    hasher.finalize().to_hex().to_string()
}
