//! What quantisers and losses add to a run belongs to what is continued: a reservoir half full, the
//! levels that a step drops, a discriminator, features.

use super::Place;
use super::resume::same;

/// Runs `job` in one go, and stopped after each number of steps; returns the last checkpoint.
fn in_pieces(place: &Place, name: &str, job: &str, stops: &[u64]) -> Vec<u8> {
    let straight = format!("{name}-straight");
    place.train(&format!("{job} --out {straight} --threads 1")).expect(0, &[]);
    for step in stops {
        let run = format!("{name}-at{step}");
        let stopped = format!("{job} --out {run} --threads 2 --max-steps {step}");
        place.train(&stopped).expect(75, &[]);
        let again = place.train(&format!("vqvae --resume {run} --threads 1"));
        again.expect(0, &[&format!("at step {step}\n"), "step 11/11"]);
        same(place, &straight, &run);
    }
    place.read(&format!("{straight}/checkpoints/last.safetensors"))
}

/// The reservoir of the checks after steps 5 fills in steps 3, 4 and 5.
#[test]
fn a_reservoir_half_full() {
    let place = Place::new("reservoir");
    let job = "vqvae tiny.toml --data synth:rotor --set quantiser.revive_every=5";
    let one = in_pieces(&place, "one", job, &[]);
    let three = format!("{job} --set quantiser.revive_reservoir=3");
    let three = in_pieces(&place, "three", &three, &[3, 4]);
    assert!(one != three, "the reservoir changed nothing");
    for kind in ["quantiser.kind=gradient", "quantiser.distance=cosine"] {
        let name = kind.replace("quantiser.", "").replace('=', "-");
        let job = format!("{job} --set quantiser.revive_reservoir=3 --set {kind}");
        in_pieces(&place, &name, &job, &[4]);
    }
}

/// A run may go on with another reservoir or batch, in the middle of gathering.
#[test]
fn another_reservoir() {
    let place = Place::new("another-reservoir");
    let job = "vqvae tiny.toml --data synth:rotor --set quantiser.revive_every=5";
    let first = format!("{job} --set quantiser.revive_reservoir=3 --out run --max-steps 4");
    place.train(&first).expect(75, &[]);
    let said = "warning: changed: quantiser.revive_reservoir 3 -> 4";
    let other = "vqvae --resume run --set quantiser.revive_reservoir=4 --max-steps 5";
    place.train(other).expect(75, &["at step 4\n", said]);
    let said = "warning: changed: train.batch 4 -> 6";
    place.train("vqvae --resume run --set train.batch=6").expect(0, &["at step 9\n", said]);
}

#[test]
fn dropped_levels() {
    let place = Place::new("levels");
    let job = "vqvae tiny.toml --data synth:rotor --set quantiser.residual_levels=3";
    let all = in_pieces(&place, "all", job, &[]);
    let some = format!("{job} --set quantiser.level_dropout=0.7");
    let some = in_pieces(&place, "some", &some, &[1, 4]);
    assert!(all != some, "no level was dropped");
}

/// The tables of SimVQ are drawn once.
#[test]
fn frozen_tables() {
    let place = Place::new("frozen");
    let job = "vqvae tiny.toml --data synth:rotor --set quantiser.kind=simvq --set";
    in_pieces(&place, "simvq", &format!("{job} quantiser.num_codebooks=2"), &[2]);
}

/// A run with every loss there is: the discriminator comes in at step 3, features are learned first, of
/// classes and, where there are none, of turned images.
#[test]
fn all_losses() {
    let place = Place::new("losses");
    let losses = [
        "foreground=2",
        "log_spectral=0.01",
        "multi_resolution=0.1",
        "adversarial.weight=0.05",
        "adversarial.start=3",
        "adversarial.layers=2",
        "adversarial.width=8",
        "perceptual.weight=0.1",
        "perceptual.steps=5",
    ];
    let set = losses.map(|loss| format!("--set loss.{loss}")).join(" ");
    let job = format!("vqvae tiny.toml --data synth:human {set}");
    let classes = in_pieces(&place, "classes", &job, &[2, 5]);
    let log = place.text("classes-straight/run.log");
    assert!(log.contains("perceptual features learned to tell"), "{log}");
    let metrics = place.text("classes-straight/metrics.jsonl");
    for term in ["adversarial", "log_spectral", "perceptual_0", "perceptual_2", "spectral_4"] {
        assert!(metrics.contains(&format!("\"{term}\":")), "no {term} in\n{metrics}");
    }
    let mixed = format!("{job} --set train.precision=mixed --set train.recompute=inputs");
    assert!(in_pieces(&place, "mixed", &mixed, &[4]) != classes, "mixed changed nothing");
}
