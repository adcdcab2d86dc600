//! The `config.json` of a diffusers `VQModel`: the constructor's arguments.

use crate::config::{Bottleneck, Family, Model, check};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version whose keys and defaults these are.
const VERSION: &str = "0.31.0";
const DOWN: &str = "DownEncoderBlock2D";
const UP: &str = "UpDecoderBlock2D";

/// Keys in the order in which diffusers sorts them; absent ones take its defaults, unknown ones are
/// ignored, as it does itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct VqModelConfig {
    _class_name: String,
    _diffusers_version: String,
    act_fn: String,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    force_upcast: bool,
    in_channels: usize,
    latent_channels: usize,
    layers_per_block: usize,
    lookup_from_codebook: bool,
    mid_block_add_attention: bool,
    norm_num_groups: usize,
    norm_type: String,
    num_vq_embeddings: usize,
    out_channels: usize,
    /// Not used by the maths, and not kept.
    sample_size: usize,
    /// Not used by the maths, and not kept.
    scaling_factor: f64,
    up_block_types: Vec<String>,
    /// None: `latent_channels`.
    vq_embed_dim: Option<usize>,
}

impl Default for VqModelConfig {
    fn default() -> Self {
        VqModelConfig {
            _class_name: "VQModel".into(),
            _diffusers_version: VERSION.into(),
            act_fn: "silu".into(),
            block_out_channels: vec![64],
            down_block_types: vec![DOWN.into()],
            force_upcast: false,
            in_channels: 3,
            latent_channels: 3,
            layers_per_block: 1,
            lookup_from_codebook: false,
            mid_block_add_attention: true,
            norm_num_groups: 32,
            norm_type: "group".into(),
            num_vq_embeddings: 256,
            out_channels: 3,
            sample_size: 32,
            scaling_factor: 0.18215,
            up_block_types: vec![UP.into()],
            vq_embed_dim: None,
        }
    }
}

impl VqModelConfig {
    /// The settings that stand for `model`; `sample_size` and `scaling_factor` are diffusers'
    /// defaults.
    pub fn of(model: &Model) -> Self {
        let n = model.block_out_channels.len();
        VqModelConfig {
            block_out_channels: model.block_out_channels.clone(),
            down_block_types: vec![DOWN.into(); n],
            in_channels: model.in_channels,
            latent_channels: model.latent_channels,
            layers_per_block: model.layers_per_block,
            mid_block_add_attention: model.mid_block_add_attention,
            norm_num_groups: model.norm_num_groups,
            num_vq_embeddings: model.num_vq_embeddings,
            out_channels: model.out_channels,
            up_block_types: vec![UP.into(); n],
            vq_embed_dim: Some(model.vq_embed_dim),
            ..Self::default()
        }
    }

    /// As the JSON text that diffusers itself would write.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|e| Error::failed("the configuration cannot be written as JSON").why(e))
    }

    /// # Errors
    /// Another class, a variant that this project has not, sizes out of range.
    pub fn read(path: &Path) -> Result<Model> {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::data("the model's configuration cannot be read")
                .at_path(path)
                .why(e)
                .help("name the folder that `VQModel.save_pretrained` wrote")
        })?;
        let config: VqModelConfig = serde_json::from_slice(&bytes)
            .map_err(|e| Error::data("no configuration of a VQModel").at_path(path).why(e))?;
        config.model().map_err(|e| e.at_path(path))
    }

    fn model(&self) -> Result<Model> {
        let supported = |key: &str, found: &str, known: &str| match found == known {
            true => Ok(()),
            false => Err(Error::data(format!("{key} \"{found}\" is not supported"))
                .why(format!("only \"{known}\" is"))),
        };
        supported("_class_name", &self._class_name, "VQModel")?;
        supported("act_fn", &self.act_fn, "silu")?;
        supported("norm_type", &self.norm_type, "group")?;
        supported("lookup_from_codebook", &self.lookup_from_codebook.to_string(), "false")?;
        for (key, types, known) in [
            ("down_block_types", &self.down_block_types, DOWN),
            ("up_block_types", &self.up_block_types, UP),
        ] {
            types.iter().try_for_each(|found| supported(key, found, known))?;
            if types.len() != self.block_out_channels.len() {
                let (n, m) = (types.len(), self.block_out_channels.len());
                return Err(Error::data(format!("{n} {key} for {m} block_out_channels")));
            }
        }
        let model = Model {
            family: Family::Vqmodel,
            bottleneck: Bottleneck::Vq,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            block_out_channels: self.block_out_channels.clone(),
            layers_per_block: self.layers_per_block,
            latent_channels: self.latent_channels,
            num_vq_embeddings: self.num_vq_embeddings,
            vq_embed_dim: self.vq_embed_dim.unwrap_or(self.latent_channels),
            norm_num_groups: self.norm_num_groups,
            mid_block_add_attention: self.mid_block_add_attention,
            // VQModel knows no other.
            commitment_cost: 0.25,
            ..Model::default()
        };
        check::model(&model).map_err(|v| {
            Error::data(format!("{}: {}", v.key.trim_start_matches("model."), v.what)).help(v.help)
        })?;
        Ok(model)
    }
}
