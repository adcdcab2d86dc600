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

use crate::engine::{BATCH, Tiny};
use crate::quantiser::margins;
use std::collections::BTreeMap;
use vqforge::config::QuantiserKind;
use vqforge::error::Result;
use vqforge::kernels::StepScalars;
use vqforge::model::{Scope, vqvae};
use vqforge::ops::{self, Activation, Conv};
use vqforge::plan::{ParamInit, ParamSpec, ParamTable};
use vqforge::rng::{Rng, Stream};
use vqforge::shader::Element;
use vqforge::shape::Shape;
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Act, Home, Idx, Param, Tape, ValueId};

/// The step h.
const H: f64 = 1.0 / 128.0;

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
            let rounding = 1.5 / H * 1024.0 * (f64::EPSILON / 2.0) * largest;
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

#[test]
fn conv2d() {
    let odd = |stride, pad| Conv { stride, pad };
    for (x, k, cout, conv) in [
        ([2, 5, 7, 3], [3, 3], 5, Conv::same(3)),
        ([1, 6, 5, 4], [3, 3], 8, Conv::half()),
        ([2, 6, 8, 2], [3, 3], 3, Conv::half_asymmetric()),
        ([1, 4, 3, 5], [1, 1], 2, Conv::same(1)),
        ([1, 5, 6, 1], [2, 4], 3, odd(1, [0, 1, 2, 1])),
        ([2, 7, 4, 2], [4, 3], 2, odd(3, [2, 1, 1, 0])),
    ] {
        for bias in [false, true] {
            prove("conv2d", &format!("{x:?} {k:?} {cout} {conv:?} bias={bias}"), |g| {
                let input = g.leaf(&x)?;
                let w = g.param(&[k[0], k[1], x[3], cout])?;
                let b = if bias { Some(g.param(&[cout])?) } else { None };
                Ok((vec![input], ops::conv2d(&mut g.tape, input, w, b, conv)?))
            });
        }
    }
}

#[test]
fn linear() {
    for (x, n) in [(vec![5, 3], 7), (vec![2, 3, 4], 8), (vec![1, 1], 1), (vec![41, 5], 6)] {
        for bias in [false, true] {
            prove("linear", &format!("{x:?} {n} bias={bias}"), |g| {
                let input = g.leaf(&x)?;
                let w = g.param(&[x[x.len() - 1], n])?;
                let b = if bias { Some(g.param(&[n])?) } else { None };
                Ok((vec![input], ops::linear(&mut g.tape, input, w, b)?))
            });
        }
    }
}

#[test]
fn group_norm() {
    for (x, groups) in [([2, 3, 5, 6], 3), ([1, 4, 2, 8], 2), ([3, 2, 3, 5], 1), ([1, 7, 1, 4], 4)]
    {
        for silu in [false, true] {
            prove("group_norm", &format!("{x:?} {groups} silu={silu}"), |g| {
                let input = g.leaf(&x)?;
                let (gamma, beta) = (g.param(&[x[3]])?, g.param(&[x[3]])?);
                let y = ops::group_norm(&mut g.tape, input, gamma, beta, groups, 1e-3, silu)?;
                Ok((vec![input], y))
            });
        }
    }
}

#[test]
fn layer_norm() {
    for x in [[3, 2, 5], [1, 7, 8], [2, 1, 6], [2, 41, 3]] {
        prove("layer_norm", &format!("plain {x:?}"), |g| {
            let input = g.leaf(&x)?;
            Ok((vec![input], ops::layer_norm(&mut g.tape, input, 1e-3)?))
        });
        prove("layer_norm", &format!("affine {x:?}"), |g| {
            let input = g.leaf(&x)?;
            let (gamma, beta) = (g.param(&[x[2]])?, g.param(&[x[2]])?);
            let y = ops::layer_norm_affine(&mut g.tape, input, gamma, beta, 1e-3)?;
            Ok((vec![input], y))
        });
        prove("layer_norm", &format!("modulated {x:?}"), |g| {
            let input = g.leaf(&x)?;
            let m = g.leaf(&[x[0], 2 * x[2]])?;
            let y = ops::layer_norm_modulated(&mut g.tape, input, m, 1e-3)?;
            Ok((vec![input, m], y))
        });
    }
}

#[test]
fn attention() {
    for (batch, lq, lk, heads, d) in [(2, 3, 5, 2, 3), (1, 7, 2, 1, 4), (1, 4, 9, 3, 2)] {
        let label = format!("b={batch} lq={lq} lk={lk} heads={heads} d={d}");
        prove("attention", &format!("cross {label}"), |g| {
            let q = g.leaf(&[batch, lq, heads * d])?;
            let k = g.leaf(&[batch, lk, heads * d])?;
            let v = g.leaf(&[batch, lk, heads * d])?;
            Ok((vec![q, k, v], ops::attention(&mut g.tape, q, k, v, heads)?))
        });
        prove("attention", &format!("self {label}"), |g| {
            let x = g.leaf(&[batch, lq, heads * d])?;
            Ok((vec![x], ops::attention(&mut g.tape, x, x, x, heads)?))
        });
        prove("attention", &format!("fixed keys {label}"), |g| {
            let q = g.leaf(&[batch, lq, heads * d])?;
            let k = g.constant(&[batch, lk, heads * d])?;
            Ok((vec![q], ops::attention(&mut g.tape, q, k, k, heads)?))
        });
    }
}

#[test]
fn activations() {
    for op in Activation::ALL {
        for x in [vec![1], vec![41], vec![3, 8]] {
            prove("activation", &format!("{op:?} {x:?}"), |g| {
                let input = g.leaf(&x)?;
                Ok((vec![input], ops::activation(&mut g.tape, input, op)?))
            });
        }
    }
}

#[test]
fn sums_of_tensors() {
    for x in [vec![1, 1], vec![5, 3], vec![2, 2, 8]] {
        prove("add", &format!("{x:?}"), |g| {
            let (a, b) = (g.leaf(&x)?, g.leaf(&x)?);
            Ok((vec![a, b], ops::add(&mut g.tape, a, b)?))
        });
        prove("add", &format!("{x:?} to itself"), |g| {
            let a = g.leaf(&x)?;
            Ok((vec![a], ops::add(&mut g.tape, a, a)?))
        });
    }
    for (a, b) in [(vec![3, 2, 5], vec![2, 5]), (vec![4, 1], vec![1, 1]), (vec![2, 8], vec![8])] {
        prove("add_repeated", &format!("{a:?} {b:?}"), |g| {
            let (a, b) = (g.leaf(&a)?, g.leaf(&b)?);
            Ok((vec![a, b], ops::add_repeated(&mut g.tape, a, b)?))
        });
    }
}

#[test]
fn upsample2x() {
    for x in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 4, 2, 3]] {
        prove("upsample2x", &format!("{x:?}"), |g| {
            let input = g.leaf(&x)?;
            Ok((vec![input], ops::upsample2x(&mut g.tape, input)?))
        });
    }
}

#[test]
fn mse() {
    for x in [vec![1], vec![5, 3], vec![2, 41]] {
        prove("mse", &format!("{x:?}"), |g| {
            let (a, b) = (g.leaf(&x)?, g.leaf(&x)?);
            Ok((vec![a, b], ops::mse(&mut g.tape, a, b)?))
        });
        prove("mse", &format!("{x:?} to a constant, scaled"), |g| {
            let (a, b) = (g.leaf(&x)?, g.constant(&x)?);
            Ok((vec![a], ops::sum_of_squared_errors(&mut g.tape, b, a, -0.83)?))
        });
    }
}

#[test]
fn cross_entropy() {
    for (rows, k) in [(1, 2), (5, 7), (41, 3), (3, 300)] {
        prove("cross_entropy", &format!("{rows} x {k}"), |g| {
            let logits = g.leaf(&[rows, k])?;
            let target = g.index(rows, k as u32)?;
            // Row 0 counts nothing, unless it is alone.
            let mut weights: Vec<f32> = (0..rows).map(|_| g.number() as f32).collect();
            weights[0] = if rows > 1 { 0.0 } else { weights[0] };
            let weight = g.tape.constant(&[rows], weights)?;
            let (total, _) = ops::cross_entropy(&mut g.tape, logits, target, weight, 0.43)?;
            Ok((vec![logits], total))
        });
    }
}

/// A table, whose rows are picked several times or never, once or twice on one tape.
#[test]
fn embedding() {
    for (n, rows, d) in [(1, 1, 1), (9, 4, 3), (5, 7, 8), (41, 3, 5)] {
        for twice in [false, true] {
            // The input is an index: there is nothing to fan out, so the proof is spelled out.
            let name = format!("embedding n={n} rows={rows} d={d} twice={twice}");
            let mut graph = Graph::new(4);
            let recorded = (|g: &mut Graph| {
                let table = g.param(&[rows, d])?;
                for _ in 0..1 + usize::from(twice) {
                    let idx = g.index(n, rows as u32)?;
                    let y = ops::embedding(&mut g.tape, idx, table)?;
                    g.head(y)?;
                }
                g.tape.backward(&g.seeds)
            })(&mut graph);
            recorded.unwrap_or_else(|e| panic!("{name}: {e}"));
            graph.compare(&name, &graph.gradients(), 0);
        }
    }
}

/// Parameters that serve twice: the second gradient is added to the first.
#[test]
fn shared_parameters() {
    for (rows, c) in [(3, 5), (7, 4), (1, 6)] {
        prove("linear", &format!("twice {rows} {c}"), |g| {
            let x = g.leaf(&[rows, c])?;
            let (w, b) = (g.param(&[c, c])?, g.param(&[c])?);
            let h = ops::linear(&mut g.tape, x, w, Some(b))?;
            Ok((vec![x], ops::linear(&mut g.tape, h, w, Some(b))?))
        });
        prove("conv2d", &format!("twice {rows} {c}"), |g| {
            let x = g.leaf(&[1, rows, 4, c])?;
            let (w, b) = (g.param(&[3, 3, c, c])?, g.param(&[c])?);
            let h = ops::conv2d(&mut g.tape, x, w, Some(b), Conv::same(3))?;
            Ok((vec![x], ops::conv2d(&mut g.tape, h, w, Some(b), Conv::same(3))?))
        });
        prove("layer_norm", &format!("twice {rows} {c}"), |g| {
            let x = g.leaf(&[rows, c])?;
            let (gamma, beta) = (g.param(&[c])?, g.param(&[c])?);
            let h = ops::layer_norm_affine(&mut g.tape, x, gamma, beta, 1e-2)?;
            Ok((vec![x], ops::layer_norm_affine(&mut g.tape, h, gamma, beta, 1e-2)?))
        });
        prove("group_norm", &format!("twice {rows} {c}"), |g| {
            let x = g.leaf(&[1, rows, 4, c])?;
            let (gamma, beta) = (g.param(&[c])?, g.param(&[c])?);
            let h = ops::group_norm(&mut g.tape, x, gamma, beta, 1, 1e-2, true)?;
            Ok((vec![x], ops::group_norm(&mut g.tape, h, gamma, beta, 1, 1e-2, false)?))
        });
        // One scale with two shifts, and the reverse: a pair whose gradients go different ways.
        for shared_scale in [true, false] {
            prove("layer_norm", &format!("half twice {rows} {c} {shared_scale}"), |g| {
                let x = g.leaf(&[rows, c])?;
                let (both, one, two) = (g.param(&[c])?, g.param(&[c])?, g.param(&[c])?);
                let pair = |other| if shared_scale { (both, other) } else { (other, both) };
                let ((gamma, beta), (gamma2, beta2)) = (pair(one), pair(two));
                let h = ops::layer_norm_affine(&mut g.tape, x, gamma, beta, 1e-2)?;
                Ok((vec![x], ops::layer_norm_affine(&mut g.tape, h, gamma2, beta2, 1e-2)?))
            });
        }
    }
}

#[test]
fn reshape() {
    for (from, to) in [(vec![3, 4], vec![2, 6]), (vec![1, 5, 2], vec![10]), (vec![7], vec![7, 1])] {
        prove("reshape", &format!("{from:?} {to:?}"), |g| {
            let x = g.leaf(&from)?;
            Ok((vec![x], g.tape.reshape(x, &to)?))
        });
    }
}

/// The gradients of `first` are the slopes of `second`, its twin, in which what carries no gradient
/// is a constant.
fn prove_twins(name: &str, first: &mut Graph, second: &mut Graph) {
    for graph in [&mut *first, &mut *second] {
        graph.tape.backward(&graph.seeds).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let total = |graph: &Graph| {
        let mut run = graph.interpreter();
        run.run(&graph.step);
        graph.losses.iter().map(|&(l, w)| f64::from(w) * run.get(l)[0]).sum::<f64>()
    };
    let (a, b) = (total(first), total(second));
    assert!((a - b).abs() <= 1e-12 * a.abs(), "{name}: losses {a} and {b}");
    second.compare(name, &first.gradients(), 2);
}

/// silu(x) + stop(silu(x)) slopes like silu(x) + constant.
#[test]
fn detach() {
    for x in [vec![1], vec![5, 3], vec![2, 8]] {
        let record = |fixed: Option<Vec<f64>>| -> Result<(Graph, Vec<f64>)> {
            let mut g = Graph::new(6);
            let leaf = g.leaf(&x)?;
            let y = ops::activation(&mut g.tape, leaf, Activation::Silu)?;
            let other = match fixed {
                None => g.tape.detach(y),
                Some(values) => {
                    let input = g.tape.input("fixed", &x)?;
                    g.floats.push((input.into(), values));
                    input
                }
            };
            let sum = ops::add(&mut g.tape, y, other)?;
            g.head(sum)?;
            let mut run = g.interpreter();
            run.run(&g.step);
            let value = run.get(y).to_vec();
            drop(run);
            Ok((g, value))
        };
        let (mut first, value) = record(None).unwrap_or_else(|e| panic!("{e}"));
        let (mut second, _) = record(Some(value)).unwrap_or_else(|e| panic!("{e}"));
        prove_twins(&format!("detach {x:?}"), &mut first, &mut second);
    }
}

/// The value of the code with the gradient of z slopes like z + constant.
#[test]
fn straight_through() {
    for x in [vec![1, 1], vec![5, 3], vec![2, 2, 8]] {
        let record = |moved: bool| -> Result<Graph> {
            let mut g = Graph::new(7);
            let leaf = g.leaf(&x)?;
            let z = ops::activation(&mut g.tape, leaf, Activation::Silu)?;
            let n = x.iter().product();
            let code: Vec<f64> = (0..n).map(|_| g.number()).collect();
            let mut run = g.interpreter();
            run.run(&g.step);
            let shift: Vec<f64> = code.iter().zip(run.get(z)).map(|(c, z)| c - z).collect();
            drop(run);
            let input = g.tape.input("code", &x)?;
            let y = if moved {
                g.floats.push((input.into(), shift));
                ops::add(&mut g.tape, z, input)?
            } else {
                g.floats.push((input.into(), code));
                ops::straight_through(&mut g.tape, z, input)?
            };
            // z is used a second time, so that the estimator's gradient is added to another.
            let again = ops::activation(&mut g.tape, y, Activation::GeluTanh)?;
            g.head(again)?;
            g.head(z)?;
            Ok(g)
        };
        let mut first = record(false).unwrap_or_else(|e| panic!("{e}"));
        let mut second = record(true).unwrap_or_else(|e| panic!("{e}"));
        prove_twins(&format!("straight_through {x:?}"), &mut first, &mut second);
    }
}

/// The training tape of a tiny model with its own backward pass, and values to run it on.
fn trained(tiny: Tiny, batch: usize, losses: &[(&str, f32)]) -> Graph {
    let (tape, table) = tiny.record(batch);
    let mut g = Graph::new(8);
    let by_name = |name: &str| {
        let found = tape.values().find(|(_, v)| v.home == Home::Sum(name.into()));
        found.unwrap_or_else(|| panic!("no sum {name}")).0
    };
    g.losses = losses.iter().map(|&(name, weight)| (by_name(name), weight)).collect();
    (g.tape, g.table) = (tape, table);
    fill(&mut g, tiny, batch);
    g
}

/// Parameters at random (a function of their names), inputs and states of the model.
fn fill(g: &mut Graph, tiny: Tiny, batch: usize) {
    g.values.clear();
    for spec in g.table.specs() {
        let seed = spec.name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let mut rng = Rng::new(seed, Stream::Test, 1);
        let fan_in = spec.shape.rows().max(1) as f64;
        let bound = if spec.shape.rank() > 1 { 1.5 / fan_in.sqrt() } else { 0.6 };
        let norm = spec.name.contains("norm") && spec.name.ends_with("weight");
        let centre = if norm && spec.shape.rank() == 1 { 1.0 } else { 0.0 };
        let draw = |_| centre + rng.range(-bound, bound);
        g.values.push((0..spec.shape.elements()).map(draw).collect());
    }
    let inputs = tiny.samples(0, batch);
    let states = tiny.states();
    for (id, value) in g.tape.values() {
        match &value.home {
            Home::Input(name) => {
                let Some((_, words)) = inputs.iter().find(|(n, _)| n == name) else { continue };
                match value.element {
                    Element::U32 => g.indices.push((id, words.clone())),
                    Element::F32 | Element::F16 => {
                        let floats = words.iter().map(|&w| f32::from_bits(w).into()).collect();
                        g.floats.push((id, floats));
                    }
                }
            }
            Home::State(name) => {
                if let Some((_, values)) = states.iter().find(|(n, _)| n == name) {
                    g.floats.push((id, values.iter().map(|&v| v.into()).collect()));
                }
            }
            _ => {}
        }
    }
}

/// The whole VQ-VAE. The twin computes z + (code - z) with the bracket a constant, and compares z with
/// constant codes and codes with a constant z: its true slopes are what the estimator promises. Along
/// the way the training tape itself is run at every displaced point: no code may flip.
#[test]
fn whole_vqvae() {
    for tiny in [Tiny::VqVae, Tiny::VqVaeByGradient, Tiny::VqModel] {
        let config = tiny.config(1);
        let (model, kind) = (&config.model, config.quantiser.kind);
        let beta = model.commitment_cost as f32;
        let mut weights = vec![("reconstruction", 1.0), ("commitment", beta)];
        if kind == QuantiserKind::Gradient {
            weights.push(("codebook", 1.0));
        }
        const SAMPLES: usize = 2;
        let first = trained(tiny, SAMPLES, &weights);
        let gradients = first.gradients();

        let find = |kernel: &str| {
            let node = first.tape.nodes().iter().find(|n| n.kernel.name() == kernel);
            node.unwrap_or_else(|| panic!("no {kernel}")).binds.clone()
        };
        let (z_id, idx_id) = (find("nearest_code")[0], find("nearest_code")[2]);
        let (code_id, book_id) = (find("gather")[2], find("nearest_code")[1]);
        let mut run = first.interpreter();
        run.run(&first.step);
        let (z, code, idx) =
            (run.get(z_id).to_vec(), run.get(code_id).to_vec(), run.get_idx(idx_id).to_vec());
        let margins = margins(&z, run.get(book_id), model.vq_embed_dim);
        let margin = margins.iter().fold(f64::INFINITY, |a, &b| a.min(b));
        let used = idx.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(used > 2, "{tiny:?}: only {used} codes are used");

        let mut twin = Graph::new(8);
        let recorded = (|g: &mut Graph| -> Result<()> {
            let dims = [SAMPLES, 8, 8, 1];
            let mut s = Scope::new(&mut g.tape, &mut g.table);
            let x = s.tape.input("x", &dims)?;
            let latent = vqvae::encode(&mut s, model, x)?;
            let shape = s.tape.shape(latent);
            let [shift, fixed_code, fixed_z] = [
                s.tape.input("shift", shape.dims())?,
                s.tape.input("code", shape.dims())?,
                s.tape.input("z", shape.dims())?,
            ];
            let book = match kind {
                QuantiserKind::Ema => None,
                QuantiserKind::Gradient => {
                    let dims = [model.num_vq_embeddings, model.vq_embed_dim];
                    Some(s.param(vqvae::CODEBOOK_PARAM, &dims, ParamInit::Zeros, false)?)
                }
            };
            let passed = ops::add(s.tape, latent, shift)?;
            let image = vqvae::decode(&mut s, model, passed)?;
            let reconstruction = ops::mse(s.tape, image, x)?;
            let commitment = ops::mse(s.tape, latent, fixed_code)?;
            g.losses = vec![(reconstruction.into(), 1.0), (commitment.into(), beta)];
            if let Some(book) = book {
                let idx = s.tape.constant_idx(&[idx.len()], idx.clone())?;
                let code = ops::embedding(s.tape, idx, book)?;
                g.losses.push((ops::mse(s.tape, code, fixed_z)?.into(), 1.0));
            }
            let moved = code.iter().zip(&z).map(|(c, z)| c - z).collect();
            fill(g, tiny, SAMPLES);
            g.floats.extend([
                (shift.into(), moved),
                (fixed_code.into(), code.clone()),
                (fixed_z.into(), z.clone()),
            ]);
            Ok(())
        })(&mut twin);
        recorded.unwrap_or_else(|e| panic!("{tiny:?}: {e}"));

        let mut at_twin = twin.interpreter();
        at_twin.run(&twin.step);
        for (&(loss, _), (name, _)) in twin.losses.iter().zip(&weights) {
            let sum = first.tape.values().find(|(_, v)| v.home == Home::Sum((*name).into()));
            let (a, b) = (at_twin.get(loss)[0], run.get(sum.expect("sum").0)[0]);
            assert!((a - b).abs() <= 1e-12 * b.abs(), "{tiny:?}, {name}: {a} and {b}");
        }
        twin.compare(&format!("{tiny:?}"), &gradients, 8);
        println!("{tiny:?}: {} parameters, least margin {margin:.1e}", twin.table.elements());
        no_code_flips(tiny, &first, idx_id, &idx);
    }
}

/// The training tape at h = 2^-14 (where no margin is crossed) in eight random directions.
fn no_code_flips(tiny: Tiny, g: &Graph, idx_id: ValueId, idx: &[u32]) {
    const H: f64 = 1.0 / 16_384.0;
    let places = g.places();
    let mut run = g.interpreter();
    let mut rng = Rng::new(98, Stream::Test, 0);
    for turn in 0..8 {
        for sign in [H, -H] {
            for &(id, i) in &places {
                let moved = g.values[i].iter().map(|p| p + sign * rng.normal());
                run.set(id, &moved.collect::<Vec<_>>());
            }
            run.run(&g.step);
            assert_eq!(run.get_idx(idx_id), idx, "{tiny:?}: a code flipped in direction {turn}");
        }
    }
}

#[test]
fn whole_denoiser() {
    const SAMPLES: usize = 3;
    let mut g = trained(Tiny::Denoiser, SAMPLES, &[("nats_per_token", 1.0)]);
    g.step = StepScalars { seed_lo: 9, sample_base: BATCH as u32, ..StepScalars::default() };
    g.compare("denoiser", &g.gradients(), 8);
}
