//! Checks the candidates against the baseline, then times them in turn.

use super::Choice;
use crate::device::widen::{narrow, widen};
use crate::device::{Device, Launch, ListId, Range};
use crate::error::Result;
use crate::kernels::{Fill, Kernel, StepScalars};
use crate::shader::{self, Element, Layout};
use std::sync::Arc;

/// Samples of each candidate; candidates take turns, so that a slow phase of the machine hits all.
const ROUNDS: usize = 5;
/// A sample lasts at least this long, in seconds, by repeating the launch.
const SAMPLE: f64 = 2e-3;
const REPEATS: usize = 64;
/// A variant must beat the baseline by 3 %: less is noise.
const MARGIN: f64 = 0.97;

struct Candidate {
    kernel: Arc<dyn Kernel>,
    once: ListId,
    list: ListId,
    repeats: usize,
    samples: Vec<f64>,
}

/// The fastest of `kernel` and `variants` on `device`. Leaves no buffers behind.
pub fn fastest(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    variants: &[Arc<dyn Kernel>],
    key: String,
    hash: String,
) -> Result<Choice> {
    let mark = device.mark();
    let outcome = race(device, kernel, variants);
    device.release(mark);
    let (variant, gain) = outcome?;
    Ok(Choice { key, variant, hash, gain })
}

fn race(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    variants: &[Arc<dyn Kernel>],
) -> Result<(String, f64)> {
    let layout = shader::layout(&**kernel)?;
    let binds = bindings(device, &**kernel, &layout)?;
    let baseline = candidate(device, kernel, &binds)?;
    let want = outputs(device, &baseline, &layout, &binds)?;
    let mut racers = vec![baseline];
    for variant in variants {
        let racer = candidate(device, variant, &binds)?;
        let got = outputs(device, &racer, &layout, &binds)?;
        // A driver that miscompiles a variant is not a reason to stop: the baseline runs.
        if agree(&**kernel, &layout, &want, &got) {
            racers.push(racer);
        }
    }
    for racer in &mut racers {
        // The first launch compiled lazily; this one says how often to repeat.
        let seconds = time(device, racer.once)?;
        racer.repeats = ((SAMPLE / seconds.max(1e-9)).ceil() as usize).clamp(1, REPEATS);
        let launch = Launch { kernel: racer.kernel.clone(), binds: binds.clone() };
        racer.list = device.prepare(&vec![launch; racer.repeats], &mut |_, _| {})?;
        time(device, racer.list)?;
    }
    for _ in 0..ROUNDS {
        for racer in &mut racers {
            racer.samples.push(time(device, racer.list)? / racer.repeats as f64);
        }
    }
    let medians: Vec<f64> = racers.iter_mut().map(|r| median(&mut r.samples)).collect();
    let best = (0..racers.len()).min_by(|&a, &b| medians[a].total_cmp(&medians[b])).unwrap_or(0);
    let best = if medians[best] < MARGIN * medians[0] { best } else { 0 };
    Ok((racers[best].kernel.variant(), medians[0] / medians[best]))
}

/// Scratch bindings. Small integers make every sum exact in any order; integer inputs are zeros,
/// which are valid indices everywhere.
fn bindings(device: &mut dyn Device, kernel: &dyn Kernel, layout: &Layout) -> Result<Vec<Range>> {
    let mut binds = vec![];
    for (i, len) in kernel.lens().into_iter().enumerate() {
        let element = layout.storage[i].element;
        let words = element.words(len);
        let buffer = device.create_buffer(words, "tuner")?;
        let mut fill = Fill::Ints(-3, 3).bits(len, i as u64 + 1);
        if element == Element::F16 {
            let floats: Vec<f32> = fill.into_iter().map(f32::from_bits).collect();
            fill = vec![0; words];
            narrow(&floats, &mut fill);
        }
        if element != Element::U32 {
            device.write(buffer, 0, &fill)?;
        }
        binds.push(Range { buffer, offset: 0, len: words });
    }
    Ok(binds)
}

fn candidate(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    binds: &[Range],
) -> Result<Candidate> {
    let launch = Launch { kernel: kernel.clone(), binds: binds.to_vec() };
    let once = device.prepare(&[launch], &mut |_, _| {})?;
    Ok(Candidate { kernel: kernel.clone(), once, list: once, repeats: 1, samples: vec![] })
}

/// The outputs of one launch on fresh outputs.
fn outputs(
    device: &mut dyn Device,
    candidate: &Candidate,
    layout: &Layout,
    binds: &[Range],
) -> Result<Vec<Vec<u32>>> {
    let written = || binds.iter().enumerate().filter(|(i, _)| layout.writes(*i));
    for (_, range) in written() {
        device.write(range.buffer, 0, &vec![0; range.len])?;
    }
    device.run(&[candidate.once], &StepScalars::default())?;
    written()
        .map(|(_, range)| {
            let mut words = vec![0; range.len];
            device.read(range.buffer, 0, &mut words)?;
            Ok(words)
        })
        .collect()
}

/// Integers must be equal; floats differ by no more than the worst rounding of as many operations
/// as go into one output, relative to the largest of them, and halves by two roundings more.
fn agree(kernel: &dyn Kernel, layout: &Layout, want: &[Vec<u32>], got: &[Vec<u32>]) -> bool {
    let written = layout.storage.iter().enumerate().filter(|(i, _)| layout.writes(*i));
    written.zip(want.iter().zip(got)).all(|((_, binding), (want, got))| {
        if binding.element == Element::U32 {
            return want == got;
        }
        let (want, got) = (floats(want, binding.element), floats(got, binding.element));
        let stored = match binding.element {
            Element::F16 => f64::from(half::f16::EPSILON),
            _ => 0.0,
        };
        let operations = kernel.cost().flops as f64 / want.len() as f64 + 8.0;
        let largest = want.iter().filter(|v| v.is_finite()).fold(0.0f64, |a, v| v.abs().max(a));
        let tolerance = (operations * f64::from(f32::EPSILON) + stored) * largest;
        want.into_iter()
            .zip(got)
            .all(|(w, g)| w == g || (w.is_nan() && g.is_nan()) || (w - g).abs() <= tolerance)
    })
}

fn floats(words: &[u32], element: Element) -> Vec<f64> {
    if element != Element::F16 {
        return words.iter().map(|w| f64::from(f32::from_bits(*w))).collect();
    }
    let mut wide = vec![0.0; 2 * words.len()];
    widen(words, &mut wide);
    wide.into_iter().map(f64::from).collect()
}

fn time(device: &mut dyn Device, list: ListId) -> Result<f64> {
    let samples = device.time(list, &StepScalars::default(), 1)?;
    Ok(samples.iter().map(|s| s.seconds).sum())
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
