//! Every operation with a gradient, at odd sizes, and parameters that serve twice.

use super::{Graph, prove};
use vqforge::ops::{self, Activation, Conv};

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
fn conv_transpose2d() {
    let odd = |stride, pad| Conv { stride, pad };
    for (x, k, cout, conv) in [
        ([2, 3, 4, 3], [4, 4], 5, Conv::half()),
        ([1, 2, 5, 4], [4, 4], 8, Conv::half()),
        ([1, 4, 3, 2], [3, 3], 3, odd(2, [1, 0, 1, 0])),
        ([2, 3, 1, 5], [2, 2], 1, odd(2, [0; 4])),
        ([1, 3, 4, 1], [3, 2], 2, odd(3, [1, 0, 0, 1])),
    ] {
        for bias in [false, true] {
            prove("conv_transpose2d", &format!("{x:?} {k:?} {cout} {conv:?} bias={bias}"), |g| {
                let input = g.leaf(&x)?;
                let w = g.param(&[k[0], k[1], cout, x[3]])?;
                let b = if bias { Some(g.param(&[cout])?) } else { None };
                Ok((vec![input], ops::conv_transpose2d(&mut g.tape, input, w, b, conv)?))
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
fn rms_norm() {
    for x in [[3, 2, 5], [1, 7, 8], [2, 1, 6], [2, 41, 3]] {
        prove("rms_norm", &format!("plain {x:?}"), |g| {
            let input = g.leaf(&x)?;
            Ok((vec![input], ops::rms_norm(&mut g.tape, input, 1e-3)?))
        });
        prove("rms_norm", &format!("affine {x:?}"), |g| {
            let input = g.leaf(&x)?;
            let (gamma, beta) = (g.param(&[x[2]])?, g.param(&[x[2]])?);
            let y = ops::rms_norm_affine(&mut g.tape, input, gamma, beta, 1e-3)?;
            Ok((vec![input], y))
        });
        prove("rms_norm", &format!("modulated {x:?}"), |g| {
            let input = g.leaf(&x)?;
            let m = g.leaf(&[x[0], 2 * x[2]])?;
            let y = ops::rms_norm_modulated(&mut g.tape, input, m, 1e-3)?;
            Ok((vec![input, m], y))
        });
    }
}

#[test]
fn add_gated() {
    for x in [[3, 2, 5], [1, 7, 8], [2, 1, 6], [2, 41, 3]] {
        prove("add_gated", &format!("{x:?}"), |g| {
            let (a, h) = (g.leaf(&x)?, g.leaf(&x)?);
            let gate = g.leaf(&[x[0], x[2]])?;
            Ok((vec![a, gate, h], ops::add_gated(&mut g.tape, a, gate, h)?))
        });
        prove("add_gated", &format!("{x:?} of its own function"), |g| {
            let a = g.leaf(&x)?;
            let h = ops::activation(&mut g.tape, a, Activation::Silu)?;
            let gate = g.leaf(&[x[0], x[2]])?;
            Ok((vec![gate], ops::add_gated(&mut g.tape, a, gate, h)?))
        });
    }
    let mut g = Graph::new(3);
    let (x, gate) = (g.leaf(&[2, 3, 4]), g.leaf(&[4, 4]));
    let (Ok(x), Ok(gate)) = (x, gate) else { panic!("leaves") };
    assert!(ops::add_gated(&mut g.tape, x, gate, x).is_err(), "gates of 4 samples for 2");
}

#[test]
fn rotary() {
    for (batch, length, heads, d) in [(1, 1, 1, 4), (2, 3, 2, 4), (1, 5, 1, 8), (2, 7, 3, 12)] {
        let label = format!("b={batch} length={length} heads={heads} d={d}");
        prove("rotary", &label, |g| {
            let x = g.leaf(&[batch, length, heads * d])?;
            let angles = g.constant(&[length, d])?;
            Ok((vec![x], ops::rotary(&mut g.tape, x, angles)?))
        });
    }
    let mut g = Graph::new(3);
    let (x, learned) = (g.leaf(&[2, 3, 12]), g.leaf(&[3, 4]));
    let (Ok(x), Ok(learned)) = (x, learned) else { panic!("leaves") };
    let error = ops::rotary(&mut g.tape, x, learned).expect_err("angles with a gradient");
    assert!(error.to_string().contains("detach"), "{error}");
    for bad in [[3, 6], [4, 4], [3, 8]] {
        let angles = g.constant(&bad).unwrap_or_else(|e| panic!("{e}"));
        assert!(ops::rotary(&mut g.tape, x, angles).is_err(), "{bad:?}");
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
