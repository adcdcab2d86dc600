//! Every case of every kernel: the cpu form and the WGSL form against the naive form. In the exact
//! tier all three agree bit for bit, in the bound tier within the bound that the naive form derives
//! over `Bounded`.

use crate::compare::{equal_bits, within_bound};
use crate::device::{self, bind, floats, list, read, skip};
use crate::expected::Expectations;
use std::collections::BTreeSet;
use std::time::Instant;
use vqforge::device::Device;
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
    let binds = bind(device, &*case.kernel, inputs);
    let list = list(device, &case.kernel, &binds);
    device.run(&[list], &case.step).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    binds.into_iter().map(|range| read(device, range)).collect()
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

/// Largest share of the derived bound that any element of a written binding used, or what is wrong.
fn check(
    case: &Case,
    layout: &Layout,
    got: &Bits,
    want: &(Vec<Vec<Bounded>>, Bits),
) -> Result<f64, String> {
    let mut used = 0.0f64;
    for (i, binding) in layout.storage.iter().enumerate() {
        if !layout.writes(i) {
            continue;
        }
        let outcome = match (binding.element, case.tier) {
            // Which of them may be taken, `quantiser` and `random` know.
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
            (_, _) => within_bound(&floats(&got[i]), &want.0[i]),
        };
        used = used.max(outcome.map_err(|e| format!("{}: {e}", binding.name))?);
    }
    Ok(used)
}

/// What a case must give: its inputs, and its outputs with their bounds.
pub struct Oracle {
    layout: Layout,
    pub inputs: Bits,
    want: (Vec<Vec<Bounded>>, Bits),
}

impl Oracle {
    pub fn of(case: &Case) -> Self {
        let layout = shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout;
        let inputs = inputs(case);
        let want = naive(case, &layout, &inputs, Bounded::exact, |k, io| k.naive_bounded(io));
        Oracle { layout, inputs, want }
    }

    /// Largest share of a derived bound that any element of `got` used.
    ///
    /// # Errors
    /// The first element that is wrong, with the name of its binding.
    pub fn judge(&self, case: &Case, got: &Bits) -> Result<f64, String> {
        check(case, &self.layout, got, &self.want)
    }

    /// Tolerance over value, of every written float that is not 0.
    pub fn relative_bounds(&self) -> Vec<f64> {
        let float = |i: &usize| self.layout.storage[*i].element == Element::F32;
        let written = (0..self.layout.storage.len()).filter(|&i| self.layout.writes(i));
        let floats =
            written.filter(float).flat_map(|i| &self.want.0[i]).filter(|b| b.value().is_finite());
        floats.filter(|b| b.value() != 0.0).map(|b| b.tolerance() / b.value().abs()).collect()
    }
}

/// Every case against the naive form, and of its variants that `caps` allow those that are new to the
/// kernel and one in turn: a driver that compiles each of them for every case takes hours. `place` is
/// the device's description, by which failures may be expected. Every launch runs twice: a device
/// repeats its bits, whatever order its driver sums in.
fn run_all(form: &str, place: &str, caps: &Caps, mut launch: impl FnMut(&Case, &Bits) -> Bits) {
    let mut expected = Expectations::on(place);
    let mut faults = vec![];
    for entry in registry() {
        let (mut used, mut tiers, mut varied) = (0.0f64, [0; 3], 0);
        let started = Instant::now();
        let mut judge = |oracle: &Oracle, case: &Case| {
            let got = launch(case, &oracle.inputs);
            let label = format!("{} [{}]", case.kernel.variant(), case.name);
            if launch(case, &oracle.inputs) != got {
                faults.push(format!("{} {label}: other bits in another run", entry.name));
            }
            match expected.judge(entry.name, &label, oracle.judge(case, &got)) {
                Ok(share) => used = used.max(share),
                Err(e) => faults.push(format!("{} {label}: {e}\n{:?}", entry.name, case.kernel)),
            }
        };
        let mut known = BTreeSet::new();
        for (turn, mut case) in (entry.cases)().into_iter().enumerate() {
            assert_eq!(case.kernel.name(), entry.name);
            let mut variants = case.kernel.variants(caps);
            let its = turn % variants.len().max(1);
            let mut at = 0..;
            variants.retain(|v| known.insert(v.variant()) | (at.next() == Some(its)));
            let oracle = Oracle::of(&case);
            judge(&oracle, &case);
            tiers[case.tier as usize] += 1;
            for variant in variants {
                // One that rounds its factors to f16 has a bound of its own.
                let rounds = variant.needs().f16;
                case.kernel = variant;
                let own = rounds.then(|| Oracle::of(&case));
                judge(own.as_ref().unwrap_or(&oracle), &case);
                varied += 1;
            }
        }
        let [exact, bound, near_ties] = tiers;
        println!(
            "{:24} {form:4} {exact:3} exact {bound:3} bound {near_ties:2} near ties {varied:4} of \
             variants {:6.1} % of the bound used {:6.1} s",
            entry.name,
            100.0 * used,
            started.elapsed().as_secs_f64()
        );
    }
    faults.extend(expected.unmet());
    assert!(faults.is_empty(), "{form} form on {place}:\n{}", faults.join("\n"));
}

#[test]
fn cpu_form_equals_naive() {
    let mut device = device::cpu(0);
    let place = device.describe();
    run_all("cpu", &place, &Caps::default(), |case, bits| on_device(&mut *device, case, bits));
}

#[test]
fn wgsl_form_equals_naive() {
    let Some(mut device) = device::gpu() else { return };
    let caps = Caps { half_products: true, ..device.caps().clone() };
    let place = device.describe();
    run_all("wgsl", &place, &caps, |case, bits| on_device(&mut **device, case, bits));
}

/// Of every case one variant that rounds its factors to f16, in turn, against its own naive form.
fn run_rounding(form: &str, caps: &Caps, device: &mut dyn Device) {
    let mut count = 0;
    for entry in registry() {
        let (mut used, before) = (0.0f64, count);
        for (i, mut case) in (entry.cases)().into_iter().enumerate() {
            let mut variants = case.kernel.variants(caps);
            variants.retain(|v| v.needs().f16);
            if variants.is_empty() {
                continue;
            }
            case.kernel = variants.swap_remove(i % variants.len());
            let oracle = Oracle::of(&case);
            let got = on_device(device, &case, &oracle.inputs);
            match oracle.judge(&case, &got) {
                Ok(share) => used = used.max(share),
                Err(e) => panic!("{} [{}], {form}: {e}\n{:?}", entry.name, case.name, case.kernel),
            }
            count += 1;
        }
        if count > before {
            println!("{:24} {form} {:4} cases, {:5.1} %", entry.name, count - before, 100.0 * used);
        }
    }
    assert!(count > 0, "no kernel rounds its factors");
}

#[test]
fn cpu_forms_round_alike() {
    run_rounding("cpu", &Caps::all(), &mut *device::cpu(0));
}

/// The index arithmetic of the cooperative-matrix kernels, on devices with or without matrices.
#[test]
fn emulated_matrices_equal_naive() {
    let Some(mut device) = device::gpu() else { return };
    let own = device.caps().clone();
    if own.subgroups.is_none() || !own.f16 {
        skip(format_args!("emulated matrices: {} lacks subgroups or f16", device.describe()));
        return;
    }
    let caps = Caps { half_products: true, emulate_coop: true, coop_matrix: vec![], ..own };
    run_rounding("emulated", &caps, &mut **device);
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
