//! `vqforge export` and `vqforge import`: there and back, used in between, and what cannot be moved.

use super::Place;
use std::fs;
use std::path::Path;

const FILES: [&str; 2] = ["config.json", "diffusion_pytorch_model.safetensors"];

/// Copies a folder that diffusers wrote.
fn recorded(place: &Place, name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels_tests/fixtures").join(name);
    fs::create_dir(place.path(name)).unwrap();
    for file in FILES {
        fs::copy(from.join(file), place.path(name).join(file)).unwrap();
    }
}

fn same(place: &Place, a: &str, b: &str) {
    for file in FILES {
        let [a, b] = [a, b].map(|folder| place.read(&format!("{folder}/{file}")));
        assert!(a == b, "{file} differs");
    }
}

/// What diffusers wrote is a run, and comes out of it as it was, byte for byte.
#[test]
fn there_and_back() {
    let place = Place::new("weights");
    for (name, kind) in [("vqmodel_1ch", "vqvae"), ("autoencoder_kl", "klvae")] {
        recorded(&place, name);
        let run = format!("runs/{kind}");
        let done = place.run(&["import", name, "--out", &run]).expect(0, &[]);
        assert_eq!(done.out.trim(), run);
        let back = format!("back-{kind}");
        place.run(&["export", &run, "--out", &back]).expect(0, &[]);
        same(&place, name, &back);
        place.run(&["import", name, "--out", &run]).expect(2, &["not empty"]);
        place.run(&["export", &run, "--out", &back]).expect(2, &["a model already"]);
        place.run(&["report", &run]).expect(0, &[]);
    }
    place.run(&["data", "synth", "--n", "8", "--size", "32", "--out", "x.npz"]).expect(0, &[]);
    let to = ["reconstruct", "runs/vqvae", "--data", "x.npz", "--device", "cpu", "--out", "rec"];
    let done = place.run(&to).expect(0, &[]);
    let numbers: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(numbers["images"], 8);

    // Trained further: another model, and its codes are not those of a fit to the first latents.
    let brief = "--set train.steps=2 --set train.batch=2 --set train.lanes=1 --set train.lr=1e-9 \
                 --set train.warmup=0";
    place.train(&format!("vqvae --resume runs/vqvae {brief}")).expect(5, &["its data", "--data"]);
    let done = place.train(&format!("vqvae --resume runs/vqvae --data x.npz {brief}"));
    let done = done.expect(0, &["at step 1", "step 2/2"]);
    assert!(!done.err.contains("k-means"), "{}", done.err);
    place.run(&["export", "runs/vqvae", "--out", "further"]).expect(0, &[]);
    let [before, after] = ["vqmodel_1ch", "further"].map(|folder| floats(&place, folder));
    assert_ne!(before, after);
    // One step of Adam at this rate: no number moves by more than the rate, and its own rounding.
    let off = before.iter().zip(&after).map(|(a, b)| (a - b).abs() - 1e-6 * a.abs());
    assert!(off.fold(0.0, f32::max) <= 2e-9);
    assert_eq!(place.read("vqmodel_1ch/config.json"), place.read("further/config.json"));
}

/// The numbers of the weights behind the header.
fn floats(place: &Place, folder: &str) -> Vec<f32> {
    let bytes = place.read(&format!("{folder}/{}", FILES[1]));
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let words = bytes[8 + header..].chunks_exact(4);
    words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A run trained here, with averaged weights and a moving codebook, is exported as it is judged; others
/// are refused, and nothing is left.
#[test]
fn own_runs() {
    let place = Place::new("weights-own");
    let brief = "vqvae tiny.toml --data synth:rotor --set train.steps=2 --set train.lanes=1 \
                 --set train.warmup=0";
    place.train(&format!("{brief} --set model.family=vqmodel --out vq")).expect(0, &[]);
    place.run(&["export", "vq", "--out", "a"]).expect(0, &[]);
    place.run(&["import", "a", "--out", "again"]).expect(0, &[]);
    place.run(&["export", "again", "--out", "b"]).expect(0, &[]);
    same(&place, "a", "b");
    // The same pictures either way.
    place.run(&["data", "synth", "--n", "8", "--size", "32", "--out", "x.npz"]).expect(0, &[]);
    let [one, other] = ["vq", "again"].map(|run| {
        let out = format!("rec-{run}");
        let args = ["reconstruct", run, "--data", "x.npz", "--device", "cpu", "--out", &out];
        let done = place.run(&args).expect(0, &[]);
        (done.out, place.read(&format!("{out}/reconstructions.npz")))
    });
    assert!(one == other, "{}{}", one.0, other.0);

    place.train(&format!("{brief} --out compact")).expect(0, &[]);
    let two = "--set model.family=vqmodel --set quantiser.residual_levels=2";
    place.train(&format!("{brief} {two} --out two")).expect(0, &[]);
    for (run, part) in [("compact", "model.family = compact"), ("two", "2 codes a place")] {
        place.run(&["export", run, "--out", "no"]).expect(2, &[part, run, "help: "]);
    }
    place.run(&["export", "nowhere", "--out", "no"]).expect(2, &["there is no run here"]);
    assert!(!place.path("no").exists());
    for (sets, part) in [
        ("model.num_vq_embeddings=8", "sizes of an imported model are fixed"),
        ("quantiser.num_codebooks=2", "2 codes a place"),
        ("loss.adversarial.weight=0.1", "no discriminator"),
        ("train.lrr=1", "lrr"),
    ] {
        place.run(&["import", "a", "--out", "no", "--set", sets]).expect(2, &[part]);
    }
    place.run(&["import", "vq", "--out", "no"]).expect(4, &["config.json"]);
    assert!(!place.path("no").exists());
}
