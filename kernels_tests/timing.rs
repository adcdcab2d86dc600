//! `Device::time` against what must hold of any clock.

use crate::device::{self, holding, on_devices, one_mebibyte, read};
use std::sync::Arc;
use std::time::Instant;
use vqforge::device::{Device, Flush, Launch, ListId, Timer};
use vqforge::kernels::{Kernel, Matmul, StepScalars};

fn list_of(device: &mut dyn Device, kernel: impl Kernel + 'static, times: usize) -> ListId {
    let binds = device::bind(device, &kernel, &[]);
    device::list_of(device, &vec![Launch { kernel: Arc::new(kernel), binds }; times])
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

/// A flush does something, and leaves other buffers alone.
#[test]
fn flushes_write_their_own_buffer() {
    on_devices(|device| {
        device.clear();
        let words: Vec<u32> = (0..64).collect();
        let kept = holding(device, &words);
        let flush = Flush::new(device, 1 << 20).expect("flush");
        let before = device.stats().dispatches;
        flush.run(device).expect("flush");
        assert!(device.stats().dispatches > before, "{} ran nothing", device.describe());
        assert_eq!(read(device, kept), words, "{}", device.describe());
    });
}

/// A flush never binds more than the device can, and no less when asked for more.
#[test]
fn flushes_fit_the_device() {
    let mut device = one_mebibyte();
    let flush = Flush::new(&mut *device, 1 << 23).expect("flush");
    let bytes = device.stats().buffer_bytes;
    // The sizes of the launch beside it.
    assert!((1 << 20..(1 << 20) + 4096).contains(&bytes), "{bytes}");
    flush.run(&mut *device).expect("flush");
    assert_eq!(device.stats().dispatches, 1);
}
