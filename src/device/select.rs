//! Which device a run uses: `auto` picks a discrete GPU, an integrated GPU, then the built-in CPU
//! device. A software Vulkan runs only when asked for by name.

use super::{CpuDevice, Device, GpuDevice, features};
use crate::error::{Error, Result};

/// One line of `vqforge devices`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSummary {
    /// What `--device` takes.
    pub index: usize,
    pub name: String,
    /// "discrete", "integrated", "virtual", "software" or "cpu".
    pub kind: &'static str,
    pub backend: String,
    pub driver: String,
    pub pci: String,
    pub max_binding_mib: u64,
    pub max_buffer_mib: u64,
    /// Halves in storage: what mixed precision needs.
    pub f16: bool,
    /// Fewest and most invocations of a subgroup; absent without subgroup operations.
    pub subgroups: Option<(u32, u32)>,
    /// Sides of the cooperative matrices with f16 factors and f32 sums.
    pub coop_matrix: Vec<u32>,
    /// Whether kernels are timed by the GPU's own clock.
    pub timestamps: bool,
    /// Picked by `--device auto`.
    pub default: bool,
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

fn adapters() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()))
}

fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        _ => "software",
    }
}

/// Lower is preferred; `None` is never picked by itself.
fn preference(kind: &str) -> Option<u32> {
    match kind {
        "discrete" => Some(0),
        "virtual" => Some(1),
        "integrated" => Some(2),
        "cpu" => Some(3),
        _ => None,
    }
}

fn summary(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let features = features::wanted(adapter);
    let caps = features::caps(adapter, features, &limits);
    AdapterSummary {
        index,
        name: info.name.clone(),
        kind: kind(info.device_type),
        backend: info.backend.to_string(),
        driver: driver(&info),
        pci: info.device_pci_bus_id.clone(),
        max_binding_mib: limits.max_storage_buffer_binding_size >> 20,
        max_buffer_mib: limits.max_buffer_size >> 20,
        f16: caps.f16,
        subgroups: caps.subgroups,
        coop_matrix: caps.coop_matrix,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        default: false,
    }
}

fn summaries(adapters: &[wgpu::Adapter]) -> Vec<AdapterSummary> {
    let mut all: Vec<_> = adapters.iter().enumerate().map(|(i, a)| summary(i, a)).collect();
    all.push(AdapterSummary {
        index: all.len(),
        name: "cpu".into(),
        kind: "cpu",
        backend: "built-in".into(),
        driver: String::new(),
        pci: String::new(),
        max_binding_mib: 2047,
        max_buffer_mib: 2047,
        f16: true,
        subgroups: None,
        coop_matrix: vec![],
        timestamps: false,
        default: false,
    });
    let best = all.iter().filter_map(|s| Some((preference(s.kind)?, s.index))).min();
    if let Some((_, index)) = best {
        all[index].default = true;
    }
    all
}

/// Every device of this machine; the built-in CPU device is always the last.
pub fn list() -> Vec<AdapterSummary> {
    summaries(&adapters())
}

/// Opens `auto`, `cpu`, an index of [`list`], `pci:ADDRESS`, or a part of a device's name.
/// `threads` concerns the CPU device (0: all cores).
///
/// # Errors
/// An unknown or ambiguous name, with the list of valid ones; a device that does not open.
pub fn open(wanted: &str, threads: usize) -> Result<Box<dyn Device>> {
    // The CPU needs no driver, so no driver is asked.
    if wanted == "cpu" {
        return Ok(Box::new(CpuDevice::new(threads)?));
    }
    let adapters = adapters();
    let all = summaries(&adapters);
    let chosen = choose(wanted, &all)?;
    match adapters.get(chosen) {
        Some(adapter) => Ok(Box::new(open_adapter(adapter)?)),
        None => Ok(Box::new(CpuDevice::new(threads)?)),
    }
}

fn choose(wanted: &str, all: &[AdapterSummary]) -> Result<usize> {
    let valid = || {
        let lines = all.iter().map(|s| format!("{} ({}, {})", s.index, s.name, s.kind));
        format!("auto, cpu, {}", lines.collect::<Vec<_>>().join(", "))
    };
    if wanted == "auto" {
        return Ok(all.iter().find(|s| s.default).map_or(all.len() - 1, |s| s.index));
    }
    if let Ok(index) = wanted.parse::<usize>() {
        return match all.get(index) {
            Some(s) => Ok(s.index),
            None => Err(Error::no_device(format!("no device {index}"))
                .help(format!("use one of: {}", valid()))),
        };
    }
    let lower = wanted.to_lowercase();
    let matches: Vec<_> = all
        .iter()
        .filter(|s| match lower.strip_prefix("pci:") {
            Some(pci) => s.pci.to_lowercase() == pci,
            None => s.name.to_lowercase().contains(&lower),
        })
        .collect();
    match matches[..] {
        [one] => Ok(one.index),
        [] => Err(Error::no_device(format!("no device is called {wanted}"))
            .help(format!("use one of: {}", valid()))),
        _ => Err(Error::no_device(format!("{wanted} is the name of {} devices", matches.len()))
            .help(format!("use an index: {}", valid()))),
    }
}

fn open_adapter(adapter: &wgpu::Adapter) -> Result<GpuDevice> {
    let info = adapter.get_info();
    let name = format!("{}: {} ({})", info.backend, info.name, kind(info.device_type));
    open_with(name, adapter, features::limits(adapter))
}

fn open_with(name: String, adapter: &wgpu::Adapter, limits: wgpu::Limits) -> Result<GpuDevice> {
    let wanted = features::wanted(adapter);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("vqforge"),
        required_features: wanted,
        required_limits: limits.clone(),
        experimental_features: features::experimental(wanted),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|e| Error::no_device(format!("cannot open {name}")).why(e))?;
    let caps = features::caps(adapter, wanted, &limits);
    Ok(GpuDevice::new(name, driver(&adapter.get_info()), caps, device, queue))
}

fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info).trim().to_string()
}

/// A device that compiles and validates everything under `limits` and computes nothing: how plans
/// are checked for GPUs that are not here.
pub fn noop(name: &str, limits: wgpu::Limits) -> Result<GpuDevice> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions {
            noop: wgpu::NoopBackendOptions {
                enable: true,
                limits: Some(limits.clone()),
                ..Default::default()
            },
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::NOOP));
    let Some(adapter) = adapters.first() else {
        return Err(Error::no_device("the noop backend is not compiled in"));
    };
    open_with(format!("noop: {name}"), adapter, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(kinds: &[&'static str]) -> Vec<AdapterSummary> {
        let mut all = vec![];
        for (index, kind) in kinds.iter().enumerate() {
            all.push(AdapterSummary {
                index,
                name: format!("{kind} {index}"),
                kind,
                backend: "vulkan".into(),
                driver: String::new(),
                pci: format!("0000:0{index}:00.0"),
                max_binding_mib: 128,
                max_buffer_mib: 256,
                f16: false,
                subgroups: None,
                coop_matrix: vec![],
                timestamps: false,
                default: false,
            });
        }
        let best = all.iter().filter_map(|s| Some((preference(s.kind)?, s.index))).min();
        if let Some((_, i)) = best {
            all[i].default = true;
        }
        all
    }

    #[test]
    fn auto_never_picks_software() {
        assert_eq!(choose("auto", &fake(&["software", "cpu"])).unwrap(), 1);
        assert_eq!(
            choose("auto", &fake(&["software", "integrated", "discrete", "cpu"])).unwrap(),
            2
        );
        assert_eq!(choose("auto", &fake(&["software", "integrated", "cpu"])).unwrap(), 1);
    }

    #[test]
    fn names_indices_and_addresses() {
        let all = fake(&["software", "discrete", "discrete", "cpu"]);
        assert_eq!(choose("soft", &all).unwrap(), 0);
        assert_eq!(choose("pci:0000:02:00.0", &all).unwrap(), 2);
        assert_eq!(choose("3", &all).unwrap(), 3);
        for wrong in ["discrete", "9", "tpu", "pci:1"] {
            let e = choose(wrong, &all).unwrap_err();
            assert_eq!(e.exit_code(), 3);
            assert!(e.to_string().contains("auto, cpu"), "{e}");
        }
    }
}
