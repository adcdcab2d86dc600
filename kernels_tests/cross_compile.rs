//! Portability without the hardware: every kernel x variant becomes SPIR-V (checked by spirv-val),
//! MSL and HLSL, and compiles under the limits of the GPUs users have.

use crate::device::{left_out, list_of, skip, zeros};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use vqforge::device::{Launch, noop};
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
        skip("spirv-val: not installed (Debian: spirv-tools)");
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
        left_out(format_args!("spirv-val for {unknown} shaders with matrices: it knows none"));
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

/// A GPU that users have.
struct Profile {
    name: &'static str,
    limits: wgpu::Limits,
    caps: Caps,
}

impl Profile {
    /// Workgroup memory in KiB, invocations of a workgroup, sizes of a subgroup, sides of cooperative
    /// matrices; bytes that one binding and one buffer hold, and their alignment.
    fn new(
        name: &'static str,
        (kib, invocations): (u32, u32),
        subgroups: (u32, u32),
        coop_matrix: &[u32],
        [binding, buffer, align]: [u64; 3],
    ) -> Self {
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: binding,
            max_buffer_size: buffer,
            min_uniform_buffer_offset_alignment: align as u32,
            min_storage_buffer_offset_alignment: align as u32,
            max_compute_workgroup_storage_size: kib << 10,
            max_compute_invocations_per_workgroup: invocations,
            max_compute_workgroup_size_x: invocations,
            ..wgpu::Limits::default()
        };
        let caps = Caps {
            subgroups: Some(subgroups),
            software: name == "llvmpipe",
            f16: true,
            coop_matrix: coop_matrix.to_vec(),
            half_products: true,
            emulate_coop: false,
            workgroup_bytes: kib << 10,
            invocations,
        };
        Profile { name, limits, caps }
    }

    /// As such GPUs report themselves (gpuinfo.org); the noop backend takes any limits.
    fn all() -> Vec<Self> {
        let minimum = Profile {
            name: "WebGPU minimum",
            limits: wgpu::Limits::default(),
            caps: Caps::default(),
        };
        let whole = (1 << 32) - 4;
        vec![
            minimum,
            Self::new("Intel Xe", (32, 1024), (8, 32), &[], [(1 << 30) - 4, 1 << 31, 64]),
            Self::new("AMD RDNA 3", (64, 1024), (32, 64), &[16], [whole, whole, 32]),
            Self::new("Apple M1", (32, 1024), (32, 32), &[8], [whole, whole, 256]),
            Self::new("NVIDIA Ampere", (48, 1024), (32, 32), &[16], [whole, whole, 64]),
            Self::new("llvmpipe", (32, 1024), (8, 8), &[], [1 << 27, whole, 16]),
        ]
    }
}

/// Everything that a profile is offered keeps to its limits; what no profile before was offered is
/// compiled under them.
#[test]
fn every_variant_compiles_on_every_profile() {
    let mut compiled = BTreeSet::new();
    for Profile { name, limits, caps } in Profile::all() {
        let mut device = noop(name, limits.clone()).unwrap_or_else(|e| panic!("{e}"));
        let kernels = variants(std::slice::from_ref(&caps));
        let (mut launches, mut offered) = (vec![], 0);
        for kernel in &kernels {
            let layout = shader::layout(&**kernel).unwrap_or_else(|e| panic!("{e}"));
            let what = format!("{name}: {} {}", kernel.name(), kernel.variant());
            assert!(caps.allow(kernel.needs()), "{what} needs {:?}", kernel.needs());
            let [x, y, z] = layout.workgroup;
            assert!(x * y * z <= caps.invocations, "{what}: {x} x {y} x {z} invocations");
            let bytes = layout.shared_bytes;
            assert!(bytes <= caps.workgroup_bytes, "{what}: {bytes} bytes of workgroup memory");
            offered += usize::from(kernel.variant() != "baseline");
            let source = shader::source(&**kernel).unwrap_or_else(|e| panic!("{e}"));
            if !compiled.insert(source) {
                continue;
            }
            let lens = kernel.lens().into_iter().zip(&layout.storage);
            let binds = lens.map(|(len, b)| zeros(&mut device, b.element.words(len))).collect();
            launches.push(Launch { kernel: kernel.clone(), binds });
        }
        println!("{name}: {} shaders, {offered} variants, {} new", kernels.len(), launches.len());
        assert!(offered > 0 || caps == Caps::default(), "{name} is offered nothing");
        list_of(&mut device, &launches);
    }
}
