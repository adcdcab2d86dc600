//! The law of Gaussian noise: moments and tails against closed forms, and what the numbers depend on.

use crate::device::{self, floats, on_devices};
use crate::registry::on_device;
use vqforge::device::Device;
use vqforge::kernels::gaussian_noise::GaussianNoise;
use vqforge::kernels::{Case, Fill, StepScalars};
use vqforge::ops;
use vqforge::tape::Tape;

fn draw(device: &mut dyn Device, kernel: GaussianNoise, step: StepScalars) -> Vec<f32> {
    let poison = Fill::Poison.bits(kernel.samples * kernel.per_sample, 0);
    let case = Case::new("noise", kernel, vec![]).with_step(step);
    floats(&on_device(device, &case, &vec![poison])[0])
}

/// Every statistic within five standard errors of what independent standard normal numbers have.
#[test]
fn moments_and_tails_of_noise() {
    on_devices(|device| {
        let per_sample = if device.kind() == "cpu" { 1 << 14 } else { 1 << 12 };
        let kernel = GaussianNoise { samples: 64, per_sample, draw: 0 };
        let step = StepScalars { step: 3, seed_lo: 11, sample_base: 192, ..Default::default() };
        let x: Vec<f64> = draw(device, kernel, step).into_iter().map(f64::from).collect();
        let n = x.len() as f64;
        let mean = |f: &dyn Fn(usize) -> f64| (0..x.len()).map(f).sum::<f64>() / n;
        // E x^k and the variance of x^k: E x^2k - (E x^k)^2, with E x^2k = (2k - 1)!!.
        for (k, want, variance) in [
            (1, 0.0, 1.0),
            (2, 1.0, 2.0),
            (3, 0.0, 15.0),
            (4, 3.0, 96.0),
            (6, 15.0, 10_395.0 - 225.0),
        ] {
            let error = mean(&|i| x[i].powi(k)) - want;
            assert!(
                error.abs() <= 5.0 * f64::sqrt(variance / n),
                "{}: x^{k}: {error}",
                device.kind()
            );
        }
        // Neighbours: the two of a pair, the pairs of a block, blocks, samples; sizes and squares.
        for lag in [1, 2, 4, per_sample] {
            let with = |i: usize| (x[i], x[(i + lag) % x.len()]);
            let product = mean(&|i| with(i).0 * with(i).1);
            let squares = mean(&|i| (with(i).0.powi(2) - 1.0) * (with(i).1.powi(2) - 1.0));
            assert!(product.abs() <= 5.0 / n.sqrt(), "{}: lag {lag}: {product}", device.kind());
            assert!(
                squares.abs() <= 5.0 * 2.0 / n.sqrt(),
                "{}: lag {lag}: {squares}",
                device.kind()
            );
        }
        for (sign, at) in
            [1.0, -1.0].into_iter().flat_map(|s| [0.0, 0.5, 1.0, 2.0, 3.0, 4.0].map(|t| (s, t)))
        {
            let p = 0.5 * libm::erfc(at / std::f64::consts::SQRT_2);
            let beyond = x.iter().filter(|x| sign * **x > at).count() as f64;
            let deviation = (beyond - n * p) / (n * p * (1.0 - p)).sqrt();
            println!("{}: {beyond} of {n} beyond {}: {deviation:.2}", device.kind(), sign * at);
            assert!(deviation.abs() <= 5.0, "{}: {beyond} beyond {}", device.kind(), sign * at);
        }
    });
}

/// Other numbers every step, seed and draw; the same ones however a batch is cut into lanes.
#[test]
fn noise_follows_the_global_sample() {
    let mut device = device::cpu(0);
    let step = StepScalars { step: 5, seed_lo: 1, sample_base: 40, ..Default::default() };
    let mut of = |samples, draw_number, step: StepScalars| {
        let kernel = GaussianNoise { samples, per_sample: 37, draw: draw_number };
        draw(&mut *device, kernel, step)
    };
    let whole = of(8, 0, step);
    let second = StepScalars { sample_base: 44, ..step };
    assert_eq!(whole, [of(4, 0, step), of(4, 0, second)].concat());
    for other in [
        of(8, 1, step),
        of(8, 0, StepScalars { step: 6, ..step }),
        of(8, 0, StepScalars { seed_lo: 2, ..step }),
        of(8, 0, StepScalars { seed_hi: 1, ..step }),
        of(8, 0, StepScalars { sample_base: 48, ..step }),
    ] {
        assert!(whole.iter().zip(&other).all(|(a, b)| a != b));
    }
}

/// Two operations on a tape draw different numbers.
#[test]
fn operations_draw_their_own_noise() {
    let mut tape = Tape::new();
    let ids =
        [[2, 3, 5], [2, 3, 5]].map(|dims| ops::gaussian_noise(&mut tape, &dims).expect("noise"));
    let mut run = vqforge::tape::interpret::Interpreter::new(&tape);
    run.run(&StepScalars::default());
    assert!(run.get(ids[0]).iter().zip(run.get(ids[1])).all(|(a, b)| a != b));
    assert!(ops::gaussian_noise(&mut tape, &[0, 3]).is_err());
}
