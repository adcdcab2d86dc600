//! The quantiser's kernels where the registry cannot look: the loss of a near tie is bounded in
//! f64, strays are named row by row, and PyTorch's values are met.

use crate::compare::within_bound;
use crate::device::{self, floats, forms, left_out, on_devices};
use crate::fixtures::Fixture;
use crate::registry;
use std::sync::Arc;
use vqforge::device::{Device, Launch, scratch};
use vqforge::kernels::{Bind, Bounded, Case, Fill, Io, Kernel, StepScalars, Tier};
use vqforge::kernels::{
    code_sums::CodeSums, ema_codebook::EmaCodebook, ema_codebook::EmaCounts,
    nearest_code::NearestCode,
};

/// What a form returned for a case of `NearestCode`.
struct Found {
    idx: Vec<u32>,
    d2: Vec<f32>,
    margin: Vec<f32>,
}

fn with_margin(n: usize, k: usize, d: usize) -> NearestCode {
    NearestCode { margin: true, ..NearestCode::new(n, k, d) }
}

/// What the device makes of it by the kernel itself and by its variants, with their names.
fn find(
    device: &mut dyn Device,
    kernel: &NearestCode,
    z: &[f32],
    codebook: &[f32],
) -> Vec<(String, Found)> {
    forms(device, kernel.clone())
        .into_iter()
        .map(|form| (form.variant(), find_by(device, form, z, codebook)))
        .collect()
}

fn find_by(device: &mut dyn Device, kernel: Arc<dyn Kernel>, z: &[f32], codebook: &[f32]) -> Found {
    let inputs = [z, codebook].map(|v| Fill::F32(v.to_vec()));
    let outputs = vec![Fill::Poison; kernel.lens().len() - 2];
    let fills = inputs.into_iter().chain(outputs).collect();
    let step = StepScalars::default();
    let case = Case { name: "find".into(), kernel, fills, tier: Tier::NearTies, step };
    let out = registry::on_device(device, &case, &registry::inputs(&case));
    let margin = out.get(4).map(|margin| floats(margin)).unwrap_or_default();
    Found { idx: out[2].clone(), d2: floats(&out[3]), margin }
}

/// The criterion |e|^2 - 2 z.e in f64, and a bound on the error of any f32 evaluation of it: n
/// terms added in any order err by at most n u sum|terms|, to first order (Higham, section 4.2).
fn score(z: &[f32], e: &[f32]) -> (f64, f64) {
    let (mut value, mut mass) = (0.0, 0.0);
    for (&z, &e) in z.iter().zip(e) {
        let (z, e) = (f64::from(z), f64::from(e));
        value += e * e - 2.0 * z * e;
        mass += e * e + 2.0 * (z * e).abs();
    }
    (value, (2 * z.len() + 1) as f64 * 0.5f64.powi(24) * mass)
}

/// By how much each row of z chose its nearest code, in f64.
pub fn margins(z: &[f64], codebook: &[f64], d: usize) -> Vec<f64> {
    let of_row = |z: &[f64]| {
        let distance = |e: &[f64]| z.iter().zip(e).map(|(z, e)| (z - e) * (z - e)).sum::<f64>();
        let mut distances: Vec<f64> = codebook.chunks(d).map(distance).collect();
        distances.sort_by(f64::total_cmp);
        distances[1] - distances[0]
    };
    z.chunks(d).map(of_row).collect()
}

/// Every index is a code whose criterion is within rounding of the minimum. Returns what those lose
/// that are not the minimum's in f64.
pub fn within_rounding(
    place: &str,
    z: &[f32],
    codebook: &[f32],
    idx: &[u32],
    d: usize,
) -> Vec<f64> {
    let mut flips = vec![];
    for (row, z) in z.chunks(d).enumerate() {
        let scores: Vec<_> = codebook.chunks(d).map(|e| score(z, e)).collect();
        let mut best = 0;
        for (code, s) in scores.iter().enumerate() {
            if s.0 < scores[best].0 {
                best = code;
            }
        }
        let got = idx[row] as usize;
        let loss = scores[got].0 - scores[best].0;
        let allowed = scores[got].1 + scores[best].1;
        assert!(
            loss <= allowed,
            "{place} row {row}: code {got} loses {loss:.3e} > {allowed:.3e} to code {best}"
        );
        if got != best {
            flips.push(loss);
        }
    }
    flips
}

/// Every returned index is within rounding of the minimum, and every distance is that of its code.
/// Returns what [`within_rounding`] does.
fn check_nearest(
    form: &str,
    kernel: &NearestCode,
    z: &[f32],
    codebook: &[f32],
    found: &Found,
) -> Vec<f64> {
    let flips = within_rounding(form, z, codebook, &found.idx, kernel.d);
    for (row, z) in z.chunks(kernel.d).enumerate() {
        let got = found.idx[row] as usize;
        // The distance belongs to the code that was returned, not to the minimum.
        let mut distance = Bounded::exact(0.0);
        for (&z, &e) in z.iter().zip(&codebook[got * kernel.d..]) {
            let difference = Bounded::exact(z) - Bounded::exact(e);
            distance += difference * difference;
        }
        within_bound(&found.d2[row..=row], &[distance])
            .unwrap_or_else(|e| panic!("{form} d2: {e}"));
    }
    flips
}

#[test]
fn index_is_within_rounding_of_the_minimum() {
    on_devices(|device| {
        // Latents far from the origin cancel nearly all digits of the criterion: flips do occur.
        for (n, k, d, mean, std) in
            [(200, 1000, 8, 0.0, 1.0), (130, 512, 64, 0.0, 1.0), (300, 700, 4, 50.0, 0.02)]
        {
            let kernel = with_margin(n, k, d);
            let draw = |len: usize, seed| floats(&Fill::Normal { mean, std }.bits(len, seed));
            let (z, codebook) = (draw(n * d, 1), draw(k * d, 2));
            for (form, found) in find(device, &kernel, &z, &codebook) {
                let flips = check_nearest(&form, &kernel, &z, &codebook, &found);
                let worst = flips.iter().fold(0.0f64, |a, &b| a.max(b));
                println!(
                    "{} {form}, n={n} k={k} d={d} mean={mean}: {} flips, largest loss {worst:.2e}",
                    device.kind(),
                    flips.len()
                );
                assert!(mean != 0.0 || flips.is_empty(), "no near ties among well-spread codes");
            }
        }
    });
}

#[test]
fn pytorch_nearest() {
    let fixture = Fixture::load("vq_nearest");
    on_devices(|device| {
        for name in ["n64d4k16", "n200d3k256", "n257d64k512", "n100d256k70"] {
            let at = |what: &str| format!("{name}.{what}");
            let (n, d) = (fixture.dim(&at("z"), 0), fixture.dim(&at("z"), 1));
            let kernel = with_margin(n, fixture.dim(&at("codebook"), 0), d);
            let (z, codebook) = (fixture.f32(&at("z")), fixture.f32(&at("codebook")));
            let (want, margins) = (fixture.index(&at("idx")), fixture.f32(&at("margin_d2")));
            for (form, found) in find(device, &kernel, &z, &codebook) {
                let place = format!("{} {form}, {name}", device.kind());
                check_nearest(&place, &kernel, &z, &codebook, &found);
                for row in 0..n {
                    let rows = &z[row * d..][..d];
                    let error =
                        codebook.chunks(d).map(|e| score(rows, e).1).fold(0.0f64, |a, b| a.max(b));
                    let margin = f64::from(margins[row]);
                    // The smallest recorded margin, 9e-5, is far above the rounding of its scores.
                    assert_eq!(found.idx[row], want[row], "{place} row {row}: margin {margin:e}");
                    // Recorded in f64, rounded once.
                    let tolerance = 2.0 * error + 0.5f64.powi(24) * margin;
                    let difference = (f64::from(found.margin[row]) - margin).abs();
                    assert!(
                        difference <= tolerance,
                        "{place} row {row}: margin off by {difference:.3e}"
                    );
                }
            }
        }
    });
}

/// Every code comes twice, so that all rows tie, and the margin changes nothing else.
#[test]
fn a_million_codes() {
    for (n, k, d) in [(3, 1 << 14, 2), (3, 1 << 20, 3), (3, 50_000, 48)] {
        let half = floats(&Fill::normal().bits(k / 2 * d, 1));
        let codebook = [half.clone(), half].concat();
        let z = floats(&Fill::normal().bits(n * d, 2));
        on_devices(|device| {
            let kernel = NearestCode::new(n, k, d);
            let plain = find(device, &kernel, &z, &codebook);
            let with = find(device, &with_margin(n, k, d), &z, &codebook);
            assert_eq!(plain.len(), with.len());
            for ((form, plain), (_, found)) in plain.into_iter().zip(with) {
                check_nearest(&form, &kernel, &z, &codebook, &plain);
                assert!(plain.idx.iter().all(|&i| (i as usize) < k / 2), "{form}: {:?}", plain.idx);
                assert_eq!((&plain.idx, &plain.d2), (&found.idx, &found.d2), "{form}");
                assert_eq!(found.margin, vec![0.0; n], "{form}");
            }
        });
    }
}

/// llvmpipe would leave the loops early and find the nearest of the first codes only.
#[test]
fn software_vulkan_refuses_what_it_would_cut_short() {
    let Some(mut device) = device::gpu() else { return };
    if !device.caps().software {
        return left_out("the limit of software Vulkan: this GPU is none");
    }
    let kernel: Arc<dyn Kernel> = Arc::new(NearestCode::new(3, 1 << 16, 64));
    let mark = device.mark();
    let contents = kernel.lens().into_iter().map(|len| vec![0; len]);
    let binds = scratch::upload(&mut **device, contents).unwrap();
    let error =
        device.prepare(&[Launch { kernel, binds }], &mut |_, _| {}).unwrap_err().to_string();
    device.release(mark);
    assert!(error.contains("loops") && error.contains("--device cpu"), "{error}");
}

#[test]
fn directions() {
    on_devices(|device| {
        let kernel = NearestCode { cosine: true, ..with_margin(5, 4, 2) };
        // Code 0 overflows, code 1 is zero: orthogonal to all.
        let codebook = [1.0e30, 0.0, 0.0, 0.0, 0.0, 4.0, 3.0e9, 0.0];
        let z = [5.0, 0.0, 0.0, 1.0e-3, -3.0, -4.0, 0.0, 0.0, f32::NAN, 1.0];
        // Two lengths at 14 u (a root and a division of WGSL) and their products.
        let near = |got: &[f32], want: &[f32]| {
            got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 64.0 * 0.5f32.powi(24))
        };
        for (form, found) in find(device, &kernel, &z, &codebook) {
            assert_eq!(found.idx[..4], [3, 2, 1, 1], "{form}");
            assert!(near(&found.d2[..4], &[0.0, 0.0, 1.0, 0.0]), "{form}: {:?}", found.d2);
            assert!(near(&found.margin[..2], &[2.0, 2.0]), "{form}: {:?}", found.margin);
            assert_eq!(found.margin[3], 0.0, "{form}: all codes are equally far from a zero row");
            assert_eq!(found.idx[4], 0, "{form}: a NaN row takes index 0");
            assert!(found.d2[4].is_nan(), "{form}");
        }
    });
}

/// Enough rows for the variants to be offered; the strays come first.
#[test]
fn strays() {
    const N: usize = 70;
    on_devices(|device| {
        let kernel = with_margin(N, 70, 2);
        let mut codebook: Vec<f32> = (0..140).map(|i| i as f32).collect();
        codebook[0] = f32::NAN;
        codebook[3] = 1.0e30; // its norm overflows
        let mut z = vec![f32::NAN, 1.0, 4.0, 5.0, 2.0, 3.0, f32::INFINITY, 0.0, 1.0e30, 0.0];
        z.resize(2 * N, 7.0);
        for (form, found) in find(device, &kernel, &z, &codebook) {
            assert_eq!(found.idx[0], 0, "{form}: a NaN row takes index 0");
            assert!(found.d2[0].is_nan(), "{form}: and says so by its distance");
            assert_eq!((found.idx[1], found.d2[1]), (2, 0.0), "{form}");
            assert_eq!((found.idx[2], found.d2[2]), (2, 8.0), "{form}: codes 0 and 1 are unusable");
            assert!(found.idx.iter().all(|&i| i < 70), "{form}");
            assert!(!found.d2[3].is_finite() && !found.d2[4].is_finite(), "{form}");
        }
    });
}

/// Adds the launch of `kernel` on `binds` to a list of buffers held in `Bounded`.
fn bounded(kernel: &dyn Kernel, binds: [Bind<'_, Bounded>; 8]) {
    kernel.naive_bounded(&mut Io { binds, step: StepScalars::default() });
}

/// Three EMA steps of vector-quantize-pytorch: counts, sums and codes after each.
#[test]
fn pytorch_ema_codebook() {
    let fixture = Fixture::load("vq_ema_lucidrains");
    for (name, k, d, decay) in [("ema_a", 32, 8, 0.8), ("ema_b", 16, 4, 0.99)] {
        let lift = |v: Vec<f32>| v.into_iter().map(Bounded::exact).collect::<Vec<_>>();
        let state =
            |when: &str, what: &str| fixture.f32(&format!("{name}.{when}._codebook.{what}"));
        let mut ema_n = lift(state("before", "cluster_size"));
        let mut ema_m = lift(state("before", "embed_avg"));
        let mut codebook = lift(state("before", "embed"));
        let ctl = lift(vec![1.0, 1.0, 1.0, 0.0]);
        for step in 0..3 {
            let idx = fixture.index(&format!("{name}.step{step}.idx"));
            let x = lift(fixture.f32(&format!("{name}.step{step}.x")));
            let mut counts = lift(vec![0.0; k]);
            let mut sums = lift(vec![0.0; k * d]);
            let mut total = lift(vec![0.0]);
            let none = || [const { Bind::None }; 8];
            let mut binds = none();
            binds[0] = Bind::InU(&idx);
            binds[1] = Bind::In(&x);
            binds[2] = Bind::Out(&mut counts);
            binds[3] = Bind::Out(&mut sums);
            bounded(&CodeSums { n: idx.len(), k, d, accum: false }, binds);
            let mut binds = none();
            binds[0] = Bind::In(&counts);
            binds[1] = Bind::In(&ctl);
            binds[2] = Bind::Out(&mut ema_n);
            binds[3] = Bind::Out(&mut total);
            bounded(&EmaCounts { k, decay }, binds);
            let mut binds = none();
            binds[0] = Bind::In(&sums);
            binds[1] = Bind::In(&ctl);
            binds[2] = Bind::In(&ema_n);
            binds[3] = Bind::In(&total);
            binds[4] = Bind::Out(&mut ema_m);
            binds[5] = Bind::Out(&mut codebook);
            bounded(&EmaCodebook { k, d, decay, eps: 1e-5 }, binds);
            // The reference ran in f32 too: its own error obeys the bound that the kernels obey.
            let after = format!("step{step}.after");
            for (what, ours) in
                [("cluster_size", &ema_n), ("embed_avg", &ema_m), ("embed", &codebook)]
            {
                within_bound(&state(&after, what), ours)
                    .unwrap_or_else(|e| panic!("{name} {after} {what}: {e}"));
            }
        }
    }
}

/// The gradient of an embedding is the sum of the rows that used each entry.
#[test]
fn pytorch_embedding_gradient() {
    let fixture = Fixture::load("embedding");
    on_devices(|device| {
        for (name, k, d) in [("rep", 10, 8), ("vec", 50, 5)] {
            let idx = fixture.index(&format!("{name}.idx"));
            let kernel = CodeSums { n: idx.len(), k, d, accum: false };
            let gy = Fill::F32(fixture.f32(&format!("{name}.gy")));
            let fills = vec![Fill::U32(idx), gy, Fill::Poison, Fill::Poison];
            let case = Case::new(name, kernel, fills);
            let inputs = registry::inputs(&case);
            let layout =
                vqforge::shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout;
            let (sums, _) = registry::naive(&case, &layout, &inputs, f64::from, |kernel, io| {
                kernel.naive64(io);
            });
            for (want, sum) in fixture.f32(&format!("{name}.gw")).iter().zip(&sums[3]) {
                assert_eq!(*want, *sum as f32, "{name}: the naive form against PyTorch in f64");
            }
            let got = registry::on_device(device, &case, &inputs);
            let (bounds, _) =
                registry::naive(&case, &layout, &inputs, Bounded::exact, |kernel, io| {
                    kernel.naive_bounded(io)
                });
            within_bound(&floats(&got[3]), &bounds[3]).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    });
}
