//! The optimiser against `torch.optim` and `torch.nn.utils.clip_grad_norm_`, and its guard.

use crate::compare::within_bound;
use crate::device::{self, bits, floats, list, list_of, on_devices};
use crate::fixtures::Fixture;
use crate::rig::U;
use crate::walk::Form;
use std::sync::Arc;
use vqforge::device::{Device, Launch, ListId, Range};
use vqforge::kernels::{Bind, Bounded, Io, Kernel, StepScalars};
use vqforge::kernels::{adamw::AdamW, grad_ctl::GradCtl, grad_norm::GradNormPartials};

/// The fixture's 13 x 7 weights, padded to blocks of 64.
const WEIGHTS: usize = 91;
const N: usize = 128;

struct Setting {
    name: &'static str,
    beta2: f64,
    weight_decay: f32,
}

const SETTINGS: [Setting; 2] = [
    Setting { name: "adam", beta2: 0.999, weight_decay: 0.0 },
    Setting { name: "adamw", beta2: 0.96, weight_decay: 0.045 },
];

impl Setting {
    fn kernel(&self) -> AdamW {
        let Setting { beta2, weight_decay, .. } = *self;
        AdamW { n: N, beta1: 0.9, beta2, eps: 1e-8, weight_decay, ema: false }
    }

    /// Step scalars of step t = 1, 2, ...
    fn step(&self, t: i32) -> StepScalars {
        StepScalars {
            lr: 0.01,
            bias1: (1.0 / (1.0 - 0.9f64.powi(t))) as f32,
            bias2: (1.0 / (1.0 - self.beta2.powi(t))) as f32,
            ..StepScalars::default()
        }
    }
}

fn padded(fixture: &Fixture, name: String) -> Vec<f32> {
    let mut v = fixture.f32(&name);
    assert_eq!(v.len(), WEIGHTS);
    v.resize(N, 0.0);
    v
}

fn buffer(device: &mut dyn Device, values: &[f32]) -> Range {
    device::holding(device, &bits(values))
}

fn write(device: &mut dyn Device, range: Range, values: &[f32]) {
    device.write(range.buffer, range.offset, &bits(values)).unwrap_or_else(|e| panic!("{e}"));
}

fn read(device: &mut dyn Device, range: Range) -> Vec<f32> {
    floats(&device::read(device, range))
}

/// Six steps: the naive form in f64 against PyTorch's weights, recorded in f64 and rounded; the
/// devices against the bound that the naive form derives over all six.
#[test]
fn pytorch_adam_and_adamw() {
    let fixture = Fixture::load("optim");
    for setting in &SETTINGS {
        let kernel = setting.kernel();
        let name = setting.name;
        let w0 = padded(&fixture, format!("{name}.w0"));
        let (mask, ctl) = ([1.0f32; 2], [1.0f32, 1.0, 1.0, 0.0]);

        let (p, m, v) = (w0.clone(), vec![0.0f32; N], vec![0.0f32; N]);
        let lift64 = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let lift = |v: &[f32]| v.iter().map(|&x| Bounded::exact(x)).collect::<Vec<_>>();
        let mut f64s = [lift64(&p), lift64(&m), lift64(&v)];
        let mut bounds = [lift(&p), lift(&m), lift(&v)];
        let mut path = vec![0.0f64; N];
        for t in 1..=6 {
            let g = padded(&fixture, format!("{name}.g{}", t - 1));
            let before = f64s[0].clone();
            launch(&kernel, setting.step(t), &lift64(&g), &lift64(&mask), &lift64(&ctl), &mut f64s);
            launch(&kernel, setting.step(t), &lift(&g), &lift(&mask), &lift(&ctl), &mut bounds);
            let want = padded(&fixture, format!("{name}.w{t}"));
            for i in 0..WEIGHTS {
                path[i] += (f64s[0][i] - before[i]).abs();
                // Rounding of the recorded weight, and of lr, weight decay and the two bias
                // corrections (the second under a root), which scale every update so far.
                let tolerance = U * f64::from(want[i]).abs() + 3.5 * U * path[i];
                let error = (f64s[0][i] - f64::from(want[i])).abs();
                assert!(error <= tolerance, "{name} w{t}[{i}]: {error:.3e} > {tolerance:.3e}");
            }
        }

        on_devices(|device| {
            device.clear();
            let g = buffer(device, &w0);
            let binds = vec![
                g,
                buffer(device, &mask),
                buffer(device, &ctl),
                buffer(device, &p),
                buffer(device, &m),
                buffer(device, &v),
            ];
            let update: Arc<dyn Kernel> = Arc::new(kernel.clone());
            let list = list(device, &update, &binds);
            for t in 1..=6 {
                let gradient = padded(&fixture, format!("{name}.g{}", t - 1));
                write(device, g, &gradient);
                device.run(&[list], &setting.step(t)).expect("run");
            }
            for (what, range, want) in [
                ("p", binds[3], &bounds[0]),
                ("m", binds[4], &bounds[1]),
                ("v", binds[5], &bounds[2]),
            ] {
                let got = read(device, range);
                within_bound(&got, want)
                    .unwrap_or_else(|e| panic!("{name} {what} on {}: {e}", device.kind()));
            }
        });
    }
}

/// One step of a naive form.
fn launch<T: Form>(
    kernel: &AdamW,
    step: StepScalars,
    g: &[T],
    mask: &[T],
    ctl: &[T],
    [p, m, v]: &mut [Vec<T>; 3],
) {
    let mut io = Io::new(step);
    let inputs = [g, mask, ctl].map(Bind::In);
    for (slot, bind) in
        io.binds.iter_mut().zip(inputs.into_iter().chain([p, m, v].map(|s| Bind::Out(&mut s[..]))))
    {
        *slot = bind;
    }
    T::launch(kernel, &mut io);
}

/// Two segments, their partials side by side in one buffer, as a plan lays them out.
struct Clipping {
    list: ListId,
    ctl: Range,
    segments: [Range; 2],
}

impl Clipping {
    fn new(device: &mut dyn Device, segments: [&[f32]; 2], clip: f32) -> Self {
        device.clear();
        let all = device::zeros(device, 128);
        let ctl = buffer(device, &[0.0; 4]);
        let mut launches = vec![];
        let mut ranges = vec![];
        // Bindings are aligned to 256 bytes: 64 words.
        for (i, segment) in segments.into_iter().enumerate() {
            let g = buffer(device, segment);
            let part = Range { offset: 64 * i, len: 64, ..all };
            let kernel = Arc::new(GradNormPartials { n: segment.len(), partials: 64 });
            launches.push(Launch { kernel, binds: vec![g, part] });
            ranges.push(g);
        }
        let kernel = Arc::new(GradCtl { p: 128, clip, scaling: None });
        launches.push(Launch { kernel, binds: vec![all, ctl] });
        let list = list_of(device, &launches);
        Clipping { list, ctl, segments: [ranges[0], ranges[1]] }
    }

    fn run(&self, device: &mut dyn Device, inv_lanes: f32) -> [f32; 4] {
        device.run(&[self.list], &StepScalars { inv_lanes, ..Default::default() }).expect("run");
        read(device, self.ctl).try_into().expect("four words")
    }
}

#[test]
fn pytorch_clipping() {
    let fixture = Fixture::load("optim");
    let (a, b) = (fixture.f32("clip.a"), fixture.f32("clip.b"));
    let norm = f64::from(fixture.f32("clip.norm")[0]);
    on_devices(|device| {
        let clipping = Clipping::new(device, [&a, &b], 0.5);
        let [got, apply, scale, skipped] = clipping.run(device, 1.0);
        assert_eq!((apply, skipped), (1.0, 0.0));
        // 39 squares, their sum in any order, the root (half its relative error) and its own
        // error of 9 u (WGSL), the rounding of the recorded norm.
        let tolerance = (41.0 / 2.0 + 9.0 + 1.0) * U * norm;
        assert!((f64::from(got) - norm).abs() <= tolerance, "{got} {norm}");
        for (segment, out) in [(&a, "clip.a_out"), (&b, "clip.b_out")] {
            for (&g, &want) in segment.iter().zip(&fixture.f32(out)) {
                // That of the norm, an addition, a division (5 u in WGSL), a product, and the
                // rounding of the recorded value.
                let want = f64::from(want);
                let tolerance = (31.0 + 1.0 + 5.0 + 1.0 + 1.0) * U * want.abs();
                assert!((f64::from(g * scale) - want).abs() <= tolerance, "{} {want}", g * scale);
            }
        }
        // Lanes: the mean gradient is a quarter of the sum of four.
        let [quarter, ..] = clipping.run(device, 0.25);
        assert!((4.0 * quarter - got).abs() <= f32::EPSILON * got);
    });
}

/// A gradient that is not finite changes nothing but the count of skipped steps.
#[test]
fn a_bad_gradient_is_skipped() {
    on_devices(|device| {
        let clean: Vec<f32> = (0..N).map(|i| 0.01 * i as f32).collect();
        let mut poisoned = clean.clone();
        poisoned[77] = f32::NAN;
        let clipping = Clipping::new(device, [&clean, &poisoned], 1.0);
        let state: Vec<Range> = (0..4).map(|_| buffer(device, &clean)).collect();
        let mask = buffer(device, &[1.0; 2]);
        let kernel: Arc<dyn Kernel> = Arc::new(AdamW { ema: true, ..SETTINGS[1].kernel() });
        let mut binds = vec![clipping.segments[1], mask, clipping.ctl];
        binds.extend(&state);
        let update = list(device, &kernel, &binds);
        let step = StepScalars { ema_decay: 0.9, ..SETTINGS[1].step(1) };
        let after =
            |device: &mut dyn Device| state.iter().map(|&r| read(device, r)).collect::<Vec<_>>();

        let ctl = clipping.run(device, 1.0);
        assert_eq!(ctl[1..], [0.0, 0.0, 1.0]);
        device.run(&[update], &step).expect("run");
        assert!(after(device).iter().all(|s| *s == clean), "a skipped step changed state");

        write(device, clipping.segments[1], &vec![f32::INFINITY; N]);
        assert_eq!(clipping.run(device, 1.0)[1..], [0.0, 0.0, 2.0]);

        write(device, clipping.segments[1], &clean);
        let ctl = clipping.run(device, 1.0);
        assert_eq!((ctl[1], ctl[3]), (1.0, 2.0));
        device.run(&[update], &step).expect("run");
        assert!(after(device).iter().all(|s| *s != clean), "a good step changed nothing");
    });
}
