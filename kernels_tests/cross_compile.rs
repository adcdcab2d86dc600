//! Portability without the hardware: every kernel x variant becomes SPIR-V (checked by spirv-val),
//! MSL and HLSL, and compiles under the limits of the GPUs users have.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use vqforge::device::{Device, Launch, Range, noop};
use vqforge::kernels::{Caps, Half, Kernel, Needs, registry};
use vqforge::shader::{self, Target};

/// Everything, on devices with subgroups of any size, of one size as most have, of two as RDNA, and
/// of vector registers. Matrices are emulated on one of them: that is for tests.
fn everything() -> Vec<Caps> {
    let caps = |sizes: (u32, u32)| {
        let (software, emulate_coop) = (sizes == (4, 4), sizes == (32, 32));
        Caps { subgroups: Some(sizes), software, emulate_coop, ..Caps::all() }
    };
    [(4, 4), (4, 128), (32, 32), (32, 64)].map(caps).to_vec()
}

/// One kernel for each distinct final source: the baselines, and what `caps` add to them: variants,
/// and all with all of the bindings in f16 that may be. (Each binding by itself is lowered and
/// validated where `half_kernels` runs the cpu form.)
fn variants(caps: &[Caps]) -> Vec<Arc<dyn Kernel>> {
    let mut seen = BTreeSet::new();
    let mut kernels: Vec<Arc<dyn Kernel>> = vec![];
    for case in registry().into_iter().flat_map(|e| (e.cases)()) {
        let more: Vec<_> = caps.iter().flat_map(|caps| case.kernel.variants(caps)).collect();
        let mut all: Vec<_> = std::iter::once(case.kernel).chain(more).collect();
        if caps.iter().any(|caps| caps.f16) {
            let halves: Vec<_> = all.iter().map(|k| Half::of(k.clone(), u32::MAX)).collect();
            all.extend(halves);
        }
        for kernel in all {
            let source = shader::source(&*kernel).unwrap_or_else(|e| panic!("{e}"));
            if seen.insert(source) {
                kernels.push(kernel);
            }
        }
    }
    kernels
}

#[test]
fn every_variant_cross_compiles() {
    let folder = std::env::temp_dir().join(format!("vqforge-spirv-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary folder");
    let validator = Command::new("spirv-val").arg("--version").output().is_ok();
    if !validator {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "spirv-val (Debian: spirv-tools) is missing"
        );
        eprintln!("SKIPPED spirv-val: not installed");
    }
    let mut unknown = 0;
    for (i, kernel) in variants(&everything()).iter().enumerate() {
        let name = kernel.name();
        let shader = shader::build(&**kernel).unwrap_or_else(|e| panic!("{e}\n{kernel:?}"));
        for target in [Target::SpirV, Target::Msl, Target::Hlsl] {
            if target == Target::Hlsl && kernel.needs().coop_matrix > 0 {
                // wgpu has them on Vulkan and Metal alone.
                assert!(shader::cross(name, &shader, target).is_err());
                continue;
            }
            let code = shader::cross(name, &shader, target).unwrap_or_else(|e| panic!("{e}"));
            assert!(!code.is_empty(), "{name} {target:?}");
            if target == Target::SpirV && validator {
                let coop = kernel.needs().coop_matrix > 0;
                let environment = if coop { "vulkan1.3" } else { "vulkan1.1" };
                let file = folder.join(format!("{name}-{i}.spv"));
                std::fs::write(&file, &code).expect("write");
                let out = Command::new("spirv-val")
                    .args(["--target-env", environment])
                    .arg(&file)
                    .output()
                    .expect("spirv-val");
                let complaint = String::from_utf8_lossy(&out.stderr);
                // The number of CooperativeMatrixKHR, to a validator older than it.
                if coop && complaint.contains("Invalid capability operand: 6022") {
                    unknown += 1;
                    continue;
                }
                assert!(out.status.success(), "{name}: {complaint}\n{kernel:?}");
            }
        }
    }
    if unknown > 0 {
        eprintln!(
            "SKIPPED spirv-val for {unknown} cooperative-matrix shaders: it does not know them"
        );
    }
    std::fs::remove_dir_all(&folder).expect("clean up");
}

/// The baselines keep to WebGPU's defaults, whatever the adapter offers.
#[test]
fn every_baseline_fits_webgpu() {
    let limits = wgpu::Limits::default();
    for kernel in variants(&[]) {
        assert_eq!(kernel.needs(), Needs::default(), "{kernel:?}");
        let layout = shader::build(&*kernel).unwrap_or_else(|e| panic!("{e}")).layout;
        let name = kernel.name();
        let [x, y, z] = layout.workgroup;
        assert!(x * y * z <= limits.max_compute_invocations_per_workgroup, "{name}");
        assert!(layout.shared_bytes <= limits.max_compute_workgroup_storage_size, "{name}");
        assert!(
            layout.storage.len() <= limits.max_storage_buffers_per_shader_stage as usize,
            "{name}"
        );
        let per_dimension = limits.max_compute_workgroups_per_dimension;
        assert!(kernel.grid().iter().all(|&g| (1..=per_dimension).contains(&g)), "{name}");
    }
}

/// Limits as such GPUs report them (gpuinfo.org); the noop backend takes any.
fn profiles() -> Vec<(&'static str, wgpu::Limits)> {
    let base = wgpu::Limits::default();
    let sized = |binding: u64, buffer: u64, align: u32| wgpu::Limits {
        max_storage_buffer_binding_size: binding,
        max_buffer_size: buffer,
        min_uniform_buffer_offset_alignment: align,
        min_storage_buffer_offset_alignment: align,
        ..base.clone()
    };
    vec![
        ("WebGPU minimum", base.clone()),
        ("Intel Xe", sized((1 << 30) - 4, 1 << 31, 64)),
        ("AMD RDNA", sized((1 << 32) - 4, (1 << 32) - 4, 32)),
        ("Apple M1", sized((1 << 32) - 4, (1 << 32) - 4, 256)),
        ("NVIDIA", sized((1 << 32) - 4, (1 << 32) - 4, 64)),
    ]
}

#[test]
fn every_variant_compiles_on_every_profile() {
    for (name, limits) in profiles() {
        let mut device = noop(name, limits).unwrap_or_else(|e| panic!("{e}"));
        let Caps { workgroup_bytes, invocations, .. } = *device.caps();
        let within = |caps| Caps { workgroup_bytes, invocations, ..caps };
        let kernels = variants(&everything().into_iter().map(within).collect::<Vec<_>>());
        let mut launches = vec![];
        for kernel in &kernels {
            let mut binds = vec![];
            let layout = shader::layout(&**kernel).unwrap_or_else(|e| panic!("{e}"));
            for (len, binding) in kernel.lens().into_iter().zip(&layout.storage) {
                let len = binding.element.words(len);
                let buffer = device.create_buffer(len, "binding").unwrap_or_else(|e| panic!("{e}"));
                binds.push(Range { buffer, offset: 0, len });
            }
            launches.push(Launch { kernel: kernel.clone(), binds });
        }
        device.prepare(&launches, &mut |_, _| {}).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
