//! Runs as pipelines.

use super::super::diffusers::{Autoencoder, CONFIG, WEIGHTS};
use super::super::{config, runs, weights};
use super::keys::{SCHEDULER_CONFIG, ScheduleKeys, VERSION, index, transformer_keys, write_json};
use super::{
    INDEX, NULL, SCHEDULER, TEXT, TRANSFORMER, VQVAE, context_of, copy_folder, is_pipeline,
    null_parameter, parameters,
};
use crate::config::{Conditioning, Config, DenoiserKind};
use crate::diffusion::Corruption;
use crate::error::{Error, Result};
use crate::model::denoiser::{Context, Grid, NULL_CONTEXT};
use crate::plan::Kind;
use crate::train::Snapshot;
use crate::train::checkpoint::Tensor;
use crate::train::codes::{TOKENIZER, Tokenizer};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

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
