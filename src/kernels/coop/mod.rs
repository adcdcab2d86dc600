//! Cooperative-matrix variants: products of f16 factors with f32 sums on a GPU's matrix units.
//!
//! The factors are rounded to f16 while they are staged in workgroup memory; sums, biases,
//! activations and softmax stay f32. As results differ from the baseline's by the rounding of the
//! factors, the variants are offered only where [`Caps::half_products`] permits it, and their naive
//! and CPU forms round alike: the derived bound of such a variant is its own.
//!
//! f16 holds magnitudes up to 65,504 and, with fewer and fewer digits, down to 6e-8: activations and
//! weights are at home there, gradients are not without a loss scale. Hence forward kernels only.
//!
//! The shaders (`shaders/coop/`) use the matrices through nine functions of `shaders/lib/coop.wgsl`.
//! With [`Caps::emulate_coop`] the same shaders are also offered with those functions written out in
//! plain WGSL, so that their index arithmetic is tested on any device with subgroups and f16.

mod attention;
mod conv2d;
mod matmul;
mod product;

pub(super) use attention::offer as offer_attention;
pub(super) use product::offer;

use super::{Bind, Caps, Const, Io, Needs, Real, flag, int, wrong_binds};

/// The invocations of a workgroup, and what they have to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Team {
    /// Side of the tiles.
    side: usize,
    invocations: usize,
    /// Fewest and most subgroups the invocations may form.
    subgroups: (usize, usize),
    /// Workgroup memory.
    bytes: usize,
    emulated: bool,
}

impl Team {
    /// Four subgroups of the smallest size, or one of the largest: one team for each side of tiles.
    fn all(caps: &Caps) -> Vec<Team> {
        let Some((least, most)) = caps.subgroups else { return vec![] };
        let (least, most) = (least.max(1) as usize, most.max(1) as usize);
        let invocations = most.max(4 * least);
        if !caps.half_products || !caps.f16 || invocations > caps.invocations as usize {
            return vec![];
        }
        let native = caps.coop_matrix.iter().map(|&side| (side as usize, false));
        let emulated = [(8, true), (16, true)].into_iter().filter(|_| caps.emulate_coop);
        let team = |(side, emulated)| Team {
            side,
            invocations,
            subgroups: (invocations / most, invocations / least),
            bytes: caps.workgroup_bytes as usize,
            emulated,
        };
        native.chain(emulated).map(team).collect()
    }

    fn needs(&self) -> Needs {
        let coop_matrix = if self.emulated { 0 } else { self.side as u32 };
        Needs { subgroups: true, f16: true, coop_matrix }
    }

    /// As in "coop16", and what follows it in the name of a variant.
    fn name(&self, rest: &str) -> String {
        let emulated = if self.emulated { "-emulated" } else { "" };
        format!("coop{}{rest}{emulated}", self.side)
    }

    /// Constants of `shaders/lib/coop.wgsl`: `factors` elements of f16, `tiles` of f32.
    fn consts(&self, factors: usize, tiles: usize) -> Vec<Const> {
        let mut consts = vec![
            int("T", self.side),
            int("WG", self.invocations),
            int("FACTORS", factors),
            int("TILES", tiles),
            flag("EMULATED", self.emulated),
        ];
        if self.emulated {
            let least = self.invocations / self.subgroups.1;
            consts.push(int("OWN", (self.side * self.side).div_ceil(least)));
        }
        consts
    }

    /// Whether that many elements, and a few words beside, fit.
    fn holds(&self, factors: usize, tiles: usize) -> bool {
        2 * factors + 4 * tiles + 16 <= self.bytes
    }
}

/// Runs `form` on bindings whose first `count` are copies rounded to f16.
fn rounded<T: Real>(
    name: &str,
    count: usize,
    io: &mut Io<'_, T>,
    form: impl FnOnce(&mut Io<'_, T>),
) {
    let round = |bind: &Bind<'_, T>| match bind {
        Bind::In(x) => x.iter().map(|v| v.half()).collect::<Vec<_>>(),
        _ => wrong_binds(name),
    };
    let factors: Vec<Vec<T>> = io.binds[..count].iter().map(round).collect();
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
