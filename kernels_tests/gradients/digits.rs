//! Gradients of binary and finite scalar quantisers and of Gaussians.

use super::{Graph, prove};
use vqforge::error::Result;
use vqforge::ops;
use vqforge::tape::Act;

#[test]
fn bit_entropy() {
    for (z, slope, group) in [
        (vec![1, 1], 1.5, 1),
        (vec![5, 4], 1.0, 1),
        (vec![2, 3, 5], -1.3, 2),
        (vec![7, 3], 1.2, 3),
        (vec![3, 4], 0.8, 10),
    ] {
        for of_mean in [false, true] {
            prove("bit_entropy", &format!("{z:?} by {group}, of the mean: {of_mean}"), |g| {
                let input = g.leaf(&z)?;
                let (rows, mean) = ops::bit_entropy(&mut g.tape, input, slope, group)?;
                Ok((vec![input], if of_mean { mean } else { rows }))
            });
        }
    }
}

#[test]
fn gaussians() {
    for m in [vec![1, 2], vec![5, 6], vec![2, 3, 2, 8]] {
        prove("kl_divergence", &format!("{m:?}"), |g| {
            let moments = g.leaf(&m)?;
            Ok((vec![moments], ops::kl_divergence(&mut g.tape, moments, -0.7)?))
        });
        prove("sample_gaussian", &format!("{m:?}"), |g| {
            let moments = g.leaf(&m)?;
            let eps = g.constant(&[m.iter().product::<usize>() / 2])?;
            Ok((vec![moments], ops::sample_gaussian(&mut g.tape, moments, eps)?))
        });
        prove("sample_gaussian", &format!("{m:?}, noise of the device"), |g| {
            let moments = g.leaf(&m)?;
            let mut dims = m.clone();
            *dims.last_mut().expect("a dimension") /= 2;
            let eps = ops::gaussian_noise(&mut g.tape, &dims)?;
            Ok((vec![moments], ops::sample_gaussian(&mut g.tape, moments, eps)?))
        });
    }
}

/// The gradient that reaches z from sum(y w), where y is a quantiser of z that has another consumer.
fn passed(
    dims: &[usize],
    quantise: impl Fn(&mut Graph, Act) -> Result<Act>,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut g = Graph::new(8);
    let weights: Vec<f32> = (0..dims.iter().product()).map(|_| g.number() as f32).collect();
    let recorded = (|| {
        let z = g.leaf(dims)?;
        let w = g.tape.constant(dims, weights.clone())?;
        for _ in 0..2 {
            let y = quantise(&mut g, z)?;
            g.tape.add_grad(y, w)?;
        }
        g.tape.backward(&[])
    })();
    recorded.unwrap_or_else(|e| panic!("{e}"));
    let gradient = g.gradients().remove("p0").expect("a gradient");
    (g.values[0].clone(), weights.into_iter().map(f64::from).collect(), gradient)
}

/// Straight through the rounding: the slope of the bounding function, here in closed form.
#[test]
fn finite_scalars_pass_the_slope_of_their_bounds() {
    for levels in [vec![2], vec![8, 6, 5], vec![3, 2, 7, 4]] {
        let d = levels.len();
        let (z, w, gradient) = passed(&[5, d], |g, z| Ok(ops::fsq(&mut g.tape, z, &levels)?.0));
        for (i, g) in gradient.iter().enumerate() {
            let levels = levels[i % d];
            let half = (levels - 1) as f64 * 1.001 / 2.0;
            let offset = if levels % 2 == 0 { 0.5 } else { 0.0 };
            let bound = |z: f64| match levels {
                2 => z.tanh(),
                _ => {
                    let shift = f64::atanh(offset / half);
                    ((z + shift).tanh() * half - offset) / (levels / 2) as f64
                }
            };
            // Two consumers; a central difference of fifth order in steps of 1/64.
            let h = 1.0 / 64.0;
            let difference = |h: f64| (bound(z[i] + h) - bound(z[i] - h)) / (2.0 * h);
            let [d1, d2, d4] = [h, 2.0 * h, 4.0 * h].map(difference);
            let (near, far) = ((4.0 * d1 - d2) / 3.0, (4.0 * d2 - d4) / 3.0);
            let want = 2.0 * w[i] * near;
            let tolerance = 2.0 * w[i].abs() * (2.0 * (far - near).abs() / 15.0 + 1e-12);
            assert!((g - want).abs() <= tolerance, "{levels}: {g} {want} {tolerance:e}");
            assert!(tolerance < 1e-4, "{tolerance} proves nothing");
        }
    }
}

#[test]
fn signs_pass_the_gradient_as_it_is() {
    let (_, w, gradient) = passed(&[3, 7], |g, z| Ok(ops::sign_code(&mut g.tape, z, 0.5)?.0));
    assert_eq!(gradient, w.iter().map(|w| 2.0 * w).collect::<Vec<_>>());
}

/// Sizes that are not possible are errors, not panics.
#[test]
fn impossible_sizes_are_refused() {
    let mut g = Graph::new(1);
    let z = g.leaf(&[2, 3]).expect("a leaf");
    let wide = g.leaf(&[2, 33]).expect("a leaf");
    let tape = &mut g.tape;
    for levels in [&[][..], &[8, 8], &[1, 8, 8], &[8, 8, 1001], &[1000; 4]] {
        assert!(ops::fsq(tape, z, levels).is_err(), "{levels:?}");
    }
    assert!(ops::sign_code(tape, wide, 1.0).is_err());
    assert!(ops::sign_code(tape, z, f32::NAN).is_err());
    assert!(ops::bit_entropy(tape, z, 1.0, 0).is_err());
    assert!(ops::bit_entropy(tape, z, 1.0, 11).is_err());
    assert!(ops::kl_divergence(tape, z, 1.0).is_err());
    assert!(ops::sample_gaussian(tape, z, z).is_err());
}
