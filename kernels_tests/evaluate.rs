//! `vqforge eval`: the same numbers for the same samples wherever they come from, and inputs that cannot
//! be judged.

use super::{Done, Place};
use serde_json::Value;
use vqforge::data::Dataset;
use vqforge::data::write::{write_npy, write_npz};

/// A tokenizer and a diffusion that were trained for a step, with half of the 40 images held out.
fn trained(name: &str) -> Place {
    let place = Place::new(name);
    let brief = "--data synth:rotor --set train.steps=1 --set train.warmup=0 --set train.lanes=1 \
                 --set data.split.fraction=0.5";
    place.train(&format!("vqvae tiny.toml --out vq {brief}")).expect(0, &[]);
    place.train(&format!("diffusion tiny.toml --tokenizer vq --out d {brief}")).expect(0, &[]);
    place
}

fn eval(place: &Place, more: &str) -> Done {
    let args = format!("eval d --device cpu --classifier-steps 2 --json {more}");
    place.run(&args.split_whitespace().collect::<Vec<_>>())
}

fn images(place: &Place, name: &str, side: usize, labels: Option<Vec<u32>>) {
    let n = labels.as_ref().map_or(12, Vec::len);
    let pixels = (0..n * side * side).map(|i| (i * 7919 % 251) as u8).collect();
    let data = Dataset::from_u8(pixels, [n, side, side, 1], labels, vec![], "test").unwrap();
    write_npz(&place.path(name), &data).unwrap();
}

#[test]
fn samples_are_judged() {
    let place = trained("eval");
    let made = eval(&place, "--n 10 --steps 1 --seed 3 --threads 1");
    let made = made.expect(0, &["KID", "TSTR", "64 features need 65"]);
    let first: Value = serde_json::from_str(&made.out).unwrap();
    let written: Value = serde_json::from_slice(&place.read("d/eval/eval.json")).unwrap();
    assert_eq!(first, written);
    for picture in ["grid.png", "nearest.png"] {
        assert!(place.read(&format!("d/eval/{picture}")).starts_with(b"\x89PNG"), "{picture}");
    }
    let facts = &first["circumstances"];
    let counts = ["samples", "held_out", "training"].map(|key| facts[key].as_u64().unwrap());
    assert_eq!(counts, [10, 20, 20]);
    assert_eq!(facts["sampling"]["seed"], 3);
    assert_eq!(facts["features"]["dimensions"], 64);
    for key in ["kid", "precision_recall", "motion"] {
        for set in ["samples", "floor"] {
            assert!(first[key][set]["not_judged"].is_null(), "{key} {set}: {first}");
        }
    }
    assert!(first["kid"]["samples"]["standard_error"].as_f64().unwrap() > 0.0);
    assert!(first["frechet"]["floor"]["not_judged"].is_string());
    assert!(first["memorisation"]["pixels"]["samples"]["not_judged"].is_string());
    assert!(first["memorisation"]["nearest_in_pixels"][0]["distance"].as_f64().unwrap() > 0.0);
    for key in ["tstr", "trts", "trtr"] {
        assert!((0.0..=1.0).contains(&first["transfer"][key].as_f64().unwrap()), "{key}");
    }

    // The same samples out of a file, on other threads, in another folder.
    let sample = "sample d --n 10 --steps 1 --seed 3 --out s --device cpu";
    place.run(&sample.split_whitespace().collect::<Vec<_>>()).expect(0, &[]);
    let again = eval(&place, "--samples s/samples.npz --out e").expect(0, &[]).out;
    let mut again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["circumstances"]["samples_file"], "s/samples.npz");
    again["circumstances"] = first["circumstances"].clone();
    assert_eq!(again, first);
    assert!(place.path("e/eval.json").is_file());

    // Without labels there is nothing to recognise; all else is judged.
    images(&place, "plain.npz", 32, None);
    let plain = eval(&place, "--samples plain.npz --out e").expect(0, &[]).out;
    let plain: Value = serde_json::from_str(&plain).unwrap();
    assert_eq!(plain["transfer"]["not_judged"], "the samples have no labels");
    assert!(plain["set_classes"][0]["class"].is_null() && plain["kid"]["samples"]["mmd2"].is_f64());

    bad_samples(&place);
}

/// Each is told before anything is trained, and leaves nothing behind.
fn bad_samples(place: &Place) {
    images(place, "small.npz", 16, None);
    images(place, "other.npz", 32, Some(vec![0, 1, 77]));
    let mut values = vec![0.5; 2 * 32 * 32];
    values[1500] = f32::NAN;
    write_npy(&place.path("nan.npy"), &[2, 32, 32, 1], &values).unwrap();
    let cases = [
        ("--samples small.npz", 4, "16 x 16 with 1 channels, not of 32 x 32"),
        ("--samples other.npz", 4, "a sample is of the class 77"),
        ("--samples nan.npy", 4, "nan.npy"),
        ("--samples nowhere.npz", 4, "cannot be opened"),
        ("--samples small.npz --n 5", 2, "--samples"),
        ("--n 1", 2, "--n"),
        ("--sampler best", 2, "best"),
        ("--data nowhere.npz", 4, "nowhere.npz"),
    ];
    for (args, code, said) in cases {
        eval(place, &format!("{args} --out bad")).expect(code, &[said]);
        assert!(!place.path("bad/eval.json").exists(), "{args}");
    }
    let run = |run: &str| place.run(&["eval", run, "--device", "cpu"]);
    run("vq").expect(2, &["this is a vqvae run", "vqforge reconstruct"]);
    run("nowhere").expect(2, &["there is no run here", "nowhere"]);
}
