//! Every kernel that may store halves, with all and with each of the allowed bindings in f16: the cpu
//! and the WGSL form against the naive form on inputs that f16 holds exactly. Nothing but the stores
//! may round to f16, so outputs lie within the derived bound of f32, rounded once.

use crate::compare::{within_bound, within_half};
use crate::device::{self, floats};
use crate::registry::{Bits, inputs, naive, on_device};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::BTreeSet;
use vqforge::device::Device;
use vqforge::kernels::{Bounded, Case, Half, MAX_BINDS, flag, registry};
use vqforge::shader::{self, Element, Layout};

/// f32 bits as words of two halves.
fn pack(bits: &[u32]) -> Vec<u32> {
    let mut halves = vec![f16::ZERO; bits.len().next_multiple_of(2)];
    halves[..bits.len()].convert_from_f32_slice(&floats(bits));
    halves.chunks(2).map(|h| u32::from(h[0].to_bits()) | u32::from(h[1].to_bits()) << 16).collect()
}

/// `n` halves as f32 bits.
fn unpack(words: &[u32], n: usize) -> Vec<u32> {
    let halves = words.iter().flat_map(|w| [*w as u16, (w >> 16) as u16]);
    halves.take(n).map(|h| f16::from_bits(h).to_f32().to_bits()).collect()
}

/// What the device makes of a case whose halves go in and come out as f32 bits.
fn launch(device: &mut dyn Device, case: &Case, layout: &Layout, inputs: &Bits) -> Bits {
    let half = |i: usize| layout.storage[i].element == Element::F16;
    let words = |(i, bits): (usize, &Vec<u32>)| if half(i) { pack(bits) } else { bits.clone() };
    let packed = inputs.iter().enumerate().map(words).collect();
    let outputs = on_device(device, case, &packed);
    let lens = case.kernel.lens();
    let floats = |(i, bits): (usize, Vec<u32>)| if half(i) { unpack(&bits, lens[i]) } else { bits };
    outputs.into_iter().enumerate().map(floats).collect()
}

/// The inputs of a case as its halves hold them; None if that makes a finite one infinite.
fn rounded(case: &Case, layout: &Layout) -> Option<Bits> {
    let mut all = inputs(case);
    for (bits, binding) in all.iter_mut().zip(&layout.storage) {
        if binding.element == Element::F16 {
            let before = std::mem::replace(bits, unpack(&pack(bits), bits.len()));
            let infinite = |w: &u32| f32::from_bits(*w).is_infinite();
            if bits.iter().zip(&before).any(|(now, then)| infinite(now) && !infinite(then)) {
                return None;
            }
        }
    }
    Some(all)
}

/// Largest share of a bound that any element used.
fn check(device: &mut dyn Device, case: &Case, layout: &Layout, bits: Bits) -> Result<f64, String> {
    let want = naive(case, layout, &bits, Bounded::exact, |k, io| k.naive_bounded(io)).0;
    let got = launch(device, case, layout, &bits);
    let mut used = 0.0f64;
    for (i, binding) in layout.storage.iter().enumerate().filter(|(i, _)| layout.writes(*i)) {
        let values = floats(&got[i]);
        let outcome = match binding.element {
            Element::F16 => within_half(&values, &want[i]),
            Element::F32 => within_bound(&values, &want[i]),
            Element::U32 => Err("a kernel of halves writes no integers".into()),
        };
        used = used.max(outcome.map_err(|e| format!("{}: {e}", binding.name))?);
    }
    Ok(used)
}

/// What lowering sees of a shader: its bindings, and whether it adds to its output. Compiling every
/// distinct source once more takes a software Vulkan minutes and shows no more of lowering.
fn outline(case: &Case) -> String {
    let layout = shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout;
    let adds = case.kernel.consts().contains(&flag("ACCUM", true));
    format!("{} {adds} {:?}", case.kernel.name(), layout.storage)
}

/// The first case of everything that `key` tells apart, lowered with `masks`.
fn run_all(device: &mut dyn Device, masks: &[u32], key: impl Fn(&Case) -> String) {
    let mut seen = BTreeSet::new();
    let mut kernels = BTreeSet::new();
    for case in registry().into_iter().flat_map(|e| (e.cases)()) {
        for &mask in masks {
            let case = Case { kernel: Half::of(case.kernel.clone(), mask), ..case.clone() };
            let key = key(&case);
            if case.kernel.half() == 0 || seen.contains(&key) {
                continue;
            }
            let layout = shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout;
            let Some(bits) = rounded(&case, &layout) else { continue };
            seen.insert(key);
            let outcome = check(device, &case, &layout, bits);
            let used = outcome.unwrap_or_else(|e| panic!("[{}] {e}\n{:?}", case.name, case.kernel));
            assert!(used <= 1.0);
            kernels.insert(case.kernel.name());
        }
    }
    println!("{}: {} shaders of {} kernels", device.describe(), seen.len(), kernels.len());
    assert!(kernels.len() >= 25, "{kernels:?}");
}

#[test]
fn cpu_form_on_halves() {
    let each: Vec<u32> = (0..MAX_BINDS).map(|i| 1 << i).chain([u32::MAX]).collect();
    let source = |case: &Case| shader::source(&*case.kernel).unwrap_or_else(|e| panic!("{e}"));
    run_all(&mut *device::cpu(0), &each, source);
}

#[test]
fn wgsl_form_on_halves() {
    let Some(mut device) = device::gpu() else { return };
    assert!(device.caps().f16, "{}: mixed precision is untested here", device.describe());
    run_all(&mut **device, &[u32::MAX], outline);
}
