//! The `config.json` of a diffusers `VQModel` or `AutoencoderKL`: the constructor's arguments.

use crate::config::{Bottleneck, Family, Model, check};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The version whose keys and defaults these are.
const VERSION: &str = "0.31.0";
const DOWN: &str = "DownEncoderBlock2D";
const UP: &str = "UpDecoderBlock2D";

/// What diffusers' pipelines want to know of a model beside its sizes. Nothing here computes with it:
/// it is kept for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Hints {
    /// Side of the images.
    pub sample_size: usize,
    /// Latents are multiplied with it before a diffusion model meets them,
    pub scaling_factor: f64,
    /// after this was subtracted. This one and the next two: AutoencoderKL alone.
    pub shift_factor: Option<f64>,
    /// Of each channel of the latents, for pipelines that standardise them.
    pub latents_mean: Option<Vec<f64>>,
    pub latents_std: Option<Vec<f64>>,
    /// Whether pipelines in 16 bits run the model in 32.
    pub force_upcast: bool,
}

impl Hints {
    /// diffusers' defaults of the class.
    pub fn of(bottleneck: Bottleneck) -> Self {
        Hints {
            sample_size: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            force_upcast: bottleneck == Bottleneck::Kl,
        }
    }
}

/// The keys of both classes; unknown ones are ignored, as diffusers does itself.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Keys {
    _class_name: String,
    act_fn: String,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    force_upcast: Option<bool>,
    in_channels: usize,
    latent_channels: Option<usize>,
    latents_mean: Option<Vec<f64>>,
    latents_std: Option<Vec<f64>>,
    layers_per_block: usize,
    lookup_from_codebook: bool,
    mid_block_add_attention: bool,
    norm_num_groups: usize,
    norm_type: String,
    num_vq_embeddings: usize,
    out_channels: usize,
    sample_size: Option<usize>,
    scaling_factor: Option<f64>,
    shift_factor: Option<f64>,
    up_block_types: Vec<String>,
    use_post_quant_conv: bool,
    use_quant_conv: bool,
    /// None: `latent_channels`.
    vq_embed_dim: Option<usize>,
}

impl Default for Keys {
    /// Absent keys are diffusers' defaults; None where the classes differ.
    fn default() -> Self {
        Keys {
            _class_name: String::new(),
            act_fn: "silu".into(),
            block_out_channels: vec![64],
            down_block_types: vec![DOWN.into()],
            force_upcast: None,
            in_channels: 3,
            latent_channels: None,
            latents_mean: None,
            latents_std: None,
            layers_per_block: 1,
            lookup_from_codebook: false,
            mid_block_add_attention: true,
            norm_num_groups: 32,
            norm_type: "group".into(),
            num_vq_embeddings: 256,
            out_channels: 3,
            sample_size: None,
            scaling_factor: None,
            shift_factor: None,
            up_block_types: vec![UP.into()],
            use_post_quant_conv: true,
            use_quant_conv: true,
            vq_embed_dim: None,
        }
    }
}

fn class(bottleneck: Bottleneck) -> &'static str {
    match bottleneck {
        Bottleneck::Vq => "VQModel",
        Bottleneck::Kl => "AutoencoderKL",
    }
}

/// The JSON text that diffusers itself would write for a model, keys sorted.
pub(super) fn text(model: &Model, hints: &Hints) -> Result<String> {
    let resolutions = model.block_out_channels.len();
    let mut keys: BTreeMap<&str, Value> = [
        ("_class_name", json!(class(model.bottleneck))),
        ("_diffusers_version", json!(VERSION)),
        ("act_fn", json!("silu")),
        ("block_out_channels", json!(model.block_out_channels)),
        ("down_block_types", json!(vec![DOWN; resolutions])),
        ("force_upcast", json!(hints.force_upcast)),
        ("in_channels", json!(model.in_channels)),
        ("latent_channels", json!(model.latent_channels)),
        ("layers_per_block", json!(model.layers_per_block)),
        ("mid_block_add_attention", json!(model.mid_block_add_attention)),
        ("norm_num_groups", json!(model.norm_num_groups)),
        ("out_channels", json!(model.out_channels)),
        ("sample_size", json!(hints.sample_size)),
        ("scaling_factor", json!(hints.scaling_factor)),
        ("up_block_types", json!(vec![UP; resolutions])),
    ]
    .into();
    match model.bottleneck {
        Bottleneck::Vq => keys.extend([
            ("lookup_from_codebook", json!(false)),
            ("norm_type", json!("group")),
            ("num_vq_embeddings", json!(model.num_vq_embeddings)),
            ("vq_embed_dim", json!(model.vq_embed_dim)),
        ]),
        Bottleneck::Kl => keys.extend([
            ("latents_mean", json!(hints.latents_mean)),
            ("latents_std", json!(hints.latents_std)),
            ("shift_factor", json!(hints.shift_factor)),
            ("use_post_quant_conv", json!(true)),
            ("use_quant_conv", json!(true)),
        ]),
    }
    serde_json::to_string_pretty(&keys)
        .map(|text| text + "\n")
        .map_err(|e| Error::failed("the configuration cannot be written as JSON").why(e))
}

/// # Errors
/// Another class, a variant that this project has not, sizes out of range.
pub(super) fn read(path: &Path) -> Result<(Model, Hints)> {
    let bytes = std::fs::read(path).map_err(|e| {
        Error::data("the model's configuration cannot be read")
            .at_path(path)
            .why(e)
            .help("name the folder that `VQModel` or `AutoencoderKL.save_pretrained` wrote")
    })?;
    let keys: Keys = serde_json::from_slice(&bytes).map_err(|e| {
        Error::data("no configuration of a VQModel or AutoencoderKL").at_path(path).why(e)
    })?;
    keys.settings().map_err(|e| e.at_path(path))
}

/// A key whose other values this project has not.
fn only(key: &str, found: impl ToString, known: &str) -> Result<()> {
    let found = found.to_string();
    if found == known {
        return Ok(());
    }
    Err(Error::data(format!("{key} \"{found}\" is not supported"))
        .why(format!("only \"{known}\" is")))
}

impl Keys {
    fn settings(self) -> Result<(Model, Hints)> {
        let bottleneck = match &*self._class_name {
            "VQModel" => Bottleneck::Vq,
            "AutoencoderKL" => Bottleneck::Kl,
            other => {
                return Err(Error::data(format!("_class_name \"{other}\" is not supported"))
                    .why("only \"VQModel\" and \"AutoencoderKL\" are"));
            }
        };
        only("act_fn", &self.act_fn, "silu")?;
        for (key, types, known) in [
            ("down_block_types", &self.down_block_types, DOWN),
            ("up_block_types", &self.up_block_types, UP),
        ] {
            types.iter().try_for_each(|found| only(key, found, known))?;
            if types.len() != self.block_out_channels.len() {
                let (n, m) = (types.len(), self.block_out_channels.len());
                return Err(Error::data(format!("{n} {key} for {m} block_out_channels")));
            }
        }
        let (latent_channels, vq_embed_dim) = match bottleneck {
            Bottleneck::Vq => {
                only("norm_type", &self.norm_type, "group")?;
                only("lookup_from_codebook", self.lookup_from_codebook, "false")?;
                let latent = self.latent_channels.unwrap_or(3);
                (latent, self.vq_embed_dim.unwrap_or(latent))
            }
            Bottleneck::Kl => {
                only("use_quant_conv", self.use_quant_conv, "true")?;
                only("use_post_quant_conv", self.use_post_quant_conv, "true")?;
                let latent = self.latent_channels.unwrap_or(4);
                (latent, latent)
            }
        };
        let mut model = Model {
            family: Family::Vqmodel,
            bottleneck,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            latent_channels,
            vq_embed_dim,
            norm_num_groups: self.norm_num_groups,
            mid_block_add_attention: self.mid_block_add_attention,
            // VQModel knows no other.
            commitment_cost: 0.25,
            ..Model::default()
        };
        let mut hints = Hints::of(bottleneck);
        hints.sample_size = self.sample_size.unwrap_or(hints.sample_size);
        hints.scaling_factor = self.scaling_factor.unwrap_or(hints.scaling_factor);
        hints.force_upcast = self.force_upcast.unwrap_or(hints.force_upcast);
        match bottleneck {
            Bottleneck::Vq => model.num_vq_embeddings = self.num_vq_embeddings,
            Bottleneck::Kl => {
                hints.shift_factor = self.shift_factor;
                hints.latents_mean = self.latents_mean;
                hints.latents_std = self.latents_std;
            }
        }
        check::model(&model).map_err(|v| {
            Error::data(format!("{}: {}", v.key.trim_start_matches("model."), v.what)).help(v.help)
        })?;
        Ok((model, hints))
    }
}
