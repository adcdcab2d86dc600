//! Operations on vectors: against slopes, and against their closed forms where those say more.

use super::{Graph, prove};
use vqforge::error::Result;
use vqforge::kernels::normalise_rows::FLOOR;
use vqforge::kernels::rotation_trick::SHORT;
use vqforge::ops::{self, Activation};
use vqforge::tape::{Act, Tape};

#[test]
fn differences() {
    for x in [vec![1, 1], vec![5, 3], vec![2, 2, 8]] {
        prove("sub", &format!("{x:?}"), |g| {
            let (a, b) = (g.leaf(&x)?, g.leaf(&x)?);
            Ok((vec![a, b], ops::sub(&mut g.tape, a, b)?))
        });
        prove("sub", &format!("{x:?} from its own function"), |g| {
            let a = g.leaf(&x)?;
            let b = ops::activation(&mut g.tape, a, Activation::Silu)?;
            Ok((vec![a, b], ops::sub(&mut g.tape, b, a)?))
        });
    }
}

#[test]
fn scale_by() {
    for x in [vec![1, 1], vec![5, 3], vec![2, 2, 8]] {
        prove("scale_by", &format!("{x:?}"), |g| {
            let a = g.leaf(&x)?;
            let factor = g.tape.input("factor", &[1])?;
            g.floats.push((factor.into(), vec![-0.7]));
            Ok((vec![a], ops::scale_by(&mut g.tape, a, factor)?))
        });
    }
    let mut g = Graph::new(3);
    let (x, factor) = (g.leaf(&[3, 2]), g.leaf(&[1, 1]));
    let (Ok(x), Ok(factor)) = (x, factor) else { panic!("leaves") };
    let error = ops::scale_by(&mut g.tape, x, factor).expect_err("a factor with a gradient");
    assert!(error.to_string().contains("detach"), "{error}");
}

#[test]
fn columns() {
    for (x, from, len) in [(vec![1, 1], 0, 1), (vec![5, 7], 2, 3), (vec![2, 3, 12], 8, 4)] {
        prove("slice_columns", &format!("{x:?} {from} {len}"), |g| {
            let a = g.leaf(&x)?;
            Ok((vec![a], ops::slice_columns(&mut g.tape, a, from, len)?))
        });
        let width = x[x.len() - 1] + from + len;
        prove("pad_columns", &format!("{x:?} {from} {width}"), |g| {
            let a = g.leaf(&x)?;
            Ok((vec![a], ops::pad_columns(&mut g.tape, a, from, width)?))
        });
    }
    // Split and joined again: two slices of one tensor, whose gradients meet.
    prove("slice_columns", "of two halves", |g| {
        let a = g.leaf(&[5, 8])?;
        let halves = [0, 4].map(|from| {
            let half = ops::slice_columns(&mut g.tape, a, from, 4)?;
            let bent = ops::activation(&mut g.tape, half, Activation::GeluTanh)?;
            ops::pad_columns(&mut g.tape, bent, from, 8)
        });
        let [left, right] = halves;
        Ok((vec![a], ops::add(&mut g.tape, left?, right?)?))
    });
    let mut g = Graph::new(3);
    let x = g.leaf(&[2, 5]).unwrap_or_else(|e| panic!("{e}"));
    for (from, len) in [(0, 0), (3, 3), (usize::MAX, 2)] {
        assert!(ops::slice_columns(&mut g.tape, x, from, len).is_err(), "{from}..+{len} of 5");
    }
    assert!(ops::pad_columns(&mut g.tape, x, 3, 7).is_err(), "3..+5 of 7");
    let y = ops::slice_columns(&mut g.tape, x, 1, 3).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(g.tape.shape(y).dims(), [2, 3]);
}

#[test]
fn select_rows() {
    for (n, rows, d) in [(1, 1, 1), (9, 4, 3), (5, 7, 8), (41, 3, 5)] {
        prove("select_rows", &format!("{n} of {rows} x {d}"), |g| {
            let table = g.leaf(&[rows, d])?;
            let idx = g.index(n, rows as u32)?;
            Ok((vec![table], ops::select_rows(&mut g.tape, idx, table)?))
        });
    }
}

/// Rows whose length is large beside the steps of the differences.
#[test]
fn normalise_rows() {
    for x in [vec![1, 41], vec![2, 3, 32], vec![9, 64], vec![3, 47]] {
        prove("normalise_rows", &format!("{x:?}"), |g| {
            let a = g.leaf(&x)?;
            Ok((vec![a], ops::normalise_rows(&mut g.tape, a)?))
        });
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// 2^10 roundings of f64.
fn near(got: f64, want: f64, size: f64) -> bool {
    (got - want).abs() <= super::ROUNDING * size
}

/// Values of an operation y = op(x) on a leaf, and the gradient of x for a given one of y. `twice`: x
/// has another consumer, y = x, with the same incoming gradient.
fn gradient(
    dims: [usize; 2],
    x: &[f64],
    dy: &[f64],
    twice: bool,
    op: impl Fn(&mut Graph, Act) -> Result<Act>,
) -> (Vec<f64>, Vec<f64>) {
    let mut g = Graph::new(5);
    let recorded = (|g: &mut Graph| -> Result<Act> {
        let leaf = g.leaf(&dims)?;
        let y = op(g, leaf)?;
        let upstream = g.tape.input("dy", &dims)?;
        g.floats.push((upstream.into(), dy.to_vec()));
        g.tape.add_grad(y, upstream)?;
        if twice {
            g.tape.add_grad(leaf, upstream)?;
        }
        g.tape.backward(&[])?;
        Ok(y)
    })(&mut g);
    let y = recorded.unwrap_or_else(|e| panic!("{e}"));
    g.values[0] = x.to_vec();
    let mut run = g.interpreter();
    run.run(&g.step);
    (run.get(y).to_vec(), g.gradients().remove("p0").expect("a gradient"))
}

fn numbers(n: usize) -> Vec<f64> {
    let mut g = Graph::new(n as u64);
    (0..n).map(|_| g.number()).collect()
}

/// Rows of zeros and rows shorter than the floor are divided by it, and their gradient too; on a
/// line, directions do not change.
#[test]
fn normalise_rows_by_hand() {
    let floor = f64::from(FLOOR);
    for d in [1, 3, 8] {
        let lengths = [1.0, 0.0, 1e-8, 3e-6, 250.0];
        let dims = [lengths.len(), d];
        let dy = numbers(dims[0] * d);
        let x: Vec<f64> = numbers(dims[0] * d + 1)
            .iter()
            .zip(0..dims[0] * d)
            .map(|(x, i)| lengths[i / d] * x)
            .collect();
        for twice in [false, true] {
            let (y, dx) =
                gradient(dims, &x, &dy, twice, |g, x| ops::normalise_rows(&mut g.tape, x));
            for row in 0..dims[0] {
                let at = row * d..(row + 1) * d;
                let (x, g, y, dx) = (&x[at.clone()], &dy[at.clone()], &y[at.clone()], &dx[at]);
                let long = length(x) >= floor;
                let divisor = length(x).max(floor);
                for i in 0..d {
                    assert!(near(y[i], x[i] / divisor, 1.0), "d={d} row {row}: {} ", y[i]);
                    let mut want = g[i] / divisor;
                    if long {
                        want -= x[i] * dot(x, g) / divisor.powi(3);
                    }
                    want += if twice { g[i] } else { 0.0 };
                    assert!(
                        near(dx[i], want, 2.0 * length(g) / divisor),
                        "d={d} row {row}: {}",
                        dx[i]
                    );
                }
            }
        }
    }
}

/// The state is moved in place by a step whose gradient was finite, and by no other.
#[test]
fn normalise_state() {
    for applied in [1.0, 0.0] {
        let mut tape = Tape::new();
        let recorded = (|tape: &mut Tape| -> Result<[Act; 2]> {
            let codebook = tape.state("codebook", &[2, 2])?;
            tape.begin_update();
            ops::normalise_state(tape, codebook)?;
            Ok([codebook, tape.state("ctl", &[4])?])
        })(&mut tape);
        let [codebook, ctl] = recorded.unwrap_or_else(|e| panic!("{e}"));
        let mut run = vqforge::tape::interpret::Interpreter::new(&tape);
        let before = [3.0, -4.0, 0.0, 0.25];
        run.set(codebook, &before);
        run.set(ctl, &[1.0, applied, 1.0, 0.0]);
        run.run(&Default::default());
        let want = if applied > 0.0 { [0.6, -0.8, 0.0, 1.0] } else { before };
        for (got, want) in run.get(codebook).iter().zip(want) {
            assert!(near(*got, want, 1.0), "ctl {applied}: {got} instead of {want}");
        }
    }
}

/// A vector and its code, and the matrix lambda R of the paper, by rows.
fn rotation(z: &[f64], q: &[f64]) -> Vec<Vec<f64>> {
    let unit = |x: &[f64]| x.iter().map(|v| v / length(x)).collect::<Vec<_>>();
    let (e, u) = (unit(z), unit(q));
    let r = unit(&e.iter().zip(&u).map(|(a, b)| a + b).collect::<Vec<_>>());
    let entry = |i: usize, j: usize| {
        let identity = if i == j { 1.0 } else { 0.0 };
        length(q) / length(z) * (identity - 2.0 * r[i] * r[j] + 2.0 * u[i] * e[j])
    };
    (0..z.len()).map(|i| (0..z.len()).map(|j| entry(i, j)).collect()).collect()
}

/// The matrix takes z to its code and preserves angles; the gradient is its transpose applied to the
/// incoming one. Hence the gradient's angle to z is the incoming one's to the code, and its length is
/// lambda times as large.
#[test]
fn rotate() {
    for d in [2, 3, 8, 41] {
        let rows = 5;
        let z = numbers(rows * d);
        let code: Vec<f64> =
            numbers(rows * d + 1).into_iter().take(rows * d).map(|c| 1.7 * c).collect();
        let dy = numbers(rows * d + 2)[..rows * d].to_vec();
        for twice in [false, true] {
            let (y, dz) = turned([rows, d], &z, &code, &dy, twice);
            assert_eq!(y, code, "the value is the code");
            for row in 0..rows {
                let at = row * d..(row + 1) * d;
                let (z, q, g, dz) = (&z[at.clone()], &code[at.clone()], &dy[at.clone()], &dz[at]);
                let other = |i: usize| if twice { g[i] } else { 0.0 };
                let own: Vec<f64> = (0..d).map(|i| dz[i] - other(i)).collect();
                let (matrix, lambda) = (rotation(z, q), length(q) / length(z));
                let size = 8.0 * (1.0 + lambda) * length(g);
                for (i, line) in matrix.iter().enumerate() {
                    assert!(
                        near(dot(line, z), q[i], 8.0 * length(q)),
                        "d={d}: M z is not the code"
                    );
                    let column: Vec<f64> = matrix.iter().map(|line| line[i]).collect();
                    assert!(near(own[i], dot(&column, g), size), "d={d} row {row}: {}", own[i]);
                }
                assert!(
                    near(length(&own), lambda * length(g), size),
                    "d={d}: not scaled by lambda"
                );
                let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (length(a) * length(b));
                assert!(near(cosine(&own, z), cosine(g, q), 64.0), "d={d}: the angle has changed");
            }
        }
    }
}

/// Too short to have a direction, or opposite: straight through. Just long enough: turned.
#[test]
fn rotate_passes_what_has_no_direction() {
    let short = f64::from(SHORT);
    let dy = [0.3, -0.9];
    let side = |z: [f64; 2], q: [f64; 2]| turned([1, 2], &z, &q, &dy, false).1;
    let (below, above) = (0.999 * short, 1.001 * short);
    assert_eq!(side([below, 0.0], [0.0, 1.0]), dy);
    assert_eq!(side([0.0, 1.0], [below, 0.0]), dy);
    assert_eq!(side([0.0, 0.0], [0.0, 0.0]), dy);
    assert_eq!(side([2.0, 0.0], [-3.0, 0.0]), dy);
    // |z^ + q^| is about the angle between z^ and -q^.
    assert_eq!(side([2.0, 0.0], [-3.0, 3.0 * below]), dy);
    for (z, q) in
        [([above, 0.0], [0.0, 1.0]), ([0.0, 1.0], [above, 0.0]), ([2.0, 0.0], [-3.0, 3.0 * above])]
    {
        let got = side(z, q);
        assert!((got[0] - dy[0]).abs() > 0.1, "{z:?} {q:?}: {got:?} was not turned");
    }
}

/// [`gradient`] of `rotate` for given codes.
fn turned(
    dims: [usize; 2],
    z: &[f64],
    code: &[f64],
    dy: &[f64],
    twice: bool,
) -> (Vec<f64>, Vec<f64>) {
    gradient(dims, z, dy, twice, |g, z| {
        let input = g.tape.input("code", &dims)?;
        g.floats.push((input.into(), code.to_vec()));
        ops::rotate(&mut g.tape, z, input)
    })
}
