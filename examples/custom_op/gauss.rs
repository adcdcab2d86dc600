//! A kernel in two of its three forms (the CPU runs the naive one), and the differentiable operation
//! over it. The shader lies beside.

use vqforge::error::Result;
use vqforge::kernels::{Bind, Const, Cost, Io, Kernel, Real, flag, grid_1d, wrong_binds};
use vqforge::naive_forms;
use vqforge::tape::{Act, Tape};

/// y = exp(-x^2), bindings x, y; backward dx (+)= -2 x y dy, bindings x, y, dy, dx.
#[derive(Debug, Clone)]
pub struct Gauss {
    pub n: usize,
    pub backward: bool,
    pub accum: bool,
}

impl Gauss {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        match &mut io.binds {
            [Bind::In(x), Bind::Out(y), ..] => {
                (0..self.n).for_each(|i| y[i] = (-x[i] * x[i]).exp())
            }
            [Bind::In(x), Bind::In(y), Bind::In(dy), Bind::Out(dx), ..] => {
                for i in 0..self.n {
                    let d = T::of(-2.0) * x[i] * y[i] * dy[i];
                    dx[i] = if self.accum { dx[i] + d } else { d };
                }
            }
            _ => wrong_binds(self.name()),
        }
    }
}

impl Kernel for Gauss {
    fn name(&self) -> &'static str {
        "gauss"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("gauss.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let accum = self.backward.then(|| flag("ACCUM", self.accum));
        accum.into_iter().chain([flag("BACKWARD", self.backward)]).collect()
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n; if self.backward { 4 } else { 2 }]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 64)
    }
    fn cost(&self) -> Cost {
        Cost { flops: 4 * self.n as u64, bytes: 4 * (self.lens().len() * self.n) as u64 }
    }
    naive_forms!();
}

/// The operation: what to launch now, and what once the gradient of y is known.
pub fn gauss(tape: &mut Tape, x: Act) -> Result<Act> {
    tape.begin_op("gauss");
    let (n, y) = (tape.shape(x).elements(), tape.temp_like(x));
    tape.launch(Gauss { n, backward: false, accum: false }, &[x.into(), y.into()])?;
    tape.record("gauss", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Gauss { n, backward: true, accum: dx.accum };
        t.launch_into(dx, kernel, &[x.into(), y.into(), dy.into(), dx.value.into()])
    });
    Ok(y)
}
