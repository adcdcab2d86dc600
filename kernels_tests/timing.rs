//! `Device::time` against what must hold of any clock.

use crate::device;
use std::sync::Arc;
use std::time::Instant;
use vqforge::device::{Device, Flush, Launch, ListId, Range, Timer};
use vqforge::kernels::copy::Copy;
use vqforge::kernels::{Kernel, Matmul, StepScalars};

fn list_of(device: &mut dyn Device, kernel: impl Kernel + 'static, times: usize) -> ListId {
    let mut binds = vec![];
    for len in kernel.lens() {
        let buffer = device.create_buffer(len, "timed").expect("buffer");
        binds.push(Range { buffer, offset: 0, len });
    }
    let launch = Launch { kernel: Arc::new(kernel), binds };
    device.prepare(&vec![launch; times], &mut |_, _| {}).expect("list")
}

/// Samples lie within the host's time around them, and more work takes longer.
fn clock_is_plausible(device: &mut dyn Device) {
    device.clear();
    let step = StepScalars::default();
    let one = list_of(device, Matmul::new(96, 96, 96), 1);
    let many = list_of(device, Matmul::new(96, 96, 96), 16);
    for list in [one, many] {
        device.time(list, &step, 1).expect("the first run");
    }
    let outside = Instant::now();
    let samples = device.time(many, &step, 9).expect("time");
    let outside = outside.elapsed().as_secs_f64();
    assert_eq!(samples.len(), 9);
    let inside: f64 = samples.iter().map(|s| s.seconds).sum();
    // The two clocks are different quartzes.
    assert!(inside <= 1.01 * outside, "{inside} s within {outside} s");
    for s in samples.iter().chain(&device.time(one, &step, 1).expect("time")) {
        assert!(s.seconds > 0.0 && s.cpu_seconds >= 0.0, "{s:?}");
    }
    let fastest = |samples: Vec<vqforge::device::Sample>| {
        samples.iter().map(|s| s.seconds).fold(f64::INFINITY, f64::min)
    };
    let (one, many) = (
        fastest(device.time(one, &step, 9).expect("time")),
        fastest(device.time(many, &step, 9).expect("time")),
    );
    assert!(many > 2.0 * one, "16 runs take {many} s, one takes {one} s");
}

#[test]
fn the_cpu_is_timed_by_the_wall() {
    let mut device = device::cpu(1);
    assert_eq!(device.timer(), Timer::Wall);
    clock_is_plausible(&mut *device);
}

#[test]
fn the_gpu_is_timed() {
    let Some(mut device) = device::own_gpu() else { return };
    eprintln!("timed by {:?}", device.timer());
    clock_is_plausible(&mut *device);
}

/// A flush leaves other buffers alone and never binds more than the device can.
#[test]
fn flushes_write_their_own_buffer() {
    let mut devices = vec![device::cpu(2)];
    devices.extend(device::own_gpu());
    for device in &mut devices {
        let list = list_of(&mut **device, Copy { n: 64, accum: false }, 1);
        let words: Vec<u32> = (0..64).collect();
        let first = vqforge::device::BufferId(0);
        device.write(first, 0, &words).expect("write");
        let flush = Flush::new(&mut **device, 1 << 20).expect("flush");
        flush.run(&mut **device).expect("flush");
        device.time(list, &StepScalars::default(), 1).expect("time");
        let mut read = vec![0; 64];
        device.read(vqforge::device::BufferId(1), 0, &mut read).expect("read");
        assert_eq!(read, words, "{}", device.describe());
    }
}
