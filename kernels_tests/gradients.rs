//! Every gradient against central differences, in f64, through the interpreter.
//!
//! For a parameter p and a direction v of length 1, g.v must be the slope of
//! L(p + h v) at h = 0, where L = sum of weight * loss. With D(h) = (L(p + h v) - L(p - h v)) / 2h =
//! D + a h^2 + b h^4 + .., the extrapolation R(h) = (4 D(h) - D(2h)) / 3 = D - 4 b h^4 + .. has an
//! error of |R(2h) - R(h)| / 15 in its leading term (Romberg); twice that is allowed for the terms
//! behind it. Rounding adds: a loss is the end of a chain of fewer than 2^10 dependent f64 operations
//! whose intermediate sizes are those of the loss or below, hence an error of at most d = 2^10 2^-53
//! max |L|, and R(h) amplifies it by 3/2 / h. Nothing else enters the tolerance, and a tolerance above
//! a millionth of the gradient's length or of L fails too.

mod digits;
mod losses;
mod models;
mod operations;
mod vectors;

use std::collections::BTreeMap;
use vqforge::error::Result;
use vqforge::kernels::StepScalars;
use vqforge::ops::{self, Activation};
use vqforge::plan::{ParamInit, ParamSpec, ParamTable};
use vqforge::rng::{Rng, Stream};
use vqforge::shader::Element;
use vqforge::shape::Shape;
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Act, Home, Idx, Param, Tape, ValueId};

/// The step h.
const H: f64 = 1.0 / 128.0;
/// Relative error of a loss in f64: a chain of fewer than 2^10 dependent operations.
const ROUNDING: f64 = 1024.0 * f64::EPSILON / 2.0;

/// A tape with a loss, and the values of everything it reads.
pub struct Graph {
    pub tape: Tape,
    table: ParamTable,
    /// By parameter index.
    values: Vec<Vec<f64>>,
    floats: Vec<(ValueId, Vec<f64>)>,
    indices: Vec<(ValueId, Vec<u32>)>,
    /// What `backward` starts from, and where the same losses are read.
    seeds: Vec<(Act, f32)>,
    losses: Vec<(ValueId, f32)>,
    step: StepScalars,
    rng: Rng,
}

impl Graph {
    fn new(seed: u64) -> Self {
        Graph {
            tape: Tape::new(),
            table: ParamTable::default(),
            values: vec![],
            floats: vec![],
            indices: vec![],
            seeds: vec![],
            losses: vec![],
            step: StepScalars::default(),
            rng: Rng::new(seed, Stream::Test, 0),
        }
    }

    /// A number in [-1, 1], at least 0.1 from 0: the kink of a ReLU stays out of reach of 4h.
    fn number(&mut self) -> f64 {
        let sign = if self.rng.below(2) == 0 { 1.0 } else { -1.0 };
        sign * self.rng.range(0.1, 1.0)
    }

    fn param(&mut self, dims: &[usize]) -> Result<Param> {
        let shape = Shape::new(dims)?;
        let name = format!("p{}", self.values.len());
        let spec = ParamSpec { name, shape, init: ParamInit::Zeros, decay: false };
        let index = self.table.get_or_add(spec)?;
        let values = (0..shape.elements()).map(|_| self.number()).collect();
        self.values.push(values);
        Ok(self.tape.param(index, shape))
    }

    /// A differentiable tensor in the middle of a graph: the rows of a table, in order.
    pub fn leaf(&mut self, dims: &[usize]) -> Result<Act> {
        let shape = Shape::new(dims)?;
        let table = self.param(&[shape.rows(), shape.channels()])?;
        let order = self.tape.constant_idx(&[shape.rows()], (0..shape.rows() as u32).collect())?;
        let rows = ops::embedding(&mut self.tape, order, table)?;
        self.tape.reshape(rows, dims)
    }

    fn constant(&mut self, dims: &[usize]) -> Result<Act> {
        let data = (0..dims.iter().product()).map(|_| self.number() as f32).collect();
        self.tape.constant(dims, data)
    }

    fn index(&mut self, n: usize, below: u32) -> Result<Idx> {
        let data = (0..n).map(|_| self.rng.below(below)).collect();
        self.tape.constant_idx(&[n], data)
    }

    /// Ends the graph behind y: another operation, then a loss with a weight other than 1.
    fn head(&mut self, y: Act) -> Result<()> {
        let dims = self.tape.shape(y).dims().to_vec();
        let target = self.constant(&dims)?;
        let loss = ops::sum_of_squared_errors(&mut self.tape, y, target, 0.37)?;
        let weight = [1.7, -0.6, 0.9, 1.3][self.losses.len() % 4];
        self.add_loss(loss, weight);
        Ok(())
    }

    fn add_loss(&mut self, loss: Act, weight: f32) {
        self.seeds.push((loss, weight));
        self.losses.push((loss.into(), weight));
    }

    /// Everything but sources starts as NaN: what is read before it is written shows.
    fn interpreter(&self) -> Interpreter<'_> {
        let mut run = Interpreter::new(&self.tape);
        for (id, value) in self.tape.values() {
            let computed =
                matches!(value.home, Home::Temp | Home::Grad(_) | Home::Sum(_) | Home::Output(_));
            if computed && value.element == Element::F32 {
                run.set(id, &vec![f64::NAN; value.shape.elements()]);
            }
        }
        self.floats.iter().for_each(|(id, v)| run.set(*id, v));
        self.indices.iter().for_each(|(id, v)| run.set_idx(*id, v));
        for (id, index) in self.places() {
            run.set(id, &self.values[index]);
        }
        run
    }

    /// The parameters on the tape: value and index.
    fn places(&self) -> Vec<(ValueId, usize)> {
        let index = |home: &Home| if let Home::Param(i) = home { Some(*i) } else { None };
        self.tape.values().filter_map(|(id, v)| Some((id, index(&v.home)?))).collect()
    }

    /// The gradient of every parameter, by name. Runs after `backward`.
    fn gradients(&self) -> BTreeMap<String, Vec<f64>> {
        let mut run = self.interpreter();
        run.run(&self.step);
        let name = |index: usize| self.table.specs()[index].name.clone();
        let of = |(id, index)| {
            let grad = self.tape.grad(id).expect("every parameter has a gradient");
            (name(index), run.get(grad).to_vec())
        };
        self.places().into_iter().map(of).collect()
    }

    /// Compares `gradients` with the slopes of this graph's loss: for each parameter alone, and in
    /// `joint` directions over all of them.
    fn compare(&self, name: &str, gradients: &BTreeMap<String, Vec<f64>>, joint: usize) {
        let places = self.places();
        let mut run = self.interpreter();
        let gradient = |index: usize| &gradients[&self.table.specs()[index].name];
        let mut directions: Vec<Vec<usize>> = places.iter().map(|&(_, i)| vec![i]).collect();
        directions.extend((0..joint).map(|_| places.iter().map(|&(_, i)| i).collect()));
        let mut rng = Rng::new(99, Stream::Test, 0);
        for moved in directions {
            let mut v: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for &i in &moved {
                v.insert(i, self.values[i].iter().map(|_| rng.normal()).collect());
            }
            let length = v.values().flatten().map(|x| x * x).sum::<f64>().sqrt();
            v.values_mut().flatten().for_each(|x| *x /= length);
            let slope: f64 =
                v.iter().flat_map(|(&i, v)| v.iter().zip(gradient(i)).map(|(a, b)| a * b)).sum();
            let size: f64 =
                moved.iter().flat_map(|&i| gradient(i)).map(|g| g * g).sum::<f64>().sqrt();
            let mut largest = 0.0f64;
            let mut loss = |h: f64| {
                for &(id, index) in places.iter().filter(|(_, i)| v.contains_key(i)) {
                    let p = self.values[index].iter().zip(&v[&index]).map(|(p, v)| p + h * v);
                    run.set(id, &p.collect::<Vec<_>>());
                }
                run.run(&self.step);
                let loss: f64 =
                    self.losses.iter().map(|&(l, w)| f64::from(w) * run.get(l)[0]).sum();
                largest = largest.max(loss.abs());
                loss
            };
            let [d1, d2, d4] = [H, 2.0 * H, 4.0 * H].map(|h| (loss(h) - loss(-h)) / (2.0 * h));
            loss(0.0);
            let (near, far) = ((4.0 * d1 - d2) / 3.0, (4.0 * d2 - d4) / 3.0);
            let rounding = 1.5 / H * ROUNDING * largest;
            let tolerance = 2.0 * (far - near).abs() / 15.0 + rounding;
            let error = (near - slope).abs();
            let what = match &moved[..] {
                [one] => self.table.specs()[*one].name.clone(),
                _ => "all parameters".into(),
            };
            assert!(
                error <= tolerance,
                "{name}, {what}: gradient {slope:e}, slope {near:e}: {error:.1e} > {tolerance:.1e}"
            );
            let proof = 1e-6 * size.max(largest);
            assert!(
                tolerance <= proof,
                "{name}, {what}: a tolerance of {tolerance:e} proves nothing"
            );
        }
    }
}

/// Proves `op` on one graph, alone and where its input has another consumer, whose gradient is there
/// first and is added to. `build` returns the input leaves and the output.
pub fn prove(op: &str, label: &str, build: impl Fn(&mut Graph) -> Result<(Vec<Act>, Act)>) {
    for fan_out in [false, true] {
        let name = format!("{op} {label} fan_out={fan_out}");
        let mut graph = Graph::new(3);
        let recorded = (|| {
            let (leaves, y) = build(&mut graph)?;
            graph.head(y)?;
            for leaf in leaves.into_iter().filter(|_| fan_out) {
                let other = ops::activation(&mut graph.tape, leaf, Activation::Silu)?;
                graph.head(other)?;
            }
            graph.tape.backward(&graph.seeds)
        })();
        recorded.unwrap_or_else(|e: vqforge::error::Error| panic!("{name}: {e}"));
        let gradients = graph.gradients();
        for (p, g) in &gradients {
            assert!(g.iter().any(|&g| g != 0.0), "{name}: the gradient of {p} is zero");
        }
        let adds = graph.tape.nodes().iter().any(|n| n.op == op && n.init.is_some());
        assert!(adds || !fan_out, "{name}: nothing was accumulated");
        graph.compare(&name, &gradients, 2);
    }
}
