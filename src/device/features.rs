//! Which optional features of an adapter are switched on, and what they mean for the kernels.

use crate::kernels::Caps;
use wgpu::{Backend, CooperativeScalarType, DeviceType, Features};

/// Everything a variant of a kernel may use, and the GPU's clock, as far as the adapter has them.
pub fn wanted(adapter: &wgpu::Adapter) -> Features {
    let optional = Features::SUBGROUP
        | Features::SUBGROUP_BARRIER
        | Features::SHADER_F16
        | Features::TIMESTAMP_QUERY
        | Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    adapter.features() & optional
}

/// Limits of a device: WebGPU's defaults, to which the baseline variants keep, but buffers as large
/// and workgroups as roomy as the adapter allows.
pub fn limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    let best = adapter.limits();
    wgpu::Limits {
        max_buffer_size: best.max_buffer_size,
        max_storage_buffer_binding_size: best.max_storage_buffer_binding_size,
        max_compute_workgroup_storage_size: best.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: best.max_compute_invocations_per_workgroup,
        max_compute_workgroup_size_x: best.max_compute_workgroup_size_x,
        ..wgpu::Limits::default()
    }
}

/// The token with which wgpu lets cooperative matrices be used.
#[expect(unsafe_code, reason = "wgpu asks for an acknowledgement")]
pub fn experimental(features: Features) -> wgpu::ExperimentalFeatures {
    if features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // SAFETY: the token acknowledges that wgpu's experimental APIs may have defects. Only
        // cooperative matrices are used of them, by kernels of this crate that naga has validated
        // and that the tuner checks against the baseline before they run.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// What the kernels may use on a device opened with `features`.
pub fn caps(adapter: &wgpu::Adapter, features: Features, limits: &wgpu::Limits) -> Caps {
    let info = adapter.get_info();
    let mut coop_matrix = vec![];
    if features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16) {
        for p in adapter.cooperative_matrix_properties() {
            let square = p.m_size == p.n_size && p.n_size == p.k_size;
            let half =
                p.ab_type == CooperativeScalarType::F16 && p.cr_type == CooperativeScalarType::F32;
            if square && half && !coop_matrix.contains(&p.m_size) {
                coop_matrix.push(p.m_size);
            }
        }
    }
    let subgroups = match info.backend {
        // wgpu cannot ask Metal and answers (4, 64). GPUs with matrices have subgroups of 32.
        Backend::Metal if !coop_matrix.is_empty() => (32, 32),
        _ => (info.subgroup_min_size, info.subgroup_max_size),
    };
    Caps {
        software: info.device_type == DeviceType::Cpu,
        subgroups: features.contains(Features::SUBGROUP).then_some(subgroups),
        f16: features.contains(Features::SHADER_F16),
        coop_matrix,
        half_products: false,
        emulate_coop: false,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        invocations: limits.max_compute_invocations_per_workgroup,
    }
}
