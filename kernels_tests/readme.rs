//! Every command line of README.md works, in the order in which it stands there.

use super::{Place, Running};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How the test treats a command line.
enum How {
    /// Runs it with parts replaced and arguments added, to make it small.
    Run(&'static [(&'static str, &'static str)], &'static str),
    /// Does not run it: what would be missing if it could not work.
    Needs(&'static str),
}
use How::{Needs, Run};

/// Makes a training run of the shipped settings take a second.
const SMALL: &str = "--device cpu --set train.steps=2 --set train.batch=4 --set train.warmup=1 \
    --set train.eval_every=0 --set data.split={by=\"fraction\"}";
/// Makes a comparison of two arms a side, each trained for two steps.
const COMPARED: &str = "--device cpu --set train.steps=2 --set train.batch=4 --set train.warmup=1 \
    --set data.split={by=\"fraction\"} --vq ema,fsq --vae kl=1e-6,1e-2 --seeds 1";
/// Makes a benchmark end soon.
const BRIEF: &str = "--device cpu --quick --budget 3";
const AS_IT_IS: &[(&str, &str)] = &[];
const ONLY_CPU: &[(&str, &str)] = &[("--device 0", "")];

const LINES: &[(&str, How)] = &[
    (
        "cargo run --release -- demo",
        Run(&[("cargo run --release --", "vqforge")], "--scale 0.002 --device cpu"),
    ),
    // This test is one of those it runs.
    ("sh kernels_tests/run.sh", Needs("kernels_tests/run.sh")),
    // It builds what is under test and copies it.
    ("cargo install --path .", Needs("Cargo.toml")),
    (
        "vqforge data synth --preset human --n 4000 --size 64 --out train.npz",
        Run(&[("4000", "40"), ("64", "32")], ""),
    ),
    ("vqforge data info train.npz", Run(AS_IT_IS, "")),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --dry-run",
        Run(AS_IT_IS, SMALL),
    ),
    ("vqforge train vqvae configs/radar_vqvae.toml --data train.npz", Run(AS_IT_IS, SMALL)),
    (
        "vqforge train diffusion configs/radar_diffusion.toml --tokenizer runs/radar_vqvae --data train.npz",
        Run(AS_IT_IS, SMALL),
    ),
    (
        "vqforge sample runs/radar_diffusion --n 64 --out samples",
        Run(&[("64", "4")], "--device cpu"),
    ),
    (
        "vqforge sample runs/radar_diffusion --n 16 --class walk --guidance 2 --steps 64 --out walking",
        Run(&[("16", "2"), ("64", "3")], "--device cpu"),
    ),
    (
        "vqforge reconstruct runs/radar_vqvae --data test.npz --out reconstructions",
        Run(&[("test.npz", "train.npz")], "--device cpu"),
    ),
    ("vqforge compare configs/radar_compare.toml --data train.npz", Run(AS_IT_IS, COMPARED)),
    (
        "vqforge eval runs/radar_diffusion --n 500",
        Run(&[("500", "4")], "--device cpu --classifier-steps 2"),
    ),
    (
        "vqforge sample runs/radar_diffusion --n 8 --inpaint train.npz --region 0:64,32:64 --out inpainted",
        Run(&[("0:64,32:64", "0:32,16:32")], "--device cpu --steps 2"),
    ),
    (
        "vqforge sample runs/radar_diffusion --n 8 --size 64x128 --folders --out wide",
        Run(&[("64x128", "32x64")], "--device cpu --steps 2"),
    ),
    (
        "vqforge data embed captions.txt --text-encoder clip-vit-base-patch32 --out captions.npy",
        Run(AS_IT_IS, "--device cpu"),
    ),
    (
        "vqforge train diffusion configs/radar_diffusion.toml --tokenizer runs/radar_vqvae --data train.npz --out runs/text --set data.embeddings=captions.npy",
        Run(AS_IT_IS, SMALL),
    ),
    (
        "vqforge sample runs/text --prompt \"a person walking\" --text-encoder clip-vit-base-patch32 --out texts",
        Run(AS_IT_IS, "--device cpu --n 4 --steps 2"),
    ),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --out runs/b --auto-remedy",
        Run(AS_IT_IS, SMALL),
    ),
    (
        "vqforge train klvae configs/radar_vqvae.toml --data train.npz --out runs/kl --set kl.weight=1e-4",
        Run(AS_IT_IS, SMALL),
    ),
    (
        "vqforge train vqvae configs/classic_vqvae.toml --data train.npz --out runs/classic",
        Run(AS_IT_IS, SMALL),
    ),
    ("vqforge report runs/b", Run(AS_IT_IS, "")),
    ("vqforge data convert recording.npy --preset human --out spectrograms.npz", Run(AS_IT_IS, "")),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --set train.lr=1e-3 --set train.steps=5000",
        Run(&[("--set train.steps=5000", "")], SMALL),
    ),
    ("vqforge train vqvae --resume runs/radar_vqvae", Run(AS_IT_IS, "--device cpu")),
    (
        "vqforge train vqvae --resume runs/radar_vqvae@best --set train.steps=2000",
        Run(&[("2000", "3")], "--device cpu"),
    ),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --out runs/a --resume auto --time-limit 12h",
        Run(AS_IT_IS, SMALL),
    ),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --dry-run --tune now",
        Run(AS_IT_IS, SMALL),
    ),
    ("vqforge devices", Run(AS_IT_IS, "")),
    ("vqforge demo --device cpu", Run(AS_IT_IS, "--scale 0.002")),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --device 0",
        Run(ONLY_CPU, SMALL),
    ),
    (
        "vqforge train vqvae configs/radar_vqvae.toml --data train.npz --precision mixed",
        Run(AS_IT_IS, SMALL),
    ),
    ("vqforge bench --quick", Run(AS_IT_IS, "--device cpu --budget 3")),
    ("vqforge bench --filter matmul --json before.json", Run(AS_IT_IS, BRIEF)),
    ("vqforge bench cmp before.json after.json", Run(&[("after", "before")], "")),
    ("vqforge bench --variants --filter nearest_code", Run(AS_IT_IS, BRIEF)),
    ("vqforge bench quantize --svg quantize.svg", Run(AS_IT_IS, BRIEF)),
    ("vqforge bench --record", Run(AS_IT_IS, BRIEF)),
];

/// The lines of all ```sh blocks, comments and blank lines left out, continued lines joined.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = vec![];
    let mut inside = false;
    let mut pending = String::new();
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside && !line.is_empty() && !line.starts_with('#') => {
                pending.push_str(line.trim_end_matches('\\'));
                if !line.ends_with('\\') {
                    lines.push(std::mem::take(&mut pending));
                }
            }
            _ => {}
        }
    }
    assert!(!inside && pending.is_empty(), "an unfinished block");
    lines
}

/// The words of a line as a shell would have them; quotes hold several together.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split('"').enumerate();
    let words = parts.flat_map(|(i, part)| match i % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    words.collect()
}

/// Two recordings of 8,192 complex samples of a turning phase, as NumPy writes them.
fn recording() -> Vec<u8> {
    let mut head = String::from("{'descr': '<c8', 'fortran_order': False, 'shape': (2, 8192), }");
    while (10 + head.len() + 1) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.as_bytes());
    for i in 0..2 * 8192 {
        let phase = 1e-5 * f64::from(i * i % 50_021);
        bytes.extend((phase.cos() as f32).to_le_bytes());
        bytes.extend((phase.sin() as f32).to_le_bytes());
    }
    bytes
}

#[test]
fn blocks_are_found() {
    let text = "```sh\na b \\\n  c\n# no\n\nd\n```\ne\n```python\nf\n```\n";
    assert_eq!(command_lines(text), ["a b c", "d"]);
    assert_eq!(words("a \"b c\" d"), ["a", "b c", "d"]);
}

#[test]
fn every_command_line_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Place::new("readme");
    fs::create_dir(place.path("configs")).unwrap();
    for entry in fs::read_dir(root.join("configs")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, place.path("configs").join(from.file_name().unwrap())).unwrap();
    }
    fs::write(place.path("recording.npy"), recording()).unwrap();
    fs::write(place.path("captions.txt"), "someone walks\n".repeat(40)).unwrap();
    for part in ["text_encoder", "tokenizer"] {
        let to = place.path("clip-vit-base-patch32").join(part);
        fs::create_dir_all(&to).unwrap();
        let from = root.join("kernels_tests/fixtures/vq_diffusion_pipeline").join(part);
        for entry in fs::read_dir(from).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
    }
    let lines = command_lines(&fs::read_to_string(root.join("README.md")).unwrap());
    for line in &lines {
        let Some((_, how)) = LINES.iter().find(|(known, _)| known == line) else {
            panic!("README.md has a command line that nothing tests: {line}");
        };
        let (replaced, added) = match how {
            Run(replaced, added) => (replaced, added),
            Needs(file) => {
                assert!(root.join(file).exists(), "{line}: there is no {file}");
                continue;
            }
        };
        let mut small = line.clone();
        for (from, to) in *replaced {
            assert!(small.contains(from), "{line} has no {from}");
            small = small.replacen(from, to, 1);
        }
        let mut words: Vec<&str> = words(&small);
        words.extend(added.split_whitespace());
        assert_eq!(words.remove(0), "vqforge", "{line}");
        println!("{small} {added}");
        let child = place.command("run", &words).spawn().unwrap();
        let ended = Running { place: &place, name: "run".into(), child }.end();
        // The exit code of a comparison is its verdict.
        match ended.code {
            Some(10 | 20 | 30) if line.starts_with("vqforge compare") => {}
            _ => drop(ended.expect(0, &[])),
        }
    }
    let known: BTreeSet<&str> = LINES.iter().map(|(line, _)| *line).collect();
    let written: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(known, written, "lines that README.md does not have any more");
    for made in [
        "runs/demo/samples.png",
        "runs/demo-2/samples.png",
        "samples/grid.png",
        "walking/samples.npz",
        "reconstructions/reconstructions.npz",
        "runs/a/checkpoints/last.safetensors",
        "runs/compare-radar/report.html",
        "runs/b/report.html",
        "runs/radar_diffusion/eval/eval.json",
        "wide/grid.png",
        "texts/samples.npz",
        "runs/kl/results.png",
        "spectrograms.npz",
        "quantize.svg",
        "benches/record",
    ] {
        assert!(place.path(made).exists(), "{made} was not made");
    }
}
