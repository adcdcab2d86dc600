//! A compiled kernel: what all launches share whose shaders have the same text.

use crate::error::{Error, Result};
use crate::kernels::{Kernel, StepScalars};
use crate::shader::{self, DIMS_BINDING, Layout, STEP_BINDING};
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;
use wgpu::ErrorFilter;

#[derive(Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroupLayout,
    pub layout: Arc<Layout>,
}

impl Pipeline {
    /// Compiles `source`, the final text of `kernel`.
    ///
    /// # Errors
    /// wgpu or the driver refuses the shader. The device goes on: the tuner, for one, tries others.
    pub(super) fn compile(
        device: &wgpu::Device,
        adapter: &str,
        kernel: &dyn Kernel,
        source: &str,
    ) -> Result<Self> {
        let layout = shader::layout_of(kernel, source.into())?;
        let label = Some(kernel.name());
        let refused = device.push_error_scope(ErrorFilter::Validation);
        let failed = device.push_error_scope(ErrorFilter::Internal);
        let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries(&layout),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(source)),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        // Scopes end in the opposite order.
        let failed = pollster::block_on(failed.pop());
        match pollster::block_on(refused.pop()).or(failed) {
            None => Ok(Pipeline { pipeline, bindings, layout }),
            Some(e) => Err(Error::device(format!(
                "cannot compile {}, {}",
                kernel.name(),
                kernel.variant()
            ))
            .at(adapter)
            .why(e)
            .help("update the driver, or run with --device cpu")),
        }
    }
}

/// Storage bindings in order, then the uniforms that the shader uses.
fn entries(layout: &Layout) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding: u32, ty: wgpu::BufferBindingType, bytes: u64| {
        let min_binding_size = NonZeroU64::new(bytes);
        wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size },
            count: None,
        }
    };
    let mut entries: Vec<_> = (0..layout.storage.len())
        .map(|i| {
            let ty = wgpu::BufferBindingType::Storage { read_only: !layout.writes(i) };
            entry(i as u32, ty, u64::from(layout.storage[i].stride))
        })
        .collect();
    let uniform = wgpu::BufferBindingType::Uniform;
    if layout.dims_bytes > 0 {
        entries.push(entry(DIMS_BINDING, uniform, u64::from(layout.dims_bytes)));
    }
    if layout.uses_step {
        entries.push(entry(STEP_BINDING, uniform, size_of::<StepScalars>() as u64));
    }
    entries
}
