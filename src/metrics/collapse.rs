//! Has the codebook collapsed, how does one see it, and what setting to change.
//!
//! The thresholds are conventions: coverage (distinct codes over those that uniform draws would hit)
//! below 1/2, perplexity below a tenth of K, or one code that takes more than 30 % of the tokens.
//! Nothing is said on too few tokens, where even uniform use leaves over a tenth of the codes unseen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::usage::Usage;

const LEAST_COVERAGE: f64 = 0.5;
const LEAST_PERPLEXITY_SHARE: f64 = 0.1;
const MOST_OF_ONE_CODE: f64 = 0.3;
/// Training tokens a code needs: a rule of thumb.
const TOKENS_PER_CODE: u64 = 20;
/// Steps between revivals to start with.
const REVIVE_EVERY: u64 = 25;
/// A length of codes known to be used well behind a projection.
const SMALL_DIM: usize = 4;

/// What is set about a codebook: what the remedies depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codebook {
    /// Steps between revivals of dead codes; 0 is never; `None` if the quantiser has none.
    pub revive_every: Option<u64>,
    /// Tokens of the training images; `None` if unknown.
    pub training_tokens: Option<u64>,
    /// d, the length of a code.
    pub dim: usize,
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
    /// Arguments for the command line: `--set quantiser.revive_every=25`.
    pub setting: String,
    pub why: String,
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
    pub fn diagnose(&self, codebook: &Codebook) -> Diagnosis {
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

/// Revive, fewer codes, shorter codes, no codebook: from what changes least to what changes most.
fn remedies(usage: &Usage, codebook: &Codebook) -> Vec<Remedy> {
    let remedy = |setting: String, why: String| Remedy { setting, why };
    let revive = codebook.revive_every.and_then(|every| {
        let (now, next) = match every {
            0 => ("dead codes are never revived".into(), REVIVE_EVERY),
            1 => return None,
            _ => (
                format!("dead codes are revived every {every} steps"),
                every.div_ceil(4).min(REVIVE_EVERY),
            ),
        };
        Some(remedy(format!("--set quantiser.revive_every={next}"), now))
    });
    let smaller = fewer_codes(usage, codebook.training_tokens)
        .map(|(codes, why)| remedy(format!("--set model.num_vq_embeddings={codes}"), why));
    let shorter = (codebook.dim > SMALL_DIM).then(|| {
        remedy(
            format!("--set model.vq_embed_dim={SMALL_DIM}"),
            format!(
                "codes of length {} lie far apart; short ones are found more easily",
                codebook.dim
            ),
        )
    });
    let scalar = remedy(
        "--set quantiser.kind=fsq".into(),
        "finite scalar quantisation has no codebook that could collapse".into(),
    );
    [revive, smaller, shorter].into_iter().flatten().chain([scalar]).collect()
}

/// The largest power of two below K with 20 training tokens a code; half of K where that asks for
/// nothing.
fn fewer_codes(usage: &Usage, training_tokens: Option<u64>) -> Option<(u64, String)> {
    let codes = usage.codes as u64;
    let half = (codes / 2).checked_ilog2().map(|b| 1 << b)?;
    let supported = training_tokens.map(|n| n / TOKENS_PER_CODE);
    match supported.filter(|&most| most < codes) {
        Some(most) => {
            let fit = most.checked_ilog2().map_or(2, |b| 1u64 << b).clamp(2, half.max(2));
            let tokens = training_tokens.unwrap_or(0);
            Some((
                fit,
                format!(
                    "{tokens} training tokens support {most} codes at {TOKENS_PER_CODE} tokens a code, not {codes}"
                ),
            ))
        }
        None if half >= 2 => Some((half, format!("{} of {codes} codes are in use", usage.unique))),
        None => None,
    }
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
        write!(f, "{} ({})", self.setting, self.why)
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
    use crate::metrics::CodeUsage;

    const BOOK: Codebook =
        Codebook { revive_every: Some(0), training_tokens: Some(64_000), dim: 8 };

    fn usage(counts: &[u64]) -> Usage {
        let mut usage = CodeUsage::new(counts.len());
        for (code, &count) in counts.iter().enumerate() {
            usage.add(&vec![code as u32; count as usize]).unwrap();
        }
        usage.summary()
    }

    fn symptoms(counts: &[u64]) -> Vec<Symptom> {
        match usage(counts).diagnose(&BOOK) {
            Diagnosis::Collapsed { symptoms, .. } => symptoms,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn each_symptom_alone() {
        assert_eq!(usage(&[100; 64]).diagnose(&BOOK), Diagnosis::Healthy);
        // 31 of 64 codes, evenly: coverage 31/64 to within (1 - 1/64)^3100.
        let mut half = [0; 64];
        half[..31].fill(100);
        let found = symptoms(&half);
        assert!(matches!(found[..], [Symptom::Coverage(c)] if (c - 31.0 / 64.0).abs() < 1e-12));
        half[31..33].fill(100);
        assert_eq!(usage(&half).diagnose(&BOOK), Diagnosis::Healthy);
        // One code with 31 %, the others evenly.
        let mut one = [69; 101];
        one[0] = 3100;
        let share = 3100.0 / 10_000.0;
        assert_eq!(symptoms(&one), [Symptom::CommonestShare(share)]);
        one[0] = 2900;
        assert_eq!(usage(&one).diagnose(&BOOK), Diagnosis::Healthy);
        // 1000 codes, all seen once, but 24 % in each of four: exp(H) is about 6.
        let mut few = [1; 1000];
        few[..4].fill(6000);
        assert!(matches!(symptoms(&few)[..], [Symptom::PerplexityShare(p)] if p < 0.01));
    }

    #[test]
    fn too_few_tokens_are_refused() {
        let few = usage(&[1; 64]).diagnose(&BOOK);
        assert!(matches!(few, Diagnosis::Refused { expected_share } if expected_share < 0.65));
        assert!(few.to_string().contains("64 %"), "{few}");
        assert!(matches!(usage(&[]).diagnose(&BOOK), Diagnosis::Refused { .. }));
    }

    fn settings(codebook: Codebook) -> Vec<String> {
        let mut counts = [0; 256];
        counts[7] = 5000;
        match usage(&counts).diagnose(&codebook) {
            Diagnosis::Collapsed { remedies, symptoms } => {
                assert_eq!(symptoms.len(), 3);
                remedies.into_iter().map(|r| r.setting).collect()
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn remedies_in_order() {
        let fsq = "--set quantiser.kind=fsq";
        assert_eq!(
            settings(BOOK),
            [
                "--set quantiser.revive_every=25",
                "--set model.num_vq_embeddings=128",
                "--set model.vq_embed_dim=4",
                fsq
            ]
        );
        // 900 tokens support 45 codes; revival is already frequent, codes are short.
        let small = Codebook { revive_every: Some(20), training_tokens: Some(900), dim: 4 };
        let expected = ["--set quantiser.revive_every=5", "--set model.num_vq_embeddings=32", fsq];
        assert_eq!(settings(small), expected);
        let without = Codebook { revive_every: None, training_tokens: Some(3), dim: 2 };
        assert_eq!(settings(without), ["--set model.num_vq_embeddings=2", fsq]);
        let always = Codebook { revive_every: Some(1), training_tokens: None, dim: 2 };
        assert_eq!(settings(always), ["--set model.num_vq_embeddings=128", fsq]);
    }

    #[test]
    fn readable_and_stored() {
        let mut counts = [0; 256];
        counts[7] = 5000;
        let diagnosis = usage(&counts).diagnose(&BOOK);
        let text = diagnosis.to_string();
        assert!(text.contains("collapsed") && text.contains("revive_every=25"), "{text}");
        let json = serde_json::to_string(&diagnosis).unwrap();
        assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
    }
}
