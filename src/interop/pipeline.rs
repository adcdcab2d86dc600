//! diffusers' `VQDiffusionPipeline` folders: a `VQModel`, VQ-Diffusion's transformer, its schedule, a CLIP
//! text encoder with its tokenizer, and what stands for no text. They become runs of a diffusion, and runs
//! become such folders.

use super::diffusers::{Autoencoder, CONFIG, WEIGHTS};
use super::weights;
use super::{config, runs};
use crate::config::{
    Conditioning, Config, Denoiser, DenoiserKind, Diffusion, FeedForward, Process,
};
use crate::data::atomic::write_atomically;
use crate::data::split::Split;
use crate::data::{Dataset, Embeddings};
use crate::device::CpuDevice;
use crate::diffusion::Corruption;
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
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const INDEX: &str = "model_index.json";
const VQVAE: &str = "vqvae";
const TRANSFORMER: &str = "transformer";
const SCHEDULER: &str = "scheduler";
const SCHEDULER_CONFIG: &str = "scheduler_config.json";
const NULL: &str = "learned_classifier_free_sampling_embeddings";
/// The parts that are kept as they are.
const TEXT: [&str; 2] = ["text_encoder", "tokenizer"];
/// What the setting `data.embeddings` says until images are given.
const CAPTIONS: &str = "captions.npy";
const VERSION: &str = "0.31.0";

/// Whether a folder is that of a pipeline.
pub fn is_pipeline(folder: &Path) -> bool {
    folder.join(INDEX).is_file()
}

/// `transformer/config.json`: the keys that have more than one value here, with diffusers' defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct TransformerKeys {
    activation_fn: String,
    attention_bias: bool,
    attention_head_dim: usize,
    cross_attention_dim: Option<usize>,
    double_self_attention: bool,
    norm_type: String,
    num_attention_heads: usize,
    num_embeds_ada_norm: Option<usize>,
    num_layers: usize,
    num_vector_embeds: Option<usize>,
    only_cross_attention: bool,
    sample_size: Option<usize>,
}

impl Default for TransformerKeys {
    fn default() -> Self {
        TransformerKeys {
            activation_fn: "geglu".into(),
            attention_bias: false,
            attention_head_dim: 88,
            cross_attention_dim: None,
            double_self_attention: false,
            norm_type: "layer_norm".into(),
            num_attention_heads: 16,
            num_embeds_ada_norm: None,
            num_layers: 1,
            num_vector_embeds: None,
            only_cross_attention: false,
            sample_size: None,
        }
    }
}

/// `scheduler/scheduler_config.json`, with diffusers' defaults.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ScheduleKeys {
    #[serde(rename = "_class_name")]
    class_name: String,
    #[serde(rename = "_diffusers_version")]
    version: String,
    alpha_cum_end: f64,
    alpha_cum_start: f64,
    gamma_cum_end: f64,
    gamma_cum_start: f64,
    num_train_timesteps: usize,
    /// K + 1.
    num_vec_classes: usize,
}

impl Default for ScheduleKeys {
    fn default() -> Self {
        ScheduleKeys {
            class_name: "VQDiffusionScheduler".into(),
            version: VERSION.into(),
            alpha_cum_end: 9e-6,
            alpha_cum_start: 0.99999,
            gamma_cum_end: 0.99999,
            gamma_cum_start: 9e-6,
            num_train_timesteps: 100,
            num_vec_classes: 0,
        }
    }
}

impl ScheduleKeys {
    /// The ends of alpha and gamma of a process.
    fn of(process: Process, steps: usize, codes: usize) -> Option<Self> {
        let gamma_cum_end = match process {
            Process::VqDiffusion => 0.99999,
            Process::MaskAndReplace => 0.9,
            _ => return None,
        };
        let (num_train_timesteps, num_vec_classes) = (steps, codes + 1);
        Some(Self { gamma_cum_end, num_train_timesteps, num_vec_classes, ..Self::default() })
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let damaged =
        |why: String| Error::data("a part of the pipeline cannot be read").at_path(path).why(why);
    let bytes = std::fs::read(path).map_err(|e| damaged(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failed("the configuration cannot be written as JSON").why(e))?;
    write_atomically(path, |w| writeln!(w, "{text}"))
}

fn unsupported(what: String, path: &Path) -> Error {
    Error::data(format!("this pipeline is another than VQ-Diffusion's: {what}")).at_path(path)
}

/// The settings of `[denoiser]` and the sizes of a transformer's grid.
fn transformer(folder: &Path) -> Result<(Denoiser, Grid)> {
    let path = folder.join(TRANSFORMER).join(CONFIG);
    let keys: TransformerKeys = read_json(&path)?;
    let feed_forward = match keys.activation_fn.as_str() {
        "geglu-approximate" => FeedForward::GegluApproximate,
        "gelu-approximate" => FeedForward::GeluApproximate,
        "geglu" => FeedForward::Geglu,
        other => return Err(unsupported(format!("activation_fn is {other:?}"), &path)),
    };
    let only = |key: &str, right: bool| match right {
        true => Ok(()),
        false => Err(unsupported(format!("{key} is not what it has"), &path)),
    };
    only("norm_type", keys.norm_type == "ada_norm")?;
    only("attention_bias", keys.attention_bias)?;
    only("double_self_attention", !keys.double_self_attention)?;
    only("only_cross_attention", !keys.only_cross_attention)?;
    let part = |key: &str, value: Option<usize>| {
        value.ok_or_else(|| unsupported(format!("{key} is missing"), &path))
    };
    let states = part("num_vector_embeds", keys.num_vector_embeds)?;
    let side = part("sample_size", keys.sample_size)?;
    only("num_vector_embeds", states > 1)?;
    let null: BTreeMap<String, Value> = read_json(&folder.join(NULL).join(CONFIG))?;
    let number = |key: &str| null.get(key).and_then(Value::as_u64).map(|n| n as usize);
    let width = part("cross_attention_dim", keys.cross_attention_dim)?;
    // Without one of its own the empty text has the length of any.
    let tokens = match number("length") {
        Some(length) => length,
        None => {
            let text: BTreeMap<String, Value> = read_json(&folder.join(TEXT[0]).join(CONFIG))?;
            let length = text.get("max_position_embeddings").and_then(Value::as_u64);
            part("max_position_embeddings", length.map(|n| n as usize))?
        }
    };
    let denoiser = Denoiser {
        kind: DenoiserKind::VqDiffusion,
        layers: keys.num_layers,
        width: keys.num_attention_heads * keys.attention_head_dim,
        heads: keys.num_attention_heads,
        mlp_ratio: 4,
        feed_forward,
        conditioning: Conditioning::Cross,
        ..Denoiser::default()
    };
    let grid = Grid {
        rows: side,
        cols: side,
        codes: states - 1,
        classes: 0,
        times: part("num_embeds_ada_norm", keys.num_embeds_ada_norm)?,
        context: Some(Context { tokens, width }),
    };
    Ok((denoiser, grid))
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

/// The corruption that a scheduler's table is of.
fn diffusion(folder: &Path, grid: Grid) -> Result<Diffusion> {
    let path = folder.join(SCHEDULER).join(SCHEDULER_CONFIG);
    let keys: ScheduleKeys = read_json(&path)?;
    let known = [Process::VqDiffusion, Process::MaskAndReplace];
    let same = |process: &Process| {
        let of = ScheduleKeys::of(*process, grid.times, grid.codes);
        of.is_some_and(|of| ScheduleKeys { version: keys.version.clone(), ..of } == keys)
    };
    let process = known.into_iter().find(same).ok_or_else(|| {
        unsupported(format!("{keys:?}"), &path).help(
            "known are the schedules as released (gamma to 0.99999) and as published (to 0.9), with the \
             transformer's steps and codes",
        )
    })?;
    Ok(Diffusion { process, steps: grid.times, ..Diffusion::default() })
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

/// Writes the best checkpoint of a diffusion as a pipeline's folder. The text encoder is the run's own, or
/// that in the folder `text`.
///
/// # Errors
/// A run that diffusers' pipeline cannot express, no text encoder, the disk.
pub fn export(run: &Path, folder: &Path, text: Option<&Path>) -> Result<()> {
    let snapshot = Snapshot::load_best(run)?;
    let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
    let tokenizer = Tokenizer::from_snapshot(Snapshot::load(&run.join(TOKENIZER))?)?;
    let grid = grid(&snapshot, &config)?;
    let schedule = expressible(&config, grid).map_err(|e| e.at_path(run))?;
    let mut vqvae = Autoencoder::from_snapshot(&tokenizer.snapshot).map_err(|e| e.at_path(run))?;
    if run.join(runs::ORIGIN).exists() {
        vqvae.hints = config::read(&run.join(runs::ORIGIN))?.1;
    }
    let text = text.unwrap_or(run);
    if let Some(missing) = TEXT.iter().find(|part| !text.join(part).is_dir()) {
        return Err(Error::usage(
            "a pipeline wants the text encoder that the run was trained with",
        )
        .at_path(&text.join(missing))
        .help("--text-encoder DIR, with text_encoder/ and tokenizer/ in it"));
    }
    if is_pipeline(folder) {
        return Err(Error::usage("there is a pipeline already")
            .at_path(folder)
            .help("another --out"));
    }
    let kind = if config.train.ema_decay > 0.0 { Kind::Ema } else { Kind::Param };
    let tensor = |name: &str, shape: &[usize]| {
        let found = snapshot.tensors.get(&format!("{}.{name}", kind.name()));
        let found = found.filter(|t| t.data.len() == shape.iter().product::<usize>());
        let found = found.ok_or_else(|| Error::disk(format!("the checkpoint has no {name}")))?;
        Ok(Tensor { shape: shape.to_vec(), data: found.data.clone() })
    };
    let context = context_of(grid)?;
    let table = parameters(&config.denoiser, grid)?;
    let mut tensors = BTreeMap::new();
    for spec in table.specs() {
        tensors.insert(spec.name.clone(), tensor(&spec.name, spec.shape.dims())?);
    }
    let null = BTreeMap::from([(
        "embeddings".to_string(),
        Tensor {
            shape: vec![context.tokens, context.width],
            ..tensor(NULL_CONTEXT, &[1, context.tokens * context.width])?
        },
    )]);
    for part in [TRANSFORMER, SCHEDULER, NULL] {
        let dir = folder.join(part);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::disk("the folder cannot be made").at_path(&dir).why(e))?;
    }
    vqvae.write(&folder.join(VQVAE))?;
    weights::write(&folder.join(TRANSFORMER).join(WEIGHTS), &table, &tensors)?;
    write_json(&folder.join(TRANSFORMER).join(CONFIG), &transformer_keys(&config.denoiser, grid))?;
    weights::write(&folder.join(NULL).join(WEIGHTS), &null_parameter(context)?, &null)?;
    let settings = json!({
        "_class_name": "LearnedClassifierFreeSamplingEmbeddings",
        "_diffusers_version": VERSION,
        "hidden_size": context.width,
        "learnable": true,
        "length": context.tokens,
    });
    write_json(&folder.join(NULL).join(CONFIG), &settings)?;
    write_json(&folder.join(SCHEDULER).join(SCHEDULER_CONFIG), &schedule)?;
    for part in TEXT {
        copy_folder(&text.join(part), &folder.join(part))?;
    }
    // Last: with it the folder is a pipeline.
    write_json(&folder.join(INDEX), &index())
}

/// The grid that a checkpoint was trained on.
fn grid(snapshot: &Snapshot, config: &Config) -> Result<Grid> {
    let unread = |e: serde_json::Error| Error::disk("the checkpoint's sizes cannot be read").why(e);
    let [rows, cols, codes, classes]: [usize; 4] =
        serde_json::from_str(snapshot.meta("grid")?).map_err(unread)?;
    let context = match snapshot.meta.get("context") {
        Some(text) => {
            let [tokens, width] = serde_json::from_str(text).map_err(unread)?;
            Some(Context { tokens, width })
        }
        None => None,
    };
    let times = Corruption::new(&config.diffusion, codes)?.times();
    Ok(Grid { rows, cols, codes, classes, times, context })
}

/// The schedule of a run that is a pipeline's.
fn expressible(config: &Config, grid: Grid) -> Result<ScheduleKeys> {
    let (d, steps) = (&config.denoiser, config.diffusion.steps);
    let refused = |found: &str, why: &str| {
        Err(Error::usage(format!("diffusers has no pipeline for {found}")).why(why.to_string()).help(
            "train with denoiser.kind = \"vq-diffusion\", conditioning = \"cross\", diffusion.process = \
             \"vq-diffusion\", images without labels and data.embeddings of `vqforge data embed`",
        ))
    };
    if d.kind != DenoiserKind::VqDiffusion || d.mlp_ratio != 4 {
        return refused(
            "this denoiser",
            "its transformer is that of VQ-Diffusion, with mlp_ratio 4",
        );
    }
    if d.conditioning != Conditioning::Cross || grid.context.is_none() || grid.classes > 0 {
        return refused("these conditions", "it attends to texts, and knows no classes");
    }
    if grid.rows != grid.cols {
        return refused(&format!("{} x {} codes", grid.rows, grid.cols), "its grids are square");
    }
    match ScheduleKeys::of(config.diffusion.process, steps, grid.codes) {
        Some(schedule) => Ok(schedule),
        None => refused("this process", "its schedule is linear in alpha and gamma"),
    }
}

fn transformer_keys(d: &Denoiser, grid: Grid) -> BTreeMap<&'static str, Value> {
    let activation = match d.feed_forward {
        FeedForward::GegluApproximate => "geglu-approximate",
        FeedForward::GeluApproximate => "gelu-approximate",
        FeedForward::Geglu => "geglu",
    };
    BTreeMap::from([
        ("_class_name", json!("Transformer2DModel")),
        ("_diffusers_version", json!(VERSION)),
        ("activation_fn", json!(activation)),
        ("attention_bias", json!(true)),
        ("attention_head_dim", json!(d.width / d.heads)),
        ("attention_type", json!("default")),
        ("caption_channels", Value::Null),
        ("cross_attention_dim", json!(grid.context.map(|c| c.width))),
        ("double_self_attention", json!(false)),
        ("dropout", json!(0.0)),
        ("in_channels", Value::Null),
        ("interpolation_scale", Value::Null),
        ("norm_elementwise_affine", json!(true)),
        ("norm_eps", json!(1e-5)),
        ("norm_num_groups", json!(32)),
        ("norm_type", json!("ada_norm")),
        ("num_attention_heads", json!(d.heads)),
        ("num_embeds_ada_norm", json!(grid.times)),
        ("num_layers", json!(d.layers)),
        ("num_vector_embeds", json!(grid.codes + 1)),
        ("only_cross_attention", json!(false)),
        ("out_channels", Value::Null),
        ("patch_size", Value::Null),
        ("sample_size", json!(grid.rows)),
        ("upcast_attention", json!(false)),
        ("use_additional_conditions", Value::Null),
        ("use_linear_projection", json!(false)),
    ])
}

fn index() -> Value {
    json!({
        "_class_name": "VQDiffusionPipeline",
        "_diffusers_version": VERSION,
        NULL: ["diffusers", "LearnedClassifierFreeSamplingEmbeddings"],
        "scheduler": ["diffusers", "VQDiffusionScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["diffusers", "Transformer2DModel"],
        "vqvae": ["diffusers", "VQModel"],
    })
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
