//! Planted faults: proof that the tests can fail. Every fault that a kernel or the engine around it
//! is known to invite is planted on purpose, and the test that must notice is run.
//!
//! * [`shaders`]: faults in a shader's text. A kernel is wrapped so that its shader is the changed
//!   one, and goes through the registry's check, which must fail. The same case, with the text as
//!   it is, must pass.
//! * [`variants`]: those of them that only variants of kernels can have.
//! * [`sweeps`]: faults that any kernel can have: a workgroup that is missing, a size that is one
//!   too small, an element that is not written.
//! * [`sources`]: faults in Rust, which want a build of their own: `kernels_tests/faults.sh`.
//!
//! A fault whose text is no longer found is an error, so that the lists follow the code.

mod diffusion;
mod digits;
mod forgotten;
mod planting;
mod shaders;
mod sources;
mod studio;
mod sweeps;
mod variants;

use crate::registry::{Oracle, on_device};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use vqforge::device::Device;
use vqforge::kernels::{
    Bounded, Caps, Case, Const, Cost, Io, Kernel, Needs, StepScalars, registry,
};

/// A kernel with something changed; all else is the kernel's own.
#[derive(Debug, Clone)]
struct Mutant {
    kernel: Arc<dyn Kernel>,
    wgsl: Option<String>,
    dims: Option<Vec<u32>>,
    grid: Option<[u32; 3]>,
}

impl Mutant {
    fn of(kernel: &Arc<dyn Kernel>) -> Self {
        Mutant { kernel: kernel.clone(), wgsl: None, dims: None, grid: None }
    }
}

impl Kernel for Mutant {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }
    fn wgsl(&self) -> &str {
        self.wgsl.as_deref().unwrap_or(self.kernel.wgsl())
    }
    fn consts(&self) -> Vec<Const> {
        self.kernel.consts()
    }
    fn dims(&self) -> Vec<u32> {
        self.dims.clone().unwrap_or(self.kernel.dims())
    }
    fn lens(&self) -> Vec<usize> {
        self.kernel.lens()
    }
    fn half_ok(&self) -> u32 {
        self.kernel.half_ok()
    }
    fn half(&self) -> u32 {
        self.kernel.half()
    }
    fn grid(&self) -> [u32; 3] {
        self.grid.unwrap_or(self.kernel.grid())
    }
    fn cost(&self) -> Cost {
        self.kernel.cost()
    }
    fn needs(&self) -> Needs {
        self.kernel.needs()
    }
    fn variant(&self) -> String {
        self.kernel.variant()
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.kernel.cpu(io);
    }
    fn naive32(&self, io: &mut Io<'_, f32>) {
        self.kernel.naive32(io);
    }
    fn naive64(&self, io: &mut Io<'_, f64>) {
        self.kernel.naive64(io);
    }
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>) {
        self.kernel.naive_bounded(io);
    }
}

/// The same case of another kernel.
fn with_kernel(case: &Case, kernel: Arc<dyn Kernel>) -> Case {
    let (name, fills, tier) = (case.name.clone(), case.fills.clone(), case.tier);
    Case { name, kernel, fills, tier, step: StepScalars { ..case.step } }
}

/// Every case of a kernel, and of each of its variants that `caps` allow.
fn cases_of(name: &str, caps: &Caps) -> Vec<Case> {
    let entry = registry().into_iter().find(|e| e.name == name);
    let entry = entry.unwrap_or_else(|| panic!("no kernel is called {name}"));
    let mut all = vec![];
    for case in (entry.cases)() {
        let variants = case.kernel.variants(caps);
        let more: Vec<Case> = variants.into_iter().map(|v| with_kernel(&case, v)).collect();
        all.push(case);
        all.extend(more);
    }
    all
}

/// What a case of a planted fault is judged by, and what it says: an error means "caught".
fn outcome(device: &mut dyn Device, case: &Case) -> Result<f64, String> {
    let oracle = Oracle::of(case);
    let got = on_device(device, case, &oracle.inputs);
    oracle.judge(case, &got)
}

/// The rows of a table that is printed at the end of a test.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, fault: &str, place: &str, caught_by: &str) {
        writeln!(self.0, "{fault:56} {place:28} {caught_by}").expect("a string grows");
    }
}

/// A shader with its fragments in place of their imports, so that a fault can be planted in either.
fn inlined(kernel: &dyn Kernel) -> String {
    let mut done = vec![];
    let mut text = String::new();
    inline(kernel.wgsl(), &mut done, &mut text);
    text
}

fn inline(text: &str, done: &mut Vec<String>, out: &mut String) {
    for line in text.lines() {
        match line.trim().strip_prefix("#import ") {
            Some(name) if done.iter().any(|d| d == name) => {}
            Some(name) => {
                done.push(name.into());
                inline(&fragment(name), done, out);
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
}

fn fragment(name: &str) -> String {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("shaders/lib/{}.wgsl", name.trim()));
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
