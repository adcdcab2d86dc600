//! From the scores of all arms to a verdict.

use serde::{Deserialize, Serialize};

use super::arm::{Arm, ArmKind, Table, UsageGate};
use super::bootstrap::{Interval, Resampling, paired_bootstrap};
use super::decision::{Decision, Rule, RuleOutcome, Verdict};
use super::rate::{Matched, rate_matched};
use super::samples::{closer, mean};
use super::text::{reasons, signed};
use crate::error::{Error, Result};
use crate::metrics::Gate;

/// What is judged: one VQ arm, at least one VAE arm (one a KL weight), any number of hybrids.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub arms: Vec<Arm>,
    /// PSNR in dB of the mean training image, taken as the reconstruction of every (seed, image): what
    /// a model scores that has learnt nothing about the image at hand.
    pub floor: Table,
}

/// How it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The rule that decides; all are reported.
    pub rule: Rule,
    /// d in dB: the VQ must be better by more than this, under the rules in dB.
    pub margin_db: f64,
    /// The literal rule asks for PSNR(VQ) > (1 + this) PSNR(VAE).
    pub literal_gain: f64,
    /// The VQ must beat the mean image by more than this. White noise coded at R bits a pixel cannot
    /// gain more than 6.02 R dB over its mean, and a grid of codes spends about 1/8 of a bit: .75 dB.
    pub floor_margin_db: f64,
    /// Name of the VAE that the rules without matched rates look at; `None`: the one of the highest
    /// mean PSNR, and for generation the one whose samples are closest to real images.
    pub against: Option<String>,
    pub resampling: Resampling,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            rule: Rule::Db,
            margin_db: 0.0,
            literal_gain: 0.1,
            floor_margin_db: 0.5,
            against: None,
            resampling: Resampling::default(),
        }
    }
}

/// The difference under a rule: the interval, or why there is none.
pub(super) type Judged = std::result::Result<Interval, String>;

/// Applies all rules and lets the chosen one decide. Errors: arms that are missing, doubly named or
/// without a usable rate, settings that are not finite, and scores that do not pair.
pub fn judge(comparison: &Comparison, settings: &Settings) -> Result<Verdict> {
    let arms = Arms::of(comparison, settings)?;
    let resampling = &settings.resampling;
    let above_floor =
        arms.vq.psnr.zip(&comparison.floor, |vq, f| vq - f - settings.floor_margin_db)?;
    let floor = paired_bootstrap(&above_floor, resampling)?;
    let mut outcomes = vec![];
    let mut notes = floor.notes.clone();
    let mut why = vec![];
    for rule in Rule::ALL {
        let vq = arms.difference(arms.vq, rule, settings)?;
        let hybrids = arms
            .hybrids
            .iter()
            .map(|hybrid| Ok((hybrid.name.clone(), arms.difference(hybrid, rule, settings)?)));
        let mut hybrids = hybrids.collect::<Result<Vec<_>>>()?;
        if rule == Rule::Generation {
            hybrids.extend(arms.over_vectors(settings)?);
        }
        let decision = decide(arms.vq.usage, &floor, &vq, &hybrids);
        if rule == settings.rule {
            why = reasons(&arms, settings, &floor, &vq, &hybrids, decision);
        }
        let passed = arms.vq.usage.is_some_and(|usage| usage.gate == Gate::Passed);
        outcomes.push(RuleOutcome {
            rule,
            quantity: arms.quantity(rule, settings),
            holds_for_means: passed && vq.as_ref().is_ok_and(|interval| interval.mean > 0.0),
            not_judged: vq.as_ref().err().cloned(),
            interval: vq.ok(),
            decision,
        });
    }
    notes.extend(arms.notes(settings));
    let chosen = outcomes.iter().find(|outcome| outcome.rule == settings.rule);
    Ok(Verdict {
        decision: chosen.map_or(Decision::Inconclusive, |outcome| outcome.decision),
        rule: settings.rule,
        reasons: why,
        rules: outcomes,
        floor,
        usage: arms.vq.usage,
        notes,
    })
}

/// The order matters: what makes a comparison void comes before what it says.
pub(super) fn decide(
    usage: Option<UsageGate>,
    floor: &Interval,
    vq: &Judged,
    hybrids: &[(String, Judged)],
) -> Decision {
    let Some(usage) = usage.filter(|usage| usage.gate != Gate::Refused) else {
        return Decision::Inconclusive;
    };
    // Below the floor as well as around it: such an arm is broken, and says nothing of its kind.
    if floor.lower <= 0.0 {
        return Decision::Inconclusive;
    }
    let Ok(interval) = vq else { return Decision::Inconclusive };
    if interval.contains_zero() {
        Decision::Inconclusive
    } else if interval.lower > 0.0 && usage.gate == Gate::Passed {
        Decision::ContinueVq
    } else if hybrids.iter().any(|(_, hybrid)| wins(hybrid)) {
        Decision::Hybrid
    } else {
        Decision::StayContinuous
    }
}

pub(super) fn wins(judged: &Judged) -> bool {
    judged.as_ref().is_ok_and(|interval| interval.lower > 0.0)
}

/// The arms by kind.
pub(super) struct Arms<'a> {
    pub vq: &'a Arm,
    pub vaes: Vec<&'a Arm>,
    pub hybrids: Vec<&'a Arm>,
    /// The VAE of the rules that do not match rates.
    pub against: &'a Arm,
    /// The VAE of the generation rule.
    pub sampled: &'a Arm,
}

impl<'a> Arms<'a> {
    fn of(comparison: &'a Comparison, settings: &Settings) -> Result<Self> {
        let numbers = [settings.margin_db, settings.literal_gain, settings.floor_margin_db];
        if numbers.iter().any(|v| !v.is_finite()) {
            return Err(Error::usage("a margin that is not a finite number")
                .help("give margins in dB, such as 0 or 0.5"));
        }
        for (i, arm) in comparison.arms.iter().enumerate() {
            if comparison.arms[..i].iter().any(|other| other.name == arm.name) {
                return Err(Error::usage(format!("two arms are called {}", arm.name))
                    .help("give every arm its own name"));
            }
            let usable = arm.rate.is_finite()
                && (arm.rate > 0.0 || arm.kind == ArmKind::Vae && arm.rate == 0.0);
            if !usable {
                return Err(Error::data(format!("a rate of {} bits an image", arm.rate))
                    .at(format!("arm {}", arm.name))
                    .why("a rate is a finite number above 0, or 0 for a VAE that has collapsed"));
            }
        }
        let kind = |kind| comparison.arms.iter().filter(move |arm| arm.kind == kind);
        let vqs: Vec<&Arm> = kind(ArmKind::Vq).collect();
        let &[vq] = &vqs[..] else {
            return Err(Error::usage(format!("{} VQ arms in the comparison", vqs.len()))
                .why("the verdict is about one of them")
                .help("compare exactly one VQ arm; residual codes count as a hybrid"));
        };
        let vaes: Vec<&Arm> = kind(ArmKind::Vae).collect();
        let named = |name: &String| vaes.iter().copied().find(|arm| arm.name == *name);
        let best = || {
            vaes.iter().copied().reduce(|a, b| if b.psnr.mean() > a.psnr.mean() { b } else { a })
        };
        let against = settings.against.as_ref().map_or_else(best, named);
        let Some(against) = against else {
            return Err(Error::usage(match &settings.against {
                Some(name) if !vaes.is_empty() => format!("there is no VAE arm called {name}"),
                _ => "no VAE arm in the comparison".into(),
            })
            .help("train at least one KL-VAE; three KL weights allow a comparison at equal rate"));
        };
        let distance = |arm: &Arm| arm.samples.as_ref().map_or(f64::INFINITY, |d| mean(d));
        let closest =
            vaes.iter().copied().reduce(|a, b| if distance(b) < distance(a) { b } else { a });
        let sampled = closest.filter(|_| settings.against.is_none()).unwrap_or(against);
        Ok(Arms { vq, vaes, hybrids: kind(ArmKind::Hybrid).collect(), against, sampled })
    }

    /// `arm` less the VAE under a rule.
    fn difference(&self, arm: &Arm, rule: Rule, settings: &Settings) -> Result<Judged> {
        let margin = settings.margin_db;
        let differences = match rule {
            Rule::Literal => {
                let factor = 1.0 + settings.literal_gain;
                arm.psnr.zip(&self.against.psnr, |a, b| a - factor * b)?
            }
            Rule::Db => arm.psnr.zip(&self.against.psnr, |a, b| a - b - margin)?,
            Rule::RateMatched => match rate_matched(&self.vaes, arm.rate)? {
                Matched::At(bracket) => arm.psnr.zip(&bracket.psnr, |a, b| a - b - margin)?,
                Matched::Not(why) => return Ok(Err(why)),
            },
            Rule::Generation => {
                return closer(&arm.samples, &self.sampled.samples, &settings.resampling);
            }
        };
        Ok(Ok(paired_bootstrap(&differences, &settings.resampling)?))
    }

    /// Gaussian diffusion of the code vectors of the VQ, as a hybrid under the generation rule.
    fn over_vectors(&self, settings: &Settings) -> Result<Option<(String, Judged)>> {
        let Some(own) = &self.vq.hybrid_samples else { return Ok(None) };
        let judged = closer(own, &self.sampled.samples, &settings.resampling)?;
        Ok(Some((format!("Gaussian diffusion over the code vectors of {}", self.vq.name), judged)))
    }

    fn quantity(&self, rule: Rule, settings: &Settings) -> String {
        let (vq, vae) = (&self.vq.name, &self.against.name);
        let margin = match settings.margin_db {
            0.0 => String::new(),
            d => format!(" {} dB", signed(-d)),
        };
        match rule {
            Rule::Literal => {
                format!("PSNR({vq}) - {:.2} PSNR({vae})", 1.0 + settings.literal_gain)
            }
            Rule::Db => format!("PSNR({vq}) - PSNR({vae}){margin}"),
            Rule::RateMatched => {
                format!("PSNR({vq}) - PSNR(VAE at {:.1} bits an image){margin}", self.vq.rate)
            }
            Rule::Generation => {
                format!("1000 KID(samples over {}) - 1000 KID(over {vq})", self.sampled.name)
            }
        }
    }

    fn notes(&self, settings: &Settings) -> Vec<String> {
        let mut notes = vec![];
        if settings.against.is_none() && self.vaes.len() > 1 {
            notes.push(format!(
                "The literal rule and the one in dB look at {}, the best of {} VAEs; its rate is {:.1} \
                 bits an image, the rate of {} is {:.1}.",
                self.against.name,
                self.vaes.len(),
                self.against.rate,
                self.vq.name,
                self.vq.rate
            ));
        }
        if self.vq.samples.is_ok() && self.sampled.samples.is_ok() {
            notes.push(format!(
                "The generation rule looks at {}, whose samples are closest to real images of all VAEs. It takes \
                 images as independent: it says nothing on how much people differ.",
                self.sampled.name
            ));
        }
        let collapsed = self.vaes.iter().filter(|arm| arm.rate == 0.0);
        notes.extend(collapsed.map(|arm| {
            format!(
                "{} spends no bits (its posterior collapsed) and is on no rate curve.",
                arm.name
            )
        }));
        notes
    }
}
