//! `vqforge compare`, `train klvae`, `--auto-remedy`, `report`: what they leave, how they go on, and data
//! that are no data.

use super::{Done, Place};
use serde_json::Value;
use std::path::Path;
use vqforge::data::Dataset;
use vqforge::data::write::write_npz;
use vqforge::rng::{Rng, Stream};

/// Two arms of each kind, trained for a few steps.
const BRIEF: &str = "--device cpu --vae kl=1e-6,1e-1 --set train.lanes=1";

fn compare(place: &Place, args: &str) -> Done {
    let codes = if args.contains("--vq") { "" } else { "--vq ema,fsq" };
    let all = format!("compare {args} {codes} {BRIEF}");
    place.run(&all.split_whitespace().collect::<Vec<_>>())
}

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&place.read(name)).unwrap()
}

/// `n` images of `side` x `side`, each pixel from `pixel`.
fn images(path: &Path, [n, side]: [usize; 2], mut pixel: impl FnMut() -> u8) {
    let pixels: Vec<u8> = (0..n * side * side).map(|_| pixel()).collect();
    let labels = (n > 1).then(|| (0..n as u32).map(|i| i % 2).collect());
    let mut data = Dataset::from_u8(pixels, [n, side, side, 1], labels, vec![], "test").unwrap();
    data.arrays.insert("subject".into(), (0..n as i64).map(|i| i % 8).collect());
    write_npz(path, &data).unwrap();
}

fn verdict(place: &Place, folder: &str) -> String {
    json(place, &format!("{folder}/report.json"))["decision"].as_str().unwrap().to_string()
}

/// A comparison that was stopped in its second arm ends as one that was not: the same scores, by the same
/// rule. It is not begun twice in one folder, and another one, or one of other data, does not go on.
#[test]
fn a_comparison_goes_on_where_it_was() {
    let place = Place::new("compare");
    let mut rng = Rng::new(4, Stream::Test, 0);
    let mut noise = || rng.below(256) as u8;
    images(&place.path("data.npz"), [40, 16], &mut noise);
    let begin = "tiny.toml --data data.npz --seeds 2 --set train.steps=6";
    let rule = "--rule literal --margin 0.25";
    let straight = compare(&place, &format!("{begin} {rule} --out straight"));
    let code = straight.code;
    assert!(matches!(code, Some(0 | 10 | 20 | 30)), "{code:?}\n{}", straight.err);
    for file in ["report.html", "report.md", "report.json", "compare.json"] {
        assert!(!place.read(&format!("straight/{file}")).is_empty(), "{file}");
    }
    let page = place.text("straight/report.html");
    assert!(!page.contains("src=\"http") && !page.contains("<script"), "it needs a network");

    // As if killed: the first outcomes are there, the others not, and one run is half done.
    assert_eq!(compare(&place, &format!("{begin} {rule} --out pieces")).code, code);
    for run in ["fsq-s0", "kl1e-6-s0", "kl1e-1-s0", "ema-s1", "fsq-s1", "kl1e-6-s1", "kl1e-1-s1"] {
        std::fs::remove_dir_all(place.path(&format!("pieces/runs/{run}"))).unwrap();
    }
    std::fs::remove_file(place.path("pieces/runs/ema-s0/outcome.json")).unwrap();
    compare(&place, &format!("{begin} --out pieces")).expect(2, &["there is a comparison already"]);
    let other = format!("{begin} --out pieces --resume auto --set train.lr=1e-2");
    compare(&place, &other).expect(2, &["another one"]);
    let resume = ["compare", "--resume", "pieces", "--device", "cpu"];
    let resumed = place.run(&resume);
    assert_eq!(resumed.code, code, "{}", resumed.err);
    let [a, b] = ["straight", "pieces"].map(|f| json(&place, &format!("{f}/report.json")));
    assert_eq!(a["outcomes"], b["outcomes"]);
    assert_eq!(a["result"], b["result"]);
    assert_eq!(a["result"]["verdict"]["rule"], "literal");
    assert_eq!(a["outcomes"].as_array().unwrap().len(), 8);

    // By another rule, without training; what else is in the folder is not named again.
    place.run(&[&resume[..], &["--rule", "rate-matched"]].concat());
    let judged = json(&place, "pieces/report.json")["result"]["verdict"].clone();
    assert_eq!(judged["rule"], "rate-matched");
    let quantity = judged["rules"][2]["quantity"].as_str().unwrap();
    assert!(quantity.contains("-0.25 dB"), "the margin was lost: {quantity}");
    for (flag, value) in [("--vq", "ema"), ("--seeds", "3"), ("--data", "x"), ("--set", "a.b=1")] {
        let done = place.run(&[&resume[..], &[flag, value]].concat());
        done.expect(2, &[flag, "would be ignored", "--resume auto"]);
    }

    // One more arm, and none of the others again; but not one that cannot be.
    let more = format!("{begin} --out pieces --resume auto");
    let before = place.read("pieces/compare.json");
    let bad = compare(&place, &format!("{more} --vq ema,fsq,mvq3"));
    bad.expect(2, &["quantiser.num_codebooks"]);
    assert_eq!(place.read("pieces/compare.json"), before, "a refused arm was written down");
    let wider = compare(&place, &format!("{more} --vq ema,fsq,mvq2"));
    assert!(matches!(wider.code, Some(0 | 10 | 20 | 30)), "{}", wider.err);
    assert!(
        wider.err.contains("mvq2, seed 1") && !wider.err.contains("ema, seed"),
        "{}",
        wider.err
    );

    // An arm that failed is not judged, and said to be.
    let failed = "pieces/runs/fsq-s1/outcome.json";
    let mut outcome = json(&place, failed);
    (outcome["failed"], outcome["scores"]) = ("it diverged".into(), Value::Array(vec![]));
    std::fs::write(place.path(failed), outcome.to_string()).unwrap();
    let without = place.run(&resume);
    assert!(matches!(without.code, Some(0 | 10 | 20 | 30)), "{}", without.err);
    let text = place.text("pieces/report.md");
    assert!(text.contains("fsq is not judged: its run with seed 1 failed: it diverged"), "{text}");
    assert!(text.contains("| ema |") && !text.contains("| fsq |"), "{text}");

    images(&place.path("data.npz"), [40, 16], &mut noise);
    place.run(&resume).expect(2, &["the data are not those", "data.npz has changed"]);
}

/// Diffusions over every arm are trained once, sampled and judged; what was begun without them goes on with
/// them, and the rule that looks at samples decides.
#[test]
fn samples_of_all_routes_are_compared() {
    let place = Place::new("compare-samples");
    let mut rng = Rng::new(5, Stream::Test, 0);
    images(&place.path("data.npz"), [48, 16], || rng.below(256) as u8);
    let begin = "tiny.toml --data data.npz --seeds 1 --set train.steps=2 --set train.warmup=0 \
                 --set data.split.fraction=0.5 --vq ema,rvq2 --out out";
    let asked = "--generate tiny.toml --samples 12 --sampling-steps 2 --classifier-steps 2";
    compare(&place, &format!("{begin} --rule generation")).expect(2, &["--generate"]);
    compare(&place, &format!("{begin} --rule generation --generate none.toml"))
        .expect(2, &["none"]);
    let bad = "[diffusion]\nprocess = \"gaussian\"\n";
    std::fs::write(place.path("bad.toml"), bad).unwrap();
    images(&place.path("small.npz"), [48, 4], || 1);
    let small = begin.replace("data.npz", "small.npz");
    compare(&place, &format!("{small} {asked}")).expect(4, &["sides of at least 8"]);
    compare(&place, &format!("{begin} --samples 9")).expect(2, &["--generate"]);
    compare(&place, &format!("{begin} --generate bad.toml")).expect(2, &["of codes"]);
    assert!(!place.path("out").exists(), "something was trained before the mistake was told");

    let without = compare(&place, begin);
    assert!(matches!(without.code, Some(0 | 10 | 20 | 30)), "{}", without.err);
    let rules = json(&place, "out/report.json")["result"]["verdict"]["rules"].clone();
    assert!(rules[3]["not_judged"].as_str().unwrap().contains("--generate"), "{rules}");
    let more = compare(&place, &format!("{begin} {asked} --rule generation --resume auto"));
    assert!(matches!(more.code, Some(0 | 10 | 20 | 30)), "{}", more.err);
    assert!(!more.err.contains("1/4 ema"), "an autoencoder was trained again: {}", more.err);
    let report = json(&place, "out/report.json");
    let routes: Vec<String> = report["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| {
            assert!(o["evaluation"]["kid"]["samples"]["mmd2"].is_number(), "{o}");
            format!("{} {}", o["arm"].as_str().unwrap(), o["route"].as_str().unwrap())
        })
        .collect();
    let want =
        ["ema discrete", "ema hybrid", "rvq2 discrete", "kl=1e-6 continuous", "kl=1e-1 continuous"];
    assert_eq!(routes, want);
    for (route, sampler) in [(0, "ancestral"), (1, "ddim"), (3, "ddim")] {
        let made = &report["samples"][route]["evaluation"]["circumstances"]["sampling"];
        assert_eq!(made["sampler"], sampler);
    }
    assert_eq!(report["result"]["verdict"]["rule"], "generation");
    let process = |run: &str| {
        let config = place.text(&format!("out/runs/{run}/config.toml"));
        config.lines().find(|l| l.starts_with("process")).unwrap().to_string()
    };
    assert!(process("ema-s0-discrete").contains("masked"));
    for run in ["ema-s0-hybrid", "kl1e-6-s0-continuous"] {
        assert!(process(run).contains("gaussian"), "{run}");
    }
    let text = place.text("out/report.md");
    for (name, set, place) in
        [("| ema | discrete |", "samples", 0), ("| real images |  |", "floor", 0)]
    {
        let kid = &report["samples"][place]["evaluation"]["kid"][set]["mmd2"];
        let row = format!("{name} {:.2} |", 1e3 * kid.as_f64().unwrap());
        assert!(text.contains(&row), "{row} is not in {text}");
    }
    assert!(place.text("out/report.html").contains("kl=1e-1, continuous diffusion"), "no grids");

    // Again: nothing is trained, and the same comes out. Without the samples it is another comparison.
    let again = place.run(&["compare", "--resume", "out", "--device", "cpu"]);
    assert_eq!(again.code, more.code, "{}", again.err);
    assert!(!again.err.contains("diffusion\n"), "{}", again.err);
    assert_eq!(json(&place, "out/report.json")["result"], report["result"]);
    compare(&place, &format!("{begin} --resume auto")).expect(2, &["samples that are missing"]);
}

/// A run that diverges is an outcome: the others are trained all the same.
#[test]
fn arms_that_diverge() {
    let place = Place::new("compare-diverged");
    let data = "tiny.toml --data synth:rotor --seeds 1 --out out";
    let wild = "--set model.family=classic --set model.num_residual_layers=16 --set train.lr=1 \
                --set train.clip=0 --set train.warmup=0 --set train.steps=20";
    let done = compare(&place, &format!("{data} {wild}"));
    done.expect(7, &["ema, seed 0 failed", "4/4 kl=1e-1, seed 0", "nothing is left to compare"]);
    for run in ["ema-s0", "fsq-s0", "kl1e-6-s0", "kl1e-1-s0"] {
        let outcome = json(&place, &format!("out/runs/{run}/outcome.json"));
        let failed = outcome["failed"].as_str().is_some_and(|why| why.contains("not finite"));
        assert!(failed || run.starts_with("kl"), "{outcome}");
    }
}

/// Ctrl-C ends the comparison, and the command that is printed goes on with it.
#[cfg(unix)]
#[test]
fn ctrl_c_in_a_comparison() {
    let place = Place::new("compare-ctrl-c");
    let line = "compare tiny.toml --data synth:rotor --device cpu --out out \
                --set train.steps=1000000 --set train.eval_every=0";
    let running = place.start("long", &line.split_whitespace().collect::<Vec<_>>());
    super::wait_for("a step", || {
        let metrics = place.path("out/runs/ema-s0/metrics.jsonl");
        std::fs::read_to_string(metrics).is_ok_and(|text| text.contains("step"))
    });
    let pid = running.pid().to_string();
    let status = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(status.success());
    let again = "everything is saved\n  help: continue with: vqforge compare --resume out\n";
    let done = running.end().expect(130, &["stopped in ema, seed 0; ", again]);
    assert!(!done.err.contains("train vqvae"), "{}", done.err);
    assert!(place.path("out/runs/ema-s0/checkpoints/last.safetensors").exists());
}

#[test]
fn mistakes_are_told_before_anything_is_trained() {
    let place = Place::new("compare-bad");
    let synth = "tiny.toml --data synth:rotor --out out";
    for (args, parts) in [
        (format!("{synth} --seeds 1 --set quantiser.fsq_levels=[1]"), vec!["quantiser.fsq_levels"]),
        ("tiny.toml --out out".into(), vec!["no data were given"]),
        ("--data synth:rotor".into(), vec!["no settings were given"]),
    ] {
        compare(&place, &args).expect(2, &parts);
    }
    for (flag, value) in [
        ("--vq", "emma"),
        ("--vq", ""),
        ("--vq", "mvq16"),
        ("--vae", "kl=x"),
        ("--vae", "kl=1e-6,0.000001"),
        ("--rule", "best"),
        ("--margin", "nan"),
    ] {
        let args = ["compare", "tiny.toml", "--data", "synth:rotor", flag, value];
        assert_eq!(place.run(&args).code, Some(2), "{flag} {value}");
    }
    assert!(!place.path("out").exists());
}

/// Constant images, one image, two classes of one image each, noise, a codebook larger than its tokens:
/// a clear refusal, or a verdict that is not CONTINUE_VQ.
#[test]
fn data_that_show_nothing() {
    let place = Place::new("compare-awkward");
    let mut rng = Rng::new(3, Stream::Test, 0);
    let mut noise = || rng.below(256) as u8;
    images(&place.path("one.npz"), [1, 16], &mut noise);
    images(&place.path("two.npz"), [2, 16], &mut noise);
    images(&place.path("noise.npz"), [96, 16], &mut noise);
    images(&place.path("constant.npz"), [48, 16], || 128);
    let brief = "--seeds 1 --set train.steps=4";
    for data in ["one.npz", "two.npz"] {
        let done = compare(&place, &format!("tiny.toml --data {data} --out {data}.out {brief}"));
        done.expect(4, &["help: "]);
    }
    let people = "--set data.split={by=\"array\",name=\"subject\",test=[5,6,7]}";
    for (name, more) in [
        ("constant", ""),
        ("noise", people),
        ("large", "--set model.num_vq_embeddings=4096 --set quantiser.kmeans_samples=4096"),
    ] {
        let data = if name == "constant" { "constant.npz" } else { "noise.npz" };
        let args = format!("tiny.toml --data {data} --out {name}.out {brief} {more}");
        let done = compare(&place, &args);
        assert_eq!(done.code, Some(30), "{name}: {}", done.err);
        assert_eq!(verdict(&place, &format!("{name}.out")), "INCONCLUSIVE", "{name}");
    }
    let text = place.text("large.out/report.md");
    assert!(text.contains("usage gate is refused"), "{text}");
}

/// Three channels and sides that differ, through every family and bottleneck.
#[test]
fn shapes_of_all_kinds() {
    let place = Place::new("shapes");
    let n = 12;
    let pixels: Vec<u8> = (0..n * 32 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let data = Dataset::from_u8(pixels, [n, 32, 16, 3], None, vec![], "test").unwrap();
    write_npz(&place.path("colour.npz"), &data).unwrap();
    let three = "--set model.in_channels=3 --set model.out_channels=3 --set train.steps=2 \
                 --set train.warmup=0";
    for family in ["compact", "vqmodel", "classic"] {
        for kind in ["vqvae", "klvae"] {
            let out = format!("{family}-{kind}");
            let args = format!(
                "{kind} tiny.toml --data colour.npz --out {out} --set model.family={family} {three}"
            );
            place.train(&args).expect(0, &[]);
            assert!(place.metrics(&out)[0]["loss"].as_f64().unwrap().is_finite(), "{out}");
        }
    }
    let done = place.train("vqvae tiny.toml --data colour.npz --out x");
    done.expect(4, &["3 channels", "model.in_channels=3"]);
}

/// A codebook that cannot but collapse is diagnosed, and the run begins anew under each remedy in turn.
#[test]
fn collapse_is_met() {
    let place = Place::new("remedy");
    // Away from the borders all latents of constant images are one: a code has more than half of them.
    images(&place.path("constant.npz"), [16, 64], || 128);
    let args = "vqvae tiny.toml --data constant.npz --set train.steps=8 --set train.eval_every=2 \
                --set train.lanes=1 --set quantiser.revive_every=0 --set data.split.fraction=0.5";
    let told = place.train(&format!("{args} --out told"));
    told.expect(0, &["the codebook has collapsed", "quantiser.revive_every=25"]);
    let mended = place.train(&format!("{args} --out mended --auto-remedy"));
    let config = place.text("mended/config.toml");
    let mended = mended.expect(0, &["begins anew with --set quantiser.revive_every=25"]);
    for setting in ["num_vq_embeddings", "quantiser.kind=fsq"] {
        assert!(mended.err.contains(setting), "{setting}: {}", mended.err);
    }
    assert!(config.contains("kind = \"fsq\""), "{config}");
    // One run, not the steps of all attempts.
    let steps: Vec<_> =
        place.metrics("mended").iter().filter(|l| l["loss"].is_number()).cloned().collect();
    assert_eq!(steps.len(), 8);
}

/// Remedies that the other settings do not allow, or that change nothing, are passed over; one that is
/// seen at the end only comes too late.
#[test]
fn remedies_that_do_not_fit() {
    let place = Place::new("misfits");
    images(&place.path("constant.npz"), [16, 64], || 128);
    let args = "vqvae tiny.toml --data constant.npz --set train.steps=4 --set train.lanes=1 \
                --set data.split.fraction=0.5 --auto-remedy";
    let often = format!("{args} --set train.eval_every=2");
    // No check can come more often than the reservoir fills.
    let full = "--set quantiser.revive_every=30 --set quantiser.revive_reservoir=30";
    let full = format!("{often} {full} --set quantiser.estimator=rotation --out full");
    let scalar = "--set quantiser.kind=fsq --set quantiser.estimator=straight-through";
    let anew = ["--set model.num_vq_embeddings=8", scalar].map(|s| format!("begins anew with {s}"));
    let done = place.train(&full).expect(0, &[&anew[0], &anew[1]]);
    assert_eq!(done.err.matches("begins anew").count(), 2, "{}", done.err);
    for (kind, least) in [("fsq", "quantiser.fsq_levels"), ("bsq", "model.num_vq_embeddings=8")] {
        let run = format!("{often} --set quantiser.kind={kind} --out {kind}");
        let done = place.train(&run).expect(0, &["has collapsed"]);
        assert!(!done.err.contains("quantiser.kind=fsq"), "{}", done.err);
        assert_eq!(done.err.contains(least), kind == "bsq", "{}", done.err);
    }
    let late = format!("{args} --set train.eval_every=0 --out late");
    let done = place.train(&late).expect(0, &["has collapsed", "too late to begin anew"]);
    assert_eq!(done.out.trim(), "late");
}

/// Attempts share the steps of the process, and what was tried is remembered beyond it.
#[test]
fn attempts_are_one_run() {
    let place = Place::new("attempts");
    images(&place.path("constant.npz"), [16, 64], || 128);
    let args = "vqvae tiny.toml --data constant.npz --set train.steps=8 --set train.eval_every=2 \
                --set train.lanes=1 --set quantiser.revive_every=0 --set data.split.fraction=0.5";
    let five = place.train(&format!("{args} --out run --auto-remedy --max-steps 5"));
    let five = five.expect(75, &["stopped after step 1;"]);
    assert_eq!(five.err.matches("begins anew").count(), 2, "{}", five.err);
    let more = place.train("vqvae --resume run --auto-remedy --max-steps 2");
    let more = more.expect(75, &["begins anew with --set quantiser.kind=fsq"]);
    assert!(!more.err.contains("begins anew with --set quantiser.revive_every"), "{}", more.err);
}

/// A KL-VAE is trained, continued, told apart from a VQ-VAE, and refused as a tokenizer; the report of
/// a run is written anew.
#[test]
fn a_kl_vae_is_a_run_like_any() {
    let place = Place::new("klvae");
    let synth = "tiny.toml --data synth:rotor --set kl.weight=1e-3";
    place.train(&format!("klvae {synth} --out straight")).expect(0, &[]);
    place.train(&format!("klvae {synth} --out pieces --max-steps 5")).expect(75, &[]);
    place.train("klvae --resume pieces").expect(0, &[]);
    let [a, b] = ["straight", "pieces"].map(|run| place.metrics(run));
    assert_eq!(a, b);
    let last = a.last().unwrap();
    let bits = last["eval"]["bits_per_image"].as_f64().unwrap();
    let nats = last["eval"]["kl"].as_f64().unwrap();
    assert!((bits * std::f64::consts::LN_2 - nats).abs() <= 4.0 * f64::EPSILON * nats);
    place.train("vqvae --resume pieces").expect(2, &["a klvae run, not vqvae"]);
    let tokenizer = "diffusion tiny.toml --tokenizer straight --data synth:rotor --out x";
    place.train(tokenizer).expect(2, &["the tokenizer must be a vqvae run"]);
    std::fs::remove_file(place.path("straight/report.html")).unwrap();
    place.run(&["report", "straight"]).expect(0, &[]);
    assert!(place.text("straight/report.html").contains("klvae"));
    place.run(&["report", "nowhere"]).expect(2, &["there is no run here"]);
}
