//! The laws that random kernels must follow, tested on draws.

use crate::device::{self, bits, on_devices, read};
use crate::registry;
use std::sync::Arc;
use vqforge::device::{Device, ListId, Range};
use vqforge::kernels::{Case, Fill, Kernel, StepScalars};
use vqforge::kernels::{draw_tokens::DrawTokens, mask_tokens::MaskTokens};
use vqforge::rng::{Stream, philox4x32};

/// The kernel and, on a GPU, its variants on the same bindings: the leading ones hold `inputs`.
fn prepare(
    device: &mut dyn Device,
    kernel: impl Kernel + 'static,
    inputs: &[Vec<u32>],
) -> (Vec<(String, ListId)>, Vec<Range>) {
    let binds = device::bind(device, &kernel, inputs);
    let forms = device::forms(device, kernel).into_iter();
    let lists = forms.map(|form| (form.variant(), device::list(device, &form, &binds))).collect();
    (lists, binds)
}

/// The kernel alone.
fn prepare_one(
    device: &mut dyn Device,
    kernel: impl Kernel + 'static,
    inputs: &[Vec<u32>],
) -> (ListId, Vec<Range>) {
    let binds = device::bind(device, &kernel, inputs);
    let kernel: Arc<dyn Kernel> = Arc::new(kernel);
    (device::list(device, &kernel, &binds), binds)
}

/// Upper quantile of chi-square at `z` standard normal deviations (Wilson and Hilferty 1931).
fn chi_square_quantile(freedom: f64, z: f64) -> f64 {
    let a = 2.0 / (9.0 * freedom);
    freedom * (1.0 - a + z * a.sqrt()).powi(3)
}

/// Counts against probabilities; categories are pooled from the rarest until at least five draws are
/// expected in each bin. Five deviations: one in 3.5 million sound generators fails, and the seed
/// is fixed.
fn assert_law(what: &str, counts: &[u64], p: &[f64]) {
    let n: u64 = counts.iter().sum();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut bins = vec![(0.0, 0.0)];
    for i in order {
        if bins.last().is_some_and(|b| b.0 >= 5.0) {
            bins.push((0.0, 0.0));
        }
        let last = bins.len() - 1;
        bins[last].0 += p[i] * n as f64;
        bins[last].1 += counts[i] as f64;
    }
    let statistic: f64 = bins.iter().map(|(want, got)| (got - want).powi(2) / want).sum();
    let limit = chi_square_quantile((bins.len() - 1) as f64, 5.0);
    println!(
        "{what}: {n} draws, {} bins, rarest expected {:.1} drawn {}, chi-square {statistic:.1} <= {limit:.1}",
        bins.len(),
        bins[0].0,
        bins[0].1
    );
    assert!(statistic <= limit, "{what}: chi-square {statistic} > {limit}");
}

/// Draws `launches` x `rows` tokens by each form and counts them.
fn count_tokens(
    device: &mut dyn Device,
    logits: &[f32],
    temperature: f32,
    rows: usize,
    launches: u32,
) -> Vec<(String, Vec<u64>)> {
    device.clear();
    let k = logits.len();
    let kernel = DrawTokens { rows, k, guided: false };
    let (lists, binds) = prepare(device, kernel, &[bits(&logits.repeat(rows))]);
    let mut all = vec![];
    for (form, list) in lists {
        let mut counts = vec![0; k];
        for step in 0..launches {
            let scalars =
                StepScalars { step, seed_lo: 20, seed_hi: 24, temperature, ..Default::default() };
            device.run(&[list], &scalars).unwrap_or_else(|e| panic!("{e}"));
            for token in read(device, binds[1]) {
                counts[token as usize] += 1;
            }
        }
        all.push((format!("{} {form}", device.kind()), counts));
    }
    all
}

/// 64 tokens with probabilities from about 1e-1 down to 1e-7, and one in between that is impossible.
fn tail_law() -> (Vec<f32>, Vec<f64>) {
    let mut p: Vec<f64> = (0..64).map(|i| 10f64.powf(-1.0 - 6.0 * f64::from(i) / 63.0)).collect();
    p[20] = 0.0;
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    // Logits need no normalisation: an offset must not matter.
    (p.iter().map(|p| p.ln() as f32 + 3.0).collect(), p)
}

#[test]
fn tail_of_a_categorical_draw() {
    let (logits, p) = tail_law();
    assert_eq!(logits[20], f32::NEG_INFINITY);
    on_devices(|device| {
        let (rows, launches) = if device.kind() == "cpu" { (1 << 14, 96) } else { (1 << 13, 12) };
        for (form, counts) in count_tokens(device, &logits, 1.0, rows, launches) {
            assert_eq!(counts[20], 0, "{form}: a token of probability 0 was drawn");
            assert_law(&form, &counts, &p);
        }
    });
}

/// Temperature 2 draws from the square roots of the probabilities.
#[test]
fn temperature_of_a_categorical_draw() {
    let (logits, p) = tail_law();
    let sum: f64 = p.iter().map(|p| p.sqrt()).sum();
    let p: Vec<f64> = p.iter().map(|p| p.sqrt() / sum).collect();
    for (form, counts) in count_tokens(&mut *device::cpu(0), &logits, 2.0, 1 << 14, 16) {
        assert_eq!(counts[20], 0, "{form}: a token of probability 0 was drawn");
        assert_law(&format!("{form}, temperature 2"), &counts, &p);
    }
}

/// The draws whose uniform is below 2^-17, of which a million rows hold a few hundred: found by
/// scanning the generator, and each must take the token that f64 arithmetic takes. Ordinary draws
/// would never tell an exponential that is wrong there.
#[test]
fn the_rarest_uniforms_decide_as_they_should() {
    const K: usize = 64;
    const ROWS: usize = 512;
    // One likely token, and 63 that need E < 1e-5 or so.
    let mut logits = vec![(2e-6f32).ln(); K];
    logits[0] = 0.0;
    let word = |counter: u32, step: u32, kind: u32| {
        philox4x32([counter, Stream::Sample as u32, step, kind], [20, 24])
    };
    let exponential = |row: usize, k: usize, step: u32| {
        let w = word((row * K / 4 + k / 4) as u32, step, 0)[k % 4];
        let mut zeros = w.leading_zeros();
        if zeros >= 9 {
            // 32 more zeros than the first word of the continuation holds do not occur here.
            zeros = 9 + word((row * K + k) as u32, step, 1)[0].leading_zeros();
        }
        let mantissa = 1.0 + f64::from(w & 0x7f_ffff) / f64::from(1u32 << 23);
        -(-mantissa * 0.5f64.powi(1 + zeros as i32)).ln_1p()
    };
    let mut rare = vec![];
    for step in 0..64u32 {
        for row in 0..ROWS {
            let first = exponential(row, 0, step);
            let best = (1..K)
                .map(|k| (exponential(row, k, step) / f64::from(logits[k].exp()), k))
                .filter(|(time, _)| *time < first)
                .min_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, k)) = best {
                rare.push((step, row, k as u32));
            }
        }
    }
    println!("{} rare tokens in {} rows", rare.len(), 64 * ROWS);
    // 32,768 rows x 63 x 2e-6 = 4.1 expected.
    assert!(!rare.is_empty());
    on_devices(|device| {
        device.clear();
        let kernel = DrawTokens { rows: ROWS, k: K, guided: false };
        let (lists, binds) = prepare(device, kernel, &[bits(&logits.repeat(ROWS))]);
        for step in 0..64 {
            let scalars = StepScalars { step, seed_lo: 20, seed_hi: 24, ..Default::default() };
            let want: Vec<_> = rare.iter().filter(|r| r.0 == step).map(|r| (r.1, r.2)).collect();
            for (form, list) in &lists {
                device.run(&[*list], &scalars).unwrap_or_else(|e| panic!("{e}"));
                let tokens = read(device, binds[1]);
                let got: Vec<_> =
                    tokens.into_iter().enumerate().filter(|(_, token)| *token != 0).collect();
                assert_eq!(got, want, "{} {form}, step {step}", device.kind());
            }
        }
    });
}

/// Masking rate within five standard errors of t, and the same masks however the batch is cut.
#[test]
fn masks_follow_t_and_the_global_sample() {
    let (batch, len) = (8, 4096);
    let t: Vec<f32> = (0..batch).map(|b| b as f32 / 7.0).collect();
    let w = vec![1.0f32; batch];
    let x0 = vec![3u32; batch * len];
    let mut device = device::cpu(0);
    let mut masks = |from: usize, batch: usize| {
        let kernel = MaskTokens { batch, len, mask_token: 9 };
        let inputs =
            [x0[..batch * len].to_vec(), bits(&t[from..][..batch]), bits(&w[from..][..batch])];
        let (list, binds) = prepare_one(&mut *device, kernel, &inputs);
        let sample_base = 1000 + from as u32;
        device.run(&[list], &StepScalars { sample_base, ..Default::default() }).expect("run");
        read(&mut *device, binds[3])
    };
    let whole = masks(0, batch);
    let halves = [masks(0, batch / 2), masks(batch / 2, batch / 2)].concat();
    assert!(whole == halves, "the masks depend on how the batch is cut");
    for (xt, t) in whole.chunks(len).zip(&t) {
        let (n, t) = (len as f64, f64::from(*t));
        let masked = xt.iter().filter(|&&x| x == 9).count() as f64;
        let deviation = 5.0 * (t * (1.0 - t) / n).sqrt();
        assert!((masked / n - t).abs() <= deviation, "{} of {n} masked at t = {t}", masked);
    }
}

/// Two branches meet as l_u + s (l_c - l_u): at s = 1 the conditional law, at s = 0 the other.
#[test]
fn guidance_interpolates_between_the_branches() {
    let (rows, k) = (1 << 14, 8);
    let p = |branch: usize| -> Vec<f64> {
        let raw: Vec<f64> = (0..k).map(|i| ((i * (3 + branch)) % 8 + 1) as f64).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|v| v / sum).collect()
    };
    let (u, c) = (p(0), p(1));
    let row =
        |p: &[f64], offset: f32| -> Vec<f32> { p.iter().map(|p| p.ln() as f32 + offset).collect() };
    let logits = [row(&u, 1.0).repeat(rows), row(&c, -2.0).repeat(rows)].concat();
    let mut device = device::cpu(0);
    let kernel = DrawTokens { rows, k, guided: true };
    let (list, binds) = prepare_one(&mut *device, kernel, &[bits(&logits)]);
    for guidance in [0.0f32, 1.0, 3.0] {
        let s = f64::from(guidance);
        let raw: Vec<f64> = u.iter().zip(&c).map(|(u, c)| u * (c / u).powf(s)).collect();
        let sum: f64 = raw.iter().sum();
        let law: Vec<f64> = raw.iter().map(|v| v / sum).collect();
        device.run(&[list], &StepScalars { guidance, ..Default::default() }).expect("run");
        let mut counts = vec![0; k];
        let logp = read(&mut *device, binds[2]);
        for (token, logp) in read(&mut *device, binds[1]).into_iter().zip(logp) {
            counts[token as usize] += 1;
            // Each branch: a logit of at most 5 rounded once, its normaliser, their difference,
            // below 32 u together; guidance weighs them by 1 + 2 s, and normalises once more.
            let tolerance = (1.0 + 2.0 * s) * 64.0 * 0.5f64.powi(24);
            let error = (f64::from(f32::from_bits(logp)) - law[token as usize].ln()).abs();
            assert!(error <= tolerance, "log-probability off by {error} > {tolerance}");
        }
        assert_law(&format!("guidance {guidance}"), &counts, &law);
    }
}

/// A row without any possible token, and one of NaN, still give a token of the vocabulary.
#[test]
fn hopeless_rows_stay_in_range() {
    let logits = [[f32::NEG_INFINITY; 5], [f32::NAN; 5]].concat();
    let fills = vec![Fill::F32(logits), Fill::Poison, Fill::Poison, Fill::Poison];
    let kernel = DrawTokens { rows: 2, k: 5, guided: false };
    on_devices(|device| {
        for form in device::forms(device, kernel.clone()) {
            let mut case = Case::new("hopeless", kernel.clone(), fills.clone());
            case.kernel = form;
            let out = registry::on_device(device, &case, &registry::inputs(&case));
            assert!(out[1].iter().all(|&token| token < 5), "{:?}: {:?}", case.kernel, out[1]);
        }
    });
}
