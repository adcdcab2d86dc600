//! The ranges of all settings and what they demand of each other.

use super::data::{Data, SplitBy, SplitTable};
use super::diffusion::{Diffusion, Process, Weighting};
use super::quantiser::Quantiser;
use super::sections::{Bottleneck, Config, Family, Model, Train};
use crate::data::embeddings::IN_DATA;

/// A value out of bounds: which key, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub key: String,
    pub what: String,
    pub help: String,
}

pub(super) type Checked = Result<(), Violation>;

/// Checks everything; the first violation in the order of the sections is returned.
pub fn check(config: &Config) -> Checked {
    name(&config.name)?;
    // A KL-VAE reads nothing of the quantiser.
    let codes = (config.model.bottleneck == Bottleneck::Vq).then_some(&config.quantiser);
    codes.map_or(Ok(()), Quantiser::check_grid)?;
    model(&config.model)?;
    codes.map_or(Ok(()), |quantiser| quantiser.check(&config.model))?;
    config.kl.check()?;
    config.loss.check()?;
    config.denoiser.check(config.diffusion.process)?;
    diffusion(&config.diffusion)?;
    train(&config.train)?;
    data(&config.data)?;
    demand(
        config.data.embeddings.is_none() || config.diffusion.process != Process::Gaussian,
        "data.embeddings",
        "diffusion of latents follows classes alone".into(),
        "leave the key out, or set diffusion.process to another than gaussian",
    )?;
    real("checkpoint.every", config.checkpoint.every, Bounds::Closed(0.0, 86_400.0))?;
    whole("checkpoint.keep", config.checkpoint.keep as u64, 0, 1000)
}

fn name(name: &str) -> Checked {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let dotted = name.starts_with('.') || name.ends_with('.');
    demand(
        (1..=64).contains(&name.len()) && name.chars().all(allowed) && !dotted,
        "name",
        format!("{name:?} cannot name a folder"),
        "use 1 to 64 letters, digits, '.', '_' or '-', no '.' at either end",
    )?;
    // Windows opens a device for these, whatever follows the first dot.
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    let device =
        ["con", "prn", "aux", "nul"].contains(&&*stem) || numbered("com") || numbered("lpt");
    demand(
        !device,
        "name",
        format!("{name:?} is the name of a device on Windows"),
        "choose another name",
    )
}

/// The autoencoder alone.
pub fn model(m: &Model) -> Checked {
    whole("model.in_channels", m.in_channels as u64, 1, 64)?;
    demand(
        m.out_channels == m.in_channels,
        "model.out_channels",
        format!("{} differs from in_channels = {}", m.out_channels, m.in_channels),
        "an autoencoder returns what it is given: make both equal",
    )?;
    whole("model.norm_num_groups", m.norm_num_groups as u64, 1, 1024)?;
    demand(
        (1..=8).contains(&m.block_out_channels.len()),
        "model.block_out_channels",
        format!("{} resolutions", m.block_out_channels.len()),
        "give 1 to 8 channel counts, for example [32, 64, 64]",
    )?;
    for &channels in &m.block_out_channels {
        whole("model.block_out_channels", channels as u64, 1, 4096)?;
        demand(
            m.family == Family::Classic || channels.is_multiple_of(m.norm_num_groups),
            "model.block_out_channels",
            format!("{channels} is not a multiple of norm_num_groups = {}", m.norm_num_groups),
            "change one of the two",
        )?;
    }
    whole("model.layers_per_block", m.layers_per_block as u64, 1, 16)?;
    whole("model.num_residual_layers", m.num_residual_layers as u64, 0, 16)?;
    whole("model.num_residual_hiddens", m.num_residual_hiddens as u64, 1, 4096)?;
    whole("model.latent_channels", m.latent_channels as u64, 1, 1024)?;
    whole("model.num_vq_embeddings", m.num_vq_embeddings as u64, 2, 1 << 20)?;
    whole("model.vq_embed_dim", m.vq_embed_dim as u64, 1, 1024)?;
    demand(
        m.family != Family::Vqmodel
            || m.bottleneck != Bottleneck::Kl
            || m.vq_embed_dim == m.latent_channels,
        "model.vq_embed_dim",
        format!("{} is not latent_channels = {}", m.vq_embed_dim, m.latent_channels),
        "diffusers' AutoencoderKL has one number for both: make them equal",
    )?;
    real("model.commitment_cost", m.commitment_cost, Bounds::Closed(0.0, 100.0))
}

fn diffusion(d: &Diffusion) -> Checked {
    real("diffusion.t_min", d.t_min, Bounds::Open(0.0, 0.5))?;
    whole("diffusion.steps", d.steps as u64, 1, 10_000)?;
    real("diffusion.auxiliary", d.auxiliary, Bounds::Closed(0.0, 100.0))?;
    whole("diffusion.discrete_steps", d.discrete_steps as u64, 0, 10_000)?;
    whole("diffusion.eval_images", d.eval_images as u64, 0, 10_000_000)?;
    let masked = d.process == Process::Masked;
    let only = "set diffusion.process to vq-diffusion, mask-and-replace, absorbing or uniform, or leave \
                the key out";
    demand(
        !masked || d.importance != Some(true),
        "diffusion.importance",
        "process = \"masked\" has continuous times, not steps to choose from".into(),
        only,
    )?;
    for (key, given) in [
        ("diffusion.discrete_steps", d.discrete_steps > 0),
        ("diffusion.weighting", d.weighting != Weighting::Bound),
    ] {
        demand(
            masked || !given,
            key,
            "has a meaning with process = \"masked\" alone".into(),
            "leave the key out, or set diffusion.process to masked",
        )?;
    }
    gaussian(d)
}

/// Gaussian noise has no use for what is set of the others, nor they for its weights.
fn gaussian(d: &Diffusion) -> Checked {
    real("diffusion.min_snr", d.min_snr, Bounds::Closed(0.0, 1e6))?;
    let usual = Diffusion::default();
    if d.process != Process::Gaussian {
        return demand(
            d.min_snr == usual.min_snr,
            "diffusion.min_snr",
            "has a meaning with process = \"gaussian\" alone".into(),
            "leave the key out, or set diffusion.process to gaussian",
        );
    }
    for (key, given) in [
        ("diffusion.schedule", d.schedule != usual.schedule),
        ("diffusion.t_min", d.t_min != usual.t_min),
        ("diffusion.steps", d.steps != usual.steps),
        ("diffusion.auxiliary", d.auxiliary != usual.auxiliary),
        ("diffusion.adaptive_auxiliary", d.adaptive_auxiliary != usual.adaptive_auxiliary),
        ("diffusion.importance", d.importance == Some(true)),
    ] {
        demand(
            !given,
            key,
            "has no meaning with process = \"gaussian\"".into(),
            "leave the key out: Gaussian noise comes in continuous time, by a schedule of its own",
        )?;
    }
    Ok(())
}

fn train(t: &Train) -> Checked {
    whole("train.steps", t.steps, 1, 1 << 40)?;
    whole("train.batch", t.batch as u64, 1, 65_536)?;
    whole("train.lanes", t.lanes as u64, 1, 65_536)?;
    demand(
        t.batch.is_multiple_of(t.lanes),
        "train.lanes",
        format!("{} lanes do not divide the batch of {}", t.lanes, t.batch),
        "change train.lanes or train.batch",
    )?;
    real("train.lr", t.lr, Bounds::OpenClosed(0.0, 1.0))?;
    demand(
        t.warmup <= t.steps,
        "train.warmup",
        format!("{} warm-up steps in a run of {}", t.warmup, t.steps),
        "lower train.warmup or raise train.steps",
    )?;
    for beta in t.betas {
        real("train.betas", beta, Bounds::HalfOpen(0.0, 1.0))?;
    }
    real("train.eps", t.eps, Bounds::OpenClosed(0.0, 0.1))?;
    real("train.weight_decay", t.weight_decay, Bounds::Closed(0.0, 1.0))?;
    real("train.clip", t.clip, Bounds::Closed(0.0, 1e6))?;
    real("train.ema_decay", t.ema_decay, Bounds::HalfOpen(0.0, 1.0))?;
    whole("train.log_every", t.log_every, 1, 1 << 40)
}

fn data(d: &Data) -> Checked {
    demand(
        !d.labels.is_empty(),
        "data.labels",
        "an empty name".into(),
        "use \"auto\", \"none\" or the name of an array",
    )?;
    demand(
        matches!(d.size[..], [] | [_, _]),
        "data.size",
        format!("{} numbers", d.size.len()),
        "give [rows, columns], or [] to keep the size of the data",
    )?;
    for &side in &d.size {
        whole("data.size", side as u64, 1, 8192)?;
    }
    demand(
        d.embeddings.as_ref().is_none_or(|e| !["", IN_DATA].contains(&e.as_str())),
        "data.embeddings",
        "an empty name".into(),
        "name a file, or an array of the data as npz:NAME",
    )?;
    real("data.clip_db", d.clip_db, Bounds::OpenClosed(0.0, 400.0))?;
    for percent in d.percentiles {
        real("data.percentiles", percent, Bounds::Closed(0.0, 100.0))?;
    }
    demand(
        d.percentiles[0] < d.percentiles[1],
        "data.percentiles",
        format!("{} is not below {}", d.percentiles[0], d.percentiles[1]),
        "give the lower percentile first",
    )?;
    split(&d.split)?;
    whole("data.synth.n", d.synth.n as u64, 1, 10_000_000)?;
    whole("data.synth.size", d.synth.size as u64, 8, 1024)?;
    real("data.synth.floor", d.synth.floor, Bounds::Closed(0.0, 90.0))?;
    d.signal.as_ref().map_or(Ok(()), |signal| signal.check())?;
    d.augment.check()
}

/// Keys of another kind of split would be ignored silently: they are errors.
fn split(s: &SplitTable) -> Checked {
    let given = [
        ("name", s.name.is_some()),
        ("test", s.test.is_some()),
        ("size", s.size.is_some()),
        ("fraction", s.fraction.is_some()),
        ("seed", s.seed.is_some()),
    ];
    let (by, needed): (&str, &[&str]) = match s.by {
        SplitBy::Array => ("array", &["name", "test"]),
        SplitBy::Folder => ("folder", &[]),
        SplitBy::BlockInClass => ("block-in-class", &["size", "test"]),
        SplitBy::Fraction => ("fraction", &["fraction", "seed"]),
    };
    let help = "give the whole table: split = { by = \"array\", name = \"subject\", test = [7] } or \
         { by = \"block-in-class\", size = 50, test = [7] } or { by = \"folder\" } or \
         { by = \"fraction\", fraction = 0.1 }";
    for (key, given) in given {
        let wanted = needed.contains(&key);
        let what = format!("\"{by}\" needs data.split.{key} as well");
        demand(given || !wanted, "data.split.by", what, help)?;
        let what = format!("has no meaning with by = \"{by}\"");
        demand(wanted || !given, &format!("data.split.{key}"), what, help)?;
    }
    if let Some(size) = s.size {
        whole("data.split.size", size as u64, 1, 1 << 32)?;
    }
    if let Some(fraction) = s.fraction {
        real("data.split.fraction", fraction, Bounds::Open(0.0, 1.0))?;
    }
    let empty = s.test.as_ref().is_some_and(Vec::is_empty);
    demand(!empty, "data.split.test", "holds out nothing".into(), "name at least one value")?;
    let unnamed = s.name.as_ref().is_some_and(String::is_empty);
    demand(!unnamed, "data.split.name", "an empty name".into(), "name an integer array")
}

pub(super) fn demand(holds: bool, key: &str, what: String, help: &str) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Violation { key: key.into(), what, help: help.into() })
}

pub(super) fn whole(key: &str, value: u64, least: u64, most: u64) -> Checked {
    demand(
        (least..=most).contains(&value),
        key,
        format!("{value} is out of range"),
        &format!("use a whole number from {least} to {most}"),
    )
}

/// Intervals of real numbers; NaN lies in none of them.
#[derive(Clone, Copy)]
pub(super) enum Bounds {
    Open(f64, f64),
    Closed(f64, f64),
    /// The lower end belongs to it.
    HalfOpen(f64, f64),
    /// The upper end belongs to it.
    OpenClosed(f64, f64),
}

pub(super) fn real(key: &str, v: f64, bounds: Bounds) -> Checked {
    let (inside, text) = match bounds {
        Bounds::Open(a, b) => (a < v && v < b, format!("above {a} and below {b}")),
        Bounds::Closed(a, b) => (a <= v && v <= b, format!("from {a} to {b}")),
        Bounds::HalfOpen(a, b) => (a <= v && v < b, format!("from {a} to below {b}")),
        Bounds::OpenClosed(a, b) => (a < v && v <= b, format!("above {a}, at most {b}")),
    };
    demand(inside, key, format!("{v} is out of range"), &format!("use a number {text}"))
}
