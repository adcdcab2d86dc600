//! From the outcomes of all arms to verdicts.

use super::arms::ArmSpec;
use super::outcome::Outcome;
use super::samples::{Route, SampleOutcome, distances, failures};
use crate::error::{Error, Result};
use crate::metrics::{Gate, PSNR_CAP, mse, psnr};
use crate::train::Material;
use crate::verdict::{
    Arm, ArmKind, Comparison, Settings, Table, UsageGate, Verdict, judge, percent,
};
use serde::Serialize;

/// Share of the codes that must be in use for CONTINUE_VQ.
const IN_USE: f64 = 0.8;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assembled {
    /// The arm with codes that decides: of those in use that could be judged, the one of the largest
    /// mean under the rule.
    pub deciding: String,
    pub verdict: Verdict,
    /// The verdict of every arm with codes, had it been the only one.
    pub verdicts: Vec<(String, Verdict)>,
    /// Mean PSNR of the mean training image, in dB.
    pub floor: f64,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

/// Judges every arm with codes against the KL-VAEs. `subjects` of all images of the data.
///
/// # Errors
/// No arm of either kind; outcomes that do not belong together.
pub fn assemble(
    arms: &[ArmSpec],
    outcomes: &[Outcome],
    samples: &[SampleOutcome],
    data: &Material,
    subjects: &[String],
    settings: &Settings,
) -> Result<Assembled> {
    let test = &data.split.test;
    let mut made = vec![];
    for spec in arms {
        let own: Vec<&Outcome> = outcomes.iter().filter(|o| o.arm == spec.name).collect();
        made.push(arm(spec, &own, samples, test, subjects)?);
    }
    let seeds: std::collections::BTreeSet<u64> = outcomes.iter().map(|o| o.seed).collect();
    let floor = floor(data, subjects, &seeds)?;
    let (vq, others): (Vec<Arm>, Vec<Arm>) =
        made.into_iter().partition(|arm| arm.kind == ArmKind::Vq);
    if vq.is_empty() || !others.iter().any(|arm| arm.kind == ArmKind::Vae) {
        return Err(Error::usage("nothing to compare")
            .why("a verdict needs an arm with codes and a KL-VAE")
            .help("for example --vq ema --vae kl=1e-6,1e-4,1e-2"));
    }
    // The best of m arms is the largest of m mean differences: each interval covers 1 - .05/m, so that
    // with 95 % all of them cover theirs (Bonferroni).
    let mut settings = settings.clone();
    let level = &mut settings.resampling.level;
    *level = 1.0 - (1.0 - *level) / vq.len() as f64;
    let level = percent(*level);
    let mut verdicts = vec![];
    for one in &vq {
        let arms = std::iter::once(one).chain(&others).cloned().collect();
        let comparison = Comparison { arms, floor: floor.clone() };
        verdicts.push((one.name.clone(), judge(&comparison, &settings)?));
    }
    let best = verdicts.iter().max_by(|(_, a), (_, b)| {
        let (a, b) = (rank(a), rank(b));
        (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
    });
    let Some((deciding, verdict)) = best else {
        return Err(Error::failed("no arm decides"));
    };
    let mut notes = vec![];
    if vq.len() > 1 {
        notes.push(format!(
            "{deciding} decides: of {} arms with codes it has the largest mean by the {} rule, of \
             those in use and judged; as it was chosen on these same images, all intervals are of \
             {level} (Bonferroni)",
            vq.len(),
            settings.rule.name()
        ));
    }
    notes.extend(failures(samples));
    Ok(Assembled {
        deciding: deciding.clone(),
        verdict: verdict.clone(),
        verdicts: verdicts.clone(),
        floor: floor.mean(),
        notes,
    })
}

/// In use, judged by the rule that decides, and the mean under that rule: more is better.
fn rank(verdict: &Verdict) -> (bool, bool, f64) {
    let in_use = verdict.usage.is_some_and(|u| u.gate == Gate::Passed);
    let own = verdict.rules.iter().find(|outcome| outcome.rule == verdict.rule);
    let interval = own.and_then(|outcome| outcome.interval.as_ref());
    (in_use, interval.is_some(), interval.map_or(0.0, |i| i.mean))
}

fn arm(
    spec: &ArmSpec,
    own: &[&Outcome],
    samples: &[SampleOutcome],
    test: &[u32],
    subjects: &[String],
) -> Result<Arm> {
    let mut table = Table::new();
    for outcome in own {
        if outcome.scores.len() != test.len() {
            let (scored, held_out) = (outcome.scores.len(), test.len());
            return Err(Error::data("an arm that was scored on other images")
                .at(format!("{}, seed {}", spec.name, outcome.seed))
                .why(format!("{scored} images were scored, {held_out} are held out"))
                .help("the data or their split changed: compare anew in another --out"));
        }
        for (row, scores) in test.iter().zip(&outcome.scores) {
            let subject = &subjects[*row as usize];
            table.insert(outcome.seed, subject, u64::from(*row), scores.psnr_capped())?;
        }
    }
    Ok(Arm {
        name: spec.name.clone(),
        kind: spec.kind,
        rate: own.iter().map(|o| o.bits).sum::<f64>() / own.len().max(1) as f64,
        usage: UsageGate::worst(own.iter().flat_map(|o| &o.usage), IN_USE),
        psnr: table,
        samples: distances(samples, spec, Route::of(spec.kind)[0]),
        hybrid_samples: samples
            .iter()
            .any(|o| o.arm == spec.name && o.route == Route::Hybrid)
            .then(|| distances(samples, spec, Route::Hybrid)),
    })
}

/// PSNR of the mean training image as the reconstruction of every held-out one.
fn floor(
    data: &Material,
    subjects: &[String],
    seeds: &std::collections::BTreeSet<u64>,
) -> Result<Table> {
    let images = &data.images;
    let mut mean = vec![0.0f64; images.image_len()];
    let mut image = vec![0.0f32; images.image_len()];
    for &row in &data.split.train {
        images.image(row as usize, &mut image);
        mean.iter_mut().zip(&image).for_each(|(m, v)| *m += f64::from(*v));
    }
    let n = data.split.train.len().max(1) as f64;
    let mean: Vec<f32> = mean.iter().map(|m| (m / n) as f32).collect();
    let mut table = Table::new();
    for &row in &data.split.test {
        images.image(row as usize, &mut image);
        let score = psnr(mse(&image, &mean)).min(PSNR_CAP);
        for &seed in seeds {
            table.insert(seed, &subjects[row as usize], u64::from(row), score)?;
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{vae_arms, vq_arms};
    use crate::data::Dataset;
    use crate::data::split::Split;
    use crate::metrics::{CodeUsage, ImageScores, Scoring, score_images};
    use crate::verdict::{Decision, Resampling, Rule};

    /// Two black images to train, four white ones to hold out, of 2 x 2: the mean training image scores
    /// 0 dB.
    fn data() -> Material {
        let pixels = (0..24).map(|i| if i < 8 { 0 } else { 255 }).collect();
        let images = Dataset::from_u8(pixels, [6, 2, 2, 1], None, vec![], "test").unwrap();
        let split = Split { train: vec![0, 1], test: vec![2, 3, 4, 5], ..Split::default() };
        Material { images, split }
    }

    fn scored(psnr: f64, image: usize) -> ImageScores {
        let scoring = Scoring { shape: [1, 1, 1], dynamic_range_db: None };
        let some = score_images(&[0.5], &[0.25], &scoring).unwrap()[0];
        ImageScores { psnr: Some(psnr + 0.01 * image as f64), ..some }
    }

    /// Under two seeds; of `used` codes of eight.
    fn outcomes(arm: &str, psnr: f64, bits: f64, used: Option<u32>) -> Vec<Outcome> {
        let usage = used.map(|used| {
            let mut usage = CodeUsage::new(8);
            usage.add(&(0..used).cycle().take(800).collect::<Vec<_>>()).unwrap();
            usage.summary()
        });
        let one = |seed: u64| Outcome {
            arm: arm.into(),
            seed,
            steps: 1,
            parameters: 1,
            bits,
            entropy_bits: None,
            usage: usage.into_iter().collect(),
            counts: vec![],
            scores: (0..4).map(|i| scored(psnr + 0.001 * seed as f64, i)).collect(),
            envelopes: vec![],
            failed: None,
            dynamic_range_db: None,
        };
        vec![one(0), one(1)]
    }

    struct Study {
        arms: Vec<ArmSpec>,
        outcomes: Vec<Outcome>,
        samples: Vec<SampleOutcome>,
    }

    impl Study {
        fn judged(&self, rule: Rule) -> Result<Assembled> {
            let resampling = Resampling { draws: 500, ..Resampling::default() };
            let settings = Settings { rule, resampling, ..Settings::default() };
            let people: Vec<String> = (0..6).map(|row| format!("p{}", row % 2)).collect();
            assemble(&self.arms, &self.outcomes, &self.samples, &data(), &people, &settings)
        }
    }

    /// KL-VAEs of 64, 256 and 1024 bits at 20, 25 and 30 dB.
    fn study(vq: &str, made: &[(f64, f64, u32)]) -> Study {
        let coded = vq_arms(vq).unwrap();
        let arms = [coded.clone(), vae_arms("kl=1e-2,1e-4,1e-6").unwrap()].concat();
        let mut all = vec![];
        for (spec, &(psnr, bits, used)) in coded.iter().zip(made) {
            all.extend(outcomes(&spec.name, psnr, bits, Some(used)));
        }
        for (spec, (psnr, bits)) in
            arms[coded.len()..].iter().zip([(20.0, 64.0), (25.0, 256.0), (30.0, 1024.0)])
        {
            all.extend(outcomes(&spec.name, psnr, bits, None));
        }
        Study { arms, outcomes: all, samples: vec![] }
    }

    /// ema has the higher PSNR for four times the bits of fsq: at equal rate fsq is 3 dB better, ema 1
    /// dB worse. Neither out of use nor beyond the curve of the VAEs may an arm decide.
    #[test]
    fn the_rule_chooses_who_decides() {
        let two = study("ema,fsq", &[(29.0, 1024.0, 8), (28.0, 256.0, 8)]);
        let deciding = |study: &Study, rule| study.judged(rule).unwrap().deciding;
        assert_eq!(deciding(&two, Rule::Db), "ema");
        assert_eq!(deciding(&two, Rule::RateMatched), "fsq");
        let matched = two.judged(Rule::RateMatched).unwrap();
        assert_eq!(matched.verdict.decision, Decision::ContinueVq, "{}", matched.verdict);
        let unused = study("ema,fsq", &[(29.0, 1024.0, 8), (28.0, 256.0, 4)]);
        assert_eq!(deciding(&unused, Rule::RateMatched), "ema");
        let beyond = study("ema,fsq", &[(29.0, 1024.0, 8), (40.0, 2048.0, 8)]);
        assert_eq!(deciding(&beyond, Rule::RateMatched), "ema");
        assert_eq!(deciding(&beyond, Rule::Db), "fsq");
    }

    #[test]
    fn the_choice_of_an_arm_is_paid_for() {
        let level = |vq: &str| {
            let made = study(vq, &[(29.0, 1024.0, 8), (28.0, 256.0, 8), (20.0, 256.0, 8)]);
            let result = made.judged(Rule::Db).unwrap();
            (result.verdict.floor.level, result.notes.join(" "))
        };
        let (one, notes) = level("ema");
        assert!((one - 0.95).abs() < 1e-12 && !notes.contains("Bonferroni"), "{one} {notes}");
        let (three, notes) = level("ema,fsq,lfq");
        assert!((three - (1.0 - 0.05 / 3.0)).abs() < 1e-12, "{three}");
        assert!(notes.contains("of 3 arms") && notes.contains("98.33 %"), "{notes}");
    }

    #[test]
    fn outcomes_of_other_images_are_refused() {
        let mut short = study("ema", &[(29.0, 1024.0, 8)]);
        short.outcomes[1].scores.pop();
        let error = short.judged(Rule::Db).unwrap_err().to_string();
        assert!(error.contains("ema, seed 1") && error.contains("3 images"), "{error}");
    }
}
