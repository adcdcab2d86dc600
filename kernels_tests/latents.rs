//! Gaussian diffusion of latents, from the command line: of a VQ-VAE, whose codes are found again, and of a
//! KL-VAE.

use super::{Place, resume::same};
use vqforge::data::Dataset;

const GAUSSIAN: &str = "--set diffusion.process=gaussian";

fn place(name: &str, tokenizer: &str) -> Place {
    let place = Place::new(name);
    let few =
        "tiny.toml --data synth:rotor --out tokenizer --set train.steps=2 --set train.warmup=1";
    place.train(&format!("{tokenizer} {few}")).expect(0, &[]);
    place
}

/// A run in pieces is the run in one, byte for byte, with its latents remembered or made again; its samples
/// are the same each time and in any number.
#[test]
fn gaussian_in_pieces() {
    let place = place("gaussian-pieces", "vqvae");
    let job = format!("diffusion tiny.toml --data synth:rotor --tokenizer tokenizer {GAUSSIAN}");
    let told = ["64 places of 4 channels", "held out: v_loss", "codes_found"];
    place.train(&format!("{job} --out straight --threads 1")).expect(0, &told);
    let stopped = place.train(&format!("{job} --out pieces --threads 2 --max-steps 5"));
    stopped.expect(75, &["train diffusion --resume pieces"]);
    let resumed = place.train("diffusion --resume pieces --threads 1 --max-steps 4");
    let resumed = resumed.expect(75, &["at step 5\n"]);
    assert!(!resumed.err.contains("encoding"), "{}", resumed.err);
    std::fs::remove_file(place.path("pieces/latents.safetensors")).unwrap();
    place.train("diffusion --resume pieces").expect(0, &["encoding", "step 11/11"]);
    same(&place, "straight", "pieces");
    let metrics = place.metrics("straight");
    let eval = &metrics.iter().rfind(|line| line["eval"].is_object()).unwrap()["eval"];
    assert!(eval["v_loss"].as_f64().is_some_and(f64::is_finite), "{eval}");
    assert!(eval["bits_per_token"].is_null(), "{eval}");
    assert!(place.path("straight/samples/gen_00011.png").is_file());
    assert!(place.text("straight/report.html").contains("v loss"));

    let sample = |out: &str, more: &str| {
        let all = format!("sample straight --device cpu --steps 3 --out {out} {more}");
        place.run(&all.split_whitespace().collect::<Vec<_>>())
    };
    for (out, more) in [
        ("a", "--n 4 --seed 9"),
        ("b", "--n 4 --seed 9 --threads 2"),
        ("ddim", "--n 4 --seed 9 --sampler ddim"),
        ("full", "--n 4 --seed 9 --sampler ddim --eta 1"),
        ("fewer", "--n 3 --seed 9"),
    ] {
        sample(out, more).expect(0, &["samples of 32x32"]);
    }
    let bytes = |out: &str| place.read(&format!("{out}/samples.npz"));
    assert!(bytes("a") == bytes("b"), "samples are not repeatable");
    assert!(bytes("a") == bytes("full"), "ancestral is not ddim with eta = 1");
    assert!(bytes("a") != bytes("ddim"));
    let pixels = |out: &str| {
        let data = Dataset::load(place.path(&format!("{out}/samples.npz")), &Default::default());
        let data = data.unwrap();
        let mut image = vec![0.0; 3 * data.image_len()];
        data.images(&[0, 1, 2], &mut image);
        image
    };
    assert_eq!(pixels("a"), pixels("fewer"), "a sample depends on its batch");

    std::fs::create_dir(place.path("images")).unwrap();
    for (more, part) in [
        ("--sampler maskgit", "--sampler ddim"),
        ("--temperature 0.5", "no probabilities"),
        ("--top-p 0.5", "no probabilities"),
        ("--eta 0.5", "only ddim"),
        ("--sampler ddim --eta 2", "--eta 2"),
        ("--inpaint images --region 0:8,0:8", "only codes can be kept"),
        ("--size 64x64", "only codes can be kept"),
        ("--grid cosine", "--grid"),
    ] {
        sample("bad", more).expect(2, &[part, "help: "]);
    }
}

/// The latents of a KL-VAE can be diffused, but not as codes; and there is nothing to round to.
#[test]
fn latents_of_a_kl_vae() {
    let place = place("gaussian-klvae", "klvae");
    let job = "diffusion tiny.toml --data synth:rotor --out run --tokenizer";
    let coded = place.train(&format!("{job} tokenizer"));
    coded.expect(2, &["must be a vqvae run", "a klvae run", "diffusion.process=gaussian"]);
    let few = format!("{GAUSSIAN} --set diffusion.min_snr=5 --set train.steps=4");
    let done = place.train(&format!("{job} tokenizer {few}")).expect(0, &["held out: v_loss"]);
    assert!(!done.err.contains("codes_found"), "{}", done.err);
    let args = ["sample", "run", "--n", "2", "--steps", "2", "--device", "cpu", "--out", "made"];
    place.run(&args).expect(0, &[]);
    let again = "diffusion tiny.toml --data synth:rotor --out again --tokenizer run";
    place.train(&format!("{again} {GAUSSIAN}")).expect(2, &["a vqvae or a klvae", "diffusion run"]);
    let masked = place
        .train("diffusion --resume run --set diffusion.process=masked --set diffusion.min_snr=0");
    masked.expect(2, &["diffusion.process", "another corruption"]);
}

/// What does not apply is told.
#[test]
fn settings_of_another_process() {
    let place = Place::new("gaussian-settings");
    let job = "diffusion tiny.toml --data synth:rotor --tokenizer nowhere";
    for key in [
        "steps=50",
        "t_min=0.1",
        "schedule=cosine",
        "auxiliary=1",
        "importance=true",
        "adaptive_auxiliary=false",
    ] {
        let done = place.train(&format!("{job} {GAUSSIAN} --set diffusion.{key}"));
        let name = key.split('=').next().unwrap();
        done.expect(2, &[&format!("diffusion.{name}: has no meaning"), "help: leave the key out"]);
    }
    let weighed = place.train(&format!("{job} --set diffusion.min_snr=5"));
    weighed.expect(2, &["diffusion.min_snr", "gaussian"]);
    place
        .train(&format!("{job} {GAUSSIAN} --set diffusion.min_snr=-1"))
        .expect(2, &["out of range"]);
}
