//! Each branch of the decision, and what is refused.

use super::*;
use crate::metrics::Gate;
use crate::rng::{Rng, Stream};

const SEEDS: u64 = 3;
const SUBJECTS: u64 = 4;
const IMAGES: u64 = 5;

/// PSNRs around `level`: a shared part that pairs cancel, and `noise` dB of its own.
fn table(level: f64, noise: f64, id: u64) -> Table {
    let mut own = Rng::new(id, Stream::Test, 1);
    let mut table = Table::new();
    for seed in 0..SEEDS {
        let mut shared = Rng::new(5, Stream::Test, 0);
        for subject in 0..SUBJECTS {
            for image in 0..IMAGES {
                let score = level + 2.0 * shared.normal() + noise * own.normal();
                table.insert(seed, &format!("p{subject}"), image, score).unwrap();
            }
        }
    }
    table
}

fn gate(gate: Gate) -> Option<UsageGate> {
    let unique_share = if gate == Gate::Passed { 0.93 } else { 0.41 };
    Some(UsageGate { gate, unique_share, threshold: 0.8, tokens: 40_000 })
}

fn arm(name: &str, kind: ArmKind, rate: f64, psnr: Table) -> Arm {
    let usage = if kind == ArmKind::Vq { gate(Gate::Passed) } else { None };
    let samples = Err("no samples".to_string());
    Arm { name: name.into(), kind, rate, usage, psnr, samples, hybrid_samples: None }
}

/// A VQ of 512 bits at `vq` dB against VAEs of 256, 1024 and 4096 bits at 22, 24 and 26 dB.
fn comparison(vq: f64) -> Comparison {
    let vae = |name, rate, level, id| arm(name, ArmKind::Vae, rate, table(level, 0.1, id));
    Comparison {
        arms: vec![
            arm("vq", ArmKind::Vq, 512.0, table(vq, 0.1, 1)),
            vae("kl-6", 4096.0, 26.0, 2),
            vae("kl-4", 256.0, 22.0, 3),
            vae("kl-5", 1024.0, 24.0, 4),
        ],
        floor: table(15.0, 0.0, 0),
    }
}

fn settings(rule: Rule) -> Settings {
    let resampling = Resampling { draws: 500, ..Resampling::default() };
    Settings { rule, resampling, ..Settings::default() }
}

fn verdict(comparison: &Comparison, rule: Rule) -> Verdict {
    judge(comparison, &settings(rule)).unwrap()
}

#[test]
fn codes_of_the_decisions() {
    use Decision::*;
    let codes = [ContinueVq, Hybrid, StayContinuous, Inconclusive].map(Decision::exit_code);
    assert_eq!(codes, [0, 10, 20, 30]);
    assert_eq!(serde_json::to_string(&StayContinuous).unwrap(), "\"STAY_CONTINUOUS\"");
    assert!(Rule::ALL.into_iter().all(|rule| Rule::parse(rule.name()).unwrap() == rule));
    assert!(Rule::parse("psnr").is_err());
}

/// 25 dB: below the best VAE, above the VAE at 512 bits (23 dB by the middle of 256 and 1024), below
/// 1.1 times 26 dB.
#[test]
fn the_rules_differ() {
    let c = comparison(25.0);
    let by = |rule| verdict(&c, rule);
    assert_eq!(by(Rule::Literal).decision, Decision::StayContinuous);
    assert_eq!(by(Rule::Db).decision, Decision::StayContinuous);
    let matched = by(Rule::RateMatched);
    assert_eq!(matched.decision, Decision::ContinueVq);
    let means: Vec<f64> =
        matched.rules[..3].iter().map(|o| o.interval.as_ref().unwrap().mean).collect();
    // The noise of a mean of 60 is .1 / sqrt(60) an arm; the literal one also has .1 times the
    // shared part of deviation 2, over 20 images.
    let noise = 5.0 * 0.1 * 2.3 / 60f64.sqrt();
    for (mean, want, slack) in [
        (means[0], 25.0 - 28.6, noise + 5.0 * 0.2 / 20f64.sqrt()),
        (means[1], -1.0, noise),
        (means[2], 2.0, noise),
    ] {
        assert!((mean - want).abs() < slack, "{mean} {want}");
    }
    assert!(matched.notes.iter().any(|note| note.contains("best of 3 VAEs")), "{matched}");
    let text = matched.to_string();
    assert!(text.starts_with("**CONTINUE_VQ** by the rate-matched rule"), "{text}");
    assert!(text.contains("| literal |") && text.contains("512.0 bits"), "{text}");
    let json = serde_json::to_string(&matched).unwrap();
    // Reading numbers back from JSON may be off by one unit in the last place: words are compared.
    let read = serde_json::from_str::<Verdict>(&json).unwrap();
    assert_eq!((read.decision, &read.reasons), (matched.decision, &matched.reasons));
}

/// Samples of every seed, at `kid` thousandths with errors of .1.
fn sampled(kid: f64) -> SampleDistances {
    let of = |seed| SampleDistance { seed, kid: 1e-3 * kid, standard_error: 1e-4 };
    Ok((0..SEEDS).map(of).collect())
}

/// What decides is the distance of samples, not PSNR: the VAE of the best samples is the one to beat, and
/// Gaussian diffusion of code vectors is a hybrid.
#[test]
fn samples_decide_by_the_generation_rule() {
    let by = |vq: f64, vaes: [f64; 3], hybrid: Option<f64>| {
        let mut c = comparison(20.0);
        c.arms[0].samples = sampled(vq);
        c.arms[0].hybrid_samples = hybrid.map(sampled);
        c.arms[1..].iter_mut().zip(vaes).for_each(|(arm, kid)| arm.samples = sampled(kid));
        verdict(&c, Rule::Generation)
    };
    let closer = by(1.0, [4.0, 3.0, 5.0], None);
    assert_eq!(closer.decision, Decision::ContinueVq, "{closer}");
    let own = &closer.rules[3];
    assert!((own.interval.as_ref().unwrap().mean - 2.0).abs() < 1e-9, "{closer}");
    assert!(own.quantity.contains("samples over kl-4") && own.quantity.contains("vq"), "{closer}");
    let text = closer.reasons.last().unwrap();
    assert!(text.contains("over kl-4 less that over vq is +2.00,") && !text.contains("2.00 dB"));
    // The rules of PSNR are as they were.
    assert_eq!(closer.rules[1].decision, Decision::StayContinuous);
    assert_eq!(by(3.0, [2.0, 5.0, 5.0], None).decision, Decision::StayContinuous);
    assert_eq!(by(2.0, [2.0, 5.0, 5.0], None).decision, Decision::Inconclusive);
    let hybrid = by(3.0, [2.0, 5.0, 5.0], Some(1.0));
    assert_eq!(hybrid.decision, Decision::Hybrid, "{hybrid}");
    assert!(hybrid.reasons.iter().any(|r| r.contains("code vectors of vq wins")), "{hybrid}");
    assert_eq!(by(3.0, [2.0, 5.0, 5.0], Some(4.0)).decision, Decision::StayContinuous);
    let mut failed = comparison(20.0);
    failed.arms.iter_mut().for_each(|arm| arm.samples = sampled(1.0));
    failed.arms[0].samples = sampled(3.0);
    failed.arms[0].hybrid_samples = Some(Err("it diverged".into()));
    let failed = verdict(&failed, Rule::Generation);
    assert!(failed.reasons.iter().any(|r| r.contains("was not judged: it diverged")), "{failed}");
}

#[test]
fn without_samples_generation_is_not_judged() {
    let c = comparison(28.0);
    let none = verdict(&c, Rule::Generation);
    assert_eq!(none.decision, Decision::Inconclusive);
    assert_eq!(none.rules[3].not_judged.as_deref(), Some("no samples"));
    assert!(none.reasons.last().unwrap().contains("generation rule was not judged: no samples"));
    assert_eq!(verdict(&c, Rule::Db).decision, Decision::ContinueVq);
}

#[test]
fn margins_move_the_decision() {
    let c = comparison(27.0);
    assert_eq!(verdict(&c, Rule::Db).decision, Decision::ContinueVq);
    let with = |margin_db| judge(&c, &Settings { margin_db, ..settings(Rule::Db) }).unwrap();
    assert_eq!(with(2.0).decision, Decision::StayContinuous);
    assert!(with(2.0).rules[1].quantity.contains("-2.00 dB"), "{}", with(2.0));
    let near = with(1.0);
    assert_eq!(
        (near.decision, near.rules[1].interval.as_ref().unwrap().contains_zero()),
        (Decision::Inconclusive, true)
    );
    assert_eq!(verdict(&c, Rule::Literal).decision, Decision::StayContinuous);
    assert_eq!(verdict(&comparison(30.0), Rule::Literal).decision, Decision::ContinueVq);
    let named = Settings { against: Some("kl-4".into()), ..settings(Rule::Literal) };
    assert_eq!(judge(&comparison(25.0), &named).unwrap().decision, Decision::ContinueVq);
}

#[test]
fn ties_are_inconclusive() {
    let mut c = comparison(25.0);
    c.arms[0].psnr = c.arms[1].psnr.clone();
    let tied = verdict(&c, Rule::Db);
    let interval = tied.rules[1].interval.clone().unwrap();
    assert_eq!((interval.lower, interval.upper), (0.0, 0.0));
    let row = &tied.rows()[1];
    assert_eq!([&row[0], &row[2], &row[3]], ["db (decides)", "+0.00 dB", "+0.00 to +0.00 dB"]);
    assert_eq!(tied.decision, Decision::Inconclusive);
    assert!(tied.reasons.last().unwrap().contains("contains 0"), "{tied}");
}

#[test]
fn usage_comes_first() {
    let mut c = comparison(28.0);
    c.arms[0].usage = gate(Gate::Refused);
    let refused = verdict(&c, Rule::Db);
    assert_eq!(refused.decision, Decision::Inconclusive);
    assert!(refused.reasons[0].contains("40000 tokens are too few"), "{refused}");
    c.arms[0].usage = None;
    assert_eq!(verdict(&c, Rule::Db).decision, Decision::Inconclusive);
    c.arms[0].usage = gate(Gate::Failed);
    let failed = verdict(&c, Rule::Db);
    assert_eq!(failed.decision, Decision::StayContinuous);
    assert!(failed.reasons.iter().any(|r| r.contains("41.0 %")), "{failed}");
    assert!(failed.rules.iter().all(|outcome| !outcome.holds_for_means));
    c.arms.push(arm("rvq", ArmKind::Hybrid, 2048.0, table(29.0, 0.1, 9)));
    assert_eq!(verdict(&c, Rule::Db).decision, Decision::Hybrid);
}

/// Refused before failed before passed, and of equal ones the least used.
#[test]
fn the_worst_codebook_speaks_for_all() {
    let usage = |used: u32, tokens: usize| {
        let mut usage = crate::metrics::CodeUsage::new(8);
        usage.add(&(0..used).cycle().take(tokens).collect::<Vec<_>>()).unwrap();
        usage.summary()
    };
    let (full, seven, half, few) = (usage(8, 800), usage(7, 800), usage(4, 800), usage(8, 8));
    let worst = |all: &[crate::metrics::Usage]| UsageGate::worst(all.iter(), 0.8).unwrap();
    assert_eq!((worst(&[full]).gate, worst(&[full]).unique_share), (Gate::Passed, 1.0));
    assert_eq!(
        (worst(&[full, seven]).gate, worst(&[seven, full]).unique_share),
        (Gate::Passed, 0.875)
    );
    assert_eq!(
        (worst(&[full, half, seven]).gate, worst(&[half]).unique_share),
        (Gate::Failed, 0.5)
    );
    assert_eq!((worst(&[few, half]).gate, worst(&[half, few]).tokens), (Gate::Refused, 8));
    assert_eq!(UsageGate::worst([].iter(), 0.8), None);
}

#[test]
fn hybrids_come_after_the_vq() {
    let mut c = comparison(25.0);
    c.arms.push(arm("weak", ArmKind::Hybrid, 2048.0, table(25.5, 0.1, 8)));
    let stay = verdict(&c, Rule::Db);
    assert_eq!(stay.decision, Decision::StayContinuous);
    assert!(stay.reasons.iter().any(|r| r.contains("weak does not win")), "{stay}");
    c.arms.push(arm("rvq", ArmKind::Hybrid, 2048.0, table(27.0, 0.1, 9)));
    let hybrid = verdict(&c, Rule::Db);
    assert_eq!((hybrid.decision, hybrid.decision.exit_code()), (Decision::Hybrid, 10));
    assert!(hybrid.reasons.last().unwrap().contains("rvq wins"), "{hybrid}");
    // The VQ wins at equal rate: no hybrid is asked.
    assert_eq!(verdict(&c, Rule::RateMatched).decision, Decision::ContinueVq);
    // A hybrid beyond the curve is not judged at equal rate.
    c.arms[5].rate = 9000.0;
    c.arms[0].psnr = table(21.0, 0.1, 1);
    let beyond = verdict(&c, Rule::RateMatched);
    assert!(beyond.reasons.iter().any(|r| r.contains("rvq was not judged")), "{beyond}");
}

/// Pure noise: all arms give the mean image, and one of them by chance a little more.
#[test]
fn nothing_reconstructed_is_inconclusive() {
    for vq in [14.0, 15.0, 15.4] {
        let mut c = comparison(vq);
        for arm in &mut c.arms[1..] {
            arm.psnr = table(13.0, 0.01, 7);
        }
        for rule in Rule::ALL {
            let verdict = verdict(&c, rule);
            assert_eq!(verdict.decision, Decision::Inconclusive, "{verdict}");
            assert!(verdict.reasons.last().unwrap().contains("reconstructs nothing"), "{verdict}");
        }
    }
}

#[test]
fn interpolation_is_exact() {
    let c = comparison(25.0);
    let vaes: Vec<&Arm> = c.arms[1..].iter().collect();
    let at = |rate| match rate_matched(&vaes, rate).unwrap() {
        Matched::At(bracket) => bracket,
        Matched::Not(why) => panic!("{why}"),
    };
    // On a sampled weight, its own scores, bit for bit.
    assert_eq!(at(256.0).psnr, vaes[1].psnr);
    assert_eq!(at(1024.0).psnr, vaes[2].psnr);
    assert_eq!(at(4096.0).psnr, vaes[0].psnr);
    // 512 is the middle of 256 and 1024, 2^11.5 is 3/4 of the way from 2^10 to 2^12.
    let middle = vaes[1].psnr.zip(&vaes[2].psnr, |a, b| a * 0.5 + b * 0.5).unwrap();
    assert_eq!(at(512.0).psnr, middle);
    let bracket = at(2f64.powf(11.5));
    assert_eq!((&bracket.below.name[..], &bracket.above.name[..]), ("kl-5", "kl-6"));
    let quarter = vaes[2].psnr.zip(&vaes[0].psnr, |a, b| a * 0.25 + b * 0.75).unwrap();
    for (got, want) in bracket.psnr.scores().values().zip(quarter.scores().values()) {
        // powf and log2 are off by one ulp each of 11.5; the difference of scores is below 8.
        assert!((got - want).abs() <= 8.0 * 24.0 * f64::EPSILON, "{got} {want}");
    }
}

#[test]
fn curves_that_cannot_be_read() {
    let mut c = comparison(25.0);
    let not = |c: &Comparison, part: &str| {
        let verdict = verdict(c, Rule::RateMatched);
        let why = verdict.rules[2].not_judged.clone().unwrap();
        assert!(why.contains(part), "{why}");
        assert_eq!((verdict.decision, &verdict.rules[2].interval), (Decision::Inconclusive, &None));
        assert!(verdict.reasons.last().unwrap().contains("not judged"), "{verdict}");
        assert!(verdict.to_string().contains("not judged: "), "{verdict}");
    };
    c.arms[0].rate = 255.9;
    not(&c, "does not bracket");
    c.arms[0].rate = 512.0;
    c.arms[1].rate = 1024.0;
    not(&c, "same rate");
    c.arms[1].rate = 0.0;
    not(&c, "2 KL weights");
    assert!(verdict(&c, Rule::Db).notes.iter().any(|n| n.contains("kl-6 spends no bits")));
}

#[test]
fn few_seeds_and_subjects_are_said() {
    let only = |keep: fn(&Key) -> bool| {
        let mut c = comparison(28.0);
        let cut = |table: &mut Table| {
            let mut less = Table::new();
            for (key, score) in table.scores().iter().filter(|(key, _)| keep(key)) {
                less.insert(key.seed, &key.subject, key.image, *score).unwrap();
            }
            *table = less;
        };
        c.arms.iter_mut().for_each(|arm| cut(&mut arm.psnr));
        cut(&mut c.floor);
        verdict(&c, Rule::Db)
    };
    let seed = only(|key| key.seed == 1);
    assert_eq!(seed.decision, Decision::ContinueVq);
    assert!(seed.notes.iter().any(|note| note.contains("1 seed:")), "{seed}");
    let subject = only(|key| key.subject == "p2");
    assert!(subject.notes.iter().any(|note| note.contains("1 test subject:")), "{subject}");
    let few = verdict(&comparison(28.0), Rule::Db).notes;
    assert!(few[0].contains("3 seeds only") && few[1].contains("4 test subjects only"), "{few:?}");
}

#[test]
fn what_cannot_be_compared() {
    let refused = |change: fn(&mut Comparison), part: &str| {
        let mut c = comparison(25.0);
        change(&mut c);
        let error = judge(&c, &settings(Rule::Db)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(|c| drop(c.arms.remove(0)), "0 VQ arms");
    refused(|c| c.arms[1].kind = ArmKind::Vq, "2 VQ arms");
    refused(|c| c.arms.truncate(1), "no VAE arm");
    refused(|c| c.arms[1].name = "vq".into(), "two arms");
    refused(|c| c.arms[0].rate = 0.0, "a rate of 0");
    refused(|c| c.arms[1].rate = f64::NAN, "a rate of NaN");
    refused(|c| c.arms[1].psnr.insert(7, "p0", 0, 1.0).unwrap(), "seed 7, subject p0");
    refused(|c| c.floor = Table::new(), "same images");
    let c = comparison(25.0);
    let missing = Settings { against: Some("kl-9".into()), ..settings(Rule::Db) };
    assert!(judge(&c, &missing).unwrap_err().to_string().contains("kl-9"));
    let broken = Settings { margin_db: f64::NAN, ..settings(Rule::Db) };
    assert!(judge(&c, &broken).is_err());
}
