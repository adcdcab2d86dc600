//! The devices the tests run on.

use std::sync::{Mutex, MutexGuard, OnceLock};
use vqforge::device::{self, CpuDevice, Device};

/// The Vulkan (or other) adapter under test: `VQFORGE_TEST_DEVICE`, or else whatever GPU there is,
/// or else a software one. Without any, a run in CI fails and any other says so and goes on.
fn open_gpu() -> Option<Box<dyn Device>> {
    let name = match std::env::var("VQFORGE_TEST_DEVICE") {
        Ok(name) => name,
        Err(_) => {
            let found = device::list().into_iter().find(|d| d.kind != "cpu");
            let Some(found) = found else {
                assert!(
                    std::env::var("CI").as_deref() != Ok("true"),
                    "no Vulkan adapter: install a driver (Debian: mesa-vulkan-drivers)"
                );
                eprintln!("SKIPPED on the GPU: no adapter here");
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
