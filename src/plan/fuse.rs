//! Joins launches before storage is assigned: fewer launches and barriers, less traffic, the same
//! bits.
//!
//! Three rewrites over the list, each from a producer to the consumer of its temporary:
//! 1. **Chains.** A kernel that works element by element is appended to the kernel before it: to
//!    another such kernel ([`Fused`]) or to a product ([`Epilogue`]). The temporary between them is
//!    not stored, unless others read it too.
//! 2. **Copies.** A kernel whose result is only copied writes to where the copy would.
//! 3. **Sums.** The second stages of split sums that are close together share a launch
//!    ([`FinishSums`]).
//!
//! A joined launch stands where its consumer stood, so what the producer reads must not change in
//! between. A shader compiler may contract a product and a sum into one operation with one rounding;
//! where it could do so only because of a join, there is none.

use super::flatten::Flat;
use crate::error::Result;
use crate::kernels::binary::BinaryOp;
use crate::kernels::expr::{MAX_OUTS, MAX_STEPS, Step};
use crate::kernels::finish_sums::MAX_PARTS;
use crate::kernels::unary::Activation;
use crate::kernels::{Epilogue, Expr, FinishSums, Fused, Kernel, MAX_BINDS, Product};
use crate::shader::{self, Element};
use crate::tape::{Home, Tape, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Words of partial sums that may wait for the launch they share.
const HELD_WORDS: usize = 1 << 20;
/// Launches that a partial sum may wait.
const WAIT: usize = 12;

/// `nodes` joined, and what was joined, as text with a count. `contracts`: the device's compiler may
/// contract products and sums.
pub(super) fn fuse(
    tape: &Tape,
    nodes: Vec<Flat>,
    contracts: bool,
) -> Result<(Vec<Flat>, Vec<String>)> {
    let nodes = nodes.into_iter().map(|node| Some(Work::new(tape, node))).collect();
    let mut list = List { tape, nodes, contracts, done: BTreeMap::new() };
    for at in 0..list.nodes.len() {
        while list.join_producer(at) {}
    }
    list.build()?;
    for at in 0..list.nodes.len() {
        list.write_through(at);
    }
    list.share_sums()?;
    let done = list.done.into_iter().map(|(what, count)| format!("{count} x {what}")).collect();
    Ok((list.nodes.into_iter().flatten().map(|work| work.node).collect(), done))
}

/// A launch as an expression, after a product or by itself.
struct Form {
    /// The product and what it reads.
    product: Option<(Product, Vec<ValueId>)>,
    inputs: Vec<ValueId>,
    expr: Expr,
    outs: Vec<ValueId>,
    n: usize,
}

struct Work {
    node: Flat,
    form: Option<Form>,
    /// The launches that it consists of.
    names: Vec<String>,
}

impl Form {
    fn of(tape: &Tape, node: &Flat) -> Option<Form> {
        let (&out, inputs) = node.binds.split_last()?;
        let n = tape.shape(out).elements();
        let mut inputs = inputs.to_vec();
        if !inputs.iter().all(|&i| constant(tape, i)) || !storable(tape, out) {
            return None;
        }
        if let Some(product) = node.kernel.product() {
            let free = node.takes.is_none();
            let product = free.then_some((product, inputs));
            return product.map(|product| Form {
                product: Some(product),
                inputs: vec![],
                expr: Expr::old(),
                outs: vec![out],
                n,
            });
        }
        let mut expr = node.kernel.elementwise()?;
        if let Some((from, _)) = node.takes {
            // What it adds to in place becomes an ordinary input.
            let summand = Step::Load(inputs.len());
            expr.steps.iter_mut().filter(|s| **s == Step::Old).for_each(|s| *s = summand);
            inputs.push(from);
        }
        Some(Form { product: None, inputs, expr, outs: vec![out], n })
    }

    fn reads(&self) -> impl Iterator<Item = ValueId> {
        let own = self.product.iter().flat_map(|(_, own)| own);
        own.chain(&self.inputs).copied()
    }

    /// The value of a step is a product, which a sum that follows could absorb.
    fn is_product(&self, step: usize) -> bool {
        match self.expr.steps[step] {
            Step::Old => {
                matches!(&self.product, Some((Product::Matmul(m), _)) if m.act.is_some())
            }
            Step::Load(_) | Step::Const(_) => false,
            Step::Binary(op, ..) => op == BinaryOp::Mul,
            Step::Value(act, _) => act != Activation::Relu,
            Step::Slope(..) => true,
        }
    }

    /// Some step adds `value`, be it inside of a function.
    fn adds(&self, value: ValueId) -> bool {
        let is = |step: usize| match self.expr.steps[step] {
            Step::Load(k) => self.inputs[k] == value,
            Step::Old => self.product.is_none() && self.outs[0] == value,
            _ => false,
        };
        self.expr.steps.iter().any(|step| match *step {
            Step::Load(_) | Step::Old | Step::Const(_) => false,
            Step::Binary(op, a, b) => op != BinaryOp::Mul && (is(a) || is(b)),
            Step::Value(act, x) | Step::Slope(act, x) => act != Activation::Relu && is(x),
        })
    }

    /// The step whose value is stored as `value`.
    fn step_of(&self, value: ValueId) -> Option<usize> {
        self.outs.iter().position(|&o| o == value).map(|j| self.expr.outs[j])
    }

    /// This form followed by `next`, which reads `through`; `keep`: others read it too.
    fn then(&self, next: &Form, through: ValueId, keep: bool) -> Option<Form> {
        let (mut expr, mut inputs) = (self.expr.clone(), self.inputs.clone());
        let steps = expr.append(&next.expr, |expr, leaf| match leaf {
            Step::Load(k) => {
                if let Some(step) = self.step_of(next.inputs[k]) {
                    return step;
                }
                let known = inputs.iter().position(|&i| i == next.inputs[k]);
                let k = known.unwrap_or_else(|| {
                    inputs.push(next.inputs[k]);
                    inputs.len() - 1
                });
                expr.load(k)
            }
            // What `next` adds to is what this form wrote there.
            other => self.step_of(next.outs[0]).unwrap_or_else(|| expr.push(other)),
        });
        let mut outs = next.outs.clone();
        let mut stored: Vec<usize> = next.expr.outs.iter().map(|&o| steps[o]).collect();
        for (&out, &step) in self.outs.iter().zip(&self.expr.outs) {
            if (keep || out != through) && !next.outs.contains(&out) {
                outs.push(out);
                stored.push(step);
            }
        }
        expr.outs = stored;
        let own = self.product.as_ref().map_or(0, |(_, own)| own.len());
        let fits = outs.len() <= MAX_OUTS
            && own + inputs.len() + outs.len() <= MAX_BINDS
            && expr.steps.len() <= MAX_STEPS;
        let product = self.product.clone();
        fits.then_some(Form { product, inputs, expr, outs, n: self.n })
    }
}

/// A value that no launch of this list writes while it is read, in a buffer that is not written
/// together with it.
fn constant(tape: &Tape, id: ValueId) -> bool {
    let value = tape.value(id);
    value.element == Element::F32
        && !matches!(value.home, Home::Grad(_) | Home::Sum(_) | Home::State(_))
}

fn storable(tape: &Tape, id: ValueId) -> bool {
    matches!(tape.value(id).home, Home::Temp | Home::Grad(_) | Home::Sum(_) | Home::Output(_))
}

impl Work {
    fn new(tape: &Tape, node: Flat) -> Self {
        let form = Form::of(tape, &node);
        let name = match node.kernel.name() {
            name if name == node.op => name.to_string(),
            name => format!("{}/{name}", node.op),
        };
        Work { node, form, names: vec![name] }
    }

    /// Reads or writes `value`, or takes its place.
    fn touches(&self, value: ValueId) -> bool {
        self.node.binds.contains(&value) || self.node.takes.is_some_and(|(from, _)| from == value)
    }

    fn changes(&self, value: ValueId) -> bool {
        let mut binds = self.node.binds.iter().zip(&self.node.writes);
        binds.any(|(&b, &w)| w && b == value)
            || self.node.takes.is_some_and(|(from, _)| from == value)
    }
}

struct List<'t> {
    tape: &'t Tape,
    nodes: Vec<Option<Work>>,
    contracts: bool,
    done: BTreeMap<String, usize>,
}

impl List<'_> {
    fn some(&self, of: std::ops::Range<usize>, is: impl Fn(&Work) -> bool) -> bool {
        self.nodes[of].iter().flatten().any(is)
    }

    /// The only launch that writes the temporary `value`, before `at`.
    fn writer(&self, value: ValueId, at: usize) -> Option<usize> {
        if self.tape.value(value).home != Home::Temp {
            return None;
        }
        let writes = |work: &Work| {
            let mut binds = work.node.binds.iter().zip(&work.node.writes);
            binds.any(|(&b, &w)| w && b == value)
        };
        let is = |&i: &usize| self.nodes[i].as_ref().is_some_and(writes);
        let mut writers = (0..self.nodes.len()).filter(is);
        let first = writers.next().filter(|&w| w < at)?;
        writers.next().is_none().then_some(first)
    }

    /// Rewrite 1: joins the consumer `at` with one of its producers.
    fn join_producer(&mut self, at: usize) -> bool {
        let Some(Some(form)) = self.nodes[at].as_ref().map(|w| w.form.as_ref()) else {
            return false;
        };
        if form.product.is_some() {
            return false;
        }
        let inputs = form.inputs.clone();
        inputs.into_iter().any(|through| {
            let Some(from) = self.writer(through, at) else { return false };
            let Some(form) = self.joined(from, at, through) else { return false };
            let (Some(first), Some(last)) = (self.nodes[from].take(), &mut self.nodes[at]) else {
                return false;
            };
            last.names = [first.names, std::mem::take(&mut last.names)].concat();
            if form.product.is_some() {
                last.node.op = first.node.op;
            }
            last.node.takes = None;
            last.node.binds = form.reads().chain(form.outs.iter().copied()).collect();
            last.node.writes = form.reads().map(|_| false).collect();
            last.node.writes.resize(last.node.binds.len(), true);
            last.form = Some(form);
            true
        })
    }

    fn joined(&self, from: usize, at: usize, through: ValueId) -> Option<Form> {
        let (producer, consumer) = (self.nodes[from].as_ref()?, self.nodes[at].as_ref()?);
        let (first, next) = (producer.form.as_ref()?, consumer.form.as_ref()?);
        // `Old` can stand for one value only, and what a producer adds to must not wait.
        let old = match &first.product {
            Some(_) => next.expr.uses_old() && first.step_of(next.outs[0]).is_none(),
            None => first.expr.uses_old(),
        };
        if old || first.n != next.n || producer.node.phase != consumer.node.phase {
            return None;
        }
        let contracted = |&out: &ValueId| {
            first.step_of(out).is_some_and(|step| first.is_product(step)) && next.adds(out)
        };
        if self.contracts && first.outs.iter().any(contracted) {
            return None;
        }
        let between = from + 1..at;
        let changed = first.reads().any(|r| self.some(between.clone(), |w| w.changes(r)));
        let wanted = first.outs.iter().any(|&o| self.some(between.clone(), |w| w.touches(o)));
        if changed || wanted {
            return None;
        }
        let keep = self.some(at + 1..self.nodes.len(), |w| w.touches(through));
        first.then(next, through, keep)
    }

    /// Makes kernels of the forms that were joined.
    fn build(&mut self) -> Result<()> {
        for work in self.nodes.iter_mut().flatten().filter(|w| w.names.len() > 1) {
            let Some(form) = &work.form else { continue };
            let lens = form.inputs.iter().map(|&i| self.tape.shape(i).elements()).collect();
            work.node.kernel = match &form.product {
                Some((product, _)) => {
                    Arc::new(Epilogue::new(product.clone(), lens, form.expr.clone()))
                }
                None => Arc::new(Fused::new(form.n, lens, form.expr.clone())),
            };
            let layout = shader::layout(&*work.node.kernel)?;
            work.node.writes = (0..work.node.binds.len()).map(|i| layout.writes(i)).collect();
            let kept = if form.outs.len() > 1 { ", intermediate kept" } else { "" };
            let what = format!("{} -> {}{kept}", work.names.join(" + "), work.node.kernel.name());
            *self.done.entry(what).or_default() += 1;
        }
        Ok(())
    }

    /// Rewrite 2: the producer of what launch `at` copies writes to the copy's place.
    fn write_through(&mut self, at: usize) {
        let Some((from, binding, to)) = self.copied(at) else { return };
        let (Some(copy), Some(producer)) = (self.nodes[at].take(), &mut self.nodes[from]) else {
            return;
        };
        producer.node.binds[binding] = to;
        let what = format!("{} writes for {}", producer.names.join(" + "), copy.names.join(" + "));
        *self.done.entry(what).or_default() += 1;
    }

    /// Producer, its binding and the copy's output, if launch `at` only copies.
    fn copied(&self, at: usize) -> Option<(usize, usize, ValueId)> {
        let copy = self.nodes[at].as_ref()?;
        let form = copy.form.as_ref().filter(|f| f.product.is_none() && f.expr.is_copy())?;
        let (value, to) = (form.inputs[0], form.outs[0]);
        let from =
            self.writer(value, at).filter(|_| self.tape.shape(value).elements() == form.n)?;
        let producer = self.nodes[from].as_ref()?;
        let node = &producer.node;
        // In place over another temporary, or reading a buffer that the copy's place lies in.
        let bound = node.takes.is_some()
            || node.phase != copy.node.phase
            || !node.binds.iter().all(|&b| b == value || self.apart(b, to));
        let busy = self.some(from..at, |w| w.touches(to))
            || self.some(from + 1..at, |w| w.touches(value))
            || self.some(at + 1..self.nodes.len(), |w| w.touches(value));
        if bound || busy {
            return None;
        }
        let binding = node.binds.iter().position(|&b| b == value)?;
        Some((from, binding, to))
    }

    /// `other` surely lies in another buffer than `to`, or is written like it.
    fn apart(&self, other: ValueId, to: ValueId) -> bool {
        match (&self.tape.value(other).home, &self.tape.value(to).home) {
            (Home::Grad(_), Home::Grad(_)) | (Home::Sum(_), Home::Sum(_)) => false,
            _ => other != to,
        }
    }

    /// Rewrite 3: gathers second stages of sums until one cannot wait any longer.
    fn share_sums(&mut self) -> Result<()> {
        let mut group: Vec<usize> = vec![];
        for at in 0..self.nodes.len() {
            let Some(work) = &self.nodes[at] else { continue };
            let node = &work.node;
            let is_sum = node.kernel.partial_sums().is_some()
                && node.takes.is_none()
                && self.tape.value(node.binds[0]).home == Home::Temp;
            if !is_sum {
                continue;
            }
            if group.len() == MAX_PARTS || !group.iter().all(|&j| self.can_wait(j, at)) {
                self.share(&group)?;
                group.clear();
            }
            group.push(at);
        }
        self.share(&group)
    }

    /// The sum `from` may run together with the sum `at`.
    fn can_wait(&self, from: usize, at: usize) -> bool {
        let (Some(first), Some(last)) = (&self.nodes[from], &self.nodes[at]) else { return false };
        let (partials, out) = (first.node.binds[0], first.node.binds[1]);
        let between = from + 1..at + 1;
        at - from <= WAIT
            && first.node.phase == last.node.phase
            && self.tape.shape(partials).elements() <= HELD_WORDS
            && !self.some(between, |w| w.touches(out) || w.changes(partials))
    }

    fn share(&mut self, group: &[usize]) -> Result<()> {
        let Some((&last, waiting)) = group.split_last().filter(|(_, w)| !w.is_empty()) else {
            return Ok(());
        };
        let nodes: Vec<Work> = waiting.iter().filter_map(|&i| self.nodes[i].take()).collect();
        let Some(work) = &mut self.nodes[last] else { return Ok(()) };
        let all = || nodes.iter().map(|w| &w.node).chain([&work.node]);
        let kernel = FinishSums::new(all().filter_map(|n| n.kernel.partial_sums()).collect());
        let binds = [0, 1].map(|i| all().map(|n| n.binds[i]).collect::<Vec<_>>()).concat();
        let layout = shader::layout(&kernel)?;
        work.node.writes = (0..binds.len()).map(|i| layout.writes(i)).collect();
        work.node.binds = binds;
        let what = format!("{} sum_partials -> {}", group.len(), kernel.name());
        work.node.kernel = Arc::new(kernel);
        *self.done.entry(what).or_default() += 1;
        Ok(())
    }
}
