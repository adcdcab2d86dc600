//! diffusers' `VQModel` and `AutoencoderKL` folders: `config.json` beside
//! `diffusion_pytorch_model.safetensors`. `_class_name` in the former says which of them a folder
//! holds.
//!
//! Names are the same on both sides (`crate::model::vqmodel` took diffusers'); only the order of
//! dimensions differs. Data are moved, never computed on: read, write and read again gives the same
//! bits.
//!
//! | tensor              | there             | here               |
//! |---------------------|-------------------|--------------------|
//! | convolution weights | [out, in, kh, kw] | [kh, kw, in, out]  |
//! | linear weights      | [out, in]         | [in, out]          |
//! | codebook            | [K, d]            | [K, d]             |
//! | biases, norms       | [n]               | [n]                |
//!
//! One thing does not travel in the files: `VQModel` trains with beta on the codebook's term of the
//! loss instead of the encoder's (its `legacy` flag, always on). That is of no consequence for
//! running a model; training here weights the terms as the paper does.

use super::config;
pub use super::config::Hints;
use crate::config::QuantiserKind::{self, Ema};
use crate::config::{Bottleneck, Config, Distance, Family, Model, Quantiser};
use crate::data::atomic::write_atomically;
use crate::data::permute::permute;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::autoencoder;
use crate::model::quantiser::{CODEBOOK, CODEBOOK_PARAM, EMA_M, EMA_N, FROZEN};
use crate::plan::{Kind, ParamSpec, ParamTable, Store};
use crate::tape::Tape;
use crate::train::Snapshot;
use crate::train::checkpoint::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// Larger headers are refused before they are parsed.
const MAX_HEADER: u64 = 10 << 20;
const MAX_TENSORS: usize = 100_000;

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
        let path = folder.join(WEIGHTS);
        let bytes = std::fs::read(&path).map_err(|e| {
            Error::data("the model's weights cannot be read").at_path(&path).why(e).help(
                "older folders hold a .bin file: load it in diffusers and save it again with \
                 safe_serialization=True",
            )
        })?;
        let tensors = parse(&bytes, &parameters(&model)?).map_err(|e| e.at_path(&path))?;
        Ok(Autoencoder { model, hints, tensors })
    }

    /// Writes a folder that `from_pretrained` of the model's class reads.
    ///
    /// # Errors
    /// A model of another family, tensors that are not the model's, the disk.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let table = parameters(&self.model)?;
        complete(&table, self.tensors.keys())?;
        let mut data = vec![];
        for spec in table.specs() {
            let tensor = &self.tensors[&spec.name];
            expect_shape(&spec.name, &tensor.shape, spec.shape.dims())?;
            let order = Order::of(spec);
            let bytes: Vec<u8> = permute(tensor.data.clone(), &tensor.shape, order.to_theirs())
                .into_iter()
                .flat_map(f32::to_le_bytes)
                .collect();
            data.push((&spec.name, order.theirs(spec.shape.dims()), bytes));
        }
        let mut views = vec![];
        for (name, shape, bytes) in &data {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map_err(|e| Error::failed(format!("cannot save {name}")).why(e))?;
            views.push((name.as_str(), view));
        }
        let meta = HashMap::from([("format".into(), "pt".into())]);
        let bytes = safetensors::serialize(views, Some(meta))
            .map_err(|e| Error::failed("cannot serialise the weights").why(e))?;
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::disk("the folder cannot be made").at_path(folder).why(e))?;
        write_atomically(&folder.join(WEIGHTS), |w| w.write_all(&bytes))?;
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

/// How the dimensions of a parameter are ordered in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Same,
    Linear,
    Convolution,
}

impl Order {
    fn of(spec: &ParamSpec) -> Self {
        match spec.shape.rank() {
            4 => Order::Convolution,
            2 if spec.name != CODEBOOK_PARAM => Order::Linear,
            _ => Order::Same,
        }
    }

    /// Which of our dimensions comes first, second, .. in theirs; an empty list where none moves.
    fn to_theirs(self) -> &'static [usize] {
        match self {
            Order::Same => &[],
            Order::Linear => &[1, 0],
            Order::Convolution => &[3, 2, 0, 1],
        }
    }

    /// Which of their dimensions comes first, second, .. in ours.
    fn to_ours(self) -> &'static [usize] {
        match self {
            Order::Same => &[],
            Order::Linear => &[1, 0],
            Order::Convolution => &[2, 3, 1, 0],
        }
    }

    fn theirs(self, ours: &[usize]) -> Vec<usize> {
        match self {
            Order::Same => ours.to_vec(),
            _ => self.to_theirs().iter().map(|&i| ours[i]).collect(),
        }
    }
}

fn parse(bytes: &[u8], table: &ParamTable) -> Result<BTreeMap<String, Tensor>> {
    let header = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
    if header.is_none_or(|n| n > MAX_HEADER) {
        return Err(Error::data("the weights are no safetensors file")
            .why(format!("its header would be longer than {} MiB", MAX_HEADER >> 20)));
    }
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| Error::data("the weights are damaged").why(e))?;
    if file.len() > MAX_TENSORS {
        return Err(Error::data(format!("{} tensors are more than any model has", file.len())));
    }
    let mut found = HashMap::new();
    for (name, view) in file.iter() {
        let name = present_name(name);
        if found.insert(name.clone(), view).is_some() {
            return Err(Error::data(format!("{name} is there twice, by its old and new name")));
        }
    }
    complete(table, found.keys())?;
    let mut tensors = BTreeMap::new();
    for spec in table.specs() {
        let (view, order) = (&found[&spec.name], Order::of(spec));
        if view.dtype() != Dtype::F32 {
            return Err(Error::data(format!("{} is {:?}, not F32", spec.name, view.dtype()))
                .help("load it in diffusers with torch_dtype=torch.float32 and save it again"));
        }
        let theirs = order.theirs(spec.shape.dims());
        let shape = match view.shape() {
            // Attention was once made of 1x1 convolutions.
            [o, i, 1, 1] if order == Order::Linear => vec![*o, *i],
            shape => shape.to_vec(),
        };
        expect_shape(&spec.name, &shape, &theirs)?;
        let words = view.data().as_chunks::<4>().0;
        let data: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
        let data = permute(data, &shape, order.to_ours());
        tensors.insert(spec.name.clone(), Tensor { shape: spec.shape.dims().to_vec(), data });
    }
    Ok(tensors)
}

/// Attention's projections had other names before diffusers 0.18.
fn present_name(name: &str) -> String {
    const RENAMED: [(&str, &str); 4] =
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    for (old, new) in RENAMED {
        for part in ["weight", "bias"] {
            let tail = format!(".attentions.0.{old}.{part}");
            if let Some(block) = name.strip_suffix(&tail) {
                return format!("{block}.attentions.0.{new}.{part}");
            }
        }
    }
    name.into()
}

/// # Errors
/// `names` are not exactly the parameters of `table`.
fn complete<'a>(table: &ParamTable, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut given: Vec<&String> = names.collect();
    given.sort();
    let wanted = |name: &String| table.find(name).is_some();
    let unknown: Vec<_> = given.iter().copied().filter(|n| !wanted(n)).collect();
    let mut missing: Vec<_> = table.specs().iter().map(|s| &s.name).collect();
    missing.retain(|n| given.binary_search(n).is_err());
    let some = |names: &[&String]| {
        let first: Vec<_> = names.iter().take(3).map(|n| n.as_str()).collect();
        let more = if names.len() > 3 { ", .." } else { "" };
        format!("{} ({}{more})", names.len(), first.join(", "))
    };
    let what = match (missing.is_empty(), unknown.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => format!("missing tensors: {}", some(&missing)),
        (true, false) => format!("unknown tensors: {}", some(&unknown)),
    };
    Err(Error::data(what).help("do the sizes in config.json belong to these weights?"))
}

fn expect_shape(name: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::data(format!("{name} is {found:?}, the model wants {wanted:?}"))
        .help("do the sizes in config.json belong to these weights?"))
}
