//! The verdict in words.

use std::fmt;

use super::bootstrap::Interval;
use super::decision::{Decision, Rule, RuleOutcome, Verdict};
use super::judge::{Arms, Judged, Settings, wins};
use crate::metrics::Gate;

/// Two decimals with a sign; never a negative zero.
pub(super) fn signed(v: f64) -> String {
    let text = format!("{v:+.2}");
    if text == "-0.00" { "+0.00".into() } else { text }
}

/// `95 %` of .95, with two decimals at most.
pub fn percent(level: f64) -> String {
    let text = format!("{:.2}", 100.0 * level);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn span(interval: &Interval, unit: &str) -> String {
    let Interval { mean, level, .. } = interval;
    format!("{}{unit}, {} interval {}{unit}", signed(*mean), percent(*level), ends(interval))
}

fn ends(interval: &Interval) -> String {
    format!("{} to {}", signed(interval.lower), signed(interval.upper))
}

impl Verdict {
    /// The heads of [`rows`](Self::rows).
    pub const HEAD: [&str; 6] =
        ["rule", "what must be above 0", "mean", "interval", "means alone", "verdict"];

    /// What each rule says, a row of texts each.
    pub fn rows(&self) -> Vec<[String; 6]> {
        let row = |outcome: &RuleOutcome| {
            let unit = outcome.rule.unit();
            let (mean, interval) = match (&outcome.interval, &outcome.not_judged) {
                (Some(i), _) => (format!("{}{unit}", signed(i.mean)), format!("{}{unit}", ends(i))),
                (None, why) => {
                    (String::new(), format!("not judged: {}", why.as_deref().unwrap_or("no data")))
                }
            };
            let decides = if outcome.rule == self.rule { " (decides)" } else { "" };
            [
                format!("{}{decides}", outcome.rule.name()),
                outcome.quantity.clone(),
                mean,
                interval,
                if outcome.holds_for_means { "holds" } else { "does not hold" }.into(),
                outcome.decision.name().into(),
            ]
        };
        self.rules.iter().map(row).collect()
    }
}

/// Sentences with the numbers behind `decision`, the decisive one last.
pub(super) fn reasons(
    arms: &Arms<'_>,
    settings: &Settings,
    floor: &Interval,
    vq: &Judged,
    hybrids: &[(String, Judged)],
    decision: Decision,
) -> Vec<String> {
    let name = &arms.vq.name;
    let Some(usage) = arms.vq.usage else {
        return vec![format!(
            "The use of the codes of {name} was not measured, so it cannot pass."
        )];
    };
    let share = 100.0 * usage.unique_share;
    if usage.gate == Gate::Refused {
        return vec![format!(
            "The usage gate is refused: {} tokens are too few for a statement on utilisation ({share:.1} \
             % of the codes were seen); evaluate more images or use fewer codes.",
            usage.tokens
        )];
    }
    let mut said = vec![format!(
        "{name} uses {share:.1} % of its codes over {} tokens, {} the {:.0} % asked for.",
        usage.tokens,
        if usage.gate == Gate::Passed { "above" } else { "not above" },
        100.0 * usage.threshold
    )];
    let margin = settings.floor_margin_db;
    if floor.lower <= 0.0 {
        let how = if floor.contains_zero() { "cannot be told from" } else { "is worse than" };
        said.push(format!(
            "{name} {how} the mean training image plus a margin of {margin:.2} dB ({}): it \
             reconstructs nothing, because the data is noise or the training failed.",
            span(floor, " dB")
        ));
        return said;
    }
    said.push(format!(
        "{name} reconstructs: over the mean training image and a margin of {margin:.2} dB it has {}.",
        span(floor, " dB")
    ));
    let (rule, unit) = (settings.rule.name(), settings.rule.unit());
    let interval = match vq {
        Ok(interval) => interval,
        Err(why) => {
            said.push(format!("The {rule} rule was not judged: {why}."));
            return said;
        }
    };
    let side = if interval.contains_zero() {
        "the interval contains 0, so the arms cannot be told apart"
    } else if interval.lower > 0.0 {
        "all of the interval is above 0"
    } else {
        "all of the interval is below 0"
    };
    let versus = match settings.rule {
        Rule::Literal => {
            format!("{:.2} times the PSNR of {}", 1.0 + settings.literal_gain, arms.against.name)
        }
        Rule::Db => arms.against.name.clone(),
        Rule::Generation => arms.sampled.name.clone(),
        Rule::RateMatched => format!("the VAE at the same {:.1} bits an image", arms.vq.rate),
    };
    let what = match settings.rule {
        Rule::Generation => {
            format!("the KID x 1000 of samples over {versus} less that over {name}")
        }
        _ => format!("{name} less {versus}"),
    };
    said.push(format!("By the {rule} rule {what} is {}: {side}.", span(interval, unit)));
    if matches!(decision, Decision::Inconclusive | Decision::ContinueVq) {
        return said;
    }
    if interval.lower > 0.0 {
        said.push(format!(
            "{name} is better but leaves too many codes unused to be continued with."
        ));
    }
    for (hybrid, judged) in hybrids {
        said.push(match judged {
            Ok(i) if wins(judged) => {
                format!("The hybrid {hybrid} wins by the same rule: {}.", span(i, unit))
            }
            Ok(i) => {
                format!("The hybrid {hybrid} does not win by the same rule: {}.", span(i, unit))
            }
            Err(why) => format!("The hybrid {hybrid} was not judged: {why}."),
        });
    }
    if decision == Decision::StayContinuous {
        said.push(if hybrids.is_empty() {
            "No hybrid was compared, so the continuous latent stays.".into()
        } else {
            "No hybrid is better than the VAE, so the continuous latent stays.".to_string()
        });
    }
    said
}

/// Markdown.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "**{}** by the {} rule\n", self.decision.name(), self.rule.name())?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "- {reason}"))?;
        writeln!(f, "\n| {} |\n|---|---|---:|---:|---|---|", Verdict::HEAD.join(" | "))?;
        self.rows().iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))?;
        if !self.notes.is_empty() {
            writeln!(f)?;
            self.notes.iter().try_for_each(|note| writeln!(f, "> {note}"))?;
        }
        Ok(())
    }
}
