//! The example of a user's own kernel and operation, held to what the built-in ones are held to.

#[expect(dead_code, reason = "an example's main")]
#[path = "../examples/custom_op/main.rs"]
mod example;

use crate::compare::within_bound;
use crate::device::{bind, floats, list, read};
use crate::engine;
use crate::gradients::prove;
use crate::rig::U;
use crate::roundings::DEVIATIONS;
use std::sync::Arc;
use vqforge::device::Device;
use vqforge::kernels::{Bind, Bounded, Fill, Io, Kernel, StepScalars};

#[test]
fn its_gradient_is_a_slope() {
    for x in [vec![1], vec![5, 3], vec![2, 41]] {
        prove("gauss", &format!("{x:?}"), |g| {
            let input = g.leaf(&x)?;
            Ok((vec![input], example::gauss(&mut g.tape, input)?))
        });
    }
}

#[test]
fn its_shader_equals_its_formula() {
    for place in engine::places() {
        for (n, backward, accum) in [(1, false, false), (65, true, false), (4100, true, true)] {
            check((place.fresh)(), example::Gauss { n, backward, accum });
        }
    }
}

fn check(mut device: Box<dyn Device>, kernel: example::Gauss) {
    let inputs: Vec<Vec<u32>> =
        (0..kernel.lens().len()).map(|i| Fill::normal().bits(kernel.n, i as u64)).collect();
    let binds = bind(&mut *device, &kernel, &inputs);
    let launched: Arc<dyn Kernel> = Arc::new(kernel.clone());
    let list = list(&mut *device, &launched, &binds);
    device.run(&[list], &StepScalars::default()).expect("run");
    let last = binds.len() - 1;
    let got = floats(&read(&mut *device, binds[last]));

    let exact = |w: &u32| Bounded::exact(f32::from_bits(*w));
    let mut values: Vec<Vec<Bounded>> =
        inputs.iter().map(|w| w.iter().map(exact).collect()).collect();
    let mut io = Io::new(StepScalars::default());
    for (i, v) in values.iter_mut().enumerate() {
        io.binds[i] = if i == last { Bind::Out(v) } else { Bind::In(v) };
    }
    kernel.naive_bounded(&mut io);
    within_bound(&got, &values[last]).unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
}

fn losses(device: Box<dyn Device>, steps: u64) -> Vec<f32> {
    example::train(device, steps).unwrap_or_else(|e| panic!("{e}"))
}

/// The loss falls; a GPU starts with the CPU's.
///
/// The first loss is behind three products of 2, 24 and 24 terms, which add n/6 + 1/3 each to the
/// variance of its roundings, and behind seven launches of a few roundings, which add 4: see
/// [`crate::roundings`]. What training makes of the difference is not bounded.
#[test]
fn its_loss_falls() {
    let cpu = losses(engine::cpu(2), 150);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    assert!(mean(&cpu[140..]) < 0.6 * mean(&cpu[..5]), "{cpu:?}");
    let Some(gpu) = engine::gpu() else { return };
    let (a, b) = (f64::from(cpu[0]), f64::from(losses(gpu, 1)[0]));
    let variance = 50.0 / 6.0 + 1.0 + 7.0 * 4.0;
    let tolerance = DEVIATIONS * U * (2.0f64 * variance).sqrt() * a;
    assert!((a - b).abs() <= tolerance, "{a} and {b}: more than {tolerance:.1e} apart");
}
