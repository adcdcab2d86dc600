//! The reverse pass: appends gradient launches to the same graph.

use super::{Act, Home, LOSS_SCALE, Node, Param, Precision, Record, Tape, ValueId};
use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::kernels::copy::Copy;
use crate::kernels::scale_by::ScaleBy;
use crate::shader::Element;
use crate::shape::Shape;
use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Where an operation's backward writes one gradient.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// To be bound as the kernel's output.
    pub value: Act,
    /// The kernel must add instead of write.
    pub accum: bool,
    /// The gradient that was there before, when it is not in `value` already.
    init: Option<Act>,
}

impl Tape {
    /// Records how to launch the gradient of `output` with respect to `inputs`.
    pub fn record(
        &mut self,
        op: &'static str,
        inputs: &[ValueId],
        output: Act,
        backward: impl FnOnce(&mut Tape, Act) -> Result<()> + 'static,
    ) {
        if inputs.iter().any(|&i| self.value(i).requires_grad) {
            self.values[output.0.0 as usize].requires_grad = true;
            self.records.push(Record { op, output, backward: Box::new(backward) });
        }
    }

    /// Names the operation that the following launches belong to.
    pub fn begin_op(&mut self, op: &'static str) {
        self.op = op;
    }

    pub fn requires_grad(&self, x: impl Into<ValueId>) -> bool {
        self.value(x.into()).requires_grad
    }

    /// Where the gradient of `x` goes; `None` when nobody needs it.
    pub fn target(&mut self, x: Act) -> Option<Target> {
        if !self.requires_grad(x) {
            return None;
        }
        let value = self.temp_like(x);
        let init = self.grads.insert(x.0, value);
        Some(Target { value, accum: init.is_some(), init })
    }

    /// Where the gradient of a parameter goes, its place in the gradient segments; `None` when it is
    /// frozen.
    pub fn param_target(&mut self, p: Param) -> Option<Target> {
        if !self.requires_grad(p) {
            return None;
        }
        let Home::Param(index) = self.value(p.0).home else {
            unreachable!("a Param has a parameter's home");
        };
        if let Some(&known) = self.grads.get(&p.0) {
            return Some(Target { value: known, accum: true, init: None });
        }
        let shape = self.shape(p);
        let value = Act(self.make(Home::Grad(index), Element::F32, shape, false));
        self.grads.insert(p.0, value);
        Some(Target { value, accum: false, init: None })
    }

    /// Launches a kernel that writes, or adds to, `target`, which must be among `binds`.
    pub fn launch_into(
        &mut self,
        target: Target,
        kernel: impl Kernel + 'static,
        binds: &[ValueId],
    ) -> Result<()> {
        let binding = binds.iter().position(|&b| b == target.value.0);
        let init = match (binding, target.init) {
            (Some(binding), Some(before)) => Some((binding, before.0)),
            (Some(_), None) => None,
            (None, _) => {
                return Err(Error::failed(format!("{}: the gradient is not bound", kernel.name())));
            }
        };
        self.launch_node(Arc::new(kernel), binds, init)
    }

    /// `g`, an existing value, is (part of) the gradient of `x`.
    pub fn add_grad(&mut self, x: Act, g: Act) -> Result<()> {
        if !self.requires_grad(x) {
            return Ok(());
        }
        if let Entry::Vacant(first) = self.grads.entry(x.0) {
            first.insert(g);
            return Ok(());
        }
        let Some(target) = self.target(x) else { return Ok(()) };
        let n = self.shape(x).elements();
        self.launch_into(target, Copy { n, accum: true }, &[g.0, target.value.0])
    }

    /// The gradient of `x` after [`Tape::backward`].
    pub fn grad(&self, x: impl Into<ValueId>) -> Option<Act> {
        self.grads.get(&x.into()).copied()
    }

    /// Appends the gradient of `sum of weight * loss` over the given scalars with respect to every
    /// parameter on the tape. In mixed precision every gradient comes multiplied by the state
    /// [`LOSS_SCALE`], which the plan's optimiser divides out.
    ///
    /// # Errors
    /// A loss that is no scalar; an operation whose gradient does not depend on the incoming one; a
    /// parameter that no loss depends on.
    pub fn backward(&mut self, losses: &[(Act, f32)]) -> Result<()> {
        self.drop_regions();
        for &(loss, weight) in losses {
            if self.shape(loss) != Shape::new(&[1])? {
                return Err(Error::failed(format!("a loss is {}, no scalar", self.shape(loss))));
            }
            self.op = "loss";
            let seed = self.seed(weight)?;
            self.add_grad(loss, seed)?;
        }
        while let Some(Record { op, output, backward }) = self.records.pop() {
            let Some(&dy) = self.grads.get(&output.0) else { continue };
            self.op = op;
            let (first, known) = (self.nodes.len(), self.grads.clone());
            backward(self, dy)?;
            self.check_reachable(op, dy, first, &known)?;
        }
        self.end_recomputation();
        for (index, param) in &self.params {
            if self.value(param.0).requires_grad && !self.grads.contains_key(&param.0) {
                return Err(Error::failed(format!("no loss depends on parameter {index}")));
            }
        }
        Ok(())
    }

    /// The gradient that the reverse pass starts from at a loss of this weight.
    fn seed(&mut self, weight: f32) -> Result<Act> {
        if self.precision == Precision::F32 {
            return self.constant(&[1], vec![weight]);
        }
        let (one, scale) = (self.constant(&[1], vec![1.0])?, self.state(LOSS_SCALE, &[1])?);
        let seed = self.temp(&[1])?;
        let kernel = ScaleBy { n: 1, factor: weight, accum: false };
        self.launch(kernel, &[one.0, scale.0, seed.0])?;
        Ok(seed)
    }

    /// Every gradient that the launches from `first` on produced must be computed from `dy`.
    fn check_reachable(
        &self,
        op: &str,
        dy: Act,
        first: usize,
        known: &std::collections::HashMap<ValueId, Act>,
    ) -> Result<()> {
        let mut reached: HashSet<ValueId> = [self.root(dy.0)].into();
        for Node { binds, writes, .. } in &self.nodes[first..] {
            let reads = binds.iter().zip(writes).filter(|(_, w)| !**w);
            if reads.into_iter().any(|(&b, _)| reached.contains(&self.root(b))) {
                let written = binds.iter().zip(writes).filter(|(_, w)| **w);
                reached.extend(written.map(|(&b, _)| self.root(b)));
            }
        }
        for (x, g) in &self.grads {
            if known.get(x) != Some(g) && !reached.contains(&self.root(g.0)) {
                return Err(Error::failed(format!(
                    "{op}: the gradient of a {} does not depend on the incoming gradient",
                    self.shape(*x)
                )));
            }
        }
        Ok(())
    }
}
