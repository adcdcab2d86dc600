//! Values of the tape, and the typed ids that operations take and give.

use crate::shader::Element;
use crate::shape::Shape;

/// Any value of the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

/// A differentiable f32 tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Act(pub(crate) ValueId);

/// A u32 tensor. It has no gradient, by type: an argmin cannot be differentiated by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Idx(pub(crate) ValueId);

/// A parameter: its gradient lives in the gradient segments, beside those of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Param(pub(crate) ValueId);

impl From<Act> for ValueId {
    fn from(x: Act) -> Self {
        x.0
    }
}
impl From<Idx> for ValueId {
    fn from(x: Idx) -> Self {
        x.0
    }
}
impl From<Param> for ValueId {
    fn from(x: Param) -> Self {
        x.0
    }
}

/// Where the words of a value live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// A slot that the planner assigns by lifetime.
    Temp,
    Input(String),
    Const(Vec<u32>),
    Param(usize),
    Grad(usize),
    /// Added over lanes, like gradients.
    Sum(String),
    Output(String),
    State(String),
    /// The words of another value.
    Alias(ValueId),
}

impl Home {
    /// SSA holds for what a step computes; parameters, gradients and states are places.
    pub(crate) fn is_written_once(&self) -> bool {
        matches!(
            self,
            Home::Temp | Home::Sum(_) | Home::Output(_) | Home::Input(_) | Home::Const(_)
        )
    }
}

#[derive(Debug, Clone)]
pub struct Value {
    pub shape: Shape,
    pub element: Element,
    pub home: Home,
    pub requires_grad: bool,
    /// The operation that made it.
    pub op: &'static str,
}
