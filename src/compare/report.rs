//! The report of a comparison: as a page, and as text.

use super::arms::ArmSpec;
use super::assemble::Assembled;
use super::outcome::Outcome;
use crate::error::{Error, Result};
use crate::metrics::ImageScores;
use crate::report::chart::{AxisSpec, Chart, Mark, Note, Series};
use crate::report::html::{Better, Block, Report, Section, Tone};
use crate::report::scale::Scale;
use crate::report::{Colormap, Grid, codes, encode};
use crate::verdict::{ArmKind, Decision};

/// Held-out images and what the arms, trained with the first seed, made of them; in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
    pub originals: Vec<f32>,
    /// Arm and reconstructions of the same images.
    pub made: Vec<(String, Vec<f32>)>,
}

/// How much brighter errors are shown than images.
const GAIN: f32 = 4.0;

/// One arm over all of its seeds.
struct Row<'a> {
    spec: &'a ArmSpec,
    outcomes: Vec<&'a Outcome>,
}

impl Row<'_> {
    /// Mean over seeds and images of what is defined.
    fn mean(&self, of: impl Fn(&ImageScores) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> =
            self.outcomes.iter().flat_map(|o| o.scores.iter().filter_map(&of)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// Mean PSNR of every seed.
    fn psnrs(&self) -> Vec<f64> {
        let mean = |o: &&Outcome| {
            o.scores.iter().map(ImageScores::psnr_capped).sum::<f64>()
                / o.scores.len().max(1) as f64
        };
        self.outcomes.iter().map(mean).collect()
    }

    fn bits(&self) -> f64 {
        self.outcomes.iter().map(|o| o.bits).sum::<f64>() / self.outcomes.len().max(1) as f64
    }

    /// Mean over seeds and heads.
    fn usage(&self, of: impl Fn(&crate::metrics::Usage) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.outcomes.iter().flat_map(|o| o.usage.iter().map(&of)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

fn rows<'a>(arms: &'a [ArmSpec], outcomes: &'a [Outcome]) -> Vec<Row<'a>> {
    let own = |spec: &ArmSpec| outcomes.iter().filter(|o| o.arm == spec.name).collect();
    arms.iter().map(|spec| Row { spec, outcomes: own(spec) }).collect()
}

const HEAD: [&str; 14] = [
    "arm",
    "PSNR dB",
    "range over seeds",
    "SSIM",
    "MS-SSIM",
    "foreground PSNR dB",
    "LSD dB",
    "centroid error bins",
    "bandwidth error bins",
    "bits an image",
    "codes in use",
    "coverage",
    "perplexity",
    "parameters",
];

const BETTER: [Better; 14] = [
    Better::Neither,
    Better::More,
    Better::Neither,
    Better::More,
    Better::More,
    Better::More,
    Better::Less,
    Better::Less,
    Better::Less,
    Better::Neither,
    Better::More,
    Better::More,
    Better::More,
    Better::Neither,
];

fn cells(row: &Row<'_>) -> Vec<String> {
    let fixed = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => String::new(),
    };
    let psnrs = row.psnrs();
    let least = psnrs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = psnrs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let percent = row.usage(|u| 100.0 * u.unique_share);
    vec![
        row.spec.name.clone(),
        fixed(row.mean(|s| Some(s.psnr_capped())), 2),
        format!("{least:.2} to {most:.2}"),
        fixed(row.mean(|s| s.ssim), 3),
        fixed(row.mean(|s| s.ms_ssim), 3),
        fixed(row.mean(|s| s.foreground_psnr), 2),
        fixed(row.mean(|s| s.lsd), 2),
        fixed(row.mean(|s| s.centroid_error), 2),
        fixed(row.mean(|s| s.bandwidth_error), 2),
        format!("{:.0}", row.bits()),
        percent.map(|p| format!("{p:.1} %")).unwrap_or_default(),
        fixed(row.usage(|u| u.coverage), 2),
        fixed(row.usage(|u| u.perplexity), 1),
        row.outcomes.first().map(|o| o.parameters.to_string()).unwrap_or_default(),
    ]
}

/// The comparison as Markdown.
pub fn markdown(
    arms: &[ArmSpec],
    outcomes: &[Outcome],
    result: &Assembled,
    facts: &[(String, String)],
) -> String {
    let mut text = format!("# {}: {}\n\n", result.verdict.decision.name(), result.deciding);
    text.push_str(&result.verdict.to_string());
    text.push_str("\n\n## Arms\n\n");
    text.push_str(&format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len())));
    for row in rows(arms, outcomes) {
        text.push_str(&format!("| {} |\n", cells(&row).join(" | ")));
    }
    text.push_str(&format!("\nThe mean training image scores {:.2} dB.\n", result.floor));
    for note in &result.notes {
        text.push_str(&format!("\n* {note}"));
    }
    text.push_str("\n\n## Circumstances\n\n");
    facts.iter().for_each(|(name, value)| text.push_str(&format!("* {name}: {value}\n")));
    text
}

/// The comparison as a page of its own.
pub fn html(
    arms: &[ArmSpec],
    outcomes: &[Outcome],
    result: &Assembled,
    pictures: &Pictures,
    facts: &[(String, String)],
) -> Result<String> {
    let rows = rows(arms, outcomes);
    let decision = result.verdict.decision;
    let tone = match decision {
        Decision::ContinueVq => Tone::Good,
        Decision::Hybrid => Tone::Neutral,
        Decision::StayContinuous => Tone::Bad,
        Decision::Inconclusive => Tone::Warn,
    };
    let mut verdict = vec![
        Block::Verdict {
            tone,
            title: decision.name().into(),
            text: result.verdict.reasons.last().cloned().unwrap_or_default(),
        },
        Block::List(result.verdict.reasons.clone()),
        Block::Table {
            head: strings(&["rule", "quantity", "mean dB", "95 % interval", "alone it would say"]),
            rows: rules(result),
        },
    ];
    let unjudged = result.verdict.rules.iter().filter_map(|outcome| {
        let why = outcome.not_judged.as_ref()?;
        Some(format!("The {} rule is not judged: {why}.", outcome.rule.name()))
    });
    let notes: Vec<String> = result
        .verdict
        .notes
        .iter()
        .cloned()
        .chain(unjudged)
        .chain(result.notes.iter().cloned())
        .collect();
    if !notes.is_empty() {
        verdict.push(Block::List(notes));
    }
    let each = result.verdicts.iter().map(|(name, v)| {
        vec![name.clone(), v.decision.name().into(), v.reasons.last().cloned().unwrap_or_default()]
    });
    verdict.push(Block::Folded {
        title: "Every arm with codes by itself".into(),
        blocks: vec![Block::Table {
            head: strings(&["arm", "verdict", "why"]),
            rows: each.collect(),
        }],
    });
    let better = BETTER.to_vec();
    let table =
        Block::Ranked { head: strings(&HEAD), rows: rows.iter().map(cells).collect(), better };
    let floor = format!(
        "Means over held-out images and seeds. The mean training image scores {:.2} dB.",
        result.floor
    );
    let sections = vec![
        Section::new("Verdict", verdict),
        Section::new(
            "Arms",
            vec![Block::Text(floor), table, Block::Charts(vec![rate_chart(&rows)])],
        ),
        Section::new("Pictures", grids(result, &rows, pictures)?),
        Section::new("Codebooks", vec![Block::Charts(histograms(&rows))]),
        Section::new("Circumstances", vec![Block::Facts(facts.to_vec())]),
    ];
    let report = Report {
        title: "VQ-VAE or KL-VAE".into(),
        subtitle: format!("{} arms, {} runs", arms.len(), outcomes.len()),
        sections,
        footer: format!("vqforge {}", env!("CARGO_PKG_VERSION")),
    };
    Ok(report.html())
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn rules(result: &Assembled) -> Vec<Vec<String>> {
    let row = |outcome: &crate::verdict::RuleOutcome| {
        let (mean, interval) = match &outcome.interval {
            Some(i) => (format!("{:+.2}", i.mean), format!("{:+.2} to {:+.2}", i.lower, i.upper)),
            None => (String::new(), "not judged".into()),
        };
        let decides = if outcome.rule == result.verdict.rule { " (decides)" } else { "" };
        vec![
            format!("{}{decides}", outcome.rule.name()),
            outcome.quantity.clone(),
            mean,
            interval,
            outcome.decision.name().into(),
        ]
    };
    result.verdict.rules.iter().map(row).collect()
}

/// PSNR of every seed over the bits of an image.
fn rate_chart(rows: &[Row<'_>]) -> Chart {
    let series = rows.iter().enumerate().map(|(colour, row)| Series {
        name: row.spec.name.clone(),
        mark: Mark::Dots,
        colour,
        points: row.outcomes.iter().zip(row.psnrs()).map(|(o, p)| (o.bits.max(1.0), p)).collect(),
    });
    let mut series: Vec<Series> = series.collect();
    let mut curve: Vec<(f64, f64)> = rows
        .iter()
        .filter(|row| row.spec.kind == ArmKind::Vae)
        .map(|row| {
            (row.bits().max(1.0), row.psnrs().iter().sum::<f64>() / row.psnrs().len() as f64)
        })
        .collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    series.push(Series {
        name: "KL-VAEs".into(),
        mark: Mark::Line,
        colour: rows.len(),
        points: curve,
    });
    Chart {
        title: "Quality over rate".into(),
        description: "PSNR in dB of every arm and seed over bits an image".into(),
        x: AxisSpec { label: "bits an image".into(), scale: Scale::Log2, from_zero: false },
        y: AxisSpec { label: "PSNR, dB".into(), ..AxisSpec::default() },
        series,
        notes: rows.iter().map(note).collect(),
        ..Chart::default()
    }
}

/// The name of an arm at its mean.
fn note(row: &Row<'_>) -> Note {
    let psnrs = row.psnrs();
    let mean = psnrs.iter().sum::<f64>() / psnrs.len().max(1) as f64;
    Note { at: (row.bits().max(1.0), mean), text: row.spec.name.clone() }
}

/// For the deciding arm and the best KL-VAE originals, reconstructions and errors; then what every arm
/// made of the same images.
fn grids(result: &Assembled, rows: &[Row<'_>], pictures: &Pictures) -> Result<Vec<Block>> {
    let find = |name: &str| pictures.made.iter().find(|(n, _)| n == name).map(|(_, p)| p);
    let mean = |row: &&Row<'_>| row.psnrs().iter().sum::<f64>() / row.psnrs().len().max(1) as f64;
    let best = rows
        .iter()
        .filter(|row| row.spec.kind == ArmKind::Vae)
        .max_by(|a, b| mean(a).total_cmp(&mean(b)))
        .map(|row| row.spec.name.as_str());
    let mut out = vec![];
    if let (Some(vae), Some(vq)) = (best, find(&result.deciding))
        && let Some(continuous) = find(vae)
    {
        let error = |made: &[f32]| -> Vec<f32> {
            let difference = |(a, b): (&f32, &f32)| (GAIN * (a - b).abs()).min(1.0);
            pictures.originals.iter().zip(made).map(difference).collect()
        };
        let rows = [
            ("original".into(), pictures.originals.clone()),
            (result.deciding.clone(), vq.clone()),
            (format!("{GAIN} x error of {}", result.deciding), error(vq)),
            (vae.to_string(), continuous.clone()),
            (format!("{GAIN} x error of {vae}"), error(continuous)),
        ];
        let caption = "The arm that decides, the best KL-VAE, and what each gets wrong";
        out.push(matrix(caption, &rows, pictures)?);
    }
    let original = ("original".to_string(), pictures.originals.clone());
    let all: Vec<_> = std::iter::once(original).chain(pictures.made.iter().cloned()).collect();
    out.push(matrix("All arms, trained with the first seed", &all, pictures)?);
    Ok(out)
}

fn matrix(caption: &str, rows: &[(String, Vec<f32>)], pictures: &Pictures) -> Result<Block> {
    let shape = pictures.shape;
    let len = shape.iter().product::<usize>().max(1);
    let cell = |image: &[f32]| {
        let sheet = Grid::new(1, 1, shape).scaled(2).coloured(Colormap::Perceptual);
        encode(&sheet.draw(image)?)
            .map_err(|e| Error::failed("the picture cannot be encoded").why(e))
    };
    let row = |(name, images): &(String, Vec<f32>)| {
        let cells = images.chunks_exact(len).map(cell).collect::<Result<Vec<_>>>()?;
        Ok((name.clone(), cells))
    };
    let columns = (1..=pictures.originals.len() / len).map(|i| i.to_string()).collect();
    let rows = rows.iter().map(row).collect::<Result<Vec<_>>>()?;
    Ok(Block::Matrix { caption: caption.into(), columns, rows })
}

/// Use of the codes of every arm that has any, with its first seed: side by side, then one by one.
fn histograms(rows: &[Row<'_>]) -> Vec<Chart> {
    let coded: Vec<(&str, &[u64])> = rows
        .iter()
        .filter_map(|row| {
            let first = row.outcomes.first().filter(|o| !o.counts.is_empty())?;
            Some((row.spec.name.as_str(), &first.counts[..]))
        })
        .collect();
    let single = coded.iter().map(|(name, counts)| {
        let chart = codes::usage(counts);
        Chart { title: format!("{name}: {}", chart.title), ..chart }
    });
    match coded.len() {
        0 | 1 => single.collect(),
        _ => std::iter::once(codes::usages(&coded)).chain(single).collect(),
    }
}
