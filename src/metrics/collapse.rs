//! Has the codebook collapsed, how does one see it, and what setting to change.
//!
//! The thresholds are conventions: coverage (distinct codes over those that uniform draws would hit)
//! below 1/2, perplexity below a tenth of K, or one code that takes more than 30 % of the tokens.
//! Nothing is said on too few tokens, where even uniform use leaves over a tenth of the codes unseen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::usage::Usage;
use crate::config::{Distance, Estimator, Model, Quantiser, QuantiserKind};

const LEAST_COVERAGE: f64 = 0.5;
const LEAST_PERPLEXITY_SHARE: f64 = 0.1;
const MOST_OF_ONE_CODE: f64 = 0.3;
/// Training tokens a code needs: a rule of thumb.
pub const TOKENS_PER_CODE: u64 = 20;
/// Steps between revivals to start with.
const REVIVE_EVERY: u64 = 25;
/// A length of codes known to be used well behind a projection.
const SMALL_DIM: usize = 4;

/// What is set about a codebook: what the remedies depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Codebook<'a> {
    pub quantiser: &'a Quantiser,
    pub model: &'a Model,
    /// Tokens of the training images; `None` if unknown.
    pub training_tokens: Option<u64>,
}

/// What is seen of a collapse, with the measured value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// Coverage below 1/2.
    Coverage(f64),
    /// Perplexity / K below 1/10.
    PerplexityShare(f64),
    /// Share of the commonest code above 3/10.
    CommonestShare(f64),
}

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// Changes of the settings, to be made together: `quantiser.revive_every=25`.
    pub changes: Vec<String>,
    pub why: String,
}

impl Remedy {
    fn one(change: String, why: String) -> Self {
        Remedy { changes: vec![change], why }
    }
}

/// Changes as arguments for the command line: `--set quantiser.revive_every=25`.
pub fn arguments(changes: &[String]) -> String {
    let all: Vec<_> = changes.iter().map(|change| format!("--set {change}")).collect();
    all.join(" ")
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Diagnosis {
    /// Too few tokens to say: uniform draws would hit this share of the codes.
    Refused {
        expected_share: f64,
    },
    Healthy,
    /// Remedies in the order in which to try them.
    Collapsed {
        symptoms: Vec<Symptom>,
        remedies: Vec<Remedy>,
    },
}

impl Usage {
    /// Has the codebook collapsed? `codebook` decides what is advised, not what is diagnosed.
    pub fn diagnose(&self, codebook: &Codebook<'_>) -> Diagnosis {
        if !self.enough_tokens() {
            let expected_share = self.expected_unique / (self.codes as f64).max(1.0);
            return Diagnosis::Refused { expected_share };
        }
        let symptoms: Vec<Symptom> = [
            (self.coverage < LEAST_COVERAGE).then_some(Symptom::Coverage(self.coverage)),
            (self.perplexity_share < LEAST_PERPLEXITY_SHARE)
                .then_some(Symptom::PerplexityShare(self.perplexity_share)),
            // With three codes or fewer, uniform use itself is above it.
            (self.commonest_share > MOST_OF_ONE_CODE && self.codes > 3)
                .then_some(Symptom::CommonestShare(self.commonest_share)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if symptoms.is_empty() {
            return Diagnosis::Healthy;
        }
        Diagnosis::Collapsed { symptoms, remedies: remedies(self, codebook) }
    }
}

/// Codes that so many training tokens can fill: a power of two, 2 at the least.
pub fn supported_codes(training_tokens: u64) -> u64 {
    1 << (training_tokens / TOKENS_PER_CODE).max(2).ilog2()
}

/// From what changes least to what changes most: revive, fewer codes, shorter codes, no codebook.
/// Where codes are a formula only their number can be changed.
fn remedies(usage: &Usage, codebook: &Codebook<'_>) -> Vec<Remedy> {
    let fewer = fewer_codes(usage, codebook.training_tokens);
    match codebook.quantiser.kind {
        QuantiserKind::Ema | QuantiserKind::Gradient | QuantiserKind::Simvq => {
            let scalar = Some(scalar(codebook.quantiser));
            let all = [revive(codebook.quantiser), fewer.map(number), shorter(codebook), scalar];
            all.into_iter().flatten().collect()
        }
        QuantiserKind::Fsq => fewer.and_then(smaller_grid).into_iter().collect(),
        QuantiserKind::Lfq | QuantiserKind::Bsq => fewer.map(number).into_iter().collect(),
    }
}

/// More frequent checks for dead codes, but no more frequent than the reservoir fills.
fn revive(quantiser: &Quantiser) -> Option<Remedy> {
    let (now, next) = match quantiser.revive_every {
        _ if !quantiser.kind.has_book() => return None,
        0 => ("dead codes are never revived".into(), REVIVE_EVERY),
        every => (
            format!("dead codes are revived every {every} steps"),
            every.div_ceil(4).min(REVIVE_EVERY),
        ),
    };
    let next = next.max(quantiser.revive_reservoir);
    let sooner = quantiser.revive_every == 0 || next < quantiser.revive_every;
    sooner.then(|| Remedy::one(format!("quantiser.revive_every={next}"), now))
}

fn number((codes, why): (u64, String)) -> Remedy {
    Remedy::one(format!("model.num_vq_embeddings={codes}"), why)
}

/// The largest published grid of no more codes.
fn smaller_grid((codes, why): (u64, String)) -> Option<Remedy> {
    let grid = Quantiser::grid_within(codes as usize)?;
    Some(Remedy::one(format!("quantiser.fsq_levels={grid:?}"), why))
}

/// The same length for each of the codebooks that share the channels.
fn shorter(codebook: &Codebook<'_>) -> Option<Remedy> {
    let books = codebook.quantiser.num_codebooks.max(1);
    let dim = codebook.model.vq_embed_dim / books;
    let why = format!("codes of length {dim} lie far apart; short ones are found more easily");
    let change = format!("model.vq_embed_dim={}", SMALL_DIM * books);
    (dim > SMALL_DIM).then(|| Remedy::one(change, why))
}

/// Finite scalar quantisation, without what only codebooks can do.
fn scalar(quantiser: &Quantiser) -> Remedy {
    let mut changes = vec!["quantiser.kind=fsq"];
    if quantiser.residual_levels > 1 {
        changes.push("quantiser.residual_levels=1");
    }
    if quantiser.distance != Distance::Euclid {
        changes.push("quantiser.distance=euclid");
    }
    if quantiser.estimator != Estimator::StraightThrough {
        changes.push("quantiser.estimator=straight-through");
    }
    let why = "finite scalar quantisation has no codebook that could collapse".into();
    Remedy { changes: changes.into_iter().map(String::from).collect(), why }
}

/// The codes that the training tokens support, or half of K where that asks for nothing; fewer than K.
fn fewer_codes(usage: &Usage, training_tokens: Option<u64>) -> Option<(u64, String)> {
    let codes = usage.codes as u64;
    let half = (codes / 2).checked_ilog2().map(|b| 1u64 << b).filter(|&half| half >= 2)?;
    let Some(tokens) = training_tokens.filter(|&n| n / TOKENS_PER_CODE < codes) else {
        return Some((half, format!("{} of {codes} codes are in use", usage.unique)));
    };
    let most = tokens / TOKENS_PER_CODE;
    let why = format!(
        "{tokens} training tokens support {most} codes at {TOKENS_PER_CODE} tokens a code, not {codes}"
    );
    Some((supported_codes(tokens).min(half), why))
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Symptom::Coverage(v) => write!(
                f,
                "coverage {v:.2}: fewer than half of the codes that uniform use would hit are in use"
            ),
            Symptom::PerplexityShare(v) => {
                write!(f, "perplexity {:.1} % of K, below 10 %", 100.0 * v)
            }
            Symptom::CommonestShare(v) => {
                write!(f, "one code takes {:.1} % of all tokens, above 30 %", 100.0 * v)
            }
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", arguments(&self.changes), self.why)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnosis::Healthy => f.write_str("the codebook is in use"),
            Diagnosis::Refused { expected_share } => write!(
                f,
                "not judged: so few tokens would hit only {:.0} % of the codes even by uniform use; \
                 at least 90 % are needed",
                100.0 * expected_share
            ),
            Diagnosis::Collapsed { symptoms, remedies } => {
                f.write_str("the codebook has collapsed:")?;
                symptoms.iter().try_for_each(|s| write!(f, "\n  {s}"))?;
                remedies.iter().try_for_each(|r| write!(f, "\n  try: {r}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::metrics::CodeUsage;

    const TOKENS: Option<u64> = Some(64_000);

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        Config::load(None, &sets).unwrap()
    }

    fn diagnosis(counts: &[u64]) -> Diagnosis {
        let Config { quantiser, model, .. } = &config(&["quantiser.revive_every=0"]);
        usage(counts).diagnose(&Codebook { quantiser, model, training_tokens: TOKENS })
    }

    fn usage(counts: &[u64]) -> Usage {
        let mut usage = CodeUsage::new(counts.len());
        for (code, &count) in counts.iter().enumerate() {
            usage.add(&vec![code as u32; count as usize]).unwrap();
        }
        usage.summary()
    }

    fn symptoms(counts: &[u64]) -> Vec<Symptom> {
        match diagnosis(counts) {
            Diagnosis::Collapsed { symptoms, .. } => symptoms,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_symptom_alone() {
        assert_eq!(diagnosis(&[100; 64]), Diagnosis::Healthy);
        // 31 of 64 codes, evenly: coverage 31/64 to within (1 - 1/64)^3100.
        let mut half = [0; 64];
        half[..31].fill(100);
        let found = symptoms(&half);
        assert!(matches!(found[..], [Symptom::Coverage(c)] if (c - 31.0 / 64.0).abs() < 1e-12));
        half[31..33].fill(100);
        assert_eq!(diagnosis(&half), Diagnosis::Healthy);
        // One code with 31 %, the others evenly.
        let mut one = [69; 101];
        one[0] = 3100;
        let share = 3100.0 / 10_000.0;
        assert_eq!(symptoms(&one), [Symptom::CommonestShare(share)]);
        one[0] = 2900;
        assert_eq!(diagnosis(&one), Diagnosis::Healthy);
        // 1000 codes, all seen once, but 24 % in each of four: exp(H) is about 6.
        let mut few = [1; 1000];
        few[..4].fill(6000);
        assert!(matches!(symptoms(&few)[..], [Symptom::PerplexityShare(p)] if p < 0.01));
    }

    #[test]
    fn too_few_tokens_are_refused() {
        let few = diagnosis(&[1; 64]);
        assert!(matches!(few, Diagnosis::Refused { expected_share } if expected_share < 0.65));
        assert!(few.to_string().contains("64 %"), "{few}");
        assert!(matches!(diagnosis(&[]), Diagnosis::Refused { .. }));
    }

    /// The remedies for a collapse to one code, each of which must be a change that the settings allow.
    fn changes(sets: &[&str], training_tokens: Option<u64>) -> Vec<String> {
        let config = config(sets);
        let Config { quantiser, model, .. } = &config;
        let mut counts = vec![0; model.num_vq_embeddings];
        counts[7] = 50 * counts.len() as u64;
        let found = usage(&counts).diagnose(&Codebook { quantiser, model, training_tokens });
        let Diagnosis::Collapsed { remedies, symptoms } = found else { panic!("{found}") };
        assert_eq!(symptoms.len(), 3);
        for remedy in &remedies {
            let text = config.to_toml().unwrap();
            let changed = Config::parse("test", &text, &remedy.changes).unwrap();
            assert_ne!(changed, config, "{remedy} changes nothing");
        }
        remedies.into_iter().map(|r| r.changes.join(" ")).collect()
    }

    const FSQ: &str = "quantiser.kind=fsq";

    #[test]
    fn remedies_in_order() {
        assert_eq!(
            changes(&["quantiser.revive_every=0"], TOKENS),
            [
                "quantiser.revive_every=25",
                "model.num_vq_embeddings=128",
                "model.vq_embed_dim=4",
                FSQ
            ]
        );
        // 900 tokens support 45 codes; revival is already frequent, codes are short.
        let small = ["quantiser.revive_every=20", "model.vq_embed_dim=4"];
        let want = ["quantiser.revive_every=5", "model.num_vq_embeddings=32", FSQ];
        assert_eq!(changes(&small, Some(900)), want);
        let simvq = ["quantiser.kind=simvq", "model.vq_embed_dim=2"];
        assert_eq!(changes(&simvq, Some(3)), ["model.num_vq_embeddings=2", FSQ]);
        let always = ["quantiser.revive_every=1", "model.vq_embed_dim=2"];
        assert_eq!(changes(&always, None), ["model.num_vq_embeddings=128", FSQ]);
    }

    /// What is advised fits the other settings.
    #[test]
    fn remedies_are_legal() {
        let full = ["quantiser.revive_every=50", "quantiser.revive_reservoir=50"];
        assert_eq!(changes(&full, None)[0], "model.num_vq_embeddings=128");
        let half = ["quantiser.revive_every=200", "quantiser.revive_reservoir=40"];
        assert_eq!(changes(&half, None)[0], "quantiser.revive_every=40");
        let books = ["quantiser.num_codebooks=3", "model.vq_embed_dim=24"];
        assert!(changes(&books, None).contains(&"model.vq_embed_dim=12".into()));
        let all = [
            "quantiser.residual_levels=2",
            "quantiser.distance=cosine",
            "quantiser.estimator=rotation",
        ];
        let want = "quantiser.kind=fsq quantiser.residual_levels=1 quantiser.distance=euclid \
                    quantiser.estimator=straight-through";
        assert_eq!(changes(&all, None).last().unwrap(), want);
    }

    /// Codes that are a formula: only their number can change.
    #[test]
    fn remedies_without_a_codebook() {
        let fsq = ["quantiser.kind=fsq", "model.num_vq_embeddings=1000"];
        assert_eq!(changes(&fsq, None), ["quantiser.fsq_levels=[8, 6, 5]"]);
        // 900 tokens support 32 codes; no published grid has fewer than 15.
        assert_eq!(changes(&fsq, Some(900)), ["quantiser.fsq_levels=[5, 3]"]);
        assert!(changes(&["quantiser.kind=fsq", "quantiser.fsq_levels=[5,3]"], None).is_empty());
        for kind in ["quantiser.kind=lfq", "quantiser.kind=bsq"] {
            assert_eq!(changes(&[kind], None), ["model.num_vq_embeddings=128"]);
        }
    }

    #[test]
    fn twenty_tokens_a_code() {
        for (tokens, codes) in [(0, 2), (59, 2), (79, 2), (80, 4), (900, 32), (1280, 64)] {
            assert_eq!(supported_codes(tokens), codes, "{tokens}");
        }
    }

    #[test]
    fn readable_and_stored() {
        let mut counts = [0; 256];
        counts[7] = 5000;
        let diagnosis = diagnosis(&counts);
        let text = diagnosis.to_string();
        assert!(text.contains("collapsed") && text.contains("revive_every=25"), "{text}");
        let json = serde_json::to_string(&diagnosis).unwrap();
        assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
    }
}
