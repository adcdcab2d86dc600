use super::testing::{Exact, Law, error, frequencies, masked, run};
use super::*;
use crate::config::NoiseSchedule;
use crate::diffusion::Chain;

const EVERY: [Sampler; 6] = [
    Sampler::Ancestral,
    Sampler::MaskGit { tau: 4.5 },
    Sampler::FirstHitting,
    Sampler::Halton,
    Sampler::Remdm { eta: 0.3 },
    Sampler::Purity { weight: 1.0 },
];

#[test]
fn what_a_chain_cannot_do() {
    let (law, chain) = (Law::single(&[0.25; 4]), Chain::uniform(4, 10).unwrap());
    let corruption = Corruption::Chain(chain);
    let tell = |sampler, steps| {
        let mut model = Exact::new(&law, &corruption, sampler);
        let outcome = run(&law, sampler, &corruption, steps, 1).sample(&mut model);
        outcome.map_err(|e| e.to_string())
    };
    assert!(tell(Sampler::MaskGit { tau: 1.0 }, 4).unwrap_err().contains("ancestral"));
    assert!(tell(Sampler::Ancestral, 11).unwrap_err().contains("--steps 10"));
}

/// In few and in many steps, whole and in parts.
#[test]
fn every_sampler_finishes_and_repeats() {
    let (law, corruption) = (Law::pair(), masked(NoiseSchedule::Linear));
    for sampler in EVERY {
        for steps in [1, 3, 50] {
            let steps = if sampler == Sampler::FirstHitting { law.length } else { steps };
            let run = Run { first: 3, ..run(&law, sampler, &corruption, steps, 7) };
            let sample = || run.sample(&mut Exact::new(&law, &corruption, sampler)).unwrap();
            let (a, b) = (sample(), sample());
            assert!(a == b && a.iter().all(|&x| x < 3), "{sampler:?}: {a:?}");
        }
    }
}

#[test]
fn runs_that_cannot_be() {
    let (law, corruption) = (Law::pair(), masked(NoiseSchedule::Linear));
    let tell = |run: Run<'_>| {
        let outcome = run.sample(&mut Exact::new(&law, &corruption, run.sampler));
        outcome.unwrap_err().to_string()
    };
    let first = run(&law, Sampler::FirstHitting, &corruption, 3, 1);
    assert!(tell(first).contains("3 steps for 2 tokens"));
    assert!(tell(run(&law, Sampler::Ancestral, &corruption, 0, 1)).contains("--steps 1"));
    let paced = Run { pace: Pace::Cosine, ..run(&law, Sampler::Halton, &corruption, 2, 1) };
    assert!(tell(paced).contains("leave --grid out"));
    let short = Run { given: &[3], ..run(&law, Sampler::Ancestral, &corruption, 2, 1) };
    assert!(tell(short).contains("another number of tokens"));
}

/// Given one of two tokens, the other follows its conditional law, and the given one stays: also where
/// tokens are masked again.
#[test]
fn what_is_given_stays() {
    let (samples, mask) = (20_000, 3);
    let (law, corruption) = (Law::pair(), masked(NoiseSchedule::Linear));
    let given: Vec<u32> = [mask, 1].repeat(samples);
    let column: f64 = (0..3).map(|i| law.p[3 * i + 1]).sum();
    let cut: Vec<f64> =
        law.p.iter().enumerate().map(|(i, p)| if i % 3 == 1 { p / column } else { 0.0 }).collect();
    for sampler in EVERY {
        // What is sharpened is not the law of the data.
        let sampler = match sampler {
            Sampler::Purity { .. } => Sampler::Purity { weight: 0.0 },
            other => other,
        };
        let run = Run { given: &given, ..run(&law, sampler, &corruption, 2, samples) };
        let used = error(&frequencies(&law, &run), &cut, samples);
        println!("{sampler:?}: {used:.2} of the bound");
        assert!(used <= 1.0, "{sampler:?}");
    }
}

#[test]
fn what_is_given_stays_in_a_chain() {
    let law = Law::new(4, 2, &[1.0 / 16.0; 16]);
    let corruption = Corruption::Chain(Chain::published(4, 20).unwrap());
    let given = [4, 2].repeat(50);
    let run = Run { given: &given, ..run(&law, Sampler::Ancestral, &corruption, 5, 50) };
    let x = run.sample(&mut Exact::new(&law, &corruption, run.sampler)).unwrap();
    assert!(x.chunks(2).all(|pair| pair[0] < 4 && pair[1] == 2), "{x:?}");
}

/// Where everything is given there is nothing to ask.
#[test]
fn nothing_to_make_is_not_asked() {
    let (law, corruption) = (Law::pair(), masked(NoiseSchedule::Linear));
    let run = Run { given: &[2, 1], ..run(&law, Sampler::Halton, &corruption, 4, 1) };
    let mut model = Exact::new(&law, &corruption, run.sampler);
    assert_eq!((run.sample(&mut model).unwrap(), model.asked), (vec![2, 1], 0));
}
