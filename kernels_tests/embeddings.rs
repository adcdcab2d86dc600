//! Diffusion on given embeddings, as a user meets it.

use super::bad_input::npy;
use super::{Done, Place};
use std::fs;

/// `n` x `tokens` x `width` floats, the last of them replaced by `last`.
fn embeddings(place: &Place, name: &str, [n, tokens, width]: [usize; 3], last: f32) {
    let mut values: Vec<f32> = (0..n * tokens * width).map(|i| (i % 7) as f32 - 3.0).collect();
    values.pop();
    values.push(last);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = format!("({n}, {tokens}, {width})");
    fs::write(place.path(name), npy("<f4", &shape, &bytes)).unwrap();
}

fn sample(place: &Place, run: &str, more: &str) -> Done {
    let all = format!("sample {run} --n 3 --steps 2 --device cpu --out {run}-samples {more}");
    place.run(&all.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn embeddings_travel_from_file_to_sample() {
    let place = Place::new("embeddings");
    place.train("vqvae tiny.toml --data synth:rotor --out vq --set train.steps=4").expect(0, &[]);
    embeddings(&place, "e.npy", [40, 3, 5], 0.5);
    embeddings(&place, "few.npy", [39, 3, 5], 0.5);
    embeddings(&place, "nan.npy", [40, 3, 5], f32::NAN);
    embeddings(&place, "wide.npy", [2, 3, 6], 0.5);
    let train = "diffusion tiny.toml --tokenizer vq --data synth:rotor --set train.steps=4 --set \
                 train.warmup=1 --set train.eval_every=4 --set train.sample_every=4";

    // Told before anything is trained.
    let refused = |sets: &str, code: i32, parts: &[&str]| {
        place.train(&format!("{train} --out no {sets}")).expect(code, parts);
        assert!(!place.path("no").exists());
    };
    let given = "--set data.embeddings=";
    refused(&format!("{given}few.npy"), 4, &["39 embeddings for 40 images", "help: row i"]);
    refused(&format!("{given}nan.npy"), 4, &["an embedding is NaN", "row 39, number 14", "help:"]);
    refused(&format!("{given}nothing.npy"), 4, &["cannot be opened", "at: nothing.npy"]);
    refused(&format!("{given}npz:e"), 2, &["the data are no archive", "help: name a file"]);
    refused("--set denoiser.conditioning=cross", 2, &["no cross-attention", "help: use"]);
    let kind = "--set denoiser.kind=vq-diffusion";
    refused(kind, 2, &["continuous time has none", "help: set diffusion.process"]);

    for (run, sets) in [
        ("pooled", ""),
        ("cross", "--set denoiser.kind=modern --set denoiser.conditioning=cross"),
        (
            "steps",
            "--set denoiser.kind=vq-diffusion --set diffusion.process=absorbing --set diffusion.steps=5",
        ),
    ] {
        place
            .train(&format!("{train} --out {run} {given}e.npy {sets}"))
            .expect(0, &["embeddings e.npy: 3 x 5 numbers an image"]);
        sample(&place, run, "--embeddings e.npy").expect(0, &[]);
        assert!(place.path(&format!("{run}-samples/samples.npz")).exists());
        sample(&place, run, "").expect(2, &["trained on embeddings", "help: --embeddings"]);
        sample(&place, run, "--embeddings wide.npy").expect(4, &["trained with", "x 5"]);
    }
    place.train(&format!("{train} --out plain")).expect(0, &[]);
    sample(&place, "plain", "--embeddings e.npy").expect(2, &["without embeddings", "help: leave"]);
    place
        .train("diffusion --resume cross --tokenizer vq --set train.steps=5 --set data.embeddings=few.npy")
        .expect(4, &["39 embeddings for 40 images"]);
    place
        .train("diffusion --resume cross --tokenizer vq --set denoiser.norm=layer")
        .expect(2, &["denoiser.norm cannot change"]);
    place.train("diffusion --resume cross --tokenizer vq --set train.steps=6").expect(0, &[]);
}
