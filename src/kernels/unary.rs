//! Activation functions, forward and backward.

use super::binary::BinaryOp;
use super::cpu::math::{self, vectorised};
use super::expr::Step;
use super::{
    Bind, Case, Const, Cost, Expr, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x sigmoid(x).
    Silu,
    /// GELU in its tanh form (Hendrycks & Gimpel 2016).
    GeluTanh,
    /// x sigmoid(1.702 x).
    GeluSigmoid,
    Relu,
    /// x above 0, 0.2 x below.
    LeakyRelu,
    /// GELU itself: x Phi(x), Phi the law of the standard normal (Hendrycks & Gimpel 2016).
    Gelu,
}

impl Activation {
    pub const ALL: [Activation; 6] = [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluSigmoid,
        Activation::Relu,
        Activation::LeakyRelu,
        Activation::Gelu,
    ];

    /// The function's name in `shaders/lib/activations.wgsl`; its derivative is `NAME_slope`.
    pub(super) fn wgsl(self) -> &'static str {
        match self {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::GeluSigmoid => "gelu_sigmoid",
            Activation::Relu => "relu",
            Activation::LeakyRelu => "leaky_relu",
            Activation::Gelu => "gelu",
        }
    }

    /// f(x), straight from the definition.
    pub fn value<T: Real>(self, x: T) -> T {
        match self {
            Activation::Silu => x * x.sigmoid(),
            Activation::GeluTanh => x * gelu_inner(x).sigmoid(),
            Activation::GeluSigmoid => x * (T::of(1.702) * x).sigmoid(),
            Activation::Relu => x.maximum(T::zero()),
            Activation::LeakyRelu => {
                if x > T::zero() {
                    x
                } else {
                    T::of(LEAK.into()) * x
                }
            }
            Activation::Gelu => x * normal_law(x),
        }
    }

    /// f'(x).
    pub fn slope<T: Real>(self, x: T) -> T {
        match self {
            Activation::Silu => {
                let s = x.sigmoid();
                s * (T::one() + x * (T::one() - s))
            }
            Activation::GeluTanh => {
                let s = gelu_inner(x).sigmoid();
                let du = T::of(2.0 * SQRT_2_PI) * (T::one() + T::of(3.0 * 0.044715) * x * x);
                s + x * s * (T::one() - s) * du
            }
            Activation::GeluSigmoid => {
                let s = (T::of(1.702) * x).sigmoid();
                s + T::of(1.702) * x * s * (T::one() - s)
            }
            Activation::Relu => {
                if x > T::zero() {
                    T::one()
                } else {
                    T::zero()
                }
            }
            Activation::LeakyRelu => {
                if x > T::zero() {
                    T::one()
                } else {
                    T::of(LEAK.into())
                }
            }
            Activation::Gelu => {
                let density = (-(T::of(0.5) * x * x)).exp() * T::of(0.5 * SQRT_2_PI);
                normal_law(x) + x * density
            }
        }
    }
}

/// Slope of the leaky ReLU below 0.
const LEAK: f32 = 0.2;

const SQRT_2_PI: f64 = 0.797_884_560_802_865_4;

/// 2 sqrt(2/pi) (x + 0.044715 x^3): (1 + tanh(u)) / 2 = sigmoid(2u).
#[inline(always)]
fn gelu_inner<T: Real>(x: T) -> T {
    T::of(2.0 * SQRT_2_PI) * (x + T::of(0.044715) * x * x * x)
}

/// Phi(x) = (1 + erf(x / sqrt 2)) / 2.
fn normal_law<T: Real>(x: T) -> T {
    T::of(0.5) * (T::one() + (T::of(std::f64::consts::FRAC_1_SQRT_2) * x).erf())
}

/// Phi(x), as a loop can be vectorised over it.
#[inline(always)]
fn normal_law_f32(x: f32) -> f32 {
    0.5 * (1.0 + math::erf(std::f32::consts::FRAC_1_SQRT_2 * x))
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    normal_law_f32(x) + x * math::exp(-0.5 * x * x) * (0.5 * SQRT_2_PI) as f32
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    let s = math::sigmoid(gelu_inner(x));
    let du = 2.0 * SQRT_2_PI as f32 * (1.0 + 3.0 * 0.044715 * x * x);
    s + x * s * (1.0 - s) * du
}

#[inline(always)]
fn gelu_sigmoid_slope(x: f32) -> f32 {
    let s = math::sigmoid(1.702 * x);
    s + 1.702 * x * s * (1.0 - s)
}

#[inline(always)]
fn relu_slope(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}

#[inline(always)]
fn leaky_relu_slope(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { LEAK }
}

#[inline(always)]
fn map(y: &mut [f32], f: impl Fn(f32) -> f32) {
    for y in y {
        *y = f(*y);
    }
}

/// [`Activation::value`] of every element, with the vectorisable sigmoid: call it inside
/// [`vectorised`].
#[inline(always)]
pub(super) fn apply(op: Activation, y: &mut [f32]) {
    match op {
        Activation::Silu => map(y, math::silu),
        Activation::GeluTanh => map(y, |x| x * math::sigmoid(gelu_inner(x))),
        Activation::GeluSigmoid => map(y, |x| x * math::sigmoid(1.702 * x)),
        Activation::Relu => map(y, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::LeakyRelu => map(y, |x| leaky_relu_slope(x) * x),
        Activation::Gelu => map(y, |x| x * normal_law_f32(x)),
    }
}

/// [`Activation::slope`] of every element, likewise.
#[inline(always)]
pub(super) fn apply_slope(op: Activation, y: &mut [f32]) {
    match op {
        Activation::Silu => map(y, math::silu_slope),
        Activation::GeluTanh => map(y, gelu_tanh_slope),
        Activation::GeluSigmoid => map(y, gelu_sigmoid_slope),
        Activation::Relu => map(y, relu_slope),
        Activation::LeakyRelu => map(y, leaky_relu_slope),
        Activation::Gelu => map(y, gelu_slope),
    }
}

/// [`Activation::slope`] times dy over slices.
#[inline(always)]
fn slope_f32(op: Activation, accum: bool, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    #[inline(always)]
    fn map(accum: bool, x: &[f32], dy: &[f32], dx: &mut [f32], df: impl Fn(f32) -> f32) {
        let rows = dx.iter_mut().zip(x).zip(dy);
        if accum {
            rows.for_each(|((dx, &x), &dy)| *dx += df(x) * dy);
        } else {
            rows.for_each(|((dx, &x), &dy)| *dx = df(x) * dy);
        }
    }
    match op {
        Activation::Silu => map(accum, x, dy, dx, math::silu_slope),
        Activation::GeluTanh => map(accum, x, dy, dx, gelu_tanh_slope),
        Activation::GeluSigmoid => map(accum, x, dy, dx, gelu_sigmoid_slope),
        Activation::Relu => map(accum, x, dy, dx, relu_slope),
        Activation::LeakyRelu => map(accum, x, dy, dx, leaky_relu_slope),
        Activation::Gelu => map(accum, x, dy, dx, gelu_slope),
    }
}

/// Bindings: x, y; backward: x, dy, dx.
#[derive(Debug, Clone)]
pub struct Unary {
    pub op: Activation,
    pub n: usize,
    pub backward: bool,
    /// Backward only: add to dx instead of writing it.
    pub accum: bool,
}

impl Unary {
    fn width(&self) -> usize {
        if self.n.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        match &mut io.binds {
            [Bind::In(x), Bind::Out(y), ..] => {
                for (y, &x) in y.iter_mut().zip(x.iter()) {
                    *y = self.op.value(x);
                }
            }
            [Bind::In(x), Bind::In(dy), Bind::Out(dx), ..] => {
                for i in 0..self.n {
                    let g = self.op.slope(x[i]) * dy[i];
                    dx[i] = if self.accum { dx[i] + g } else { g };
                }
            }
            _ => wrong_binds(self.name()),
        }
    }
}

impl Kernel for Unary {
    fn name(&self) -> &'static str {
        "unary"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/unary.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = vec![
            int("OP", self.op as usize),
            flag("VEC4", self.width() == 4),
            flag("BACKWARD", self.backward),
        ];
        if self.backward {
            consts.push(flag("ACCUM", self.accum));
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / self.width()) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n; if self.backward { 3 } else { 2 }]
    }
    fn half_ok(&self) -> u32 {
        bindings(if self.backward { &[0, 1, 2] } else { &[0, 1] })
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / self.width(), 256)
    }
    fn cost(&self) -> Cost {
        let streams = if self.backward { 3 + u64::from(self.accum) } else { 2 };
        Cost { flops: 12 * self.n as u64, bytes: streams * 4 * self.n as u64 }
    }
    fn elementwise(&self) -> Option<Expr> {
        let mut expr = Expr::default();
        let x = expr.load(0);
        let v = if self.backward {
            let dy = expr.load(1);
            let df = expr.push(Step::Slope(self.op, x));
            expr.binary(BinaryOp::Mul, df, dy)
        } else {
            expr.push(Step::Value(self.op, x))
        };
        Some(expr.store(v, self.backward && self.accum))
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 4096;
        let (op, accum) = (self.op, self.accum);
        match &mut io.binds {
            [Bind::In(x), Bind::Out(y), ..] => {
                y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
                    y.copy_from_slice(x);
                    vectorised(
                        #[inline(always)]
                        || apply(op, y),
                    );
                });
            }
            [Bind::In(x), Bind::In(dy), Bind::Out(dx), ..] => {
                let inputs = x.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK));
                dx.par_chunks_mut(CHUNK).zip(inputs).for_each(|(dx, (x, dy))| {
                    vectorised(
                        #[inline(always)]
                        || slope_f32(op, accum, x, dy, dx),
                    )
                });
            }
            _ => wrong_binds(self.name()),
        }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for op in Activation::ALL {
        for n in [1, 41, 256, 1028] {
            let wide = Fill::Normal { mean: 0.0, std: 4.0 };
            let forward = Unary { op, n, backward: false, accum: false };
            cases.push(Case::new(
                format!("{op:?} n={n}"),
                forward.clone(),
                vec![wide.clone(), Fill::Poison],
            ));
            for accum in [false, true] {
                let out = if accum { Fill::normal() } else { Fill::Poison };
                cases.push(Case::new(
                    format!("{op:?} backward n={n} accum={accum}"),
                    Unary { backward: true, accum, ..forward.clone() },
                    vec![wide.clone(), Fill::normal(), out],
                ));
            }
        }
    }
    // More workgroups than one grid dimension holds.
    let n = 65_536 * 256 + 41;
    cases.push(
        Case::new(
            "Relu n > 2^24",
            Unary { op: Activation::Relu, n, backward: false, accum: false },
            vec![Fill::Ints(-3, 3), Fill::Poison],
        )
        .exact(),
    );
    cases
}
