//! Values recorded from PyTorch: `fixtures/ops/<family>.{safetensors,json}` and model folders.

use crate::device::left_out;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Everything recorded that is part of the repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels_tests/fixtures")
}

/// A folder of records that are too large for the repository: at `VQFORGE_SHARED`, else beside it.
/// Absent, as in every clone of the repository alone, a test says so and is skipped.
pub fn shared(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("VQFORGE_SHARED").map_or(beside, PathBuf::from);
    let path = root.join("fixtures").join(name);
    if path.exists() {
        return Some(path);
    }
    left_out(format_args!("a comparison with records: {} is missing", path.display()));
    None
}

/// The tensors of one file.
pub struct Fixture {
    name: String,
    bytes: Vec<u8>,
}

impl Fixture {
    pub fn load(family: &str) -> Self {
        Self::open(&folder().join("ops").join(format!("{family}.safetensors")))
    }

    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stem = path.file_stem().expect("a file name");
        Fixture { name: stem.to_string_lossy().into(), bytes }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("a safetensors file")
    }

    fn tensor<R>(&self, name: &str, read: impl FnOnce(TensorView<'_>) -> R) -> R {
        read(self.file().tensor(name).unwrap_or_else(|e| panic!("{}.{name}: {e}", self.name)))
    }

    fn words<const BYTES: usize>(&self, name: &str, dtype: Dtype) -> Vec<[u8; BYTES]> {
        self.tensor(name, |tensor| {
            assert_eq!(tensor.dtype(), dtype, "{name}");
            tensor.data().as_chunks::<BYTES>().0.to_vec()
        })
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.words(name, Dtype::F32).into_iter().map(f32::from_le_bytes).collect()
    }

    /// Indices, recorded as i64.
    pub fn index(&self, name: &str) -> Vec<u32> {
        let to_u32 = |b| u32::try_from(i64::from_le_bytes(b)).expect("an index");
        self.words(name, Dtype::I64).into_iter().map(to_u32).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.file().names().into_iter().map(String::from).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.file().tensor(name).is_ok()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name, |tensor| tensor.shape().to_vec())
    }

    /// Size of one dimension.
    pub fn dim(&self, name: &str, axis: usize) -> usize {
        self.shape(name)[axis]
    }

    /// The tensor with its dimensions in another order: dimension i of the result is dimension
    /// order[i] of the record.
    pub fn permuted(&self, name: &str, order: &[usize]) -> Vec<f32> {
        permute(&self.f32(name), &self.shape(name), order)
    }

    /// [n, c, ..] as [n, .., c].
    pub fn channels_last(&self, name: &str) -> Vec<f32> {
        let rank = self.shape(name).len();
        let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        self.permuted(name, &order)
    }

    /// Weights of a convolution, [out, in, kh, kw] as [kh, kw, in, out], or of a linear layer,
    /// [out, in] as [in, out]; anything else as it is.
    pub fn weights(&self, name: &str) -> Vec<f32> {
        match self.shape(name).len() {
            4 => self.permuted(name, &[2, 3, 1, 0]),
            2 => self.permuted(name, &[1, 0]),
            _ => self.f32(name),
        }
    }
}

fn permute(data: &[f32], shape: &[usize], order: &[usize]) -> Vec<f32> {
    let mut out = vec![f32::NAN; data.len()];
    for (from, &x) in data.iter().enumerate() {
        // Coordinates of `from`, last dimension first.
        let mut rest = from;
        let mut at = vec![0; shape.len()];
        for dim in (0..shape.len()).rev() {
            at[dim] = rest % shape[dim];
            rest /= shape[dim];
        }
        out[order.iter().fold(0, |to, &dim| to * shape[dim] + at[dim])] = x;
    }
    out
}

/// The cases that `<family>.json` describes.
pub fn cases(family: &str) -> Vec<Value> {
    let path = folder().join("ops").join(format!("{family}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let json: Value = serde_json::from_str(&text).expect("json");
    match &json["cases"] {
        Value::Array(cases) => cases.clone(),
        // By name, in `quantisers`.
        Value::Object(cases) => {
            let named = |(name, case): (&String, &Value)| {
                let mut case = case.clone();
                case["name"] = name.as_str().into();
                case
            };
            cases.iter().map(named).collect()
        }
        other => panic!("{family}: {other} are no cases"),
    }
}
