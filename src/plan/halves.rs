//! Mixed precision: which values of a step are stored as f16.

use super::flatten::Flat;
use crate::error::{Error, Result};
use crate::kernels::{Caps, Half};
use crate::shader::Element;
use crate::tape::{Home, Precision, Tape, ValueId};
use std::collections::{HashMap, HashSet};

/// The temporaries of a plan that are stored as f16; none in f32.
///
/// A temporary is one if every kernel that reads or writes it allows so for that binding. Values
/// that share words by an in-place write, and copies of a value that was computed again, are all halves
/// or none. Single numbers stay f32, and so
/// does all that outlives a step or that the host reads: parameters, gradients of parameters,
/// sums, inputs, outputs, states.
#[derive(Debug, Default)]
pub(super) struct Halves {
    chosen: HashSet<ValueId>,
}

impl Halves {
    pub fn choose(tape: &Tape, flat: &[Flat]) -> Self {
        // The value that an in-place chain started with.
        let mut first: HashMap<ValueId, ValueId> = HashMap::new();
        for (from, to) in flat.iter().filter_map(|node| node.takes) {
            first.insert(to, first.get(&from).copied().unwrap_or(from));
        }
        let first_of = |id: ValueId| tape.original(first.get(&id).copied().unwrap_or(id));
        let (mut used, mut refused) = (HashSet::new(), HashSet::new());
        for node in flat {
            let allowed = node.kernel.half_ok();
            for (i, &id) in node.binds.iter().enumerate() {
                used.insert(id);
                if allowed >> i & 1 == 0 || !eligible(tape, id) {
                    refused.insert(first_of(id));
                }
            }
        }
        used.retain(|&id| !refused.contains(&first_of(id)));
        Halves { chosen: used }
    }

    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Words that a value takes.
    pub fn words(&self, tape: &Tape, id: ValueId) -> usize {
        let n = tape.shape(id).elements();
        if self.chosen.contains(&id) { Element::F16.words(n) } else { n }
    }

    /// Replaces every kernel by the one that binds halves where they are.
    pub fn lower(&self, flat: &mut [Flat]) {
        for node in flat {
            let halves = node.binds.iter().enumerate().filter(|(_, id)| self.chosen.contains(id));
            let mask = halves.fold(0, |mask, (i, _)| mask | 1 << i);
            node.kernel = Half::of(node.kernel.clone(), mask);
        }
    }
}

fn eligible(tape: &Tape, id: ValueId) -> bool {
    let value = tape.value(id);
    value.home == Home::Temp && value.element == Element::F32 && value.shape.elements() > 1
}

/// # Errors
/// Mixed precision on a device that cannot store halves: nothing is done in f32 unasked.
pub(super) fn supported(device: &str, caps: &Caps, precision: Precision) -> Result<()> {
    if precision == Precision::F32 || caps.f16 {
        return Ok(());
    }
    Err(Error::no_device("mixed precision needs a device with 16-bit floats in storage")
        .at(device)
        .why("the adapter or its driver does not offer them to shaders (SHADER_F16)")
        .help("train in full precision, --precision f32, or with --device cpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_silently_in_f32() {
        let without = Caps { f16: false, ..Caps::all() };
        assert!(supported("old GPU", &without, Precision::F32).is_ok());
        assert!(supported("GPU", &Caps::all(), Precision::Mixed).is_ok());
        let e = supported("old GPU", &without, Precision::Mixed).unwrap_err();
        assert_eq!(e.exit_code(), 3);
        for part in ["old GPU", "SHADER_F16", "--precision f32", "--device cpu"] {
            assert!(e.to_string().contains(part), "{part}: {e}");
        }
    }
}
