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

/// 64 tokens with probabilities from about 1e-1 down to 1e-9, and one in between that is impossible.
fn tail_law() -> (Vec<f32>, Vec<f64>) {
    let mut p: Vec<f64> = (0..64).map(|i| 10f64.powf(-1.0 - 8.0 * f64::from(i) / 63.0)).collect();
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

/// Probabilities of 1e-6 down to 1e-9, each of 255 tokens, beside one likely token: in bins of their own
/// where so many draws are cheap. Noise that cannot be large enough would leave those bins empty.
#[test]
fn far_tail_of_a_categorical_draw() {
    const LEVELS: usize = 4;
    const EACH: usize = 255;
    let mut p: Vec<f64> = (0..LEVELS * EACH).map(|i| 10f64.powi(-6 - (i / EACH) as i32)).collect();
    p.insert(0, 1.0 - p.iter().sum::<f64>());
    let logits: Vec<f32> = p.iter().map(|p| p.ln() as f32).collect();
    let bin = |k: usize| k.div_ceil(EACH);
    let mut levels = vec![0.0; LEVELS + 1];
    p.iter().enumerate().for_each(|(k, p)| levels[bin(k)] += p);
    on_devices(|device| {
        let software = device.kind() == "cpu" || device.caps().software;
        // 2^26 draws: 17 of 1e-9 are expected. In software as many as a test may take, the bins pooled.
        // A binding holds 2^15 rows by default.
        let (rows, launches) = if software { (1 << 11, 10) } else { (1 << 15, 1 << 11) };
        for (form, counts) in count_tokens(device, &logits, 1.0, rows, launches) {
            let mut drawn = vec![0; LEVELS + 1];
            counts.iter().enumerate().for_each(|(k, n)| drawn[bin(k)] += n);
            assert_law(&format!("{form}, far tail"), &drawn, &levels);
        }
    });
}

/// Rows of a launch, and tokens: one likely, and 63 that need E / p < 1 or so to be drawn.
const RARE_ROWS: usize = 512;
const RARE_TOKENS: usize = 64;

/// The draws of one likely token and 63 of probability `p` that f64 arithmetic gives to one of the
/// latter: (step, row, token).
fn rare_draws(p: f32, steps: &[u32]) -> Vec<(u32, usize, u32)> {
    let word = |counter: u32, step: u32, kind: u32| {
        philox4x32([counter, Stream::Sample as u32, step, kind], [20, 24])
    };
    let exponential = |row: usize, k: usize, step: u32| {
        let w = word((row * RARE_TOKENS / 4 + k / 4) as u32, step, 0)[k % 4];
        let mut zeros = w.leading_zeros();
        if zeros >= 9 {
            // 32 more zeros than the first word of the continuation holds do not occur here.
            zeros = 9 + word((row * RARE_TOKENS + k) as u32, step, 1)[0].leading_zeros();
        }
        let mantissa = 1.0 + f64::from(w & 0x7f_ffff) / f64::from(1u32 << 23);
        -(-mantissa * 0.5f64.powi(1 + zeros as i32)).ln_1p()
    };
    let p = f64::from(p.ln().exp());
    let mut rare = vec![];
    for &step in steps {
        for row in 0..RARE_ROWS {
            let first = exponential(row, 0, step);
            let best = (1..RARE_TOKENS)
                .map(|k| (exponential(row, k, step) / p, k))
                .filter(|(time, _)| *time < first)
                .min_by(|a, b| a.0.total_cmp(&b.0));
            rare.extend(best.map(|(_, k)| (step, row, k as u32)));
        }
    }
    rare
}

/// Each such draw must be taken, and no other, by every form on every device.
fn assert_rare(p: f32, steps: &[u32]) {
    let mut logits = vec![p.ln(); RARE_TOKENS];
    logits[0] = 0.0;
    let rare = rare_draws(p, steps);
    println!("{} rare tokens of {p:e} in {} rows", rare.len(), steps.len() * RARE_ROWS);
    assert!(!rare.is_empty());
    on_devices(|device| {
        device.clear();
        let kernel = DrawTokens { rows: RARE_ROWS, k: RARE_TOKENS, guided: false };
        let (lists, binds) = prepare(device, kernel, &[bits(&logits.repeat(RARE_ROWS))]);
        for &step in steps {
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

/// The draws whose uniform is below 2^-17, of which a million rows hold a few hundred: found by
/// scanning the generator, and each must take the token that f64 arithmetic takes. Ordinary draws
/// would never tell an exponential that is wrong there. 32,768 rows x 63 x 2e-6 = 4.1 are expected.
#[test]
fn the_rarest_uniforms_decide_as_they_should() {
    assert_rare(2e-6, &(0..64).collect::<Vec<_>>());
}

/// The steps below 2^19 in which one of the uniforms of the 63 is below 2^-29, of 1.7e10: found by
/// scanning the generator once. No draw of a token of 1e-9 is elsewhere, but with E_0 above 1.86.
const RAREST: [u32; 30] = [
    79709, 80100, 99438, 99598, 114802, 115696, 118449, 118460, 129316, 144816, 161241, 181032,
    191744, 204863, 221803, 222540, 239614, 248761, 280160, 295847, 301534, 331539, 331918, 366821,
    373927, 394823, 425043, 427772, 437938, 505571,
];

/// The same of tokens of which one row in 16 million draws one. At 1e-9 a chi-square of draws needs a GPU
/// ([`far_tail_of_a_categorical_draw`]); the draws that decide it need none.
#[test]
fn tokens_of_one_in_a_billion_are_drawn() {
    assert_rare(1e-9, &RAREST);
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
