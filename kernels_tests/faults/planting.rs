//! Plants the faults of [`super::sources`] in a copy of the tree, builds its tests and runs them.

use super::Table;
use super::sources::{FAULTS, files, planted, read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Copies what a build needs, but for the files that faults are planted in.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    let planted = |path: &Path| {
        let below = path.strip_prefix(root()).expect("below the root");
        files().into_iter().chain([LIB]).any(|file| below == Path::new(file))
    };
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
        } else if !planted(&path) {
            put(&into, &fs::read(&path).expect("read"));
        }
    }
}

/// Writes a file, unless it is like that: it then keeps its time, so that another run builds little.
fn put(file: &Path, text: &[u8]) {
    if fs::read(file).ok().as_deref() != Some(text) {
        fs::write(file, text).expect("write");
    }
}

/// Where [`SWITCH`] goes.
const LIB: &str = "src/lib.rs";

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

/// What these executables caught before an interruption: in a file, one line a fault.
struct Known {
    file: PathBuf,
    caught: BTreeMap<String, String>,
}

impl Known {
    /// Forgets what others caught: the first line says by which it was.
    fn of(tests: &BTreeMap<String, PathBuf>, file: PathBuf) -> Self {
        let stamp = |exe: &PathBuf| fs::metadata(exe).and_then(|m| m.modified()).expect("a time");
        let executables = tests.values().map(|exe| format!("{exe:?} {:?}", stamp(exe)));
        let title = executables.collect::<Vec<_>>().join(", ");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(&title) {
            fs::write(&file, title + "\n").expect("write");
            return Known { file, caught: BTreeMap::new() };
        }
        let rows = lines.filter_map(|line| line.split_once('\t'));
        let caught = rows.map(|(fault, by)| (fault.into(), by.into())).collect();
        Known { file, caught }
    }

    fn keep(&mut self, fault: &str, by: &str) {
        let mut file = fs::OpenOptions::new().append(true).open(&self.file).expect("open");
        writeln!(file, "{fault}\t{by}").expect("write");
        self.caught.insert(fault.into(), by.into());
    }
}

#[test]
#[ignore = "builds the tree once more: kernels_tests/faults.sh"]
fn planted_in_sources() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let tree = target.join("planted");
    copy_tree(root(), &tree);
    for file in files().into_iter().chain([LIB]) {
        let mut text = planted(file, &read(&root().join(file))).unwrap_or_else(|e| panic!("{e}"));
        if file == LIB {
            text.push_str(SWITCH);
        }
        put(&tree.join(file), text.as_bytes());
    }
    let tests = build(&tree, &target.join("planted-target"));
    let mut known = Known::of(&tests, tree.join("planted.txt"));
    let (mut table, mut escaped) = (Table::default(), vec![]);
    let mut fair: BTreeMap<(&str, &str), Result<(), String>> = BTreeMap::new();
    for (i, fault) in FAULTS.iter().enumerate() {
        let (binary, test) = fault.test;
        let exe = &tests[binary];
        let file = fault.edits[0].0.trim_start_matches("src/");
        if let Some(by) = known.caught.get(fault.name) {
            table.row(fault.name, file, by);
            continue;
        }
        let control = fair.entry(fault.test).or_insert_with(|| run(exe, &tree, test, ""));
        if let Err(e) = control {
            escaped.push(format!("{test} fails without a fault: {e}"));
            continue;
        }
        match run(exe, &tree, test, fault.name) {
            Ok(()) => escaped.push(format!("{}: {test} did not notice", fault.name)),
            Err(message) => {
                let by = format!("{test}: {message:.90}");
                println!("{} of {}: {}, {by}", i + 1, FAULTS.len(), fault.name);
                known.keep(fault.name, &by);
                table.row(fault.name, file, &by);
            }
        }
    }
    println!("{}", table.0);
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}
