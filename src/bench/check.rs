//! Whether a timed kernel is right: a smaller case of it against the naive form, within the
//! rounding-error bound that the naive form derives for its data.

use crate::device::{Device, Launch, scratch};
use crate::error::Result;
use crate::kernels::{Bind, Bounded, Case, Io, Kernel, Real, Tier};
use crate::shader::{self, Element};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Outputs of the checked case that were compared.
    pub outputs: usize,
    /// Those outside the bound; integers: different ones.
    pub mismatches: usize,
    /// Largest share of its bound that any output used; absent if one has none.
    pub worst: Option<f64>,
    /// The checked case runs the timed case's shader, only on less data; otherwise it differs from it
    /// in constants such as the size of an image.
    pub same_shader: bool,
    /// Outputs of the timed case, at its full size, that were never written.
    pub unwritten: usize,
}

impl Verdict {
    pub fn good(&self) -> bool {
        self.mismatches == 0 && self.unwritten == 0 && self.outputs > 0
    }
}

/// What the naive form makes of a case, with bounds.
pub(super) struct Oracle<'a> {
    case: &'a Case,
    inputs: Vec<Vec<u32>>,
    /// Every binding afterwards: floats, and the words of integers.
    floats: Vec<Vec<Bounded>>,
    words: Vec<Vec<u32>>,
}

impl<'a> Oracle<'a> {
    pub(super) fn of(case: &'a Case) -> Result<Self> {
        let fills = case.fills.iter().zip(case.kernel.lens()).enumerate();
        let inputs: Vec<Vec<u32>> =
            fills.map(|(i, (fill, len))| fill.bits(len, i as u64 + 1)).collect();
        let lift = |words: &Vec<u32>| {
            words.iter().map(|&w| Bounded::exact(f32::from_bits(w))).collect::<Vec<_>>()
        };
        let mut floats: Vec<Vec<Bounded>> = inputs.iter().map(lift).collect();
        let mut words = inputs.clone();
        let layout = shader::layout(&*case.kernel)?;
        let mut io = Io::new(case.step);
        // Cases bind no halves: those come from plans in mixed precision.
        for (i, (floats, words)) in floats.iter_mut().zip(&mut words).enumerate() {
            io.binds[i] = match (layout.storage[i].element, layout.writes(i)) {
                (Element::F32 | Element::F16, false) => Bind::In(floats),
                (Element::F32 | Element::F16, true) => Bind::Out(floats),
                (Element::U32, false) => Bind::InU(words),
                (Element::U32, true) => Bind::OutU(words),
            };
        }
        case.kernel.naive_bounded(&mut io);
        Ok(Oracle { case, inputs, floats, words })
    }

    /// Runs `kernel`, an implementation of this case, and compares. `timed` only tells whether the
    /// shader is the same; the unwritten outputs are for the caller to count.
    pub(super) fn judge(
        &self,
        device: &mut dyn Device,
        kernel: &Arc<dyn Kernel>,
        timed: &dyn Kernel,
    ) -> Result<Verdict> {
        let mark = device.mark();
        let outputs = launch(device, kernel, self.case, &self.inputs);
        device.release(mark);
        let outputs = outputs?;
        let layout = shader::layout(&*self.case.kernel)?;
        let same_shader = shader::source(&**kernel)? == shader::source(timed)?;
        let mut verdict =
            Verdict { outputs: 0, mismatches: 0, worst: Some(0.0), same_shader, unwritten: 0 };
        for i in (0..outputs.len()).filter(|&i| layout.writes(i)) {
            match layout.storage[i].element {
                Element::F32 | Element::F16 => floats(&outputs[i], &self.floats[i], &mut verdict),
                // Near a tie either index is right; the float output beside it tells.
                Element::U32 if self.case.tier == Tier::NearTies => {}
                Element::U32 => {
                    let pairs = outputs[i].iter().zip(&self.words[i]);
                    verdict.outputs += outputs[i].len();
                    verdict.mismatches += pairs.filter(|(got, want)| got != want).count();
                }
            }
        }
        Ok(verdict)
    }
}

/// Every binding's bits after one launch.
fn launch(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    case: &Case,
    inputs: &[Vec<u32>],
) -> Result<Vec<Vec<u32>>> {
    let binds = scratch::upload(device, inputs.iter().cloned())?;
    let launch = Launch { kernel: kernel.clone(), binds: binds.clone() };
    let list = device.prepare(&[launch], &mut |_, _| {})?;
    device.run(&[list], &case.step)?;
    scratch::download(device, &binds)
}

fn floats(got: &[u32], want: &[Bounded], verdict: &mut Verdict) {
    verdict.outputs += got.len();
    for (&word, want) in got.iter().zip(want) {
        let (got, value) = (f64::from(f32::from_bits(word)), want.value());
        if !value.is_finite() {
            let same = if value.is_nan() { got.is_nan() } else { got == value };
            verdict.mismatches += usize::from(!same);
            continue;
        }
        let share = (got - value).abs() / want.tolerance();
        // NaN is not within anything.
        if share.is_nan() || share > 1.0 {
            verdict.mismatches += 1;
        }
        verdict.worst = match verdict.worst {
            Some(worst) if share.is_finite() => Some(worst.max(share)),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;
    use crate::kernels::{Fill, Matmul};

    fn case(m: usize) -> Case {
        Case::new(
            "product",
            Matmul::new(m, 33, 20),
            vec![Fill::normal(), Fill::normal(), Fill::Poison],
        )
    }

    #[test]
    fn a_right_kernel_passes() {
        let mut device = CpuDevice::new(1).unwrap();
        let (small, timed) = (case(7), case(50));
        let oracle = Oracle::of(&small).unwrap();
        let v = oracle.judge(&mut device, &small.kernel, &*timed.kernel).unwrap();
        assert_eq!((v.outputs, v.mismatches, v.same_shader), (140, 0, true));
        assert!(v.good() && v.worst.is_some_and(|w| w > 0.0 && w < 1.0), "{v:?}");
        let other = Case::new("product", Matmul::new(7, 33, 24), vec![]);
        let v = oracle.judge(&mut device, &small.kernel, &*other.kernel).unwrap();
        assert!(!v.same_shader);
    }

    /// Another product's kernel on the same data.
    #[test]
    fn a_wrong_kernel_fails() {
        let mut device = CpuDevice::new(1).unwrap();
        let small = case(20);
        let oracle = Oracle::of(&small).unwrap();
        let wrong: Arc<dyn Kernel> = Arc::new(Matmul { tb: true, ..Matmul::new(20, 33, 20) });
        let v = oracle.judge(&mut device, &wrong, &*small.kernel).unwrap();
        assert!(v.mismatches > 300 && !v.good() && v.worst.is_some_and(|w| w > 1.0), "{v:?}");
    }

    /// The comparison rejects what it must: NaN, a wrong value, an infinity, and nothing at all.
    #[test]
    fn a_wrong_output_is_counted() {
        let want: Vec<Bounded> = [1.0f32, 2.0, 3.0, 4.0].map(Bounded::exact).to_vec();
        let got = [1.0f32, f32::NAN, 3.5, f32::INFINITY].map(f32::to_bits);
        let mut v = Verdict {
            outputs: 0,
            mismatches: 0,
            worst: Some(0.0),
            same_shader: true,
            unwritten: 0,
        };
        assert!(!v.good(), "nothing compared");
        floats(&got, &want, &mut v);
        assert_eq!((v.outputs, v.mismatches, v.worst), (4, 3, None));
        assert!(!v.good());
    }
}
