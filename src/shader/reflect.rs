//! naga reads the bindings from the WGSL: their order, element type and mutability. Nothing about
//! bindings is typed a second time in Rust.

use super::preprocess::{Expanded, place};
use super::{DIMS_BINDING, STEP_BINDING, Shader, Target};
use crate::error::{Error, Result};
use crate::kernels::Needs;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ScalarKind, TypeInner};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    U32,
    /// Stored in 16 bits, computed with in 32: what [`crate::kernels::Half`] makes of an f32 binding.
    F16,
}

impl Element {
    /// 32-bit words that hold `n` elements.
    pub fn words(self, n: usize) -> usize {
        match self {
            Element::F16 => n.div_ceil(2),
            Element::F32 | Element::U32 => n,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub name: String,
    pub element: Element,
    pub access: Access,
    /// Bytes of one array element: 4, or 16 for vec4; halves 2, or 8.
    pub stride: u32,
}

/// What a pipeline layout needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Storage bindings 0.., in order.
    pub storage: Vec<Binding>,
    /// Bytes of the `dims` uniform, 0 when there is none.
    pub dims_bytes: u32,
    pub uses_step: bool,
    pub workgroup: [u32; 3],
    /// Bytes of workgroup memory.
    pub shared_bytes: u32,
}

impl Layout {
    pub fn writes(&self, binding: usize) -> bool {
        self.storage[binding].access == Access::ReadWrite
    }
}

/// Parses, validates and reflects.
pub fn compile(name: &str, text: Expanded, needs: Needs) -> Result<Shader> {
    let module = naga::front::wgsl::parse_str(&text.source).map_err(|e| {
        let place = e.location(&text.source).map(|l| locate(&text, l.line_number));
        Error::failed(format!("{name}: {}", e.message()))
            .at(place.unwrap_or_else(|| name.to_string()))
            .why(e.emit_to_string(&text.source))
    })?;
    let info = validator(needs).validate(&module).map_err(|e| {
        Error::failed(format!("{name}: the shader does not validate"))
            .why(e.emit_to_string(&text.source))
    })?;
    let layout = reflect(name, &module)?;
    Ok(Shader { source: text.source, layout, module, info, needs })
}

/// Accepts what the kernel says it needs and nothing more, so that a forgotten need shows.
fn validator(needs: Needs) -> Validator {
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER, needs.subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, needs.f16);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, needs.coop_matrix > 0);
    Validator::new(ValidationFlags::all(), capabilities)
}

fn locate(text: &Expanded, line: u32) -> String {
    match text.origins.get((line as usize).saturating_sub(1)) {
        Some((file, line)) => place(file, *line),
        None => format!("line {line}"),
    }
}

fn reflect(name: &str, module: &naga::Module) -> Result<Layout> {
    let bad = |what: String| Error::failed(format!("{name}: {what}"));
    let [entry] = &module.entry_points[..] else {
        return Err(bad("wants exactly one entry point".into()));
    };
    let mut storage: Vec<Option<Binding>> = vec![];
    let (mut dims_bytes, mut uses_step, mut shared_bytes) = (0, false, 0);
    for (_, variable) in module.global_variables.iter() {
        let inner = &module.types[variable.ty].inner;
        let called = variable.name.clone().unwrap_or_default();
        match (variable.space, &variable.binding) {
            (AddressSpace::WorkGroup, _) => shared_bytes += inner.size(module.to_ctx()),
            (AddressSpace::Uniform, Some(b)) if b.binding == DIMS_BINDING => {
                dims_bytes = inner.size(module.to_ctx());
            }
            (AddressSpace::Uniform, Some(b)) if b.binding == STEP_BINDING => uses_step = true,
            (AddressSpace::Storage { access }, Some(b)) => {
                let index = b.binding as usize;
                if storage.len() <= index {
                    storage.resize(index + 1, None);
                }
                let (element, stride) = element(module, inner).ok_or_else(|| {
                    bad(format!("binding {called} is not an array of f32, f16 or u32"))
                })?;
                let access = if access.contains(naga::StorageAccess::STORE) {
                    Access::ReadWrite
                } else {
                    Access::Read
                };
                storage[index] = Some(Binding { name: called, element, access, stride });
            }
            (AddressSpace::Private, _) => {}
            _ => return Err(bad(format!("global {called} has no place in the layout"))),
        }
    }
    let storage = storage
        .into_iter()
        .enumerate()
        .map(|(i, b)| b.ok_or_else(|| bad(format!("binding {i} is missing"))))
        .collect::<Result<_>>()?;
    Ok(Layout { storage, dims_bytes, uses_step, workgroup: entry.workgroup_size, shared_bytes })
}

fn element(module: &naga::Module, inner: &TypeInner) -> Option<(Element, u32)> {
    let TypeInner::Array { base, stride, .. } = inner else { return None };
    let scalar = match &module.types[*base].inner {
        TypeInner::Scalar(s) => *s,
        TypeInner::Vector { scalar, .. } => *scalar,
        _ => return None,
    };
    match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => Some((Element::F32, *stride)),
        (ScalarKind::Float, 2) => Some((Element::F16, *stride)),
        (ScalarKind::Uint, 4) => Some((Element::U32, *stride)),
        _ => None,
    }
}

pub fn cross(name: &str, shader: &Shader, target: Target) -> Result<Vec<u8>> {
    let failed =
        |e: String| Error::failed(format!("{name}: cannot be written as {target:?}")).why(e);
    let (module, info) = (&shader.module, &shader.info);
    match target {
        Target::SpirV => {
            // Subgroup operations came with SPIR-V 1.3, cooperative matrices want 1.6.
            let options = naga::back::spv::Options {
                lang_version: match shader.needs {
                    Needs { coop_matrix: 1.., .. } => (1, 6),
                    _ => (1, 3),
                },
                ..Default::default()
            };
            let words = naga::back::spv::write_vec(module, info, &options, None)
                .map_err(|e| failed(e.to_string()))?;
            Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
        }
        Target::Msl => {
            let options = naga::back::msl::Options {
                lang_version: (2, 4),
                fake_missing_bindings: true,
                ..Default::default()
            };
            let pipeline = naga::back::msl::PipelineOptions::default();
            naga::back::msl::write_string(module, info, &options, &pipeline)
                .map(|(text, _)| text.into_bytes())
                .map_err(|e| failed(e.to_string()))
        }
        Target::Hlsl => {
            let mut options = naga::back::hlsl::Options {
                // 16-bit types came with shader model 6.2.
                shader_model: naga::back::hlsl::ShaderModel::V6_2,
                ..Default::default()
            };
            options.fake_missing_bindings = true;
            // `num_workgroups` arrives through a root constant on DX12.
            options.special_constants_binding =
                Some(naga::back::hlsl::BindTarget { space: 1, ..Default::default() });
            let pipeline = naga::back::hlsl::PipelineOptions::default();
            let mut text = String::new();
            naga::back::hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(module, info, None)
                .map_err(|e| failed(e.to_string()))?;
            Ok(text.into_bytes())
        }
    }
}
