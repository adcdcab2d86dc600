//! A run that was stopped, interrupted or killed and continued is, byte for byte, the run that was
//! not.

use super::{Place, wait_for};
use std::fs;
use std::time::{Duration, Instant};
use vqforge::rng::{Rng, Stream};
use vqforge::train::Snapshot;

const LAST: &str = "checkpoints/last.safetensors";

/// Compares everything two runs of the same settings leave that does not depend on the clock.
#[track_caller]
pub fn same(place: &Place, a: &str, b: &str) {
    for file in ["last", "best", "step_4", "step_8", "step_11"] {
        let [one, two] =
            [a, b].map(|run| place.read(&format!("{run}/checkpoints/{file}.safetensors")));
        assert!(one == two, "{file}.safetensors of {a} and {b} differ");
    }
    assert_eq!(place.metrics(a), place.metrics(b), "metrics of {a} and {b}");
}

fn stops(place: &Place, job: &str) {
    place.train(&format!("{job} --out straight --threads 1")).expect(0, &[]);
    for k in [1, 2, 5, 8, 10] {
        let run = format!("at{k}");
        let stopped = place.train(&format!("{job} --out {run} --threads 2 --max-steps {k}"));
        let kind = job.split(' ').next().unwrap();
        let again = format!(
            "stopped after step {k}; everything is saved\n  help: continue with: vqforge train {kind} --resume {run}"
        );
        stopped.expect(75, &[&again]);
        let resumed = place.train(&format!("{kind} --resume {run} --threads 1"));
        resumed.expect(0, &[&format!("last.safetensors at step {k}\n"), "step 11/11"]);
        same(place, "straight", &run);
    }
    // Many small pieces, by the command that a job script would repeat.
    let auto = format!("{job} --out pieces --resume auto --max-steps 3");
    for piece in 0..3 {
        place.train(&auto).expect(75, if piece == 0 { &[] } else { &["resuming"] });
    }
    place.train(&auto).expect(0, &["at step 9\n"]);
    same(place, "straight", "pieces");
    place.train(&auto).expect(0, &["all 11 steps are done"]);
    same(place, "straight", "pieces");
}

#[test]
fn vqvae_in_pieces() {
    stops(&Place::new("vqvae-pieces"), "vqvae tiny.toml --data synth:rotor");
}

#[test]
fn diffusion_in_pieces() {
    let place = Place::new("diffusion-pieces");
    let tokenizer = "vqvae tiny.toml --data synth:rotor --out tokenizer --set train.steps=4";
    place.train(tokenizer).expect(0, &[]);
    stops(&place, "diffusion tiny.toml --data synth:rotor --tokenizer tokenizer");
    // The run has its own copy of the tokenizer and goes on when that has changed.
    place
        .train("vqvae --resume tokenizer --set train.steps=5")
        .expect(0, &["changed: train.steps"]);
    let more = "diffusion tiny.toml --tokenizer tokenizer --out at1 --resume auto";
    place.train(more).expect(0, &["warning: --tokenizer has changed"]);
}

/// How often each step of the chain was drawn, and how large its losses were, belong to the state: the
/// run is stopped after its last step drawn by chance and after its first by importance. Draws do not
/// depend on how the batch is cut into lanes.
#[test]
fn importance_in_pieces() {
    let place = Place::new("importance-pieces");
    let tokenizer = "vqvae tiny.toml --data synth:rotor --out tokenizer --set train.steps=4";
    place.train(tokenizer).expect(0, &[]);
    let job = "diffusion tiny.toml --data synth:rotor --tokenizer tokenizer \
               --set diffusion.process=vq-diffusion --set diffusion.steps=3 --set train.batch=8";
    let job = job.split_whitespace().collect::<Vec<_>>().join(" ");
    place.train(&format!("{job} --out straight --threads 1")).expect(0, &[]);
    let checkpoint = |run: &str, name: &str| {
        let file = format!("{run}/checkpoints/{name}.safetensors");
        Snapshot::load(&place.path(&file)).unwrap().tensors
    };
    let states = |run: &str, name: &str| {
        let tensors = checkpoint(run, name);
        ["state.step_draws", "state.step_losses"].map(|state| tensors[state].data.clone())
    };
    let [early, late] = ["step_4", "last"].map(|name| states("straight", name));
    let rarest = |draws: &[f32]| draws.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(rarest(&early[0]) <= 10.0 && rarest(&late[0]) > 10.0, "{early:?} {late:?}");
    assert!(late[1].iter().all(|&square| square > 0.0 && square.is_finite()));
    assert!(place.text("straight/config.toml").contains("importance = true"));
    for k in [4, 9] {
        let run = format!("at{k}");
        place.train(&format!("{job} --out {run} --threads 2 --max-steps {k}")).expect(75, &[]);
        place.train(&format!("diffusion --resume {run}")).expect(0, &[]);
        same(&place, "straight", &run);
    }
    place.train(&format!("{job} --out lanes --set train.lanes=1")).expect(0, &[]);
    let lanes = states("lanes", "last");
    assert_eq!(lanes[0], late[0], "lanes draw other steps");
    // Without the key the checkpoint would be older than it, and steps drawn alike.
    let changed = place.train("diffusion --resume at4 --set diffusion.importance=false");
    changed.expect(0, &["warning: changed: diffusion.importance true -> false"]);
    place
        .train(&format!("{job} --out alike --set diffusion.importance=false --max-steps 2"))
        .expect(75, &[]);
    let refused = place.train("diffusion --resume alike --set diffusion.importance=true");
    refused.expect(2, &["how large the losses"]);
}

/// In mixed precision the scale of the loss, and how long it has held, belong to the state.
#[test]
fn mixed_in_pieces() {
    let place = Place::new("mixed-pieces");
    let job = "vqvae tiny.toml --data synth:rotor --precision mixed";
    place.train(&format!("{job} --out straight --threads 1")).expect(0, &[]);
    place.train(&format!("{job} --out pieces --threads 2 --max-steps 5")).expect(75, &[]);
    place.train("vqvae --resume pieces --threads 1").expect(0, &["at step 5\n"]);
    same(&place, "straight", "pieces");
    let last = Snapshot::load(&place.path("straight").join(LAST)).unwrap();
    let state = |name: &str| last.tensors[name].data.clone();
    assert_eq!(state("state.good_steps"), [11.0 - state("state.ctl")[3]]);
    let scales: Vec<f64> =
        place.metrics("straight").iter().filter_map(|line| line["loss_scale"].as_f64()).collect();
    assert_eq!((scales.len(), scales.last()), (11, Some(&state("state.loss_scale")[0].into())));
    assert!(place.text("straight/plan.txt").contains("values as f16"));
    // Weights are f32 in either precision: each continues runs of the other.
    let full = "vqvae tiny.toml --data synth:rotor --out full --max-steps 5";
    place.train(full).expect(75, &[]);
    let changed = place.train("vqvae --resume full --precision mixed --max-steps 2");
    changed.expect(75, &["warning: changed: train.precision"]);
    place.train("vqvae --resume full --precision f32").expect(0, &["train.precision"]);
    let twice = place.train(&format!("{job} --out twice --set train.precision=f32"));
    twice.expect(2, &["train.precision is set twice"]);
    place.train("vqvae tiny.toml --precision half").expect(2, &["use f32 or mixed"]);
}

/// A checkpoint before the last one, by name.
#[test]
fn from_a_numbered_checkpoint() {
    let place = Place::new("numbered");
    place.train("vqvae tiny.toml --data synth:rotor --out a").expect(0, &[]);
    place.train("vqvae tiny.toml --data synth:rotor --out b").expect(0, &[]);
    place.train("vqvae --resume b@step_4").expect(0, &["step_4.safetensors at step 4\n"]);
    same(&place, "a", "b");
}

/// Nothing of a run is given up before what takes its place is saved.
#[test]
fn killed_before_the_first_save() {
    let place = Place::new("unsaved");
    place.train("vqvae tiny.toml --data synth:rotor --out run").expect(0, &[]);
    let metrics = place.read("run/metrics.jsonl");
    let told = place.text("run/run.log").matches("step 5/").count();
    let endless = "--set train.steps=1000000 --set train.eval_every=0 --set train.log_every=1";
    let line = format!("train vqvae --resume run@step_4 {endless} --device cpu");
    let running = place.start("killed", &line.split(' ').collect::<Vec<_>>());
    wait_for("the next step", || place.text("run/run.log").matches("step 5/").count() > told);
    running.kill();
    assert!(metrics == place.read("run/metrics.jsonl"), "lines were dropped or added");
    place.train("vqvae --resume run --set train.steps=11").expect(0, &["at step 11\n"]);
    assert!(metrics == place.read("run/metrics.jsonl"), "lines were dropped or added");
    place.train("vqvae --resume run@step_4 --max-steps 1").expect(75, &["at step 4\n"]);
    let steps: Vec<_> = place.metrics("run").iter().map(|l| l["step"].as_u64()).collect();
    assert_eq!(steps.last(), Some(&Some(5)), "{steps:?}");
}

/// The runs of the demonstration can be continued like any other.
#[test]
fn demonstrations_go_on() {
    let place = Place::new("demo");
    let args = ["demo", "--device", "cpu", "--scale", "0.002", "--out", "demo"];
    place.run(&args).expect(0, &[]);
    for kind in ["vqvae", "diffusion"] {
        let run = format!("demo/{kind}");
        assert!(place.text(&format!("{run}/plan.txt")).contains("launch"), "{run}");
        let meta = Snapshot::load(&place.path(&run).join(LAST)).unwrap().meta;
        for key in ["data", "data_hash", "plan_hash", "device"] {
            assert!(meta.contains_key(key), "{run} does not say its {key}");
        }
        let done = place.train(&format!("{kind} --resume {run} --set train.steps=3"));
        let done = done.expect(0, &["changed: train.steps"]);
        for same in ["the data differ", "compiled otherwise", "is another"] {
            assert!(!done.err.contains(same), "{}", done.err);
        }
    }
}

#[test]
fn changed_settings_and_data() {
    let place = Place::new("changed");
    place.train("vqvae tiny.toml --data synth:rotor --out run --max-steps 5").expect(75, &[]);
    let config = place.read("run/config.toml");
    let bigger = place.train("vqvae --resume run --set model.num_vq_embeddings=32");
    bigger.expect(2, &["model.num_vq_embeddings 16 -> 32", "other shapes", "help: "]);
    let critic = place.train("vqvae --resume run --set loss.adversarial.weight=0.1");
    critic.expect(2, &["loss.adversarial.weight", "the checkpoint holds no discriminator"]);
    assert_eq!(place.read("run/config.toml"), config, "a refused change was written");
    place
        .train("diffusion --resume run --tokenizer run")
        .expect(2, &["a vqvae run, not diffusion"]);
    let elsewhere = place.train("vqvae --resume run --out other");
    elsewhere.expect(2, &["different folders"]);
    let rates = "vqvae --resume run --max-steps 1 --set train.lr=1e-4 --set checkpoint.every=5";
    let said =
        ["changed: checkpoint.every 60.0 -> 5", "warning: changed: train.lr 0.0003 -> 0.0001"];
    place.train(rates).expect(75, &said);
    // A file that is named again counts, too.
    let text = super::TINY.replace("warmup = 3", "warmup = 4");
    fs::write(place.path("tiny.toml"), text).unwrap();
    let file = place.train("vqvae tiny.toml --out run --resume auto --max-steps 1");
    file.expect(75, &["warning: changed: train.warmup 3 -> 4", "train.lr 0.0001 -> 0.0003"]);
    let data = place.train("vqvae --resume run --data synth:human --max-steps 1");
    data.expect(75, &["warning: the data differ"]);
}

/// Ctrl-C saves; the command that is printed goes on from there. Meanwhile nobody else may train in
/// the folder.
#[cfg(unix)]
#[test]
fn one_process_a_folder_and_ctrl_c() {
    let place = Place::new("ctrl-c");
    let long = "vqvae tiny.toml --data synth:rotor --device cpu --set train.steps=1000000";
    let mut args: Vec<&str> = vec!["train"];
    args.extend(long.split(' '));
    args.extend(["--out", "long run"]);
    let running = place.start("long", &args);
    wait_for("the first step", || {
        fs::read_to_string(place.path("long run/metrics.jsonl")).is_ok_and(|t| t.contains("step"))
    });
    let held = format!("process {}", running.pid());
    let resume = ["train", "vqvae", "--device", "cpu", "--resume", "long run"];
    for second in [&args[..], &[&args[..], &["--resume", "auto"]].concat(), &resume] {
        let said = ["another process is training", "at: long run", &held, "help: wait"];
        place.run(second).expect(2, &said);
    }
    let kill = |signal: &str| {
        let pid = running.pid().to_string();
        let status = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    };
    kill("-INT");
    let again = "continue with: vqforge train vqvae --resume \"long run\"";
    let done =
        running.end().expect(130, &["stopping after this step", "everything is saved", again]);
    assert_eq!(done.out, "");
    let step = Snapshot::load(&place.path("long run").join(LAST)).unwrap().step().unwrap();
    let done = place.run(&[&resume[..], &["--max-steps", "2"]].concat());
    done.expect(75, &[&format!("at step {step}\n"), &format!("after step {}", step + 2)]);
}

/// Ctrl-C in an evaluation, which is most of what this run does: the step is saved all the same.
#[cfg(unix)]
#[test]
fn ctrl_c_in_an_evaluation() {
    let place = Place::new("ctrl-c-eval");
    let line = "train vqvae tiny.toml --data synth:rotor --device cpu --out run \
                --set train.steps=1000000 --set train.eval_every=1 --set data.synth.n=200 \
                --set data.split.fraction=0.9";
    let running = place.start("eval", &line.split_whitespace().collect::<Vec<_>>());
    wait_for("an evaluation", || {
        fs::read_to_string(place.path("run/run.log")).is_ok_and(|t| t.contains("held out: psnr"))
    });
    let pid = running.pid().to_string();
    let status = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(status.success());
    let again = "everything is saved\n  help: continue with: vqforge train vqvae --resume run";
    let done = running.end().expect(130, &[again]);
    let step = Snapshot::load(&place.path("run").join(LAST)).unwrap().step().unwrap();
    assert!(done.err.contains(&format!("stopped after step {step};")), "{}", done.err);
    // Its numbers are there, and nothing else was begun.
    let last = place.metrics("run").last().cloned().unwrap();
    assert_eq!(last["step"].as_u64(), Some(step));
}

/// Killed at 20 random moments, most of them while a checkpoint is written, for one is written after
/// every step: at most one step is lost, no checkpoint is ever damaged, and the end is the same.
#[test]
fn killed_at_any_moment() {
    const KILLS: usize = 20;
    let place = Place::new("killed");
    let text = super::TINY.replace("log_every", "log_every = 1 #") + "[checkpoint]\nevery = 0\n";
    fs::write(place.path("tiny.toml"), text.replace("steps = 11", "steps = 40")).unwrap();
    place.train("vqvae tiny.toml --data synth:rotor --out straight").expect(0, &[]);
    let logged = |run: &str| {
        let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap_or_default();
        // The last line may be half written.
        let steps = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        steps.filter_map(|v: serde_json::Value| v["step"].as_u64()).max().unwrap_or(0)
    };
    let mut rng = Rng::new(5, Stream::Test, 0);
    let (mut kills, mut runs, mut lost, mut reached) = (0, 0, 0, vec![]);
    let finished = |runs: usize| {
        let run = format!("run{runs}");
        for file in ["last", "best", "step_40"] {
            let [a, b] = ["straight", &run]
                .map(|r| place.read(&format!("{r}/checkpoints/{file}.safetensors")));
            assert!(a == b, "{file} of a run that was killed differs");
        }
        assert_eq!(place.metrics("straight"), place.metrics(&run));
        for entry in fs::read_dir(place.path(&run).join("checkpoints")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("tmp"), "{name} was left behind");
        }
    };
    while kills < KILLS {
        let run = format!("run{runs}");
        let before = logged(&run);
        let line = format!(
            "train vqvae tiny.toml --data synth:rotor --device cpu --out {run} --resume auto"
        );
        let mut running = place.start("killed", &line.split(' ').collect::<Vec<_>>());
        // A quarter of the kills falls into the start, the others after a step or more.
        if rng.below(4) > 0 {
            wait_for("a step", || running.ended().is_some() || logged(&run) > before.max(1));
        }
        let moment = Instant::now() + Duration::from_micros(u64::from(rng.below(100_000)));
        while Instant::now() < moment && running.ended().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if running.ended().is_some() {
            running.end().expect(0, &[]);
            finished(runs);
            runs += 1;
            continue;
        }
        running.kill();
        kills += 1;
        let last = place.path(&run).join(LAST);
        let (told, saved) = (
            logged(&run),
            match last.exists() {
                true => Snapshot::load(&last).unwrap_or_else(|e| panic!("{e}")).step().unwrap(),
                false => 0,
            },
        );
        assert!(saved + 1 >= told, "step {told} was done, but only {saved} saved");
        lost += told - saved;
        reached.push(saved);
    }
    let auto = format!("vqvae tiny.toml --data synth:rotor --out run{runs} --resume auto");
    let done = place.train(&auto).expect(0, &[]);
    assert!(!done.err.contains("cannot be used"), "{}", done.err);
    finished(runs);
    println!("killed at steps {reached:?}, {lost} steps done twice, {} runs", runs + 1);
    assert!(reached.iter().any(|&s| s > 1), "no kill came after a step: {reached:?}");
}
