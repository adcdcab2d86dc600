//! diffusers' `VQDiffusionPipeline` folders: a `VQModel`, VQ-Diffusion's transformer, its schedule, a CLIP
//! text encoder with its tokenizer, and what stands for no text. They become runs of a diffusion, and runs
//! become such folders.

mod export;
mod keys;

pub use export::export;

use super::diffusers::{Autoencoder, CONFIG, WEIGHTS};
use super::weights;
use super::{config, runs};
use crate::config::{Config, Denoiser};
use crate::data::atomic::write_atomically;
use crate::data::split::Split;
use crate::data::{Dataset, Embeddings};
use crate::device::CpuDevice;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::denoiser::vq_diffusion::Transformer;
use crate::model::denoiser::{Context, Grid, NULL_CONTEXT};
use crate::plan::{Kind, ParamInit, ParamTable};
use crate::tape::Tape;
use crate::train::checkpoint::Tensor;
use crate::train::codes::{TOKENIZER, Tokenizer};
use crate::train::diffusion::DiffusionJob;
use crate::train::{Console, Job, Material, RunFolder, Snapshot};
use keys::{diffusion, read_json, transformer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const INDEX: &str = "model_index.json";
const VQVAE: &str = "vqvae";
const TRANSFORMER: &str = "transformer";
const SCHEDULER: &str = "scheduler";
const NULL: &str = "learned_classifier_free_sampling_embeddings";
/// The parts that are kept as they are.
const TEXT: [&str; 2] = ["text_encoder", "tokenizer"];
/// What the setting `data.embeddings` says until images are given.
const CAPTIONS: &str = "captions.npy";

/// Whether a folder is that of a pipeline.
pub fn is_pipeline(folder: &Path) -> bool {
    folder.join(INDEX).is_file()
}

/// The parameters of the transformer: no second list of their names to keep up.
fn parameters(denoiser: &Denoiser, grid: Grid) -> Result<ParamTable> {
    let context = context_of(grid)?;
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let tokens = s.tape.input_idx("tokens", &[grid.tokens()])?;
    let time = s.tape.input_idx("time", &[1])?;
    let context = s.tape.input("context", &[1, context.tokens, context.width])?;
    Transformer::of(denoiser, grid).logits(&mut s, tokens, context, time)?;
    Ok(table)
}

fn context_of(grid: Grid) -> Result<Context> {
    grid.context.ok_or_else(|| Error::failed("a pipeline has texts"))
}

/// The file of what stands for no text has one tensor.
fn null_parameter(context: Context) -> Result<ParamTable> {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let dims = [context.tokens, context.width];
    Scope::new(&mut tape, &mut table).param("embeddings", &dims, ParamInit::Zeros, false)?;
    Ok(table)
}

/// Makes a run of a pipeline: for `sample --prompt`, or to be trained further. `sets` change settings of the
/// tokenizer, for example `data.norm`.
///
/// # Errors
/// Another pipeline, or a variant of this one that this project has not; a run folder that is in use.
pub fn import(folder: &Path, run: &Path, sets: &[String]) -> Result<PathBuf> {
    let index: BTreeMap<String, Value> = read_json(&folder.join(INDEX))?;
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    if class != "VQDiffusionPipeline" {
        let what = format!("a {class} is not supported");
        return Err(Error::data(what).at_path(folder).why("only a VQDiffusionPipeline is"));
    }
    let vqvae = folder.join(VQVAE);
    let model = Autoencoder::read(&vqvae)?;
    let own = runs::settings(&model, &vqvae, sets)?;
    let tokenizer = runs::first_checkpoint(&model, &own)?;
    let (denoiser, grid) = transformer(folder)?;
    let diffusion = diffusion(folder, grid)?;
    let mut parameters = weights::read(
        &folder.join(TRANSFORMER).join(WEIGHTS),
        &self::parameters(&denoiser, grid)?,
        |_| false,
    )?;
    parameters.insert(NULL_CONTEXT.into(), null(folder, context_of(grid)?)?);
    let mut config = Config { denoiser, diffusion, data: own.data.clone(), ..Config::default() };
    config.name = runs::name(folder);
    config.data.embeddings = Some(CAPTIONS.into());
    config = Config::parse("pipeline", &config.to_toml()?, &[])?;
    RunFolder::vacant(Some(run), &config.name)?;
    let snapshot =
        first_checkpoint(&config, grid, Tokenizer::from_snapshot(tokenizer.clone())?, &parameters)?;
    let made = RunFolder::create(Some(run), &config.name)?;
    made.describe(&config, "none: imported", &mut Console::new(true))?;
    let text = config::text(&model.model, &model.hints)?;
    write_atomically(&made.file(runs::ORIGIN), |w| w.write_all(text.as_bytes()))?;
    tokenizer.save(&made.file(TOKENIZER))?;
    for part in TEXT {
        copy_folder(&folder.join(part), &made.file(part))?;
    }
    snapshot.rotate(made.path())?;
    Ok(made.path().to_path_buf())
}

/// What stands for no text: learned, or the empty text's vectors.
fn null(folder: &Path, context: Context) -> Result<Tensor> {
    let settings: BTreeMap<String, Value> = read_json(&folder.join(NULL).join(CONFIG))?;
    let data = match settings.get("learnable") == Some(&json!(true)) {
        true => {
            let mut file =
                weights::read(&folder.join(NULL).join(WEIGHTS), &null_parameter(context)?, |_| {
                    false
                })?;
            file.remove("embeddings").map(|tensor| tensor.data).unwrap_or_default()
        }
        false => {
            let mut encoder = super::text::TextEncoder::open(folder, Box::new(CpuDevice::new(0)?))?;
            encoder.embed(&[String::new()])?
        }
    };
    let len = context.tokens * context.width;
    if data.len() != len {
        let what = format!("{} numbers stand for no text, the transformer wants {len}", data.len());
        return Err(Error::data(what).at_path(folder));
    }
    Ok(Tensor { shape: vec![1, len], data })
}

/// What a run would have saved before its first step.
fn first_checkpoint(
    config: &Config,
    grid: Grid,
    tokenizer: Tokenizer,
    parameters: &BTreeMap<String, Tensor>,
) -> Result<Snapshot> {
    let model = &tokenizer.config.model;
    if grid.codes != model.num_vq_embeddings {
        let what = format!(
            "the transformer knows {} codes, the VQModel has {}",
            grid.codes, model.num_vq_embeddings
        );
        return Err(Error::data(what));
    }
    // Parameters do not depend on the images: a black one and no text do.
    let mut small = config.clone();
    (small.train.batch, small.train.lanes) = (1, 1);
    let r = model.reduction();
    let shape = [1, grid.rows * r, grid.cols * r, model.in_channels];
    let images = Dataset::from_u8(vec![0; shape.iter().product()], shape, None, vec![], "import")?;
    let data =
        Material { images, split: Split { train: vec![0], test: vec![0], warnings: vec![] } };
    let Context { tokens, width } = context_of(grid)?;
    let text = Embeddings::from_values([1, tokens, width], vec![0.0; tokens * width]);
    let text = text.ok_or_else(|| Error::data("the texts of the pipeline have no size"))?;
    let open =
        || CpuDevice::new(0).map(|device| Box::new(device) as Box<dyn crate::device::Device>);
    let codes = vec![0; grid.tokens()];
    let job = DiffusionJob::new(small, Arc::new(data), tokenizer, codes, Box::new(open))?;
    let mut job = job.with_embeddings(text)?;
    let mut session = job.session(open()?, None, &mut |_, _| {})?;
    let store = &mut session.store;
    for (i, spec) in store.table().specs().to_vec().iter().enumerate() {
        let Some(tensor) = parameters.get(&spec.name).filter(|t| t.shape == spec.shape.dims())
        else {
            return Err(Error::failed(format!(
                "the pipeline gives no {} {}",
                spec.name, spec.shape
            )));
        };
        for kind in [Kind::Param, Kind::Ema] {
            store.write_param(kind, i, &tensor.data)?;
        }
    }
    let mut snapshot = Snapshot::capture(store)?;
    for (key, value) in [("kind", job.kind()), ("step", "1"), ("config", &config.to_toml()?)] {
        snapshot.meta.insert(key.into(), value.into());
    }
    snapshot.meta.extend(job.meta());
    Ok(snapshot)
}

/// The files of a folder, byte for byte.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let unread = |e| Error::data("a part of the pipeline cannot be read").at_path(from).why(e);
    std::fs::create_dir_all(to)
        .map_err(|e| Error::disk("the folder cannot be made").at_path(to).why(e))?;
    for entry in std::fs::read_dir(from).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).map_err(unread)?;
            write_atomically(&to.join(entry.file_name()), |w| w.write_all(&bytes))?;
        }
    }
    Ok(())
}
