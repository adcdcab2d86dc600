//! A walk of a tape node by node with the naive forms, every value in a vector of its own: no slots,
//! no segments, no lists. In f32 it must equal a plan bit for bit; over `Bounded`, with noise of the
//! size of each node's rounding, it says how far a plan and the f64 interpreter may be apart.

use std::collections::HashMap;
use vqforge::kernels::{Bind, Bounded, Io, Kernel, Real, StepScalars};
use vqforge::rng::Rng;
use vqforge::shader::Element;
use vqforge::tape::{Home, Node, Tape, ValueId};

/// A number type with its naive form.
pub trait Form: Real {
    fn launch(kernel: &dyn Kernel, io: &mut Io<'_, Self>);
    fn lift(x: f32) -> Self;
}

impl Form for f32 {
    fn launch(kernel: &dyn Kernel, io: &mut Io<'_, f32>) {
        kernel.naive32(io);
    }
    fn lift(x: f32) -> f32 {
        x
    }
}

impl Form for f64 {
    fn launch(kernel: &dyn Kernel, io: &mut Io<'_, f64>) {
        kernel.naive64(io);
    }
    fn lift(x: f32) -> f64 {
        x.into()
    }
}

impl Form for Bounded {
    fn launch(kernel: &dyn Kernel, io: &mut Io<'_, Bounded>) {
        kernel.naive_bounded(io);
    }
    fn lift(x: f32) -> Bounded {
        Bounded::exact(x)
    }
}

pub struct Walk<'t, T> {
    tape: &'t Tape,
    floats: HashMap<ValueId, Vec<T>>,
    words: HashMap<ValueId, Vec<u32>>,
}

impl<'t, T: Form> Walk<'t, T> {
    /// Constants hold their data, everything else NaN: what is read before it is written shows.
    pub fn new(tape: &'t Tape) -> Self {
        let mut walk = Walk { tape, floats: HashMap::new(), words: HashMap::new() };
        for (id, value) in tape.values() {
            match &value.home {
                Home::Alias(_) => {}
                Home::Const(bits) => walk.set(id, bits),
                _ => walk.set(id, &vec![f32::NAN.to_bits(); value.shape.elements()]),
            }
        }
        walk
    }

    /// Bits of floats or integers.
    pub fn set(&mut self, id: ValueId, bits: &[u32]) {
        match self.tape.value(id).element {
            Element::F32 | Element::F16 => {
                let lifted = bits.iter().map(|&b| T::lift(f32::from_bits(b))).collect();
                self.floats.insert(id, lifted);
            }
            Element::U32 => {
                self.words.insert(id, bits.to_vec());
            }
        }
    }

    pub fn is_float(&self, id: ValueId) -> bool {
        self.tape.value(id).element == Element::F32
    }

    pub fn floats(&self, id: ValueId) -> &[T] {
        &self.floats[&self.tape.root(id)]
    }

    pub fn words(&self, id: ValueId) -> &[u32] {
        &self.words[&self.tape.root(id)]
    }

    pub fn run(&mut self, step: &StepScalars) {
        for node in self.tape.nodes() {
            self.node(node, step);
        }
    }

    fn node(&mut self, node: &Node, step: &StepScalars) {
        let roots: Vec<ValueId> = node.binds.iter().map(|&b| self.tape.root(b)).collect();
        if let Some((binding, from)) = node.init {
            let before = self.floats[&self.tape.root(from)].clone();
            self.floats.insert(roots[binding], before);
        }
        let mut floats: Vec<_> = roots.iter().map(|r| self.floats.get(r).cloned()).collect();
        let mut words: Vec<_> = roots.iter().map(|r| self.words.get(r).cloned()).collect();
        let mut io = Io::<T>::new(*step);
        for (i, (f, w)) in floats.iter_mut().zip(&mut words).enumerate() {
            io.binds[i] = match (f, w, node.writes[i]) {
                (Some(f), _, false) => Bind::In(f),
                (Some(f), _, true) => Bind::Out(f),
                (None, Some(w), false) => Bind::InU(w),
                (None, Some(w), true) => Bind::OutU(w),
                (None, None, _) => panic!("{}: a binding without words", node.op),
            };
        }
        T::launch(&*node.kernel, &mut io);
        for (i, (f, w)) in floats.into_iter().zip(words).enumerate() {
            if node.writes[i] {
                f.map(|f| self.floats.insert(roots[i], f));
                w.map(|w| self.words.insert(roots[i], w));
            }
        }
    }
}

/// What rounding may do to a result, as a random move of it.
pub struct Noise {
    pub rng: Rng,
    /// Whether temporaries that their kernels may store as f16 are stored so.
    pub halves: bool,
}

/// Half the distance between neighbours of f16 around x: the most that storing it there moves it.
fn half_ulp(x: f64) -> f64 {
    let exponent = x.abs().log2().floor().max(-14.0);
    2f64.powf(exponent - 11.0)
}

impl Walk<'_, Bounded> {
    /// Runs every node on inputs taken as exact, and moves each result by up to what rounding may do
    /// to it in this node. Without `noise` this is a walk in f64.
    pub fn run_rounding(&mut self, step: &StepScalars, mut noise: Option<&mut Noise>) {
        for node in self.tape.nodes() {
            self.node(node, step);
            for (i, &id) in node.binds.iter().enumerate().filter(|(i, _)| node.writes[*i]) {
                let root = self.tape.root(id);
                let value = self.tape.value(root);
                let stored = value.home == Home::Temp
                    && value.shape.elements() > 1
                    && node.kernel.half_ok() >> i & 1 == 1;
                for x in self.floats.get_mut(&root).into_iter().flatten() {
                    let mut moved = x.value();
                    if let Some(noise) = noise.as_deref_mut() {
                        moved += noise.rng.range(-1.0, 1.0) * x.tolerance();
                        if noise.halves && stored {
                            moved += noise.rng.range(-1.0, 1.0) * half_ulp(moved);
                        }
                    }
                    *x = Bounded::of(moved);
                }
            }
        }
    }
}

/// Storing as f16 moves numbers by half a step of it at most, and some by nearly as much.
#[test]
fn a_half_ulp_is_the_worst_of_rounding() {
    for k in -16..12 {
        let scale = 2f64.powi(k);
        let errors = (0..4096).map(|i| {
            let x = scale * (1.0 + f64::from(i) / 4096.0);
            (half::f16::from_f64(x).to_f64() - x).abs() / half_ulp(x)
        });
        let worst = errors.fold(0.0, f64::max);
        assert!(worst == 1.0, "2^{k}: {worst}");
    }
    assert_eq!(half_ulp(0.0), 2f64.powi(-25));
}
