//! The tape: one training step as an SSA graph of kernel launches.
//!
//! Operations (`crate::ops`) append launches and, beside them, a record of how their gradient is
//! launched. [`Tape::backward`] walks the records in reverse and appends to the same graph. Nothing
//! runs here: `crate::plan` turns the nodes into device launches, [`interpret`] into f64 numbers.

mod backward;
pub mod interpret;
mod loss_scale;
mod recompute;
mod value;

pub use crate::precision::Precision;
pub use crate::recompute::Recompute;
pub use backward::Target;
pub use loss_scale::{GOOD_STEPS, LOSS_SCALE};
pub use recompute::Region;
pub use value::{Act, Home, Idx, Param, Value, ValueId};

use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::shader::{self, Element};
use crate::shape::Shape;
use std::collections::HashMap;
use std::sync::Arc;

/// When a node runs: once per lane (forward and backward), or once per step after all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Lane,
    Update,
}

/// One kernel launch.
#[derive(Debug, Clone)]
pub struct Node {
    pub kernel: Arc<dyn Kernel>,
    /// In binding order.
    pub binds: Vec<ValueId>,
    /// Which bindings are written, from the shader.
    pub writes: Vec<bool>,
    /// A binding that starts as a copy of another value and is added to. The planner lets both
    /// share a slot where the other value is not needed any more.
    pub init: Option<(usize, ValueId)>,
    pub phase: Phase,
    /// The operation that launched it, for dumps and errors.
    pub op: &'static str,
}

type BackwardFn = Box<dyn FnOnce(&mut Tape, Act) -> Result<()>>;

struct Record {
    op: &'static str,
    output: Act,
    backward: BackwardFn,
}

/// See the module documentation.
#[derive(Default)]
pub struct Tape {
    values: Vec<Value>,
    nodes: Vec<Node>,
    records: Vec<Record>,
    /// Gradient of each differentiable value, as far as known.
    grads: HashMap<ValueId, Act>,
    /// One value per parameter, and whether its gradient was written.
    params: HashMap<usize, Param>,
    written: Vec<bool>,
    phase: Option<Phase>,
    precision: Precision,
    recomputation: recompute::Recomputation,
    op: &'static str,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape({} values, {} nodes)", self.values.len(), self.nodes.len())
    }
}

impl Tape {
    pub fn new() -> Self {
        Self::default()
    }

    /// How plans of this tape store its values; to be said before [`Tape::backward`].
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(i, v)| (ValueId(i as u32), v))
    }

    pub fn shape(&self, id: impl Into<ValueId>) -> Shape {
        self.value(id.into()).shape
    }

    /// From here on nodes run once per step, after the lanes.
    pub fn begin_update(&mut self) {
        self.phase = Some(Phase::Update);
    }

    fn push(&mut self, value: Value, written: bool) -> ValueId {
        self.values.push(value);
        self.written.push(written);
        ValueId(self.values.len() as u32 - 1)
    }

    fn make(&mut self, home: Home, element: Element, shape: Shape, written: bool) -> ValueId {
        self.push(Value { shape, element, home, requires_grad: false, op: self.op }, written)
    }

    /// A float input that the host writes before a step.
    pub fn input(&mut self, name: &str, dims: &[usize]) -> Result<Act> {
        let shape = Shape::new(dims)?;
        Ok(Act(self.make(Home::Input(name.into()), Element::F32, shape, true)))
    }

    /// An integer input that the host writes before a step.
    pub fn input_idx(&mut self, name: &str, dims: &[usize]) -> Result<Idx> {
        let shape = Shape::new(dims)?;
        Ok(Idx(self.make(Home::Input(name.into()), Element::U32, shape, true)))
    }

    /// A constant, written when the plan is made.
    pub fn constant(&mut self, dims: &[usize], data: Vec<f32>) -> Result<Act> {
        let bits = data.into_iter().map(f32::to_bits).collect();
        Ok(Act(self.make(Home::Const(bits), Element::F32, Shape::new(dims)?, true)))
    }

    pub fn constant_idx(&mut self, dims: &[usize], data: Vec<u32>) -> Result<Idx> {
        Ok(Idx(self.make(Home::Const(data), Element::U32, Shape::new(dims)?, true)))
    }

    /// The parameter with index `index` of the parameter table.
    pub fn param(&mut self, index: usize, shape: Shape) -> Param {
        if let Some(&known) = self.params.get(&index) {
            return known;
        }
        let id = self.make(Home::Param(index), Element::F32, shape, true);
        self.values[id.0 as usize].requires_grad = true;
        self.params.insert(index, Param(id));
        Param(id)
    }

    /// As [`Tape::param`], without a gradient: gradients pass through the layers of the parameter and
    /// leave it as it is. A tape that knows it as trained keeps it so.
    pub fn frozen_param(&mut self, index: usize, shape: Shape) -> Param {
        if let Some(&known) = self.params.get(&index) {
            return known;
        }
        let param = self.param(index, shape);
        self.values[param.0.0 as usize].requires_grad = false;
        param
    }

    /// A named buffer that outlives the step: a codebook, its moving averages. Read and written in
    /// place; the order of nodes is the order of effects.
    pub fn state(&mut self, name: &str, dims: &[usize]) -> Result<Act> {
        let shape = Shape::new(dims)?;
        let known = self.values().find(|(_, v)| v.home == Home::State(name.into())).map(|(i, _)| i);
        Ok(Act(
            known.unwrap_or_else(|| self.make(Home::State(name.into()), Element::F32, shape, true))
        ))
    }

    /// A value of this step, to be written by one launch.
    pub fn temp(&mut self, dims: &[usize]) -> Result<Act> {
        let shape = Shape::new(dims)?;
        Ok(Act(self.make(Home::Temp, Element::F32, shape, false)))
    }

    pub fn temp_idx(&mut self, dims: &[usize]) -> Result<Idx> {
        let shape = Shape::new(dims)?;
        Ok(Idx(self.make(Home::Temp, Element::U32, shape, false)))
    }

    /// Like [`Tape::temp`], with the shape of another value.
    pub fn temp_like(&mut self, like: impl Into<ValueId>) -> Act {
        let shape = self.shape(like);
        Act(self.make(Home::Temp, Element::F32, shape, false))
    }

    /// Makes `value` one of the step's named sums: added over lanes and readable by the host.
    pub fn report(&mut self, name: &str, value: Act) -> Result<()> {
        self.rehome(value.0, Home::Sum(name.into()))
    }

    /// Makes `value` readable by the host after the step, under `name`.
    pub fn output(&mut self, name: &str, value: impl Into<ValueId>) -> Result<()> {
        self.rehome(value.into(), Home::Output(name.into()))
    }

    fn rehome(&mut self, id: ValueId, home: Home) -> Result<()> {
        let root = self.root(id);
        let value = &mut self.values[root.0 as usize];
        if value.home != Home::Temp {
            return Err(Error::failed(format!("{home:?}: the value already is {:?}", value.home)));
        }
        value.home = home;
        Ok(())
    }

    /// The same words under another shape.
    pub fn reshape(&mut self, x: Act, dims: &[usize]) -> Result<Act> {
        let shape = Shape::new(dims)?;
        if shape.elements() != self.shape(x).elements() {
            return Err(Error::failed(format!("cannot reshape {} to {shape}", self.shape(x))));
        }
        let y = self.alias(x.0, shape);
        self.record("reshape", &[x.0], y, move |t, dy| {
            let dims = t.shape(x);
            let back = t.alias(dy.0, dims);
            t.add_grad(x, back)
        });
        Ok(y)
    }

    /// The same words, through which no gradient passes.
    pub fn detach(&mut self, x: impl Into<ValueId>) -> Act {
        let x = x.into();
        let shape = self.shape(x);
        self.alias(x, shape)
    }

    pub(crate) fn alias(&mut self, x: ValueId, shape: Shape) -> Act {
        let element = self.value(x).element;
        Act(self.make(Home::Alias(x), element, shape, true))
    }

    /// The value whose words `id` shares.
    pub fn root(&self, id: ValueId) -> ValueId {
        match self.value(id).home {
            Home::Alias(of) => self.root(of),
            _ => id,
        }
    }

    /// Appends a launch. Values it writes must be fresh, or persistent, or accumulated into.
    ///
    /// # Errors
    /// A defect of the calling operation: wrong count, size or type of a binding, a value read
    /// before it was written or written twice.
    pub fn launch(&mut self, kernel: impl Kernel + 'static, binds: &[ValueId]) -> Result<()> {
        self.launch_node(Arc::new(kernel), binds, None)
    }

    fn launch_node(
        &mut self,
        kernel: Arc<dyn Kernel>,
        binds: &[ValueId],
        init: Option<(usize, ValueId)>,
    ) -> Result<()> {
        let layout = shader::layout(&*kernel)?;
        let (op, name, lens) = (self.op, kernel.name(), kernel.lens());
        let bad = |what: String| Error::failed(format!("{op}: {name}: {what}"));
        if binds.len() != layout.storage.len() || binds.len() != lens.len() {
            return Err(bad(format!(
                "{} values for {} bindings: {:?}",
                binds.len(),
                layout.storage.len(),
                layout.storage.iter().map(|b| &b.name).collect::<Vec<_>>()
            )));
        }
        let mut binds = binds.to_vec();
        for (i, id) in binds.iter_mut().enumerate() {
            if !layout.writes(i) {
                *id = self.at_hand(*id)?;
            }
        }
        let mut writes = vec![];
        for (i, (&id, binding)) in binds.iter().zip(&layout.storage).enumerate() {
            let value = self.value(id);
            if value.shape.elements() != lens[i] || value.element != binding.element {
                return Err(bad(format!(
                    "{} is {} {:?}, the kernel wants {} elements of {:?}",
                    binding.name, value.shape, value.element, lens[i], binding.element
                )));
            }
            let root = self.root(id).0 as usize;
            let fresh = self.values[root].home.is_written_once();
            let accumulates = matches!(init, Some((binding, _)) if binding == i);
            match layout.writes(i) {
                true if fresh && self.written[root] => {
                    return Err(bad(format!("{} is written twice", binding.name)));
                }
                true => self.written[root] = true,
                false if !self.written[root] => {
                    return Err(bad(format!("{} is read before it is written", binding.name)));
                }
                false => {}
            }
            if accumulates && !layout.writes(i) {
                return Err(bad(format!("{} is read-only but accumulated into", binding.name)));
            }
            writes.push(layout.writes(i));
        }
        let phase = self.phase.unwrap_or(Phase::Lane);
        self.nodes.push(Node { kernel, binds, writes, init, phase, op });
        Ok(())
    }
}
