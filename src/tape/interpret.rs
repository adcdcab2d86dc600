//! Walks a tape node by node with the naive forms in f64: the oracle of the planner, and the carrier
//! of finite differences. It rounds nothing, in mixed precision either: what plans lose there is
//! measured against it.

use super::{Home, Node, Tape, ValueId};
use crate::kernels::{Bind, Io, MAX_BINDS, StepScalars};
use crate::shader::Element;
use std::collections::HashMap;

/// The words of every value, by root.
#[derive(Debug, Clone)]
enum Words {
    Float(Vec<f64>),
    Index(Vec<u32>),
}

#[derive(Debug)]
pub struct Interpreter<'t> {
    tape: &'t Tape,
    words: HashMap<ValueId, Words>,
}

impl<'t> Interpreter<'t> {
    /// All values start at zero; constants hold their data.
    pub fn new(tape: &'t Tape) -> Self {
        let mut words = HashMap::new();
        for (id, value) in tape.values() {
            if matches!(value.home, Home::Alias(_)) {
                continue;
            }
            let n = value.shape.elements();
            let data = match (&value.home, value.element) {
                (Home::Const(bits), Element::F32 | Element::F16) => {
                    Words::Float(bits.iter().map(|w| f64::from(f32::from_bits(*w))).collect())
                }
                (Home::Const(bits), Element::U32) => Words::Index(bits.clone()),
                (_, Element::F32 | Element::F16) => Words::Float(vec![0.0; n]),
                (_, Element::U32) => Words::Index(vec![0; n]),
            };
            words.insert(id, data);
        }
        Interpreter { tape, words }
    }

    pub fn set(&mut self, id: impl Into<ValueId>, data: &[f64]) {
        self.words.insert(self.tape.root(id.into()), Words::Float(data.to_vec()));
    }

    pub fn set_idx(&mut self, id: impl Into<ValueId>, data: &[u32]) {
        self.words.insert(self.tape.root(id.into()), Words::Index(data.to_vec()));
    }

    /// The floats of a value; empty for an integer value.
    pub fn get(&self, id: impl Into<ValueId>) -> &[f64] {
        match self.words.get(&self.tape.root(id.into())) {
            Some(Words::Float(v)) => v,
            _ => &[],
        }
    }

    /// The integers of a value; empty for a float value.
    pub fn get_idx(&self, id: impl Into<ValueId>) -> &[u32] {
        match self.words.get(&self.tape.root(id.into())) {
            Some(Words::Index(v)) => v,
            _ => &[],
        }
    }

    /// Runs every node in order.
    pub fn run(&mut self, step: &StepScalars) {
        for node in self.tape.nodes() {
            self.run_node(node, step);
        }
    }

    fn run_node(&mut self, node: &Node, step: &StepScalars) {
        if let Some((binding, from)) = node.init {
            let before = self.words.get(&self.tape.root(from)).cloned();
            if let Some(before) = before {
                self.words.insert(self.tape.root(node.binds[binding]), before);
            }
        }
        // Written values leave the map, so that the others can be borrowed.
        let mut taken: [Option<Words>; MAX_BINDS] = Default::default();
        for (i, &id) in node.binds.iter().enumerate() {
            if node.writes[i] {
                taken[i] = self.words.remove(&self.tape.root(id));
            }
        }
        let mut io = Io::<f64>::new(*step);
        let written = taken.iter_mut().zip(&mut io.binds);
        for ((slot, bind), &id) in written.zip(&node.binds) {
            *bind = match (slot, self.words.get(&self.tape.root(id))) {
                (Some(Words::Float(v)), _) => Bind::Out(v),
                (Some(Words::Index(v)), _) => Bind::OutU(v),
                (None, Some(Words::Float(v))) => Bind::In(v),
                (None, Some(Words::Index(v))) => Bind::InU(v),
                (None, None) => Bind::None,
            };
        }
        node.kernel.naive64(&mut io);
        for (slot, &id) in taken.into_iter().zip(&node.binds) {
            if let Some(words) = slot {
                self.words.insert(self.tape.root(id), words);
            }
        }
    }
}
