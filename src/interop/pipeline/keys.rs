//! The JSON files of a pipeline: settings of its parts under diffusers' names.

use super::super::diffusers::CONFIG;
use super::{NULL, SCHEDULER, TEXT, TRANSFORMER};
use crate::config::{Conditioning, Denoiser, DenoiserKind, Diffusion, FeedForward, Process};
use crate::data::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::model::denoiser::{Context, Grid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

pub(super) const SCHEDULER_CONFIG: &str = "scheduler_config.json";
pub(super) const VERSION: &str = "0.31.0";

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
pub(super) struct ScheduleKeys {
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
    pub(super) fn of(process: Process, steps: usize, codes: usize) -> Option<Self> {
        let gamma_cum_end = match process {
            Process::VqDiffusion => 0.99999,
            Process::MaskAndReplace => 0.9,
            _ => return None,
        };
        let (num_train_timesteps, num_vec_classes) = (steps, codes + 1);
        Some(Self { gamma_cum_end, num_train_timesteps, num_vec_classes, ..Self::default() })
    }
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let damaged =
        |why: String| Error::data("a part of the pipeline cannot be read").at_path(path).why(why);
    let bytes = std::fs::read(path).map_err(|e| damaged(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failed("the configuration cannot be written as JSON").why(e))?;
    write_atomically(path, |w| writeln!(w, "{text}"))
}

pub(super) fn unsupported(what: String, path: &Path) -> Error {
    Error::data(format!("this pipeline is another than VQ-Diffusion's: {what}")).at_path(path)
}

/// The settings of `[denoiser]` and the sizes of a transformer's grid.
pub(super) fn transformer(folder: &Path) -> Result<(Denoiser, Grid)> {
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

/// The corruption that a scheduler's table is of.
pub(super) fn diffusion(folder: &Path, grid: Grid) -> Result<Diffusion> {
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

pub(super) fn transformer_keys(d: &Denoiser, grid: Grid) -> BTreeMap<&'static str, Value> {
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

pub(super) fn index() -> Value {
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
