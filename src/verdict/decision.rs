//! What a comparison ends in.

use serde::{Deserialize, Serialize};

use super::arm::UsageGate;
use super::bootstrap::Interval;
use crate::error::{Error, Result};

/// The discriminant is the exit code of the comparing command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Decision {
    ContinueVq = 0,
    Hybrid = 10,
    StayContinuous = 20,
    Inconclusive = 30,
}

impl Decision {
    pub fn exit_code(self) -> i32 {
        self as i32
    }

    pub fn name(self) -> &'static str {
        match self {
            Decision::ContinueVq => "CONTINUE_VQ",
            Decision::Hybrid => "HYBRID",
            Decision::StayContinuous => "STAY_CONTINUOUS",
            Decision::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// What must be above 0 for the discrete arm to win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// PSNR of the VQ less 1.10 times that of the VAE. PSNR being a logarithm, ten percent of 28 dB
    /// are a mean squared error of .525 times: the rule rarely passes.
    Literal,
    /// PSNR of the VQ less that of the VAE less a margin in dB.
    Db,
    /// PSNR of the VQ less that of the VAE interpolated at the rate of the VQ, less the margin.
    RateMatched,
    /// 1000 times the KID of samples over the VAE less that of samples over the VQ.
    Generation,
}

impl Rule {
    pub const ALL: [Rule; 4] = [Rule::Literal, Rule::Db, Rule::RateMatched, Rule::Generation];

    pub fn name(self) -> &'static str {
        match self {
            Rule::Literal => "literal",
            Rule::Db => "db",
            Rule::RateMatched => "rate-matched",
            Rule::Generation => "generation",
        }
    }

    /// What its differences are in, with a space before it; nothing of numbers without a unit.
    pub fn unit(self) -> &'static str {
        match self {
            Rule::Generation => "",
            _ => " dB",
        }
    }

    pub fn parse(name: &str) -> Result<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| {
            Error::usage(format!("there is no rule `{name}`"))
                .help("choose literal, db, rate-matched or generation")
        })
    }
}

/// What one rule says, on its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleOutcome {
    pub rule: Rule,
    /// The quantity that is compared with 0, in words.
    pub quantity: String,
    /// In [`Rule::unit`]; `None` if the rule could not be judged.
    pub interval: Option<Interval>,
    /// Why it could not be judged.
    pub not_judged: Option<String>,
    /// Does the rule hold for the plain means, with the usage gate passed? No statistics in this.
    pub holds_for_means: bool,
    /// What the verdict would be if this rule decided.
    pub decision: Decision,
}

/// The result, its grounds and everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub decision: Decision,
    /// The rule that decided.
    pub rule: Rule,
    /// Plain sentences with the numbers, the decisive one last.
    pub reasons: Vec<String>,
    /// All rules.
    pub rules: Vec<RuleOutcome>,
    /// PSNR of the VQ less that of the mean training image less the margin, in dB.
    pub floor: Interval,
    pub usage: Option<UsageGate>,
    /// What to keep in mind.
    pub notes: Vec<String>,
}
