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
//! A kernel may offer *variants* of its WGSL, other values with the same bindings and meaning:
//! [`Caps`] filters them, the tuner chooses by measurement.
//!
//! New kernel = `shaders/k.wgsl` + `src/kernels/k.rs` + one line in [`registry`].

pub mod adamw;
pub mod argmin_rows;
pub mod attention;
pub mod attention_bwd;
mod attention_variants;
pub mod binary;
pub mod bit_entropy;
mod block;
mod bounded;
mod caps;
mod case;
pub mod code_distribution;
pub mod code_sums;
pub mod col_sum;
pub mod columns;
pub mod conv2d;
pub mod conv2d_dgrad;
pub mod conv2d_wgrad;
pub mod conv_shape;
mod coop;
pub mod copy;
pub mod corrupt_tokens;
pub mod cpu;
mod delegate;
pub mod draw_steps;
pub mod draw_tokens;
pub mod ema_codebook;
pub mod epilogue;
pub mod expr;
pub mod fill;
pub mod finish_sums;
pub mod fma_probe;
pub mod frame_rms;
pub mod fsq;
pub mod fused;
pub mod gate;
pub mod gather;
pub mod gaussian_kl;
pub mod gaussian_noise;
mod generated;
pub mod grad_ctl;
pub mod grad_norm;
pub mod group_norm;
pub mod group_norm_bwd;
pub mod group_norm_bwd_sums;
pub mod group_norm_stats;
mod half;
mod io;
pub mod layer_norm;
pub mod layer_norm_bwd;
pub mod loss_history;
pub mod mask_tokens;
pub mod matmul;
pub mod mean_pool;
pub mod mse_grad;
pub mod nearest_code;
pub mod norm_param_grad;
pub mod normalise_rows;
pub mod philox;
pub mod pixel_loss;
pub mod posterior_loss;
pub mod posterior_loss_bwd;
pub mod power_pool;
mod real;
pub mod ring_write;
pub mod rotary;
pub mod rotation_trick;
mod rounded;
pub mod sample_gaussian;
pub mod sample_losses;
pub mod scale_by;
pub mod sign_code;
pub mod softmax_ce;
pub mod softmax_rows;
pub mod spectral_distance;
mod subgroup;
pub mod sum_all;
pub mod sum_finish;
pub mod sum_partials;
pub mod unary;
pub mod upsample2x;
mod variant;

pub use bounded::Bounded;
pub use caps::{Caps, Needs};
pub use case::{Case, Entry, Fill, Tier};
pub use col_sum::ColSum;
pub use conv_shape::ConvShape;
pub use conv2d::Conv2d;
pub use conv2d_dgrad::Conv2dDgrad;
pub use conv2d_wgrad::Conv2dWgrad;
pub use epilogue::{Epilogue, Product};
pub use expr::Expr;
pub use finish_sums::FinishSums;
pub use fused::Fused;
pub use half::Half;
pub use io::{Bind, Io, MAX_BINDS, StepScalars, wrong_binds};
pub use matmul::Matmul;
pub use real::Real;
pub use sum_partials::SumPartials;

use std::fmt::Debug;
use std::sync::Arc;

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

/// Rounds of a shader's loops, nested ones included, that every driver runs.
pub const SOFTWARE_ROUNDS: usize = 65_534;

/// One kernel, specialised: see the module documentation.
pub trait Kernel: Debug + Send + Sync {
    /// The name in dumps, tables and errors.
    fn name(&self) -> &'static str;
    /// File stem of the shader: the name, unless a variant has a shader of its own; "generated" and
    /// the name where the whole text is generated.
    fn shader(&self) -> &'static str {
        self.name()
    }
    /// The shader's source before preprocessing.
    fn wgsl(&self) -> &str;
    /// Specialisation constants; every one must be used by the shader.
    fn consts(&self) -> Vec<Const>;
    /// Words of the `dims` uniform (`@binding(8)`), in the order of the shader's struct; row and
    /// batch counts belong here, so that another batch size reuses the pipeline.
    fn dims(&self) -> Vec<u32> {
        Vec::new()
    }
    /// Elements of each storage binding, in binding order.
    fn lens(&self) -> Vec<usize>;
    /// Storage bindings (bit i: binding i) that may be stored as f16 in mixed precision: large
    /// activations and their gradients. Statistics, losses, sums, indices and anything that is
    /// added up over many launches stay f32, and so do weights, whatever this says.
    fn half_ok(&self) -> u32 {
        0
    }
    /// Storage bindings that are stored as f16; see [`Half`].
    fn half(&self) -> u32 {
        0
    }
    /// Workgroups to dispatch.
    fn grid(&self) -> [u32; 3];
    fn cost(&self) -> Cost;
    /// Rounds of all loops of an invocation where sizes can make them very many, else 0: Mesa's
    /// llvmpipe leaves them after [`SOFTWARE_ROUNDS`], and says nothing.
    fn rounds(&self) -> usize {
        0
    }
    /// Device features the shader cannot do without.
    fn needs(&self) -> Needs {
        Needs::default()
    }
    /// Which implementation of the kernel this value is, in dumps and tuner tables.
    fn variant(&self) -> String {
        "baseline".into()
    }
    /// Other implementations with the same bindings and meaning that `caps` allow, at most 24. The
    /// tuner measures them; the CPU device has no use for them.
    fn variants(&self, _caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        vec![]
    }
    /// What the kernel computes, if that is one element from the elements at the same place: its
    /// bindings are the inputs of the expression and last its output. The planner then joins it with
    /// its neighbours.
    fn elementwise(&self) -> Option<Expr> {
        None
    }
    /// The kernel as a product that an expression may follow before its results are stored.
    fn product(&self) -> Option<Product> {
        None
    }
    /// The kernel as the last stage of a split sum, which may share its launch with others.
    fn partial_sums(&self) -> Option<SumPartials> {
        None
    }
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

/// A set of storage bindings as bits.
pub fn bindings(list: &[usize]) -> u32 {
    list.iter().fold(0, |bits, i| bits | 1 << i)
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
    vec![
        Entry { name: "unary", cases: unary::cases },
        Entry { name: "matmul", cases: matmul::cases },
        Entry { name: "conv2d", cases: conv2d::cases },
        Entry { name: "conv2d_dgrad", cases: conv2d_dgrad::cases },
        Entry { name: "conv2d_wgrad", cases: conv2d_wgrad::cases },
        Entry { name: "sum_partials", cases: sum_partials::cases },
        Entry { name: "finish_sums", cases: finish_sums::cases },
        Entry { name: "col_sum", cases: col_sum::cases },
        Entry { name: "group_norm_stats", cases: group_norm_stats::cases },
        Entry { name: "group_norm", cases: group_norm::cases },
        Entry { name: "group_norm_bwd_sums", cases: group_norm_bwd_sums::cases },
        Entry { name: "group_norm_bwd", cases: group_norm_bwd::cases },
        Entry { name: "norm_param_grad", cases: norm_param_grad::cases },
        Entry { name: "layer_norm", cases: layer_norm::cases },
        Entry { name: "layer_norm_bwd", cases: layer_norm_bwd::cases },
        Entry { name: "layer_norm_bwd_params", cases: layer_norm_bwd::params_cases },
        Entry { name: "gate", cases: gate::cases },
        Entry { name: "gate_grad", cases: gate::grad_cases },
        Entry { name: "rotary", cases: rotary::cases },
        Entry { name: "attention", cases: attention::cases },
        Entry { name: "attention_delta", cases: attention_bwd::delta_cases },
        Entry { name: "attention_bwd_kv", cases: attention_bwd::kv_cases },
        Entry { name: "attention_bwd_q", cases: attention_bwd::q_cases },
        Entry { name: "softmax_rows", cases: softmax_rows::cases },
        Entry { name: "posterior_loss", cases: posterior_loss::cases },
        Entry { name: "posterior_loss_bwd", cases: posterior_loss_bwd::cases },
        Entry { name: "softmax_ce", cases: softmax_ce::cases },
        Entry { name: "softmax_ce_bwd", cases: softmax_ce::bwd_cases },
        Entry { name: "upsample2x", cases: upsample2x::cases },
        Entry { name: "upsample2x_bwd", cases: upsample2x::bwd_cases },
        Entry { name: "nearest_code", cases: nearest_code::cases },
        Entry { name: "argmin_rows", cases: argmin_rows::cases },
        Entry { name: "code_sums", cases: code_sums::cases },
        Entry { name: "gather", cases: gather::cases },
        Entry { name: "columns", cases: columns::cases },
        Entry { name: "normalise_rows", cases: normalise_rows::cases },
        Entry { name: "rotation_trick", cases: rotation_trick::cases },
        Entry { name: "ema_counts", cases: ema_codebook::counts_cases },
        Entry { name: "ema_codebook", cases: ema_codebook::cases },
        Entry { name: "conv2d_epilogue", cases: epilogue::conv2d_cases },
        Entry { name: "matmul_epilogue", cases: epilogue::matmul_cases },
        Entry { name: "binary", cases: binary::cases },
        Entry { name: "fused", cases: fused::cases },
        Entry { name: "scale_by", cases: scale_by::cases },
        Entry { name: "copy", cases: copy::cases },
        Entry { name: "fill", cases: fill::cases },
        Entry { name: "fma_probe", cases: fma_probe::cases },
        Entry { name: "sum_all", cases: sum_all::cases },
        Entry { name: "sum_finish", cases: sum_finish::cases },
        Entry { name: "mse_grad", cases: mse_grad::cases },
        Entry { name: "pixel_loss", cases: pixel_loss::cases },
        Entry { name: "pixel_loss_grad", cases: pixel_loss::grad_cases },
        Entry { name: "frame_rms", cases: frame_rms::cases },
        Entry { name: "frame_rms_grad", cases: frame_rms::grad_cases },
        Entry { name: "power_pool", cases: power_pool::cases },
        Entry { name: "power_pool_bwd", cases: power_pool::bwd_cases },
        Entry { name: "spectral_distance", cases: spectral_distance::cases },
        Entry { name: "spectral_distance_bwd", cases: spectral_distance::bwd_cases },
        Entry { name: "mean_pool", cases: mean_pool::cases },
        Entry { name: "mean_pool_bwd", cases: mean_pool::backward_cases },
        Entry { name: "grad_norm", cases: grad_norm::cases },
        Entry { name: "grad_ctl", cases: grad_ctl::cases },
        Entry { name: "adamw", cases: adamw::cases },
        Entry { name: "ring_write", cases: ring_write::cases },
        Entry { name: "philox", cases: philox::cases },
        Entry { name: "draw_steps", cases: draw_steps::cases },
        Entry { name: "sample_losses", cases: sample_losses::cases },
        Entry { name: "loss_history", cases: loss_history::cases },
        Entry { name: "corrupt_tokens", cases: corrupt_tokens::cases },
        Entry { name: "mask_tokens", cases: mask_tokens::cases },
        Entry { name: "draw_tokens", cases: draw_tokens::cases },
        Entry { name: "fsq", cases: fsq::cases },
        Entry { name: "fsq_codes", cases: fsq::codes_cases },
        Entry { name: "sign_code", cases: sign_code::cases },
        Entry { name: "sign_codes", cases: sign_code::codes_cases },
        Entry { name: "bit_entropy", cases: bit_entropy::cases },
        Entry { name: "bit_entropy_grad", cases: bit_entropy::grad_cases },
        Entry { name: "code_distribution", cases: code_distribution::cases },
        Entry { name: "code_distribution_grad", cases: code_distribution::grad_cases },
        Entry { name: "distribution_entropy", cases: code_distribution::entropy_cases },
        Entry { name: "gaussian_noise", cases: gaussian_noise::cases },
        Entry { name: "sample_gaussian", cases: sample_gaussian::cases },
        Entry { name: "gaussian_kl", cases: gaussian_kl::cases },
        Entry { name: "gaussian_kl_grad", cases: gaussian_kl::grad_cases },
    ]
}
