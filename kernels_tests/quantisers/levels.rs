//! Residual levels that a training step drops.

use super::{Made, draw, images, run_of, settings};
use crate::device;
use crate::rig::ok;
use vqforge::model::quantiser::{self, LEVEL, of_head};
use vqforge::train::{Job, Session};

/// What a step's inputs keep of each group's levels.
fn kept(session: &mut Session, groups: usize, levels: usize) -> Vec<usize> {
    let mut all = vec![];
    for group in 0..groups {
        let mut keeps = vec![1.0];
        for level in 1..levels {
            let range = ok(session.plan.input(&of_head(LEVEL, group * levels + level)));
            keeps.extend(ok(session.store.read_f32(range)));
        }
        let count = keeps.iter().filter(|&&keep| keep == 1.0).count();
        let want: Vec<f32> = (0..levels).map(|level| f32::from(level < count)).collect();
        assert_eq!(keeps, want, "only the last levels may be dropped");
        all.push(count);
    }
    all
}

/// With probability p a step keeps the first 1, 2, .., L levels, each number as likely as the others;
/// else all. Groups draw by themselves. A step has the same draw whatever came before it.
#[test]
fn levels_drop_by_the_law() {
    const STEPS: u64 = 3000;
    let (levels, groups, p) = (3, 2, 0.6);
    let config =
        settings(&["residual_levels=3", "num_codebooks=2", "level_dropout=0.6", "train.batch=1"]);
    let (mut job, mut session) = run_of(config.clone(), images(3, 3));
    let mut feed = |session: &mut Session, step: u64| {
        ok(job.feed(&mut session.store, &session.plan, step, 0));
        kept(session, groups, levels)
    };
    let drawn: Vec<Vec<usize>> = (0..STEPS).map(|step| feed(&mut session, step)).collect();
    for count in 1..=levels {
        let want = p / levels as f64 + if count == levels { 1.0 - p } else { 0.0 };
        // Five deviations of a binomial count.
        let tolerance = 5.0 * (STEPS as f64 * want * (1.0 - want)).sqrt();
        for group in 0..groups {
            let got = drawn.iter().filter(|kept| kept[group] == count).count() as f64;
            let error = (got - STEPS as f64 * want).abs();
            assert!(error <= tolerance, "{count} levels in {got} of {STEPS} steps, not {want}");
        }
        let both = drawn.iter().filter(|kept| kept.iter().all(|&k| k == count)).count() as f64;
        let want = want * want;
        let tolerance = 5.0 * (STEPS as f64 * want * (1.0 - want)).sqrt();
        let error = (both - STEPS as f64 * want).abs();
        assert!(error <= tolerance, "groups drop {count} levels together in {both} of {STEPS}");
    }
    let (mut job, mut other) = run_of(config, images(3, 3));
    for step in [2999, 7, 0, 1500] {
        ok(job.feed(&mut other.store, &other.plan, step, 0));
        assert_eq!(kept(&mut other, groups, levels), drawn[step as usize], "step {step}");
    }
}

/// The decoder gets the sum of the levels that are kept; all levels have their losses.
#[test]
fn dropped_levels_are_not_decoded_and_learn_on() {
    let config = settings(&["residual_levels=3", "level_dropout=0.5"]);
    let (n, d) = (9, config.model.vq_embed_dim);
    let z = draw("latents", n * d);
    let mut losses = vec![];
    for count in 1..=3 {
        let keeps = [1, 2].map(|level| [f32::from(level < count)]);
        let names = [1, 2].map(|level| of_head(LEVEL, level));
        let inputs =
            [("z", &z[..]), (names[0].as_str(), &keeps[0]), (names[1].as_str(), &keeps[1])];
        let mut made = Made::new(device::cpu(1), &config, (&inputs, &[]), |s| {
            let z = s.tape.input("z", &[n, d])?;
            let made = quantiser::build(&config).training(s, z)?;
            for search in &made.searches {
                s.tape.output(&search.book.state("level_code"), search.nearest.code)?;
            }
            for term in &made.terms {
                s.tape.output(&term.name, term.value)?;
            }
            s.tape.output("code", made.code)
        });
        let mut sum = made.floats("level_code");
        for level in 1..count {
            let code = made.floats(&of_head("level_code", level));
            sum.iter_mut().zip(code).for_each(|(sum, code)| *sum += code);
        }
        assert_eq!(made.floats("code"), sum, "{count} levels");
        losses.push([0, 1, 2].map(|level| made.bits(&of_head("commitment", level))));
    }
    assert!(losses.iter().all(|l| *l == losses[0]), "a level's loss depends on what is kept");
}
