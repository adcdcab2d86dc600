//! The example of a user's own kernel and operation, held to what the built-in ones are held to.

#[expect(dead_code, reason = "an example's main")]
#[path = "../examples/custom_op/main.rs"]
mod example;

use crate::compare::within_bound;
use crate::engine;
use crate::gradients::prove;
use std::sync::Arc;
use vqforge::device::{Device, Launch, Range};
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
    for device in engine::devices() {
        for (n, backward, accum) in [(1, false, false), (65, true, false), (4100, true, true)] {
            check(engine::another(&*device), example::Gauss { n, backward, accum });
        }
    }
}

fn check(mut device: Box<dyn Device>, kernel: example::Gauss) {
    let inputs: Vec<Vec<u32>> =
        (0..kernel.lens().len()).map(|i| Fill::normal().bits(kernel.n, i as u64)).collect();
    let binds: Vec<Range> = inputs
        .iter()
        .map(|words| {
            let buffer = device.create_buffer(words.len(), "x").expect("buffer");
            device.write(buffer, 0, words).expect("write");
            Range { buffer, offset: 0, len: words.len() }
        })
        .collect();
    let launch = Launch { kernel: Arc::new(kernel.clone()), binds: binds.clone() };
    let list = device.prepare(&[launch], &mut |_, _| {}).expect("prepare");
    device.run(&[list], &StepScalars::default()).expect("run");
    let last = binds.len() - 1;
    let mut got = vec![0; kernel.n];
    device.read(binds[last].buffer, 0, &mut got).expect("read");

    let exact = |w: &u32| Bounded::exact(f32::from_bits(*w));
    let mut values: Vec<Vec<Bounded>> =
        inputs.iter().map(|w| w.iter().map(exact).collect()).collect();
    let mut io = Io::new(StepScalars::default());
    for (i, v) in values.iter_mut().enumerate() {
        io.binds[i] = if i == last { Bind::Out(v) } else { Bind::In(v) };
    }
    kernel.naive_bounded(&mut io);
    let got: Vec<f32> = got.into_iter().map(f32::from_bits).collect();
    within_bound(&got, &values[last]).unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
}

fn losses(device: Box<dyn Device>, steps: u64) -> Vec<f32> {
    example::train(device, steps).unwrap_or_else(|e| panic!("{e}"))
}

/// The loss falls; a GPU starts with the CPU's losses. (Two steps: before the optimiser divides by
/// small second moments, rounding has not grown yet.)
#[test]
fn its_loss_falls() {
    let cpu = losses(engine::cpu(2), 150);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    assert!(mean(&cpu[140..]) < 0.6 * mean(&cpu[..5]), "{cpu:?}");
    let Some(gpu) = engine::gpu() else { return };
    for (a, b) in cpu.iter().zip(losses(gpu, 2)) {
        assert!((a - b).abs() <= 1e-5 * a, "{a} and {b}");
    }
}
