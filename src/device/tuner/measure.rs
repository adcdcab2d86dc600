//! Checks the candidates against the baseline, then times them in turn.

use crate::device::widen::{narrow, widen};
use crate::device::{Device, Launch, ListId, Range, scratch};
use crate::error::{Error, Result};
use crate::kernels::{Fill, Kernel, StepScalars};
use crate::shader::{self, Element, Layout};
use std::sync::Arc;

/// Samples of each candidate; candidates take turns, so that a slow phase of the machine hits all.
const ROUNDS: usize = 5;
/// A sample lasts about this long, in seconds, by repeating the launch, at most [`REPEATS`] times.
const SAMPLE: f64 = 2e-3;
const REPEATS: usize = 64;
/// A variant must beat the baseline by 3 %: less is noise.
const MARGIN: f64 = 0.97;

/// A variant that was not fit to be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// [`Kernel::variant`].
    pub variant: String,
    pub why: String,
}

/// The winner, by name, and by how much it beats the baseline.
pub(super) struct Outcome {
    pub variant: String,
    pub gain: f64,
    pub refused: Vec<Refused>,
}

struct Candidate {
    kernel: Arc<dyn Kernel>,
    once: ListId,
    list: ListId,
    repeats: usize,
    samples: Vec<f64>,
}

/// The fastest of `kernel` and `variants` on `device`. Leaves no buffers behind.
///
/// # Errors
/// The baseline does not run; the device is lost. What goes wrong with a variant refuses that variant.
pub(super) fn fastest(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    variants: &[Arc<dyn Kernel>],
) -> Result<Outcome> {
    let mark = device.mark();
    let outcome = race(device, kernel, variants);
    device.release(mark);
    outcome
}

fn race(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    variants: &[Arc<dyn Kernel>],
) -> Result<Outcome> {
    let layout = shader::layout(&**kernel)?;
    let binds = scratch::upload(device, contents(&**kernel, &layout))?;
    let baseline = Candidate::new(device, kernel, &binds)?;
    let want = outputs(device, &baseline, &layout, &binds)?;
    let (mut racers, mut refused) = (vec![baseline], vec![]);
    for variant in variants {
        match entrant(device, variant, &binds, (&**kernel, &layout, &want)) {
            Ok(racer) => racers.push(racer),
            // A driver that miscompiles a variant is not a reason to stop; one that is gone is.
            Err(e) => {
                device.finish()?;
                refused.push(Refused { variant: variant.variant(), why: e.to_string() });
            }
        }
    }
    for racer in &mut racers {
        // The first launch compiled lazily; this one says how often to repeat.
        let seconds = time(device, racer.once)?.unwrap_or(SAMPLE);
        racer.repeats = ((SAMPLE / seconds.max(1e-9)).ceil() as usize).clamp(1, REPEATS);
        let launch = Launch { kernel: racer.kernel.clone(), binds: binds.clone() };
        racer.list = device.prepare(&vec![launch; racer.repeats], &mut |_, _| {})?;
        time(device, racer.list)?;
    }
    for round in 0..ROUNDS {
        // To and fro, so that a drift of the clock rate favours none.
        for turn in 0..racers.len() {
            let i = if round % 2 == 0 { turn } else { racers.len() - 1 - turn };
            let sample = time(device, racers[i].list)?;
            let repeats = racers[i].repeats as f64;
            racers[i].samples.extend(sample.map(|s| s / repeats));
        }
    }
    let medians: Vec<f64> = racers.iter_mut().map(|r| median(&mut r.samples)).collect();
    let best = (0..racers.len()).min_by(|&a, &b| medians[a].total_cmp(&medians[b])).unwrap_or(0);
    let gain = medians[0] / medians[best];
    // A clock too coarse for the kernel tells nothing.
    if gain.is_finite() && gain * MARGIN > 1.0 {
        return Ok(Outcome { variant: racers[best].kernel.variant(), gain, refused });
    }
    Ok(Outcome { variant: kernel.variant(), gain: 1.0, refused })
}

/// What to race on. Small integers make every sum exact in any order; integer inputs are zeros,
/// which are valid indices everywhere.
fn contents(kernel: &dyn Kernel, layout: &Layout) -> Vec<Vec<u32>> {
    let fill = |(i, len): (usize, usize)| {
        let element = layout.storage[i].element;
        if element == Element::U32 {
            return vec![0; len];
        }
        let bits = Fill::Ints(-3, 3).repeated(len, i as u64 + 1);
        if element == Element::F32 {
            return bits;
        }
        let floats: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let mut halves = vec![0; element.words(len)];
        narrow(&floats, &mut halves);
        halves
    };
    kernel.lens().into_iter().enumerate().map(fill).collect()
}

impl Candidate {
    fn new(device: &mut dyn Device, kernel: &Arc<dyn Kernel>, binds: &[Range]) -> Result<Self> {
        let launch = Launch { kernel: kernel.clone(), binds: binds.to_vec() };
        let once = device.prepare(&[launch], &mut |_, _| {})?;
        Ok(Candidate { kernel: kernel.clone(), once, list: once, repeats: 1, samples: vec![] })
    }
}

/// A variant that compiles, runs, and computes what the baseline does.
fn entrant(
    device: &mut dyn Device,
    variant: &Arc<dyn Kernel>,
    binds: &[Range],
    (baseline, layout, want): (&dyn Kernel, &Layout, &[Vec<u32>]),
) -> Result<Candidate> {
    let racer = Candidate::new(device, variant, binds)?;
    let got = outputs(device, &racer, layout, binds)?;
    let rounding = match variant.needs().f16 && !baseline.needs().f16 {
        // Attention's weights, which no choice of inputs makes exact.
        true => 2.0 * f64::from(half::f16::EPSILON),
        false => 0.0,
    };
    if agree(baseline, layout, want, &got, rounding) {
        Ok(racer)
    } else {
        Err(Error::failed("its results are not the baseline's"))
    }
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
    scratch::download(device, written().map(|(_, range)| range))
}

/// Integers must be equal; floats differ by no more than the worst rounding of as many operations
/// as go into one output, relative to the largest of them, halves by two roundings more, and
/// everything by `rounding`.
fn agree(
    kernel: &dyn Kernel,
    layout: &Layout,
    want: &[Vec<u32>],
    got: &[Vec<u32>],
    rounding: f64,
) -> bool {
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
        let tolerance = (operations * f64::from(f32::EPSILON) + stored + rounding) * largest;
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

/// Seconds of one run; nothing where the clock failed but the device goes on.
fn time(device: &mut dyn Device, list: ListId) -> Result<Option<f64>> {
    match device.time(list, &StepScalars::default(), 1) {
        Ok(samples) => Ok(Some(samples.iter().map(|s| s.seconds).sum())),
        Err(_) => device.finish().map(|()| None),
    }
}

/// Infinite without samples.
fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::INFINITY)
}
