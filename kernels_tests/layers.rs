//! The architecture as a test: who may name whom, and what no file may contain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use vqforge::kernels::Caps;

/// What the code of each module of the library may name. A model knows no kernel and no device, an
/// operation no plan, a kernel no tape, a device no operation; `train` ties all together.
const MAY_NAME: [(&str, &[&str]); 23] = [
    ("error", &[]),
    ("precision", &[]),
    ("recompute", &[]),
    ("rng", &[]),
    ("shape", &["error"]),
    ("shader", &["error", "kernels"]),
    ("kernels", &["naive_forms", "rng", "shader"]),
    ("device", &["error", "kernels", "shader"]),
    ("tape", &["error", "kernels", "precision", "recompute", "shader", "shape"]),
    ("ops", &["error", "kernels", "shape", "tape"]),
    ("plan", &["device", "error", "kernels", "rng", "shader", "shape", "tape"]),
    ("model", &["config", "error", "metrics", "ops", "plan", "shape", "tape"]),
    ("config", &["data", "error", "precision", "recompute"]),
    ("data", &["error", "rng"]),
    ("bench", &["data", "device", "error", "kernels", "report", "shader"]),
    ("diffusion", &["config", "error", "rng"]),
    ("metrics", &["config", "data", "error", "rng"]),
    ("report", &["data", "error", "metrics"]),
    ("verdict", &["error", "metrics", "rng"]),
    (
        "train",
        &[
            "config",
            "data",
            "device",
            "diffusion",
            "error",
            "kernels",
            "metrics",
            "model",
            "ops",
            "plan",
            "report",
            "rng",
            "tape",
        ],
    ),
    ("compare", &["config", "data", "error", "metrics", "plan", "report", "train", "verdict"]),
    (
        "interop",
        &[
            "config",
            "data",
            "device",
            "diffusion",
            "error",
            "model",
            "ops",
            "plan",
            "tape",
            "train",
        ],
    ),
    ("lib", &[]),
];

/// The only place that names wgpu.
const WGPU: &str = "device";
/// Where printing is the purpose.
const PRINTS: [&str; 2] = ["cli", "main"];
/// Files with `unsafe`: wgpu's token for experimental features; an allocator, in a test.
const UNSAFE: [&str; 2] = ["src/device/features.rs", "kernels_tests/allocation.rs"];
/// Modules that meet what users bring: every failure there is an error with a message.
const NEVER_PANIC: [&str; 4] = ["cli", "config", "data", "train"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with the extension, as paths from the root.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path.strip_prefix(root()).expect("below the root").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).expect("readable")
}

/// The source with comments blanked and literals emptied; line breaks stay.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let starts =
        |i: usize, what: &str| what.chars().enumerate().all(|(k, c)| chars.get(i + k) == Some(&c));
    let mut out = String::new();
    let mut i = 0;
    while i < chars.len() {
        let end = match chars[i] {
            '/' if starts(i, "//") => (i..chars.len()).find(|&j| chars[j] == '\n'),
            '/' if starts(i, "/*") => {
                (i + 2..chars.len()).find(|&j| starts(j, "*/")).map(|j| j + 2)
            }
            'r' if raw_hashes(&chars[i..]).is_some() && !word(chars.get(i.wrapping_sub(1))) => {
                let close = format!("\"{}", "#".repeat(raw_hashes(&chars[i..]).unwrap_or(0)));
                let first = i + 1 + close.len();
                (first..chars.len()).find(|&j| starts(j, &close)).map(|j| j + close.len())
            }
            '"' => {
                let mut j = i + 1;
                while j < chars.len() && chars[j] != '"' {
                    j += if chars[j] == '\\' { 2 } else { 1 };
                }
                Some(j + 1)
            }
            // A character, not a lifetime.
            '\'' if chars.get(i + 1) == Some(&'\\') => {
                (i + 3..chars.len()).find(|&j| chars[j] == '\'').map(|j| j + 1)
            }
            '\'' if chars.get(i + 2) == Some(&'\'') => Some(i + 3),
            c => {
                out.push(c);
                i += 1;
                continue;
            }
        };
        let end = end.unwrap_or(chars.len()).min(chars.len());
        out.extend(chars[i..end].iter().filter(|c| **c == '\n'));
        out.push(' ');
        i = end;
    }
    out
}

fn word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// Number of hashes if this starts a raw string.
fn raw_hashes(chars: &[char]) -> Option<usize> {
    let hashes = chars[1..].iter().take_while(|c| **c == '#').count();
    (chars.get(1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Without `#[cfg(test)] mod name { .. }`.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let after = &rest[at..];
        let block = after.find('{').filter(|&open| {
            let head = after["#[cfg(test)]".len()..open].trim();
            head.starts_with("mod ") && !head.contains(';')
        });
        let Some(open) = block else {
            out.push_str(&rest[..at + 1]);
            rest = &rest[at + 1..];
            continue;
        };
        let mut depth = 0;
        let close = after[open..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        out.push_str(&rest[..at]);
        rest = &after[open + close.expect("a closed block").0 + 1..];
    }
    out + rest
}

/// Words that are only ever tests.
fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem == "tests" || stem == "testing" || stem.ends_with("_tests")
}

/// The module of the library a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// Names of modules after `prefix::`, including those of `prefix::{a, b::c}`.
fn named(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let ident = |s: &str| s.chars().take_while(|c| word(Some(c))).collect::<String>();
    for (at, _) in code.match_indices(&format!("{prefix}::")) {
        if word(code[..at].chars().last().as_ref()) {
            continue;
        }
        let rest = &code[at + prefix.len() + 2..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (i, c) in list.char_indices() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && word(Some(&c)) => {
                        found.insert(ident(&list[i..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(ident(rest));
        }
    }
    found
}

/// (path, module, code outside of tests) of every file of the package.
fn sources() -> Vec<(PathBuf, String, String)> {
    let all = files("src", "rs").into_iter().filter(|p| !is_test(p));
    all.map(|p| (p.clone(), module(&p), without_tests(&code(&text(&p))))).collect()
}

#[test]
fn the_reader_reads() {
    let source = "use a; // crate::x\n/* crate::y */ let s = \"crate::\\\"z\"; r#\"crate::w\"# 'c' '\\'' &'a b";
    let read = code(source);
    assert!(!read.contains("crate") && read.contains("&'a b") && read.contains("use a;"), "{read}");
    let names = named("use crate::{a, b::{c, d}, e}; mycrate::f; crate::g::h(crate::i)", "crate");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g", "i"]);
    let kept = without_tests("a #[cfg(test)]\nmod tests;\nb #[cfg(test)] mod t { x { y } } c");
    assert!(!kept.contains('x') && kept.contains('b') && kept.contains('c'), "{kept}");
}

#[test]
fn layers_know_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut broken = vec![];
    for (path, module, code) in sources() {
        if PRINTS.contains(&module.as_str()) {
            continue;
        }
        let may = allowed.get(module.as_str()).unwrap_or_else(|| {
            panic!("{}: give the module {module} its line in the table", path.display())
        });
        for name in named(&code, "crate").into_iter().chain(named(&code, "$crate")) {
            if name != module && !may.contains(&name.as_str()) {
                broken.push(format!("{}: {module} names {name}", path.display()));
            }
        }
        seen.insert(module);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let known: BTreeSet<String> = allowed.keys().map(|k| (*k).to_string()).collect();
    assert_eq!(seen, known, "the table and the modules differ");
}

#[test]
fn only_the_device_names_wgpu() {
    let names: Vec<_> = sources()
        .into_iter()
        .filter(|(_, _, code)| {
            code.match_indices("wgpu").any(|(i, _)| !word(code[..i].chars().last().as_ref()))
        })
        .collect();
    assert!(names.iter().any(|(_, module, _)| module == WGPU));
    for (path, module, _) in names {
        assert_eq!(module, WGPU, "{} names wgpu", path.display());
    }
}

#[test]
fn unsafe_appears_where_listed() {
    let here = ["src", "kernels_tests", "examples", "benches"];
    let present = here.into_iter().filter(|f| root().join(f).is_dir());
    let mut found = vec![];
    for path in present.flat_map(|folder| files(folder, "rs")) {
        let code = code(&text(&path));
        let is_word = |(i, w): (usize, &str)| {
            !word(code[..i].chars().last().as_ref())
                && !word(code[i + w.len()..].chars().next().as_ref())
        };
        if code.match_indices("unsafe").any(is_word) {
            found.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
    assert_eq!(found, UNSAFE);
    for name in ["src/lib.rs", "src/main.rs"] {
        assert!(text(Path::new(name)).contains("#![deny(unsafe_code)]"), "{name}");
    }
}

#[test]
fn the_library_does_not_print_and_is_finished() {
    let mut broken = vec![];
    for (path, module, code) in sources() {
        let mut forbidden = vec!["todo!", "unimplemented!", "dbg!"];
        if !PRINTS.contains(&module.as_str()) {
            forbidden.extend(["println!", "eprintln!", "print!", "eprint!"]);
        }
        for what in forbidden {
            let stands_alone = |(i, _): (usize, &str)| !word(code[..i].chars().last().as_ref());
            if code.match_indices(what).any(stands_alone) {
                broken.push(format!("{}: {what}", path.display()));
            }
        }
        if NEVER_PANIC.contains(&module.as_str()) {
            // A debug assertion guards the program against itself, never against a user.
            let code = code.replace("debug_assert", "");
            for what in [".unwrap()", ".expect(", "panic!", "assert!", "assert_eq!"] {
                if code.contains(what) {
                    broken.push(format!("{}: {what}", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A shader without a kernel is dead, a kernel without cases is untested.
#[test]
fn shaders_and_registry_agree() {
    let stem = |p: &Path| p.file_stem().expect("a name").to_string_lossy().to_string();
    let (library, kernels): (Vec<_>, Vec<_>) =
        files("shaders", "wgsl").into_iter().partition(|p| p.starts_with("shaders/lib"));
    let registry = vqforge::kernels::registry();
    let names: BTreeSet<_> = registry.iter().map(|e| e.name).collect();
    assert_eq!(names.len(), registry.len(), "a name twice");
    // What kernels and their variants, on GPUs and on software, are made of.
    let software =
        Caps { subgroups: Some((8, 8)), software: true, emulate_coop: true, ..Caps::all() };
    let mut sources = BTreeSet::new();
    for entry in &registry {
        let cases = (entry.cases)();
        assert!(!cases.is_empty(), "{} has no cases", entry.name);
        for kernel in cases.into_iter().map(|case| case.kernel) {
            let variants = [&Caps::all(), &software].map(|caps| kernel.variants(caps));
            sources.extend(variants.iter().flatten().map(|v| v.wgsl().to_string()));
            sources.insert(kernel.wgsl().to_string());
        }
    }
    for path in &kernels {
        let source = text(path);
        assert!(sources.iter().any(|s| s.contains(&source)), "{} has no kernel", path.display());
    }

    let listed = text(Path::new("src/shader/library.rs"));
    let all: String = library.iter().chain(&kernels).map(|p| text(p)).collect();
    for path in &library {
        let name = stem(path);
        assert!(listed.contains(&format!("\"{name}\"")), "{name} is not in the library's list");
        let import = format!("#import {name}");
        assert!(all.lines().any(|l| l.trim() == import), "nothing imports {name}");
    }
}
