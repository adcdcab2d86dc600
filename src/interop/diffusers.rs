//! diffusers' `VQModel` and `AutoencoderKL` folders: `config.json` beside
//! `diffusion_pytorch_model.safetensors`. `_class_name` in the former says which of them a folder
//! holds.
//!
//! One thing does not travel in the files: `VQModel` trains with beta on the codebook's term of the
//! loss instead of the encoder's (its `legacy` flag, always on). That is of no consequence for
//! running a model; training here weights the terms as the paper does.

use super::config;
pub use super::config::Hints;
use super::weights::{self, complete, expect_shape};
use crate::config::QuantiserKind::{self, Ema};
use crate::config::{Bottleneck, Config, Distance, Family, Model, Quantiser};
use crate::data::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::autoencoder;
use crate::model::quantiser::{CODEBOOK, CODEBOOK_PARAM, EMA_M, EMA_N, FROZEN};
use crate::plan::{Kind, ParamTable, Store};
use crate::tape::Tape;
use crate::train::Snapshot;
use crate::train::checkpoint::Tensor;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// An autoencoder in this project's layouts: a `VQModel`, or an `AutoencoderKL` where the model's
/// bottleneck is [`crate::config::Bottleneck::Kl`].
#[derive(Debug, Clone, PartialEq)]
pub struct Autoencoder {
    pub model: Model,
    pub hints: Hints,
    /// Every parameter by name, a codebook included.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Autoencoder {
    /// Reads a folder that `save_pretrained` of one of the two classes wrote.
    ///
    /// # Errors
    /// Exit code 4: not there, damaged, a variant that this project has not, a tensor that is
    /// missing, unknown, of another shape or not f32.
    pub fn read(folder: &Path) -> Result<Self> {
        let (model, hints) = config::read(&folder.join(CONFIG))?;
        let tensors = weights::read(&folder.join(WEIGHTS), &parameters(&model)?, |_| false)?;
        Ok(Autoencoder { model, hints, tensors })
    }

    /// Writes a folder that `from_pretrained` of the model's class reads.
    ///
    /// # Errors
    /// A model of another family, tensors that are not the model's, the disk.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::disk("the folder cannot be made").at_path(folder).why(e))?;
        weights::write(&folder.join(WEIGHTS), &parameters(&self.model)?, &self.tensors)?;
        let text = config::text(&self.model, &self.hints)?;
        write_atomically(&folder.join(CONFIG), |w| w.write_all(text.as_bytes()))
    }

    /// Writes the weights to a store, as current and as averaged ones. Where a codebook is a
    /// moving average, its running sums start as if every code had been met once.
    ///
    /// # Errors
    /// The store's parameters or codebooks are not this model's; nothing is written then.
    pub fn load_into(&self, store: &mut Store) -> Result<()> {
        let specs = store.table().specs().to_vec();
        let as_state = store.table().find(CODEBOOK_PARAM).is_none();
        let given = self.tensors.keys().filter(|n| !(as_state && *n == CODEBOOK_PARAM));
        complete(store.table(), given)?;
        for spec in &specs {
            expect_shape(&spec.name, &self.tensors[&spec.name].shape, spec.shape.dims())?;
        }
        let mut states: Vec<(&str, Cow<'_, [f32]>)> = vec![];
        if let Some(codes) = self.tensors.get(CODEBOOK_PARAM) {
            if as_state {
                states.extend([CODEBOOK, EMA_M].map(|name| (name, Cow::from(&codes.data))));
            }
            // Codes that are a parameter are counted, too, where dead ones are looked for.
            if as_state || store.find_state(EMA_N).is_ok() {
                states.push((EMA_N, Cow::from(vec![1.0; self.model.num_vq_embeddings])));
            }
        }
        for (name, there) in store.states() {
            let wanted = states.iter().find(|(own, _)| *own == name).map(|(_, data)| data.len());
            let books = [CODEBOOK, EMA_M, EMA_N, FROZEN];
            let of_a_book = books.iter().any(|book| name.split('.').next() == Some(book));
            if of_a_book && wanted != Some(there.len) {
                return Err(Error::usage("the run's quantiser is not that of a VQModel")
                    .why(format!("its state {name} has {} numbers", there.len))
                    .help("one codebook, searched by distance: quantiser.kind = \"gradient\""));
            }
        }
        for (i, spec) in specs.iter().enumerate() {
            for kind in [Kind::Param, Kind::Ema] {
                store.write_param(kind, i, &self.tensors[&spec.name].data)?;
            }
        }
        for (name, data) in states {
            let state = store.state(name, data.len())?;
            store.write_f32(state, &data)?;
        }
        Ok(())
    }

    /// The weights of a run's checkpoint, averaged ones where the run is judged by them. The hints are
    /// diffusers' defaults.
    ///
    /// # Errors
    /// What diffusers' classes cannot express (exit 2), a checkpoint that lacks a tensor (exit 5).
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
        expressible(&config)?;
        let kind = if config.train.ema_decay > 0.0 { Kind::Ema } else { Kind::Param };
        let mut tensors = BTreeMap::new();
        for spec in parameters(&config.model)?.specs() {
            let own = format!("{}.{}", kind.name(), spec.name);
            let state = format!("state.{CODEBOOK}");
            let as_state = spec.name == CODEBOOK_PARAM && config.quantiser.kind == Ema;
            let name = if as_state { state } else { own };
            let shape = spec.shape.dims().to_vec();
            let tensor = snapshot.tensors.get(&name);
            // States are kept without their shape.
            let fits =
                |t: &&Tensor| t.shape == shape || as_state && t.data.len() == spec.shape.elements();
            let Some(tensor) = tensor.filter(fits) else {
                return Err(Error::disk(format!("the checkpoint has no {name} of {shape:?}"))
                    .help("was it written by another version?"));
            };
            tensors.insert(spec.name.clone(), Tensor { shape, data: tensor.data.clone() });
        }
        let hints = Hints::of(config.model.bottleneck);
        Ok(Autoencoder { model: config.model, hints, tensors })
    }
}

/// # Errors
/// Settings whose model diffusers' classes would run differently: exit code 2.
pub fn expressible(config: &Config) -> Result<()> {
    let (model, q) = (&config.model, &config.quantiser);
    let coded = model.bottleneck == Bottleneck::Vq;
    let (found, why) = if model.family != Family::Vqmodel {
        let found = format!("model.family = {:?}", model.family);
        (found, "VQModel and AutoencoderKL are the family \"vqmodel\"")
    } else if coded && !q.kind.has_book() {
        (format!("quantiser.kind = {:?}", q.kind), "VQModel has a plain table of codes")
    } else if coded && q.distance != Distance::Euclid {
        let found = format!("quantiser.distance = {:?}", q.distance);
        (found, "VQModel takes the nearest code by distance")
    } else if coded && q.heads() != 1 {
        (format!("{} codes a place", q.heads()), "VQModel has one")
    } else {
        return Ok(());
    };
    Err(Error::usage(format!("diffusers has no form of {}", found.to_lowercase()))
        .why(why)
        .help("train with model.family = \"vqmodel\", quantiser.kind = \"ema\" and one codebook"))
}

/// The parameters of a model, by recording it: there is no second list of names to keep up.
fn parameters(model: &Model) -> Result<ParamTable> {
    if model.family != Family::Vqmodel {
        return Err(Error::usage("only models of the family \"vqmodel\" have a diffusers form")
            .help("train with --set model.family=vqmodel"));
    }
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    // The smallest image there is: one code.
    let side = model.reduction();
    let x = s.tape.input("x", &[1, side, side, model.in_channels])?;
    let quantiser = Quantiser { kind: QuantiserKind::Gradient, ..Quantiser::default() };
    let config = Config { model: model.clone(), quantiser, ..Config::default() };
    autoencoder::training(&mut s, &config, x)?;
    Ok(table)
}
