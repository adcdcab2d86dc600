//! The kernels: one file each, every kernel in three forms.
//!
//! * **WGSL** (`shaders/<name>.wgsl`): what a GPU runs. It is the single source of the bindings:
//!   [`crate::shader::reflect`] reads their order, element type and mutability from it.
//! * **cpu** ([`Kernel::cpu`]): blocked, vectorised, on all cores, the same bits at any thread count.
//! * **naive** ([`Kernel::naive32`] and friends): one loop nest straight from the formula, generic
//!   over [`Real`]. In `f64` it is the oracle; over [`Bounded`] it derives the rounding-error bound
//!   that the other two forms are held to; in `f32` it runs where a kernel is never hot.
//!
//! A kernel value *is* its specialisation: a struct of sizes and switches. [`Kernel::consts`] turns
//! them into the `const` prelude of the shader, [`Kernel::dims`] into its small uniform.
//!
//! New kernel = `shaders/k.wgsl` + `src/kernels/k.rs` + one line in [`registry`].

mod bounded;
mod case;
mod io;
mod real;
pub mod unary;

pub use bounded::Bounded;
pub use case::{Case, Entry, Fill, Tier};
pub use io::{Bind, Io, MAX_BINDS, StepScalars, wrong_binds};
pub use real::Real;

use std::fmt::Debug;

/// A specialisation constant: a `const` line of the shader's prelude, visible to `#if` and `#unroll`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    U32(u32),
    F32(f32),
}

/// Name and value of a specialisation constant.
pub type Const = (&'static str, Value);

/// Shorthand for an integer constant; a flag is 0 or 1.
pub fn int(name: &'static str, value: usize) -> Const {
    (name, Value::U32(value as u32))
}

pub fn flag(name: &'static str, value: bool) -> Const {
    (name, Value::U32(u32::from(value)))
}

pub fn float(name: &'static str, value: f32) -> Const {
    (name, Value::F32(value))
}

/// Work of one launch: floating-point operations, and bytes that must cross the memory bus once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    pub flops: u64,
    pub bytes: u64,
}

/// One kernel, specialised: see the module documentation.
pub trait Kernel: Debug + Send + Sync {
    /// File stem of the shader, and the name in dumps, tables and errors.
    fn name(&self) -> &'static str;
    /// The shader's source before preprocessing.
    fn wgsl(&self) -> &'static str;
    /// Specialisation constants; every one must be used by the shader.
    fn consts(&self) -> Vec<Const>;
    /// Words of the `dims` uniform (`@binding(8)`), in the order of the shader's struct; row and
    /// batch counts belong here, so that another batch size reuses the pipeline.
    fn dims(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Elements (32-bit words) of each storage binding, in binding order.
    fn lens(&self) -> Vec<usize>;
    /// Workgroups to dispatch.
    fn grid(&self) -> [u32; 3];
    fn cost(&self) -> Cost;
    /// The CPU form. A kernel that is never hot keeps this default.
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.naive32(io);
    }
    fn naive32(&self, io: &mut Io<'_, f32>);
    fn naive64(&self, io: &mut Io<'_, f64>);
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>);
}

/// Implements the three `naive_*` methods of [`Kernel`] by one generic `fn naive<T: Real>(&self, &mut Io<T>)`.
#[macro_export]
macro_rules! naive_forms {
    () => {
        fn naive32(&self, io: &mut $crate::kernels::Io<'_, f32>) {
            self.naive(io);
        }
        fn naive64(&self, io: &mut $crate::kernels::Io<'_, f64>) {
            self.naive(io);
        }
        fn naive_bounded(&self, io: &mut $crate::kernels::Io<'_, $crate::kernels::Bounded>) {
            self.naive(io);
        }
    };
}

/// Workgroups for `n` invocations in workgroups of `size`, folded into two dimensions past WebGPU's
/// 65,535 a dimension; `shaders/lib/flat.wgsl` unfolds it.
pub fn grid_1d(n: usize, size: usize) -> [u32; 3] {
    let groups = n.div_ceil(size).max(1);
    let x = groups.min(65_535);
    [x as u32, groups.div_ceil(x) as u32, 1]
}

/// Every kernel of the project: tests, benches, cross-compilation and tables iterate this.
pub fn registry() -> Vec<Entry> {
    vec![Entry { name: "unary", cases: unary::cases }]
}
