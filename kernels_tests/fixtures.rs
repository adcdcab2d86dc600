//! Values recorded from PyTorch: `fixtures/ops/<family>.safetensors`.

use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// The tensors of one file.
pub struct Fixture {
    family: &'static str,
    bytes: Vec<u8>,
}

impl Fixture {
    pub fn load(family: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels_tests/fixtures/ops");
        let path = folder.join(format!("{family}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Fixture { family, bytes }
    }

    fn words<const BYTES: usize>(&self, name: &str, dtype: Dtype) -> Vec<[u8; BYTES]> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{}.{name}: {e}", self.family));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().as_chunks::<BYTES>().0.to_vec()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.words(name, Dtype::F32).into_iter().map(f32::from_le_bytes).collect()
    }

    /// Indices, recorded as i64.
    pub fn index(&self, name: &str) -> Vec<u32> {
        let to_u32 = |b| u32::try_from(i64::from_le_bytes(b)).expect("an index");
        self.words(name, Dtype::I64).into_iter().map(to_u32).collect()
    }

    /// Size of one dimension.
    pub fn dim(&self, name: &str, axis: usize) -> usize {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        file.tensor(name).unwrap_or_else(|e| panic!("{}.{name}: {e}", self.family)).shape()[axis]
    }
}
