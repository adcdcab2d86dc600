//! Weights in safetensors files that PyTorch's libraries wrote, and to be read by them.
//!
//! Names are the same on both sides (the models took theirs); only the order of
//! dimensions differs. Data are moved, never computed on: read, write and read again gives the same
//! bits.
//!
//! | tensor              | there             | here               |
//! |---------------------|-------------------|--------------------|
//! | convolution weights | [out, in, kh, kw] | [kh, kw, in, out]  |
//! | linear weights      | [out, in]         | [in, out]          |
//! | codebook            | [K, d]            | [K, d]             |
//! | biases, norms       | [n]               | [n]                |

use crate::data::atomic::write_atomically;
use crate::data::permute::permute;
use crate::error::{Error, Result};
use crate::plan::{ParamSpec, ParamTable};
use crate::train::checkpoint::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// Larger headers are refused before they are parsed.
const MAX_HEADER: u64 = 10 << 20;
const MAX_TENSORS: usize = 100_000;

/// Every parameter of `table`, in our layouts, from the file at `path`. What is `ignored` may be there too.
///
/// # Errors
/// Exit code 4: not there, damaged, a tensor that is missing, unknown, of another shape or not f32.
pub fn read(
    path: &Path,
    table: &ParamTable,
    ignored: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|e| {
        Error::data("the model's weights cannot be read").at_path(path).why(e).help(
            "older folders hold a .bin file: load it in Python and save it again with \
             safe_serialization=True",
        )
    })?;
    parse(&bytes, table, ignored).map_err(|e| e.at_path(path))
}

/// Writes the parameters of `table`.
///
/// # Errors
/// Tensors that are not the table's, the disk.
pub fn write(path: &Path, table: &ParamTable, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    complete(table, tensors.keys())?;
    let mut data = vec![];
    for spec in table.specs() {
        let tensor = &tensors[&spec.name];
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
    write_atomically(path, |w| w.write_all(&bytes))
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
            2 if !is_table(&spec.name) => Order::Linear,
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

/// Tables of vectors, whose rows are looked up and not multiplied.
fn is_table(name: &str) -> bool {
    ["emb.weight", "embedding.weight", "embeddings"].iter().any(|end| name.ends_with(end))
}

fn parse(
    bytes: &[u8],
    table: &ParamTable,
    ignored: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Tensor>> {
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
    for (name, view) in file.iter().filter(|(name, _)| !ignored(name)) {
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
                .help("load it in Python with torch_dtype=torch.float32 and save it again"));
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
pub(super) fn complete<'a>(
    table: &ParamTable,
    names: impl Iterator<Item = &'a String>,
) -> Result<()> {
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

pub(super) fn expect_shape(name: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::data(format!("{name} is {found:?}, the model wants {wanted:?}"))
        .help("do the sizes in config.json belong to these weights?"))
}
