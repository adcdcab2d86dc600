//! Every case of every kernel: the cpu form and the WGSL form against the naive form. In the exact
//! tier all three agree bit for bit, in the bound tier within the bound that the naive form derives
//! over `Bounded`.

use crate::compare::{equal_bits, within_bound};
use crate::device;
use std::sync::Arc;
use vqforge::device::{Device, Launch, Range};
use vqforge::kernels::{Bind, Bounded, Caps, Case, Io, Real, Tier, registry};
use vqforge::shader::{self, Element, Layout};

/// Bits of every binding after the launch.
pub type Bits = Vec<Vec<u32>>;

pub fn inputs(case: &Case) -> Bits {
    let lens = case.kernel.lens();
    assert_eq!(lens.len(), case.fills.len(), "{}: fills", case.name);
    let fill = |(i, (f, n)): (usize, (&vqforge::kernels::Fill, &usize))| f.bits(*n, i as u64 + 1);
    let bits: Bits = case.fills.iter().zip(&lens).enumerate().map(fill).collect();
    for (b, n) in bits.iter().zip(&lens) {
        assert_eq!(b.len(), *n, "{}: length of a fill", case.name);
    }
    bits
}

pub fn on_device(device: &mut dyn Device, case: &Case, inputs: &Bits) -> Bits {
    device.clear();
    let kernel = Arc::clone(&case.kernel);
    let mut binds = vec![];
    for (i, words) in inputs.iter().enumerate() {
        let buffer = device.create_buffer(words.len(), &format!("case {i}")).expect("buffer");
        device.write(buffer, 0, words).expect("write");
        binds.push(Range { buffer, offset: 0, len: words.len() });
    }
    let list = device
        .prepare(&[Launch { kernel, binds: binds.clone() }], &mut |_, _| {})
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    device.run(&[list], &case.step).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let mut out = inputs.clone();
    for (range, words) in binds.iter().zip(&mut out) {
        device.read(range.buffer, 0, words).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    }
    out
}

/// The naive form over T, on floats converted by `lift`.
pub fn naive<T: Real>(
    case: &Case,
    layout: &Layout,
    inputs: &Bits,
    lift: impl Fn(f32) -> T,
    run: impl Fn(&dyn vqforge::kernels::Kernel, &mut Io<'_, T>),
) -> (Vec<Vec<T>>, Bits) {
    let mut floats: Vec<Vec<T>> =
        inputs.iter().map(|b| b.iter().map(|w| lift(f32::from_bits(*w))).collect()).collect();
    let mut words = inputs.clone();
    {
        let mut io = Io::new(case.step);
        for (i, (f, u)) in floats.iter_mut().zip(&mut words).enumerate() {
            io.binds[i] = match (layout.storage[i].element, layout.writes(i)) {
                (Element::F32 | Element::F16, false) => Bind::In(f),
                (Element::F32 | Element::F16, true) => Bind::Out(f),
                (Element::U32, false) => Bind::InU(u),
                (Element::U32, true) => Bind::OutU(u),
            };
        }
        run(&*case.kernel, &mut io);
    }
    (floats, words)
}

struct Checked {
    /// Largest share of a derived bound that any element used.
    used: f64,
}

fn check(
    case: &Case,
    layout: &Layout,
    form: &str,
    got: &Bits,
    want: &(Vec<Vec<Bounded>>, Bits),
) -> Checked {
    let mut used = 0.0f64;
    for (i, binding) in layout.storage.iter().enumerate() {
        if !layout.writes(i) {
            continue;
        }
        let outcome = match (binding.element, case.tier) {
            (Element::U32, Tier::NearTies) => Ok(0.0),
            (Element::U32, _) => equal_bits(&got[i], &want.1[i]).map(|()| 0.0),
            (Element::F32, Tier::Exact) => {
                let exact: Vec<u32> =
                    want.0[i].iter().map(|b| (b.value() as f32).to_bits()).collect();
                // -0 and +0 are the same number.
                let zero = |w: &u32| if *w == 1 << 31 { 0 } else { *w };
                let got: Vec<u32> = got[i].iter().map(zero).collect();
                equal_bits(&got, &exact.iter().map(zero).collect::<Vec<_>>()).map(|()| 0.0)
            }
            (_, _) => {
                let floats: Vec<f32> = got[i].iter().map(|w| f32::from_bits(*w)).collect();
                within_bound(&floats, &want.0[i])
            }
        };
        match outcome {
            Ok(share) => used = used.max(share),
            Err(e) => panic!(
                "{} {} [{}], {form} form, {}: {e}\n{:?}",
                case.kernel.name(),
                case.kernel.variant(),
                case.name,
                binding.name,
                case.kernel
            ),
        }
    }
    Checked { used }
}

/// Every case, and every variant of it that `caps` allow, against its own naive form.
fn run_all(form: &str, caps: Option<&Caps>, mut launch: impl FnMut(&Case, &Bits) -> Bits) {
    for entry in registry() {
        let (mut used, mut count, mut varied) = (0.0f64, 0, 0);
        for mut case in (entry.cases)() {
            assert_eq!(case.kernel.name(), entry.name);
            let variants = caps.map_or(vec![], |caps| case.kernel.variants(caps));
            let layout = shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout;
            let bits = inputs(&case);
            let derived = naive(&case, &layout, &bits, Bounded::exact, |k, io| k.naive_bounded(io));
            let got = launch(&case, &bits);
            used = used.max(check(&case, &layout, form, &got, &derived).used);
            count += 1;
            for variant in variants {
                // One that rounds its factors has a bound of its own.
                let own = variant.needs().coop_matrix > 0;
                case.kernel = variant;
                let want = own.then(|| {
                    naive(&case, &layout, &bits, Bounded::exact, |k, io| k.naive_bounded(io))
                });
                let got = launch(&case, &bits);
                let want = want.as_ref().unwrap_or(&derived);
                used = used.max(check(&case, &layout, form, &got, want).used);
                varied += 1;
            }
        }
        println!(
            "{:24} {form:4} {count:4} cases, {varied:4} of variants, {:5.1} % of the bound used",
            entry.name,
            100.0 * used
        );
    }
}

#[test]
fn cpu_form_equals_naive() {
    let mut device = device::cpu(0);
    run_all("cpu", None, |case, bits| on_device(&mut *device, case, bits));
}

#[test]
fn wgsl_form_equals_naive() {
    let Some(mut device) = device::gpu() else { return };
    let caps = Caps { half_products: true, ..device.caps().clone() };
    run_all("wgsl", Some(&caps), |case, bits| on_device(&mut **device, case, bits));
}

/// The same launch at 1, 2 and 7 threads gives the same bits.
#[test]
fn cpu_form_ignores_the_thread_count() {
    let mut devices = [device::cpu(1), device::cpu(2), device::cpu(7)];
    for entry in registry() {
        for case in (entry.cases)() {
            let bits = inputs(&case);
            let [one, rest @ ..] = &mut devices;
            let want = on_device(&mut **one, &case, &bits);
            for device in rest {
                let got = on_device(&mut **device, &case, &bits);
                assert!(got == want, "{} [{}] on {}", entry.name, case.name, device.describe());
            }
        }
    }
}
