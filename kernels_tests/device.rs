//! The devices the tests run on, what they all do with one, and what is said when there is none.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use vqforge::device::{self, CpuDevice, Device, Launch, ListId, Range, noop};
use vqforge::kernels::Kernel;

/// Whether this run must not leave out what its machine is supposed to have.
pub fn in_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

/// Says what is left out, where libtest does not keep it to itself: it captures what the `print`
/// macros write.
pub fn left_out(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}");
}

/// The same for what every machine of CI has: there, leaving it out is a failure.
#[track_caller]
pub fn skip(what: impl std::fmt::Display) {
    left_out(&what);
    assert!(!in_ci(), "in CI nothing may be skipped: {what}");
}

/// Whether recorded files are to be written anew.
pub fn blessing() -> bool {
    let blessing = std::env::var("VQFORGE_BLESS").as_deref() == Ok("1");
    assert!(!(blessing && in_ci()), "VQFORGE_BLESS in CI: nothing would be compared");
    blessing
}

/// The Vulkan (or other) adapter under test: `VQFORGE_TEST_DEVICE`, or else whatever GPU there is,
/// or else a software one.
fn open_gpu() -> Option<Box<dyn Device>> {
    let name = match std::env::var("VQFORGE_TEST_DEVICE") {
        Ok(name) => name,
        Err(_) => {
            let found = device::list().into_iter().find(|d| d.kind != "cpu");
            let Some(found) = found else {
                skip("on the GPU: no adapter here (Debian: mesa-vulkan-drivers)");
                return None;
            };
            found.index.to_string()
        }
    };
    Some(device::open(&name, 0).unwrap_or_else(|e| panic!("{e}")))
}

/// The adapter under test, shared by all tests that borrow it.
pub fn gpu() -> Option<MutexGuard<'static, Box<dyn Device>>> {
    static GPU: OnceLock<Option<Mutex<Box<dyn Device>>>> = OnceLock::new();
    let shared = GPU.get_or_init(|| {
        let device = open_gpu()?;
        eprintln!("GPU under test: {}", device.describe());
        Some(Mutex::new(device))
    });
    // A failed test poisons the lock; the device itself is still usable.
    shared.as_ref().map(|m| m.lock().unwrap_or_else(|e| e.into_inner()))
}

/// The same adapter once more, for a store that keeps its device.
pub fn own_gpu() -> Option<Box<dyn Device>> {
    open_gpu()
}

pub fn cpu(threads: usize) -> Box<dyn Device> {
    Box::new(CpuDevice::new(threads).unwrap_or_else(|e| panic!("{e}")))
}

/// A GPU that computes nothing and binds 1 MiB at most.
pub fn one_mebibyte() -> Box<dyn Device> {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 1 << 20,
        max_buffer_size: 1 << 20,
        ..wgpu::Limits::default()
    };
    Box::new(noop("1 MiB", limits).unwrap_or_else(|e| panic!("{e}")))
}

/// Runs `test` on the CPU device and on the GPU, if there is one; neither keeps what it made.
pub fn on_devices(mut test: impl FnMut(&mut dyn Device)) {
    test(&mut *cpu(0));
    if let Some(mut gpu) = gpu() {
        test(&mut **gpu);
        gpu.clear();
    }
}

pub fn floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&w| f32::from_bits(w)).collect()
}

pub fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|x| x.to_bits()).collect()
}

/// A kernel and what else this device may run in its place.
pub fn forms(device: &dyn Device, kernel: impl Kernel + 'static) -> Vec<Arc<dyn Kernel>> {
    let variants = kernel.variants(device.caps());
    let baseline: Arc<dyn Kernel> = Arc::new(kernel);
    std::iter::once(baseline).chain(variants).collect()
}

/// A buffer of zeros.
pub fn zeros(device: &mut dyn Device, len: usize) -> Range {
    let buffer = device.create_buffer(len, "test").unwrap_or_else(|e| panic!("{e}"));
    Range { buffer, offset: 0, len }
}

/// A buffer of these words.
pub fn holding(device: &mut dyn Device, words: &[u32]) -> Range {
    let range = zeros(device, words.len());
    device.write(range.buffer, 0, words).unwrap_or_else(|e| panic!("{e}"));
    range
}

/// Buffers for the bindings of `kernel`: the first ones hold `inputs`, the others zeros.
pub fn bind(device: &mut dyn Device, kernel: &dyn Kernel, inputs: &[Vec<u32>]) -> Vec<Range> {
    let mut binds: Vec<Range> = inputs.iter().map(|words| holding(device, words)).collect();
    for len in kernel.lens().into_iter().skip(inputs.len()) {
        binds.push(zeros(device, len));
    }
    binds
}

/// A list of one launch.
pub fn list(device: &mut dyn Device, kernel: &Arc<dyn Kernel>, binds: &[Range]) -> ListId {
    list_of(device, &[Launch { kernel: kernel.clone(), binds: binds.to_vec() }])
}

pub fn list_of(device: &mut dyn Device, launches: &[Launch]) -> ListId {
    device.prepare(launches, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}\n{launches:?}"))
}

pub fn read(device: &mut dyn Device, range: Range) -> Vec<u32> {
    let mut words = vec![0; range.len];
    device.read(range.buffer, range.offset, &mut words).unwrap_or_else(|e| panic!("{e}"));
    words
}
