//! Images to codes: runs a trained tokenizer over a data set and remembers the result.

use super::checkpoint::{Snapshot, Tensor};
use crate::config::{Config, QuantiserKind};
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{Scope, vqvae};
use crate::plan::{Options, ParamTable, Plan, Store};
use crate::tape::Tape;
use std::path::Path;

/// A trained VQ-VAE, as `train diffusion` and `sample` use it.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub config: Config,
    pub snapshot: Snapshot,
}

/// Images encoded at once.
const BATCH: usize = 32;

impl Tokenizer {
    /// The best checkpoint of a run folder, or the last where there is no best.
    pub fn open(run: &Path) -> Result<Self> {
        let best = run.join("checkpoints").join(super::checkpoint::BEST);
        let snapshot = match best.exists() {
            true => Snapshot::load(&best)?,
            false => Snapshot::load_last(run)?.0,
        };
        Self::from_snapshot(snapshot).map_err(|e| e.at_path(run))
    }

    pub fn from_snapshot(snapshot: Snapshot) -> Result<Self> {
        if snapshot.meta("kind")? != "vqvae" {
            return Err(Error::usage("the tokenizer must be a vqvae run")
                .why(format!("this one is a {} run", snapshot.meta("kind")?)));
        }
        let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
        Ok(Tokenizer { config, snapshot })
    }

    /// Content hash: names the codes it made.
    pub fn hash(&self) -> Result<&str> {
        self.snapshot.meta("hash")
    }

    pub fn kind(&self) -> QuantiserKind {
        self.config.quantiser.kind
    }

    /// Rows and columns of codes for the data.
    pub fn grid(&self, data: &Dataset) -> Result<(usize, usize)> {
        let model = &self.config.model;
        if data.channels != model.in_channels {
            return Err(Error::data(format!(
                "the images have {} channels, the tokenizer wants {}",
                data.channels, model.in_channels
            ))
            .at(&data.source));
        }
        model.latent_size(data.height, data.width)
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

    /// Codes of every image, in order: n * rows * cols indices.
    pub fn encode(&self, device: Box<dyn Device>, data: &Dataset) -> Result<Vec<u32>> {
        let (rows, cols) = self.grid(data)?;
        let (model, kind) = (&self.config.model, self.kind());
        let dims = [BATCH, data.height, data.width, data.channels];
        let (mut store, plan) = self.plan(device, |s| {
            let x = s.tape.input("x", &dims)?;
            let z = vqvae::encode(s, model, x)?;
            let book = vqvae::codebook(s, model, kind)?;
            let nearest = crate::ops::nearest_code(s.tape, z, book)?;
            s.tape.output("idx", nearest.idx)
        })?;
        let (input, output) = (plan.input("x")?, plan.output("idx")?);
        let mut pixels = vec![0.0; BATCH * data.image_len()];
        let mut codes = vec![];
        let all: Vec<u32> = (0..data.n as u32).collect();
        for chunk in all.chunks(BATCH) {
            fill_batch(data, chunk, &mut pixels);
            store.write_f32(input, &pixels)?;
            plan.run_lane(&mut store, 0, &Default::default())?;
            let idx = store.read_u32(output)?;
            codes.extend_from_slice(&idx[..chunk.len() * rows * cols]);
        }
        Ok(codes)
    }
}

/// Pixels of `rows` in [-1, 1]; a short batch is filled up with its last image.
pub fn fill_batch(data: &Dataset, rows: &[u32], out: &mut [f32]) {
    let len = data.image_len();
    for (i, image) in out.chunks_exact_mut(len).enumerate() {
        let row = rows[i.min(rows.len() - 1)];
        data.image(row as usize, image);
        image.iter_mut().for_each(|v| *v = *v * 2.0 - 1.0);
    }
}

/// Codes of the data, from `cache` if it was made by this tokenizer from this data.
pub fn cached(
    cache: &Path,
    tokenizer: &Tokenizer,
    data: &Dataset,
    device: impl FnOnce() -> Result<Box<dyn Device>>,
) -> Result<Vec<u32>> {
    let key = format!("{} {}", tokenizer.hash()?, fingerprint(data));
    if let Ok(known) = Snapshot::load(cache)
        && known.meta.get("key") == Some(&key)
        && let Some(tensor) = known.tensors.get("codes")
    {
        return Ok(tensor.data.iter().map(|x| x.to_bits()).collect());
    }
    let codes = tokenizer.encode(device()?, data)?;
    let mut snapshot = Snapshot::default();
    snapshot.meta.insert("key".into(), key);
    // Indices travel as the bits of f32: the container is one type and compares exactly.
    let bits: Vec<f32> = codes.iter().map(|&c| f32::from_bits(c)).collect();
    snapshot.tensors.insert("codes".into(), Tensor { shape: vec![bits.len()], data: bits });
    snapshot.save(cache)?;
    Ok(codes)
}

/// A hash of the images as they are fed.
fn fingerprint(data: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut pixels = vec![0.0; data.image_len()];
    for i in 0..data.n {
        data.image(i, &mut pixels);
        hasher.update(bytemuck::cast_slice(&pixels));
    }
    hasher.finalize().to_hex().to_string()
}
