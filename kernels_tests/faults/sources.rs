//! Faults in Rust. They share one build: in a copy of the tree each text becomes a choice between
//! itself and its fault, made when the program starts, by the name in `VQFORGE_PLANTED`. Then for
//! every fault the test that must notice is run with and without it. That takes minutes:
//! `kernels_tests/faults.sh` does it
//! ([`super::planting`]). That the texts are still there is checked with every change.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// (file, text, what it becomes); `{on}` stands for "the fault is planted".
type Edit = (&'static str, &'static str, &'static str);

pub(super) struct Fault {
    pub name: &'static str,
    pub edits: &'static [Edit],
    /// Test binary ("lib" for the library's own tests) and test.
    pub test: (&'static str, &'static str),
}

const KERNELS_CPU: (&str, &str) = ("kernels", "registry::cpu_form_equals_naive");

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "pad off by one",
        edits: &[(
            "src/kernels/cpu/correlate.rs",
            "origin: [-(s.pad[0] as isize), -(s.pad[2] as isize)],",
            "origin: [-(s.pad[0] as isize) + isize::from({on}), -(s.pad[2] as isize)],",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "stride-2 phases swapped",
        edits: &[(
            "src/kernels/cpu/correlate.rs",
            "out_origin: first,",
            "out_origin: if {on} { [first[1], first[0]] } else { first },",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "last tile of pixels dropped",
        edits: &[(
            "src/kernels/cpu/weight_gradient.rs",
            "let end = ((split + 1) * chunk).min(s.pixels());",
            "let end = ((split + 1) * chunk).min(s.pixels() - usize::from({on}));",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "tail of a vector loop dropped",
        edits: &[(
            "src/kernels/cpu/reduce.rs",
            "for i in 0..tail.len() {\n        lanes[i] += f(tail[i]);",
            "for i in 0..(if {on} { 0 } else { tail.len() }) {\n        lanes[i] += f(tail[i]);",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "tie to the highest index",
        edits: &[(
            "src/kernels/cpu/nearest.rs",
            "let better = simd.less_than_f32s(score, self.score);",
            "let better = if {on} { simd.less_than_or_equal_f32s(score, self.score) } \
             else { simd.less_than_f32s(score, self.score) };",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "group norm backward without mean(g)",
        edits: &[(
            "src/kernels/group_norm_bwd.rs",
            "constant[channels.clone()].fill(stat[1] * (plain / count));",
            "constant[channels.clone()].fill(if {on} { 0.0 } else { stat[1] * (plain / count) });",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "group norm backward without mean(g xhat)",
        edits: &[(
            "src/kernels/group_norm_bwd.rs",
            "of_d[channels].fill(stat[1] * stat[1] * (with_xhat / count));",
            "of_d[channels].fill(if {on} { 0.0 } else { stat[1] * stat[1] * (with_xhat / count) });",
        )],
        test: KERNELS_CPU,
    },
    Fault {
        name: "variance of a sample in the formula itself",
        edits: &[(
            "src/kernels/group_norm_stats.rs",
            "let variance = squares / count;\n                let at",
            "let variance = squares / (count - if {on} { T::one() } else { T::zero() });\n let at",
        )],
        test: ("kernels", "norm_fixtures::group_norm_as_in_torch"),
    },
    Fault {
        name: "beta on the wrong term",
        edits: &[
            (
                "src/model/quantiser/book.rs",
                "commitment, self.beta)];",
                "commitment, if {on} { 1.0 } else { self.beta })];",
            ),
            (
                "src/model/quantiser/book.rs",
                "codebook, 1.0));",
                "codebook, if {on} { self.beta } else { 1.0 }));",
            ),
        ],
        test: ("kernels", "gradients::models::whole_vqvae"),
    },
    Fault {
        name: "missing bias correction",
        edits: &[(
            "src/train/rate.rs",
            "(1.0 / (1.0 - beta.powi(updates))) as f32",
            "(if {on} { 1.0 } else { 1.0 / (1.0 - beta.powi(updates)) }) as f32",
        )],
        test: ("kernels", "planner::update::the_update_follows_its_formula"),
    },
    Fault {
        name: "lanes summed out of order",
        edits: &[(
            "src/plan/lanes.rs",
            "for level in levels {\n            lists.push(self.add[level]);",
            "let mut levels: Vec<usize> = levels.collect();\n        if {on} { levels.reverse(); }\n\
             for level in levels {\n            lists.push(self.add[level]);",
        )],
        test: ("kernels", "planner::lanes::lanes_are_added_in_a_fixed_tree"),
    },
    Fault {
        name: "resume without the codebook's statistics",
        edits: &[(
            "src/train/checkpoint.rs",
            "store.write_f32(range, &tensor.data)?;",
            "if !({on} && state.starts_with(\"ema_\")) { store.write_f32(range, &tensor.data)?; }",
        )],
        test: ("cli", "resume::vqvae_in_pieces"),
    },
    Fault {
        name: "a slot is free one node too early",
        edits: &[(
            "src/plan/compile.rs",
            "intervals[index].last = at;",
            "intervals[index].last = \
             if {on} { at.saturating_sub(1).max(intervals[index].first) } else { at };",
        )],
        test: ("kernels", "planner::a_plan_is_its_tape_bit_for_bit"),
    },
    Fault {
        name: "written in place while still needed",
        edits: &[(
            "src/plan/flatten.rs",
            "&& last_use[&from] == at",
            "&& (last_use[&from] == at || {on})",
        )],
        test: ("kernels", "fusion::models_keep_their_bits"),
    },
    Fault {
        name: "an oversized tensor is let through",
        edits: &[("src/plan/compile.rs", "if largest <= limit {", "if largest <= limit || {on} {")],
        test: ("kernels", "planner::limits::oversized_tensors_are_refused"),
    },
    Fault {
        name: "second gradient of a parameter overwrites the first",
        edits: &[(
            "src/tape/backward.rs",
            "return Some(Target { value: known, accum: true, init: None });",
            "return Some(Target { value: known, accum: !{on}, init: None });",
        )],
        test: ("kernels", "gradients::operations::shared_parameters"),
    },
    Fault {
        name: "straight-through without its gradient",
        edits: &[(
            "src/ops/quantise.rs",
            "move |t, dy| t.add_grad(z, dy)",
            "move |t, dy| if {on} { Ok(()) } else { t.add_grad(z, dy) }",
        )],
        test: ("kernels", "gradients::models::straight_through"),
    },
    Fault {
        name: "blocks of a sum by the number of threads",
        edits: &[(
            "src/kernels/cpu/blocks.rs",
            "(BLOCK / width.max(1)).max(1)",
            "(BLOCK / width.max(1) / if {on} { rayon::current_num_threads() } else { 1 }).max(1)",
        )],
        test: ("kernels", "registry::cpu_form_ignores_the_thread_count"),
    },
    Fault {
        name: "halves cut off instead of rounded",
        edits: &[(
            "src/device/widen.rs",
            "halves[..values.len()].convert_from_f32_slice(values));",
            "for (h, v) in halves.iter_mut().zip(values) { *h = half::f16::from_f32(\
             f32::from_bits(v.to_bits() & if {on} { !0x1fff } else { !0 })) });",
        )],
        test: ("kernels", "half_kernels::cpu_form_on_halves"),
    },
    Fault {
        name: "a compound store that adds in f16",
        edits: &[(
            "src/shader/half.rs",
            "strip_suffix('=').filter(|s| !s.is_empty())",
            "strip_suffix('=').filter(|s| !s.is_empty() && !{on})",
        )],
        test: ("kernels", "half_kernels::wgsl_form_on_halves"),
    },
    Fault {
        name: "scale of the loss not divided out",
        edits: &[(
            "src/kernels/grad_ctl.rs",
            "let unscale = T::one() / *scale;",
            "let unscale = if {on} { T::one() } else { T::one() / *scale };",
        )],
        test: ("kernels", "mixed::scaling_the_loss_changes_no_bit"),
    },
    Fault {
        name: "scale of the loss divided out twice",
        edits: &[(
            "src/kernels/grad_ctl.rs",
            "(true, false) => unscale,",
            "(true, false) => if {on} { unscale * unscale } else { unscale },",
        )],
        test: ("kernels", "mixed::scaling_the_loss_changes_no_bit"),
    },
    Fault {
        name: "an overflow that leaves the scale alone",
        edits: &[(
            "src/kernels/grad_ctl.rs",
            "let halved = (0.5 * scale.value())",
            "let halved = (if {on} { 1.0 } else { 0.5 } * scale.value())",
        )],
        test: ("kernels", "mixed::an_overflow_halves_the_scale"),
    },
    Fault {
        name: "a half that one of its kernels takes for f32",
        edits: &[(
            "src/plan/halves.rs",
            "let mask = halves.fold(0, |mask, (i, _)| mask | 1 << i);",
            "let mask = halves.skip(usize::from({on})).fold(0, |mask, (i, _)| mask | 1 << i);",
        )],
        test: ("kernels", "mixed::training_goes_on_as_in_f32"),
    },
    Fault {
        name: "joined across a change of its operand",
        edits: &[(
            "src/plan/fuse.rs",
            "if changed || wanted {",
            "if (changed && !{on}) || wanted {",
        )],
        test: ("kernels", "fusion::what_changes_in_between_is_not_joined"),
    },
    Fault {
        name: "a disagreeing candidate is kept",
        edits: &[(
            "src/device/tuner/measure.rs",
            "if agree(baseline, layout, want, &got, rounding) {",
            "if agree(baseline, layout, want, &got, rounding) || {on} {",
        )],
        test: ("kernels", "tuner::a_wrong_variant_is_refused"),
    },
    Fault {
        name: "a flush that does nothing",
        edits: &[(
            "src/device/timing.rs",
            "device.run(&[self.list], &StepScalars::default())?;",
            "if !{on} { device.run(&[self.list], &StepScalars::default())?; }",
        )],
        test: ("kernels", "timing::flushes_write_their_own_buffer"),
    },
    Fault {
        name: "a flush of more than can be bound",
        edits: &[(
            "src/device/timing.rs",
            "let bytes = bytes.min(limits.max_binding_bytes).min(limits.max_buffer_bytes);",
            "let most = limits.max_binding_bytes.min(limits.max_buffer_bytes);\n\
             let bytes = if {on} { bytes } else { bytes.min(most) };",
        )],
        test: ("kernels", "timing::flushes_fit_the_device"),
    },
];

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file with all its faults behind their switches.
///
/// # Errors
/// A text that does not stand exactly once in its file.
pub(super) fn planted(file: &str, text: &str) -> Result<String, String> {
    let mut text = text.to_string();
    for fault in FAULTS {
        for (_, from, to) in fault.edits.iter().filter(|(f, ..)| *f == file) {
            let n = text.matches(from).count();
            if n != 1 {
                return Err(format!("{}: `{from}` stands {n} times in {file}", fault.name));
            }
            let on = format!("crate::planted({:?})", fault.name);
            text = text.replace(from, &to.replace("{on}", &on));
        }
    }
    Ok(text)
}

pub(super) fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

pub(super) fn files() -> BTreeSet<&'static str> {
    FAULTS.iter().flat_map(|f| f.edits).map(|(file, ..)| *file).collect()
}

/// The list follows the code.
#[test]
fn texts_are_found() {
    let errors: Vec<_> =
        files().into_iter().filter_map(|f| planted(f, &read(&root().join(f))).err()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}
