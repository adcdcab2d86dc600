//! The program as a user meets it: every test runs the built binary on the CPU device, with a model
//! so small that a step takes milliseconds.

mod bad_input;
mod bench;
mod embeddings;
mod evaluate;
mod latents;
mod outputs;
mod readme;
mod resume;
mod resume_quantisers;
mod studio;
mod tuned;
mod weights;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A hung program fails its test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Settings of a model that trains within a second. Lanes, averaged weights, a falling rate and dead
/// codes, so that whatever a step depends on is there.
pub const TINY: &str = r#"name = "tiny"

[model]
block_out_channels = [4, 4, 4]
norm_num_groups = 2
latent_channels = 4
num_vq_embeddings = 16
vq_embed_dim = 4

[quantiser]
kmeans_samples = 256
kmeans_iters = 2
revive_every = 3
revive_threshold = 0.5

[denoiser]
layers = 1
width = 16
heads = 2

[train]
steps = 11
batch = 4
lanes = 2
warmup = 3
ema_decay = 0.9
log_every = 3
eval_every = 4
sample_every = 0

[data.synth]
n = 40
size = 32
"#;

/// A folder of its own for a test, with `tiny.toml` in it; gone when the test passed.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("tiny.toml"), TINY).unwrap();
        Place(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The program in this folder, with what it prints going to `NAME.out` and `NAME.err`.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vqforge"));
        let file = |end: &str| File::create(self.path(&format!("{name}.{end}"))).unwrap();
        command.args(args).current_dir(&self.0).env("TERM", "dumb").env_remove("VQFORGE_DEVICE");
        command.env("VQFORGE_CACHE", self.path("cache"));
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        command
    }

    pub fn start(&self, name: &str, args: &[&str]) -> Running<'_> {
        let child = self.command(name, args).spawn().unwrap();
        Running { place: self, name: name.into(), child }
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.start("run", args).end()
    }

    /// Training on simulated rotors, with further arguments.
    pub fn train(&self, args: &str) -> Done {
        let all = format!("train {args} --device cpu");
        self.run(&all.split_whitespace().collect::<Vec<_>>())
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.read(name)).into_owned()
    }

    /// The training record without what depends on the clock.
    pub fn metrics(&self, run: &str) -> Vec<serde_json::Value> {
        let text = self.text(&format!("{run}/metrics.jsonl"));
        let mut lines = vec![];
        for line in text.lines() {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            let object = value.as_object_mut().unwrap();
            object.remove("seconds");
            object.remove("images_per_second");
            lines.push(value);
        }
        lines
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A program that was started; killed if the test fails before it ends.
pub struct Running<'a> {
    place: &'a Place,
    name: String,
    child: Child,
}

impl Running<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL, or what comes closest.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn end(mut self) -> Done {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "{}: still running", self.name);
            std::thread::sleep(Duration::from_millis(2));
        };
        Done {
            code: status.code(),
            out: self.place.text(&format!("{}.out", self.name)),
            err: self.place.text(&format!("{}.err", self.name)),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Ended with `code` and without a defect, and said all of `parts` on standard error.
    #[track_caller]
    pub fn expect(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "nothing about {part:?} in\n{}", self.err);
        }
        for defect in ["panicked", "backtrace", "crash.txt", "RUST_"] {
            assert!(!self.err.contains(defect), "{}", self.err);
        }
        self
    }
}

/// Waits for `ready`, but not for ever.
#[track_caller]
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Alone, the program says in a dozen lines what it is for, with commands to copy.
#[test]
fn alone_it_introduces_itself() {
    let place = Place::new("alone");
    let done = place.run(&[]).expect(0, &[]);
    assert!(done.out.lines().count() <= 12, "{}", done.out);
    assert_eq!(done.out.lines().filter(|l| l.starts_with("  vqforge ")).count(), 3, "{}", done.out);
    let help = place.run(&["--help"]).expect(0, &[]).out;
    for command in ["demo", "devices", "data", "train", "sample", "reconstruct", "bench"] {
        assert!(help.contains(command), "{help}");
    }
}

/// The CPU is always there and always last; `--json` is one object a line.
#[test]
fn devices_are_listed() {
    let place = Place::new("devices");
    let plain = place.run(&["devices"]).expect(0, &[]).out;
    let json = place.run(&["devices", "--json"]).expect(0, &[]).out;
    assert_eq!(plain.lines().count(), json.lines().count());
    let devices: Vec<serde_json::Value> =
        json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(devices.last().unwrap()["kind"], "cpu");
    assert_eq!(devices.iter().filter(|d| d["default"] == true).count(), 1);
}

/// Paths are any text a file system takes, and -q leaves nothing on standard error.
#[test]
fn paths_with_spaces_and_letters() {
    let place = Place::new("paths");
    fs::create_dir(place.path("mes données")).unwrap();
    let data = "mes données/spectres 1.npz";
    let made = place.run(&["data", "synth", "--n", "40", "--size", "32", "--out", data]);
    assert_eq!(made.expect(0, &[]).out.trim(), data);
    let info = place.run(&["data", "info", data, "--json"]).expect(0, &[]).out;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["images"], 40);
    let run = "ma course/λ";
    let args = ["train", "vqvae", "tiny.toml", "--data", data, "--out", run, "-q"];
    let done = place.run(&[&args[..], &["--device", "cpu"]].concat()).expect(0, &[]);
    assert_eq!((done.err.as_str(), done.out.trim()), ("", run));
    let log = place.text(&format!("{run}/run.log"));
    for said in ["device cpu", "40 images of 32x32x1", "step 1/11", "held out: psnr", "step 11/11"]
    {
        assert!(log.contains(said), "nothing about {said:?} in\n{log}");
    }
    for picture in ["samples/recon_00011.png", "plan.txt", "config.toml", "env.json"] {
        assert!(place.path(run).join(picture).is_file(), "{picture}");
    }
}

/// A reader that goes away ends neither a listing nor a training run with an error.
#[cfg(unix)]
#[test]
fn closed_pipes() {
    let place = Place::new("pipes");
    let shell = |line: &str| {
        let line = line.replace("vqforge", env!("CARGO_BIN_EXE_vqforge"));
        let mut sh = Command::new("bash");
        sh.args(["-c", &line]).current_dir(place.path("")).stdout(Stdio::null());
        sh.stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(shell("set -o pipefail; vqforge --help | true"), Some(0));
    assert_eq!(shell("set -o pipefail; vqforge devices --json | true"), Some(0));
    let train = "vqforge train vqvae tiny.toml --data synth:rotor --device cpu";
    assert_eq!(shell(&format!("set -o pipefail; {train} --out a 2>&1 | true")), Some(0));
    assert_eq!(shell(&format!("{train} --out b 2>&- >&-")), Some(0));
    for run in ["a", "b"] {
        assert!(place.path(run).join("checkpoints/last.safetensors").is_file());
    }
}

/// A dry run prepares and times everything and leaves nothing behind.
#[test]
fn dry_runs_write_nothing() {
    let place = Place::new("dry");
    let before = fs::read_dir(place.path("")).unwrap().count();
    let said = ["2101 parameters", "MiB on the device", "a step takes"];
    place.train("vqvae tiny.toml --data synth:rotor --dry-run --out dry").expect(0, &said);
    // run.out and run.err are the test's own.
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), before + 2);
    place.train("vqvae tiny.toml --data synth:rotor --out run --max-steps 3").expect(75, &[]);
    let before = place.read("run/run.log");
    place.train("vqvae --resume run --dry-run").expect(0, &["at step 3", "a step takes"]);
    assert_eq!(place.read("run/run.log"), before);
}
