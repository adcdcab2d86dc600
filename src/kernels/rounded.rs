//! A kernel whose factors are rounded to f16 before it multiplies them.

use super::delegate::delegate;
use super::{Bind, Bounded, Io, Kernel, Real, wrong_binds};

/// `inner`, whose first `factors` bindings the cpu form and the naive ones see rounded to f16. The
/// WGSL form is the business of the variant around it.
#[derive(Debug, Clone)]
pub(super) struct Rounded<K> {
    pub inner: K,
    pub factors: usize,
}

impl<K: Kernel> Rounded<K> {
    /// Runs `form` on bindings whose first are rounded copies.
    fn run<T: Real>(&self, io: &mut Io<'_, T>, form: impl FnOnce(&mut Io<'_, T>)) {
        let round = |bind: &Bind<'_, T>| match bind {
            Bind::In(x) => x.iter().map(|v| v.half()).collect::<Vec<_>>(),
            _ => wrong_binds(self.name()),
        };
        let factors: Vec<Vec<T>> = io.binds[..self.factors].iter().map(round).collect();
        let mut inner = Io::new(io.step);
        for (i, (to, bind)) in inner.binds.iter_mut().zip(&mut io.binds).enumerate() {
            *to = match (factors.get(i), bind) {
                (Some(factor), _) => Bind::In(factor),
                (None, Bind::In(x)) => Bind::In(x),
                (None, Bind::InU(x)) => Bind::InU(x),
                (None, Bind::Out(y)) => Bind::Out(y),
                (None, Bind::OutU(y)) => Bind::OutU(y),
                (None, Bind::None) => Bind::None,
            };
        }
        form(&mut inner);
    }
}

impl<K: Kernel> Kernel for Rounded<K> {
    delegate!(inner: name shader wgsl consts dims lens half_ok grid cost rounds needs variant variants);
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.run(io, |io| self.inner.cpu(io));
    }
    fn naive32(&self, io: &mut Io<'_, f32>) {
        self.run(io, |io| self.inner.naive32(io));
    }
    fn naive64(&self, io: &mut Io<'_, f64>) {
        self.run(io, |io| self.inner.naive64(io));
    }
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>) {
        self.run(io, |io| self.inner.naive_bounded(io));
    }
}
