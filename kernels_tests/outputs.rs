//! Where results go: nothing is computed for a folder that cannot be made, nothing is written over, and
//! nothing that was asked for is ignored.

use super::Place;
use std::fs;

/// Samples are more than a picture shows, and are all kept; a folder that cannot be made is told before
/// the first of a million.
#[test]
fn samples_outnumber_their_picture() {
    let place = Place::new("samples");
    let brief = "--set train.steps=1 --set train.warmup=0 --set train.lanes=1";
    place.train(&format!("vqvae tiny.toml --data synth:rotor --out vq {brief}")).expect(0, &[]);
    let tokens = format!("diffusion tiny.toml --tokenizer vq --data synth:rotor --out d {brief}");
    place.train(&tokens).expect(0, &[]);
    let sample = |n: &str, out: &str| {
        let args = ["sample", "d", "--n", n, "--steps", "1", "--out", out, "--device", "cpu"];
        place.run(&args)
    };
    sample("300", "out").expect(0, &[]);
    let info = place.run(&["data", "info", "out/samples.npz", "--json"]).expect(0, &[]).out;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["images"], 300);
    let file = fs::File::open(place.path("out/grid.png")).unwrap();
    let picture = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    // 16 by 16 images of 32 pixels, doubled, two between them.
    let side = 16 * 64 + 15 * 2;
    assert_eq!((picture.info().width, picture.info().height), (side, side));

    fs::write(place.path("file"), b"here already").unwrap();
    sample("1000000", "file").expect(5, &["cannot create the folder"]);
    assert_eq!(place.read("file"), b"here already");
}

/// However times are drawn and weighed in training, what is held out is measured by the bound of the
/// process; and it is told as bits of the codes a pixel.
#[test]
fn the_bound_is_reported_whatever_is_trained() {
    let place = Place::new("weighting");
    let brief =
        "--set train.steps=2 --set train.warmup=0 --set train.lr=1e-30 --set train.eval_every=0";
    place.train(&format!("vqvae tiny.toml --data synth:rotor --out vq {brief}")).expect(0, &[]);
    let run = |name: &str, sets: &str| {
        let job = "diffusion tiny.toml --tokenizer vq --data synth:rotor";
        let done = place.train(&format!("{job} --out {name} {brief} {sets}")).expect(0, &[]);
        let lines = place.metrics(name);
        let held_out = lines.last().unwrap()["eval"].clone();
        (done.err, lines[0].clone(), held_out)
    };
    let (said, bound, held_out) = run("bound", "");
    assert!(!said.contains("no bound"));
    assert!(bound["nats_per_token"].is_number(), "{bound}");
    let bits = |held_out: &serde_json::Value, name: &str| held_out[name].as_f64().unwrap();
    // 8 x 8 codes of 32 x 32 pixels.
    let [token, dim] = ["bits_per_token", "bits_per_dim"].map(|name| bits(&held_out, name));
    assert!((16.0 * dim - token).abs() < 1e-12 * token, "{held_out}");
    for weighting in ["maskgit", "linear"] {
        let (said, other, same) = run(weighting, &format!("--set diffusion.weighting={weighting}"));
        assert!(said.contains("no bound on the likelihood"), "{said}");
        assert!(other["reweighted_loss"].as_f64() != bound["nats_per_token"].as_f64());
        assert_eq!(same, held_out, "the weights were not moved, and the bound is of them alone");
    }
    // Of sixteen codes the network knows nothing, and every token is unmasked once in any number of
    // steps: 4 bits. The variance of one token's estimate is the mean of T / i - 1 over the steps i, 1.08, so
    // that 64 of 4 images at 16 times each have a standard error of .065 bits: six of them.
    let (_, _, stepwise) = run("steps", "--set diffusion.discrete_steps=4");
    assert!((bits(&stepwise, "bits_per_token") - 4.0).abs() < 0.4, "{stepwise}");
    assert_ne!(stepwise, held_out);
    // An estimate from fewer images.
    let (_, _, fewer) = run("fewer", "--set diffusion.eval_images=2");
    assert_ne!(bits(&fewer, "bits_per_token"), token);
}

#[test]
fn conversions_ignore_nothing_and_keep_their_input() {
    let place = Place::new("convert");
    place.run(&["data", "synth", "--n", "6", "--size", "32", "--out", "x.npz"]).expect(0, &[]);
    fs::create_dir(place.path("sub")).unwrap();
    let before = place.read("x.npz");
    let same = place.run(&["data", "convert", "x.npz", "--gray", "--out", "sub/../x.npz"]);
    same.expect(2, &["the output exists"]);
    place.run(&["data", "convert", "x.npz", "--gray"]).expect(2, &["the output exists"]);
    assert_eq!(place.read("x.npz"), before);
    let convert = |more: &[&str]| {
        place.run(&[&["data", "convert", "x.npz", "--out", "y.npz"], more].concat())
    };
    convert(&["--array", "x"]).expect(2, &["--array", "--preset"]);
    convert(&["--set", "train.lr=1"]).expect(2, &["does not look at train.lr", "data.norm"]);
    convert(&["--set", "data.augment.gain_db=1"]).expect(2, &["does not look at data.augment"]);
    convert(&["--set", "data.signal.hopp=1"]).expect(2, &["hopp"]);
    assert!(!place.path("y.npz").exists());
    convert(&["--set", "data.size=[16,16]"]).expect(0, &["6 images of 16 x 16"]);
}

/// With the whole image as its region, in-painting is sampling; with codes that become others as with masks.
#[test]
fn a_region_is_made_anew() {
    let place = Place::new("inpaint");
    let brief = "--set train.steps=1 --set train.warmup=0 --set train.lanes=1";
    place.train(&format!("vqvae tiny.toml --data synth:rotor --out vq {brief}")).expect(0, &[]);
    let data = ["data", "synth", "--preset", "rotor", "--n", "4", "--size", "32", "--out", "x.npz"];
    place.run(&data).expect(0, &[]);
    for process in ["masked", "uniform"] {
        let train =
            format!("diffusion tiny.toml --tokenizer vq --data synth:rotor --out {process}");
        place.train(&format!("{train} {brief} --set diffusion.process={process}")).expect(0, &[]);
        let sample = |out: &str, more: &[&str]| {
            let args =
                ["sample", process, "--n", "2", "--steps", "2", "--class", "0", "--out", out];
            place.run(&[&args, more, &["--device", "cpu"][..]].concat())
        };
        let out = |name: &str| format!("{process}-{name}");
        sample(&out("plain"), &[]).expect(0, &[]);
        let given = ["--inpaint", "x.npz", "--region"];
        sample(&out("all"), &[&given[..], &["0:32,0:32"]].concat()).expect(0, &[]);
        sample(&out("part"), &[&given[..], &["0:32,16:32"]].concat()).expect(0, &[]);
        let [plain, all, part] =
            ["plain", "all", "part"].map(|name| place.read(&format!("{}/grid.png", out(name))));
        assert!(plain == all && plain != part, "{process}");
        sample(&out("out"), &[&given[..], &["0:32,16:33"]].concat())
            .expect(2, &["32 x 32 pixels", "--region"]);
    }
}

/// Samples larger than those of training, and as one folder a class: the first are made the same each
/// time, the second are read back as what samples.npz holds.
#[test]
fn samples_are_larger_and_in_folders() {
    let place = Place::new("larger");
    let brief = "--set train.steps=1 --set train.warmup=0 --set train.lanes=1";
    place.train(&format!("vqvae tiny.toml --data synth:rotor --out vq {brief}")).expect(0, &[]);
    let tokens = format!("diffusion tiny.toml --tokenizer vq --data synth:rotor --out d {brief}");
    place.train(&tokens).expect(0, &[]);
    let sample = |out: &str, more: &[&str]| {
        let args = ["sample", "d", "--n", "5", "--steps", "2", "--out", out, "--device", "cpu"];
        place.run(&[&args, more].concat())
    };
    sample("plain", &["--folders"]).expect(0, &["a folder a class"]);
    sample("same", &["--size", "32x32"]).expect(0, &[]);
    assert_eq!(place.read("plain/samples.npz"), place.read("same/samples.npz"));
    sample("wide", &["--size", "32x52"]).expect(0, &["5 samples of 32x52"]);
    sample("again", &["--size", "32x52"]).expect(0, &[]);
    assert_eq!(place.read("wide/samples.npz"), place.read("again/samples.npz"));
    sample("small", &["--size", "30x50"]).expect(2, &["--size 32x52"]);
    let both = ["--size", "32x52", "--inpaint", "x.npz", "--region", "0:8,0:8"];
    sample("both", &both).expect(2, &["--size", "--inpaint"]);

    let info = |path: &str| -> serde_json::Value {
        let text = place.run(&["data", "info", path, "--json"]).expect(0, &[]).out;
        serde_json::from_str(&text).unwrap()
    };
    let (folders, file) = (info("plain"), info("plain/samples.npz"));
    assert_eq!((&folders["images"], &folders["height"]), (&file["images"], &file["height"]));
    let counts = |info: &serde_json::Value| -> Vec<(String, u64)> {
        let of = |c: &serde_json::Value| (c["name"].to_string(), c["images"].as_u64().unwrap());
        let mut counts: Vec<_> = info["classes"].as_array().unwrap().iter().map(of).collect();
        counts.retain(|c| c.1 > 0);
        counts.sort();
        counts
    };
    assert_eq!(counts(&folders), counts(&file), "{folders} {file}");
    sample("plain", &["--folders"]).expect(5, &["a class folder is not empty"]);
}

/// What guides, cuts off and paces the draws.
#[test]
fn samplers_take_their_settings() {
    let place = Place::new("settings");
    let brief = "--set train.steps=1 --set train.warmup=0 --set train.lanes=1";
    place.train(&format!("vqvae tiny.toml --data synth:rotor --out vq {brief}")).expect(0, &[]);
    let tokens = format!("diffusion tiny.toml --tokenizer vq --data synth:rotor --out d {brief}");
    place.train(&tokens).expect(0, &[]);
    let sample = |out: &str, more: &[&str]| {
        let args = ["sample", "d", "--n", "2", "--steps", "3", "--out", out, "--device", "cpu"];
        place.run(&[&args, more].concat())
    };
    let top = ["--sampler", "purity", "--guidance-schedule", "cosine", "--top-p", "0.86"];
    sample("top", &top).expect(0, &[]);
    let cut = ["--sampler", "purity", "--guidance-schedule", "cosine", "--truncation", "0.86"];
    sample("cut", &cut).expect(0, &[]);
    assert_eq!(place.read("top/samples.npz"), place.read("cut/samples.npz"));
    sample("paced", &["--grid", "cosine"]).expect(0, &[]);
    sample("plain", &[]).expect(0, &[]);
    assert_ne!(place.read("paced/samples.npz"), place.read("plain/samples.npz"));
    sample("no", &["--grid", "cubic"]).expect(2, &["trained, linear, cosine"]);
    sample("no", &["--grid", "cosine", "--sampler", "halton"]).expect(2, &["leave --grid out"]);
    sample("no", &["--guidance-schedule", "up"]).expect(2, &["constant, linear, cosine"]);
}
