//! Faults that any kernel can have, planted in all of them without a list.

use super::{Mutant, Table, outcome, with_kernel};
use crate::device;
use crate::registry::{Oracle, on_device};
use std::sync::Arc;
use vqforge::device::Device;
use vqforge::kernels::{Case, Kernel, registry};
use vqforge::shader;

/// Plants what `change` makes of a kernel, case by case, until one notices. None: it applies to no
/// case.
fn hunt(
    device: &mut dyn Device,
    cases: &[Case],
    change: impl Fn(&Arc<dyn Kernel>) -> Option<Mutant>,
) -> Option<Result<String, String>> {
    let mut tried = 0;
    for case in cases {
        let Some(mutant) = change(&case.kernel) else { continue };
        tried += 1;
        if outcome(device, &with_kernel(case, Arc::new(mutant))).is_err() {
            return Some(Ok(case.name.clone()));
        }
    }
    (tried > 0).then(|| Err(format!("nothing noticed it in {tried} cases")))
}

/// The launch without the last workgroup of its slowest dimension.
fn without_last_workgroup(kernel: &Arc<dyn Kernel>) -> Option<Mutant> {
    let mut grid = kernel.grid();
    let dimension = (0..3).rev().find(|&d| grid[d] > 1)?;
    grid[dimension] -= 1;
    Some(Mutant { grid: Some(grid), ..Mutant::of(kernel) })
}

/// The launch with word `i` of its sizes one smaller, or halved where it holds an f32.
fn with_smaller_size(kernel: &Arc<dyn Kernel>, i: usize) -> Option<Mutant> {
    let mut dims = kernel.dims();
    let word = dims.get_mut(i).filter(|w| **w > 0)?;
    // Counts are small as bits, floats are not: one unit of the exponent is a factor of two.
    *word -= if *word < 1 << 24 { 1 } else { 1 << 23 };
    Some(Mutant { dims: Some(dims), ..Mutant::of(kernel) })
}

/// Sizes a launch may make too small without harm, and why.
const SLACK: &[(&str, usize, &str)] = &[];

#[test]
fn planted_in_launches() {
    let Some(mut device) = device::gpu() else { return };
    let (mut table, mut escaped) = (Table::default(), vec![]);
    for entry in registry() {
        let cases = (entry.cases)();
        let mut report = |fault: &str, found: Option<Result<String, String>>| match found {
            None => {}
            Some(Ok(case)) => {
                let by = format!("registry::wgsl_form_equals_naive, {case}");
                table.row(fault, entry.name, &by);
            }
            Some(Err(e)) => escaped.push(format!("{fault} in {}: {e}", entry.name)),
        };
        let last = hunt(&mut **device, &cases, without_last_workgroup);
        report("last workgroup dropped", last);
        let words = cases.iter().map(|c| c.kernel.dims().len()).max().unwrap_or(0);
        for i in 0..words {
            let smaller = hunt(&mut **device, &cases, |k| with_smaller_size(k, i));
            match SLACK.iter().find(|(name, word, _)| (*name, *word) == (entry.name, i)) {
                None => report(&format!("dims word {i} too small"), smaller),
                Some((.., why)) => {
                    assert!(matches!(smaller, Some(Err(_))), "{}: word {i}: {why}", entry.name);
                }
            }
        }
    }
    println!("{}", table.0);
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}

/// Integer outputs that near ties alone produce: the registry does not compare them.
const ELSEWHERE: &[(&str, usize, &str)] = &[("draw_tokens", 1, "the laws of random.rs")];

/// The check sees a single element: of every kernel and every written binding, the last element is
/// put back to what it was before the launch, and some case notices.
#[test]
fn an_unwritten_element_is_seen() {
    let mut device = device::cpu(0);
    for entry in registry() {
        let mut unseen: Vec<bool> = vec![];
        for case in (entry.cases)() {
            let layout = shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout;
            unseen.resize(unseen.len().max(layout.storage.len()), true);
            let oracle = Oracle::of(&case);
            let got = on_device(&mut *device, &case, &oracle.inputs);
            for i in (0..layout.storage.len()).filter(|&i| layout.writes(i)) {
                let (Some(&before), mut left) = (oracle.inputs[i].last(), got.clone()) else {
                    continue;
                };
                if let Some(last) = left[i].last_mut() {
                    *last = before;
                }
                unseen[i] &= oracle.judge(&case, &left).is_ok();
            }
            for i in (0..layout.storage.len()).filter(|&i| !layout.writes(i)) {
                unseen[i] = false;
            }
        }
        for (i, unseen) in unseen.into_iter().enumerate() {
            let elsewhere = ELSEWHERE.iter().any(|(name, b, _)| (*name, *b) == (entry.name, i));
            assert_eq!(unseen, elsewhere, "{}: binding {i}, unseen or listed so", entry.name);
        }
    }
}

/// A bound that is too wide would hide faults. Most elements of every kernel are held to less of their
/// own size than rounding them once to f16 may cost: a kernel that computes in halves is noticed. (The
/// others cancel.)
#[test]
fn bounds_are_narrow() {
    const ROUNDED_TO_HALF: f64 = 1.0 / 2048.0;
    for entry in registry() {
        let mut medians: Vec<f64> = vec![];
        for case in (entry.cases)() {
            medians.extend(Oracle::of(&case).relative_bounds());
        }
        medians.sort_by(f64::total_cmp);
        if let Some(median) = medians.get(medians.len() / 2) {
            println!("{:24} median relative bound {median:.1e}", entry.name);
            assert!(*median < ROUNDED_TO_HALF, "{}: {median:e}", entry.name);
        }
    }
}
