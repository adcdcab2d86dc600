//! From a kernel's WGSL template to validated code: preprocess, lower, reflect, cross-compile.

mod half;
mod library;
pub mod preprocess;
mod reflect;
mod tokens;

pub use reflect::{Access, Binding, Element, Layout};

use crate::error::Result;
use crate::kernels::{Kernel, Needs};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

/// A kernel's final WGSL and what naga read from it.
#[derive(Debug)]
pub struct Shader {
    pub source: String,
    pub layout: Layout,
    pub module: naga::Module,
    pub info: naga::valid::ModuleInfo,
    pub needs: Needs,
}

/// Storage bindings occupy 0..8; the uniforms sit at fixed numbers behind them.
pub const DIMS_BINDING: u32 = 8;
pub const STEP_BINDING: u32 = 9;

/// Preprocesses, parses and validates one specialised kernel.
///
/// # Errors
/// A defect of the shader, located in the file it was written in.
pub fn build(kernel: &dyn Kernel) -> Result<Shader> {
    reflect::compile(kernel.name(), expand(kernel)?, kernel.needs())
}

/// The final source alone: the key under which devices share pipelines.
pub fn source(kernel: &dyn Kernel) -> Result<String> {
    Ok(expand(kernel)?.source)
}

fn expand(kernel: &dyn Kernel) -> Result<preprocess::Expanded> {
    let text = preprocess::expand(kernel.shader(), kernel.wgsl(), &kernel.consts())?;
    match kernel.half() {
        0 => Ok(text),
        mask => half::lower(text, mask),
    }
}

/// The same shader in another language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    SpirV,
    Msl,
    Hlsl,
}

/// Cross-compiles to `target`: SPIR-V as little-endian bytes, MSL and HLSL as text.
pub fn cross(name: &str, shader: &Shader, target: Target) -> Result<Vec<u8>> {
    reflect::cross(name, shader, target)
}

/// The layout of a kernel, remembered by source: recording a tape and preparing a list ask for it
/// at every launch.
pub fn layout(kernel: &dyn Kernel) -> Result<Arc<Layout>> {
    layout_of(kernel, source(kernel)?)
}

/// As [`layout`], for a caller who has asked for the kernel's source already.
pub(crate) fn layout_of(kernel: &dyn Kernel, source: String) -> Result<Arc<Layout>> {
    static KNOWN: OnceLock<Mutex<HashMap<String, Arc<Layout>>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Default::default);
    if let Some(layout) = known.lock().unwrap_or_else(|e| e.into_inner()).get(&source) {
        return Ok(layout.clone());
    }
    let layout = Arc::new(build(kernel)?.layout);
    known.lock().unwrap_or_else(|e| e.into_inner()).insert(source, layout.clone());
    Ok(layout)
}
