//! Bad input of every kind: the exit code says which kind, the message what, where, why and what to
//! do, and nothing is written.

use super::{Place, Running};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// A version 1.0 .npy file.
pub fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let padding = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

/// `n` square images of float values, by index.
fn images(n: usize, side: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
    let bytes: Vec<u8> = (0..n * side * side).flat_map(|i| value(i).to_le_bytes()).collect();
    npy("<f4", &format!("({n}, {side}, {side})"), &bytes)
}

fn grey_png(path: &Path, side: u32) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), side, side);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![7; (side * side) as usize]).unwrap();
}

fn prepare(place: &Place) {
    let write = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    write("grey.npy", &images(20, 32, |_| 0.5));
    write("nan.npy", &images(20, 32, |i| if i == 2 * 1024 + 3 * 32 + 4 { f32::NAN } else { 0.5 }));
    write("loud.npy", &images(20, 32, |i| i as f32));
    write("odd.npy", &images(20, 30, |_| 0.5));
    write("notes.txt", b"no data at all");
    write("unknown.toml", b"name = \"x\"\n[train]\nlrr = 3\n");
    write("latin1.toml", b"name = \"\xe9\"\n");
    let mut zip = zip::ZipWriter::new(File::create(place.path("labels.npz")).unwrap());
    zip.start_file("labels.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&npy("<i8", "(20,)", &[0; 160])).unwrap();
    zip.finish().unwrap();
    fs::create_dir_all(place.path("mixed/a")).unwrap();
    fs::create_dir_all(place.path("empty")).unwrap();
    grey_png(&place.path("mixed/a/1.png"), 32);
    grey_png(&place.path("mixed/a/2.png"), 16);
}

/// Arguments after `train`, exit code, parts of the message.
const BAD: &[(&str, i32, &[&str])] = &[
    // Data.
    (
        "vqvae tiny.toml --data nothing.npz",
        4,
        &["error: ", "at: nothing.npz", "help: give an .npz"],
    ),
    ("vqvae tiny.toml --data labels.npz", 4, &["no image array", "labels <i8 [20]", "np.savez"]),
    ("vqvae tiny.toml --data mixed", 4, &["differ in size", "2.png", "32", "16", "help: bring"]),
    ("vqvae tiny.toml --data empty", 4, &["no PNG images", "at: empty", "root/walk/0001.png"]),
    ("vqvae tiny.toml --data notes.txt", 4, &["not a data set", "at: notes.txt"]),
    ("vqvae tiny.toml --data nan.npy", 4, &["a pixel is NaN", "image 2, row 3, column 4", "help:"]),
    ("vqvae tiny.toml --data loud.npy", 4, &["outside [0, 1]", "from 0 to 20479", "data.norm"]),
    (
        "vqvae tiny.toml --data grey.npy --set model.in_channels=3 --set model.out_channels=3",
        4,
        &["1 channels, the model wants 3", "help: --set model.in_channels=1"],
    ),
    (
        "vqvae tiny.toml --data grey.npy --set data.labels=aim",
        4,
        &["no integer array 'aim'", "at: ", "help: name one of them"],
    ),
    // Settings and the command line.
    (
        "vqvae unknown.toml --data grey.npy",
        2,
        &["unknown key 'train.lrr'", "unknown.toml:3:1", "^^^"],
    ),
    ("vqvae latin1.toml --data grey.npy", 2, &["not UTF-8", "at: latin1.toml"]),
    ("vqvae absent.toml --data grey.npy", 2, &["cannot be read", "at: absent.toml", "help: name"]),
    (
        "vqvae tiny.toml --data grey.npy --set train.lrr=3",
        2,
        &["--set train.lrr=3", "did you mean"],
    ),
    ("vqvae tiny.toml --data grey.npy --set train.lr=nan", 2, &["train.lr: NaN", "help: use a"]),
    ("vqvae tiny.toml --data grey.npy --set train.lanes=3", 2, &["3 lanes", "batch of 4", "help:"]),
    ("vqvae tiny.toml --data grey.npy --set name=nul", 2, &["device on Windows", "help:"]),
    ("vqvae tiny.toml --data odd.npy", 2, &["30 x 30", "multiples of 4", "data.size=[32,32]"]),
    ("vqvae tiny.toml --data synth:rotr", 2, &["\"rotr\"", "help: use \"human\""]),
    ("vqvae tiny.toml", 2, &["no data were given", "help: --data"]),
    ("vqvae --data grey.npy", 2, &["no settings were given", "help: name a TOML file"]),
    ("vqvae tiny.toml --data grey.npy --max-steps 0", 2, &["--max-steps"]),
    ("vqvae tiny.toml --data grey.npy --time-limit soon", 2, &["90s, 30m or 12h"]),
    ("vqvae tiny.toml --data grey.npy --out tiny.toml", 2, &["is a file", "at: tiny.toml"]),
    ("vqvae tiny.toml --data grey.npy --out empty/..", 2, &["not empty", "--resume"]),
    ("vqvae --resume nowhere", 2, &["no run here", "at: nowhere"]),
    ("vqvae --resume auto", 2, &["needs a run folder", "help: "]),
    ("diffusion tiny.toml --data grey.npy", 2, &["needs the run of a VQ-VAE", "help: --tokenizer"]),
    ("diffusion tiny.toml --data grey.npy --tokenizer no", 2, &["no run here", "at: no"]),
    ("vqvae tiny.toml --data grey.npy --dvice cpu", 2, &["--dvice", "--device"]),
    ("gan tiny.toml", 2, &["gan"]),
    // Devices and disks.
    (
        "vqvae tiny.toml --data grey.npy --device tpu",
        3,
        &["called tpu", "use one of: auto, cpu, 0"],
    ),
    (
        "vqvae tiny.toml --data grey.npy --device 99",
        3,
        &["no device 99", "use one of: auto, cpu, 0"],
    ),
    ("vqvae tiny.toml --data grey.npy --out tiny.toml/run", 5, &["cannot create", "tiny.toml/run"]),
];

#[test]
fn bad_input_is_explained() {
    let place = Place::new("bad-input");
    prepare(&place);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(place.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.retain(|n| !n.to_string_lossy().starts_with("run."));
        names.sort();
        names
    };
    let before = names();
    for (args, code, parts) in BAD {
        let mut all = vec!["train"];
        all.extend(args.split_whitespace());
        if !args.contains("--device") {
            all.extend(["--device", "cpu"]);
        }
        println!("{args}");
        let done = place.run(&all).expect(*code, parts);
        assert_eq!(done.out, "", "results go to standard output, errors do not");
        assert_eq!(names(), before, "{args}: something was written");
    }
}

#[test]
fn the_environment_names_a_device_too() {
    let place = Place::new("environment");
    let args = ["train", "vqvae", "tiny.toml", "--data", "synth:rotor", "--dry-run"];
    let child = place.command("run", &args).env("VQFORGE_DEVICE", "tpu").spawn().unwrap();
    let bad = Running { place: &place, name: "run".into(), child };
    bad.end().expect(3, &["called tpu", "use one of: auto, cpu"]);
    let child = place.command("run", &args).env("VQFORGE_DEVICE", "cpu").spawn().unwrap();
    let good = Running { place: &place, name: "run".into(), child };
    good.end().expect(0, &["device cpu"]);
}

#[test]
fn too_many_codes_are_a_warning() {
    let place = Place::new("many-codes");
    let args = "vqvae tiny.toml --data synth:rotor --out run --set train.steps=3 \
                --set model.num_vq_embeddings=1024 --set quantiser.kmeans_samples=1024";
    place.train(args).expect(0, &["warning: 1024 codes for 2304 training tokens", "help: --set"]);
}

/// A damaged checkpoint is refused; the run goes on from the one before, and says so.
#[test]
fn damaged_checkpoints() {
    let place = Place::new("damaged");
    place.train("vqvae tiny.toml --data synth:rotor --out run").expect(0, &[]);
    let cut = |name: &str, bytes: usize| {
        let whole = place.read(&format!("run/checkpoints/{name}"));
        fs::write(place.path(&format!("run/checkpoints/{name}")), &whole[..bytes]).unwrap();
    };
    cut("last.safetensors", 1000);
    let said = ["warning: ", "last.safetensors", "previous.safetensors at step 8"];
    place.train("vqvae --resume run").expect(0, &said);
    cut("last.safetensors", 5000);
    place
        .train("vqvae --resume run@last")
        .expect(5, &["cannot be used", "last.safetensors", "help:"]);
    for (name, size) in [("previous", 0), ("step_4", 1), ("step_8", 100), ("step_11", 2000)] {
        cut(&format!("{name}.safetensors"), size);
    }
    place.train("vqvae --resume run").expect(5, &["error: ", "at: ", "why: ", "help: "]);
    place.train("vqvae --resume run@step_5").expect(2, &["no checkpoint step_5", "step_4, step_8"]);
    place.train("vqvae --resume run@best").expect(0, &["best.safetensors at step"]);
}

/// A disk that takes no more: exit code 5, and the checkpoint written before is as it was.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let place = Place::new("full-disk");
    // Large enough that nothing but a checkpoint exceeds the limit.
    let wide = "--set model.block_out_channels=[16,32,32]";
    let args = format!("vqvae tiny.toml --data synth:rotor --out run --max-steps 3 {wide}");
    place.train(&args).expect(75, &[]);
    let before = place.read("run/checkpoints/last.safetensors");
    // `ulimit -f` counts blocks of 512 bytes; the signal that comes with it would kill the program.
    let blocks = before.len() / 512 / 2;
    let line = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec {} train vqvae --resume run --device cpu",
        env!("CARGO_BIN_EXE_vqforge")
    );
    let file = |end: &str| File::create(place.path(&format!("run.{end}"))).unwrap();
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", &line]).current_dir(place.path("")).stdout(file("out")).stderr(file("err"));
    let full = Running { place: &place, name: "run".into(), child: sh.spawn().unwrap() };
    full.end().expect(5, &["safetensors", "why: File too large", "MiB", "are intact"]);
    assert_eq!(place.read("run/checkpoints/last.safetensors"), before);
    place.train("vqvae --resume run").expect(0, &["last.safetensors at step 3"]);
}
