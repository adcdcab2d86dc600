//! Faults in Rust. They share one build: in a copy of the tree each text becomes a choice between
//! itself and its fault, made when the program starts, by the name in `VQFORGE_PLANTED`. Then for
//! every fault the test that must notice is run with and without it. That takes minutes:
//! `kernels_tests/faults.sh` does it. That the texts are still there is checked with every change.

use super::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// (file, text, what it becomes); `{on}` stands for "the fault is planted".
type Edit = (&'static str, &'static str, &'static str);

struct Fault {
    name: &'static str,
    edits: &'static [Edit],
    /// Test binary ("lib" for the library's own tests) and test.
    test: (&'static str, &'static str),
}

const KERNELS_CPU: (&str, &str) = ("kernels", "registry::cpu_form_equals_naive");

const FAULTS: &[Fault] = &[
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
                "src/train/vqvae.rs",
                "(losses.commitment, beta)];",
                "(losses.commitment, if {on} { 1.0 } else { beta })];",
            ),
            (
                "src/train/vqvae.rs",
                "terms.push((codebook, 1.0));",
                "terms.push((codebook, if {on} { beta } else { 1.0 }));",
            ),
        ],
        test: ("kernels", "gradients::whole_vqvae"),
    },
    Fault {
        name: "missing bias correction",
        edits: &[(
            "src/train/rate.rs",
            "(1.0 / (1.0 - beta.powi(updates))) as f32",
            "(if {on} { 1.0 } else { 1.0 / (1.0 - beta.powi(updates)) }) as f32",
        )],
        test: ("kernels", "planner::the_update_follows_its_formula"),
    },
    Fault {
        name: "lanes summed out of order",
        edits: &[(
            "src/plan/lanes.rs",
            "for level in levels {\n            lists.push(self.add[level]);",
            "let mut levels: Vec<usize> = levels.collect();\n        if {on} { levels.reverse(); }\n\
             for level in levels {\n            lists.push(self.add[level]);",
        )],
        test: ("kernels", "planner::lanes_are_added_in_a_fixed_tree"),
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
        test: ("kernels", "planner::a_plan_is_its_tape_bit_for_bit"),
    },
    Fault {
        name: "an oversized tensor is let through",
        edits: &[("src/plan/compile.rs", "if largest <= limit {", "if largest <= limit || {on} {")],
        test: ("kernels", "planner::oversized_tensors_are_refused"),
    },
    Fault {
        name: "second gradient of a parameter overwrites the first",
        edits: &[(
            "src/tape/backward.rs",
            "return Target { value: known, accum: true, init: None };",
            "return Target { value: known, accum: !{on}, init: None };",
        )],
        test: ("kernels", "gradients::shared_parameters"),
    },
    Fault {
        name: "straight-through without its gradient",
        edits: &[(
            "src/ops/quantise.rs",
            "move |t, dy| t.add_grad(z, dy)",
            "move |t, dy| if {on} { Ok(()) } else { t.add_grad(z, dy) }",
        )],
        test: ("kernels", "gradients::straight_through"),
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
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file with all its faults behind their switches.
///
/// # Errors
/// A text that does not stand exactly once in its file.
fn planted(file: &str, text: &str) -> Result<String, String> {
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

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn files() -> BTreeSet<&'static str> {
    FAULTS.iter().flat_map(|f| f.edits).map(|(file, ..)| *file).collect()
}

/// The list follows the code.
#[test]
fn texts_are_found() {
    let errors: Vec<_> =
        files().into_iter().filter_map(|f| planted(f, &read(&root().join(f))).err()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Copies what a build needs.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let (path, name) =
            (entry.as_ref().expect("entry").path(), entry.expect("entry").file_name());
        let left_out = ["target", ".git", "runs", "demo"];
        if left_out.iter().any(|l| name == *l) {
            continue;
        }
        let into = to.join(&name);
        if path.is_dir() {
            copy_tree(&path, &into);
        } else if fs::read(&path).expect("read") != fs::read(&into).unwrap_or_default() {
            // An unchanged file keeps its time, so that another run builds little.
            fs::copy(&path, &into).expect("copy");
        }
    }
}

const SWITCH: &str = r#"
/// Is the fault of this name planted?
pub fn planted(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("VQFORGE_PLANTED").unwrap_or_default()) == name
}
"#;

/// Builds the tests of the planted tree: executables by the name of their target.
fn build(tree: &Path, target: &Path) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--no-run", "--message-format=json"]);
    let kinds: BTreeSet<_> = FAULTS.iter().map(|f| f.test.0).collect();
    for kind in kinds {
        match kind {
            "lib" => cargo.arg("--lib"),
            name => cargo.args(["--test", name]),
        };
    }
    let out = cargo.current_dir(tree).env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit());
    let out = out.output().expect("cargo");
    assert!(out.status.success(), "the planted tree does not build");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let messages = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let tests = messages.filter(|m| m["profile"]["test"] == true);
    tests
        .filter_map(|m| {
            let kind = if m["target"]["kind"][0] == "lib" {
                "lib"
            } else {
                m["target"]["name"].as_str()?
            };
            Some((kind.to_string(), PathBuf::from(m["executable"].as_str()?)))
        })
        .collect()
}

/// Runs one test with one fault, or with none (""): Ok when it passes, else its first complaint.
fn run(exe: &Path, tree: &Path, test: &str, fault: &str) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(900);
    let log = tree.join("planted.log");
    let file = || fs::File::create(&log).expect("log");
    let mut child = Command::new(exe)
        .args(["--exact", test])
        .current_dir(tree)
        .env("VQFORGE_PLANTED", fault)
        .env("RUST_BACKTRACE", "0")
        .stdout(file())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the test") {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().expect("kill");
            child.wait().expect("wait");
            panic!("{test} with `{fault}` hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = read(&log);
    assert!(text.contains("running 1 test"), "{test} is no test:\n{text}");
    if status.success() {
        return Ok(());
    }
    assert!(text.contains("test result: FAILED"), "{test} with `{fault}` ended oddly:\n{text}");
    let mut lines = text.lines().skip_while(|l| !l.contains("panicked at")).skip(1);
    Err(lines.next().unwrap_or("").to_string())
}

#[test]
#[ignore = "builds the tree once more: kernels_tests/faults.sh"]
fn planted_in_sources() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let tree = target.join("planted");
    copy_tree(root(), &tree);
    let mut files: Vec<&str> = files().into_iter().collect();
    files.push("src/lib.rs");
    for file in files {
        let mut text = planted(file, &read(&root().join(file))).unwrap_or_else(|e| panic!("{e}"));
        if file == "src/lib.rs" {
            text.push_str(SWITCH);
        }
        fs::write(tree.join(file), text).expect("write");
    }
    let tests = build(&tree, &target.join("planted-target"));
    let (mut table, mut escaped) = (Table::default(), vec![]);
    let mut fair: BTreeMap<(&str, &str), Result<(), String>> = BTreeMap::new();
    for fault in FAULTS {
        let (binary, test) = fault.test;
        let exe = &tests[binary];
        let control = fair.entry(fault.test).or_insert_with(|| run(exe, &tree, test, ""));
        if let Err(e) = control {
            escaped.push(format!("{test} fails without a fault: {e}"));
            continue;
        }
        match run(exe, &tree, test, fault.name) {
            Ok(()) => escaped.push(format!("{}: {test} did not notice", fault.name)),
            Err(message) => {
                let file = fault.edits[0].0.trim_start_matches("src/");
                table.row(fault.name, file, &format!("{test}: {message:.90}"));
            }
        }
    }
    println!("{}", table.0);
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}
