//! The optimiser against `torch.optim` and `torch.nn.utils.clip_grad_norm_`, and its guard.

use crate::compare::within_bound;
use crate::device;
use crate::fixtures::Fixture;
use std::sync::Arc;
use vqforge::device::{BufferId, Device, Launch, Range};
use vqforge::kernels::{Bind, Bounded, Io, Kernel, StepScalars};
use vqforge::kernels::{adamw::AdamW, grad_ctl::GradCtl, grad_norm::GradNormPartials};

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1u64 << 24) as f64;
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

/// Runs `test` on the CPU device and on the GPU, if there is one.
fn on_devices(mut test: impl FnMut(&mut dyn Device)) {
    test(&mut *device::cpu(0));
    if let Some(mut gpu) = device::gpu() {
        test(&mut **gpu);
    }
}

fn buffer(device: &mut dyn Device, values: &[f32]) -> Range {
    let buffer = device.create_buffer(values.len(), "optimiser").expect("buffer");
    write(device, buffer, values);
    Range { buffer, offset: 0, len: values.len() }
}

fn write(device: &mut dyn Device, buffer: BufferId, values: &[f32]) {
    device.write(buffer, 0, bytemuck::cast_slice(values)).expect("write");
}

fn read(device: &mut dyn Device, range: Range) -> Vec<f32> {
    let mut words = vec![0u32; range.len];
    device.read(range.buffer, range.offset, &mut words).unwrap_or_else(|e| panic!("{e}"));
    words.into_iter().map(f32::from_bits).collect()
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
            let launch = Launch { kernel: Arc::new(kernel.clone()), binds: binds.clone() };
            let list = device.prepare(&[launch], &mut |_, _| {}).expect("prepare");
            for t in 1..=6 {
                let gradient = padded(&fixture, format!("{name}.g{}", t - 1));
                write(device, g.buffer, &gradient);
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

/// One step of a naive form, chosen by the element type.
trait Naive: Sized {
    fn run(kernel: &dyn Kernel, io: &mut Io<'_, Self>);
}
impl Naive for f64 {
    fn run(kernel: &dyn Kernel, io: &mut Io<'_, f64>) {
        kernel.naive64(io);
    }
}
impl Naive for Bounded {
    fn run(kernel: &dyn Kernel, io: &mut Io<'_, Bounded>) {
        kernel.naive_bounded(io);
    }
}

fn launch<T: Naive>(
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
    T::run(kernel, &mut io);
}

/// Two segments, their partials side by side in one buffer, as a plan lays them out.
struct Clipping {
    list: vqforge::device::ListId,
    ctl: Range,
    segments: [Range; 2],
}

impl Clipping {
    fn new(device: &mut dyn Device, segments: [&[f32]; 2], clip: f32) -> Self {
        device.clear();
        let partials = device.create_buffer(128, "partials").expect("buffer");
        let ctl = buffer(device, &[0.0; 4]);
        let mut launches = vec![];
        let mut ranges = vec![];
        // Bindings are aligned to 256 bytes: 64 words.
        for (i, segment) in segments.into_iter().enumerate() {
            let g = buffer(device, segment);
            let part = Range { buffer: partials, offset: 64 * i, len: 64 };
            let kernel = Arc::new(GradNormPartials { n: segment.len(), partials: 64 });
            launches.push(Launch { kernel, binds: vec![g, part] });
            ranges.push(g);
        }
        let all = Range { buffer: partials, offset: 0, len: 128 };
        let kernel = Arc::new(GradCtl { p: 128, clip, scaling: None });
        launches.push(Launch { kernel, binds: vec![all, ctl] });
        let list = device.prepare(&launches, &mut |_, _| {}).expect("prepare");
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
        let kernel = Arc::new(AdamW { ema: true, ..SETTINGS[1].kernel() });
        let mut binds = vec![clipping.segments[1], mask, clipping.ctl];
        binds.extend(&state);
        let update = device.prepare(&[Launch { kernel, binds }], &mut |_, _| {}).expect("prepare");
        let step = StepScalars { ema_decay: 0.9, ..SETTINGS[1].step(1) };
        let after =
            |device: &mut dyn Device| state.iter().map(|&r| read(device, r)).collect::<Vec<_>>();

        let ctl = clipping.run(device, 1.0);
        assert_eq!(ctl[1..], [0.0, 0.0, 1.0]);
        device.run(&[update], &step).expect("run");
        assert!(after(device).iter().all(|s| *s == clean), "a skipped step changed state");

        write(device, clipping.segments[1].buffer, &vec![f32::INFINITY; N]);
        assert_eq!(clipping.run(device, 1.0)[1..], [0.0, 0.0, 2.0]);

        write(device, clipping.segments[1].buffer, &clean);
        let ctl = clipping.run(device, 1.0);
        assert_eq!((ctl[1], ctl[3]), (1.0, 2.0));
        device.run(&[update], &step).expect("run");
        assert!(after(device).iter().all(|s| *s != clean), "a good step changed nothing");
    });
}
