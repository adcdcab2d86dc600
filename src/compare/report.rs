//! The report of a comparison: as a page, and as text.

use super::arms::ArmSpec;
use super::assemble::Assembled;
use super::outcome::Outcome;
use super::sample_report::{self, LEGEND};
use super::samples::SampleOutcome;
use crate::error::{Error, Result};
use crate::metrics::{FEATURE_NAMES, ImageScores, SsimConvention, mean_distance};
use crate::report::chart::{AxisSpec, Chart, Mark, Note, Series};
use crate::report::html::{Better, Block, Picture, Report, Section, Tone};
use crate::report::scale::Scale;
use crate::report::{Colormap, Grid, codes, encode};
use crate::verdict::{ArmKind, Decision, Verdict};

/// Held-out images and what the arms, trained with the first seed, made of them; in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
    pub originals: Vec<f32>,
    /// Arm and reconstructions of the same images.
    pub made: Vec<(String, Vec<f32>)>,
    /// What the diffusions over them made beside held-out images.
    pub samples: Vec<Picture>,
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
        let values = self.outcomes.iter().flat_map(|o| o.scores.iter().filter_map(&of));
        mean(&values.collect::<Vec<_>>())
    }

    /// Mean PSNR of every seed.
    fn psnrs(&self) -> Vec<f64> {
        let each =
            |o: &&Outcome| mean(&o.scores.iter().map(ImageScores::psnr_capped).collect::<Vec<_>>());
        self.outcomes.iter().filter_map(each).collect()
    }

    /// Mean of [`psnrs`](Self::psnrs).
    fn psnr(&self) -> f64 {
        mean(&self.psnrs()).unwrap_or(f64::NAN)
    }

    /// Mean over seeds of the mean distance of the envelopes' features.
    fn envelopes(&self) -> Option<f64> {
        let known = self.outcomes.iter().filter_map(|o| mean_distance(&o.envelopes));
        mean(&known.collect::<Vec<_>>())
    }

    fn bits(&self) -> f64 {
        mean(&self.outcomes.iter().map(|o| o.bits).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }

    /// Mean over seeds and heads.
    fn usage(&self, of: impl Fn(&crate::metrics::Usage) -> f64) -> Option<f64> {
        let values = self.outcomes.iter().flat_map(|o| o.usage.iter().map(&of));
        mean(&values.collect::<Vec<_>>())
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn rows<'a>(arms: &'a [ArmSpec], outcomes: &'a [Outcome]) -> Vec<Row<'a>> {
    let own = |spec: &ArmSpec| outcomes.iter().filter(|o| o.arm == spec.name).collect();
    arms.iter().map(|spec| Row { spec, outcomes: own(spec) }).collect()
}

/// A column of the table of arms: its head, which end is better, and the cell of an arm, empty where
/// it has no such number.
type Column = (&'static str, Better, fn(&Row<'_>) -> String);

fn fixed(value: Option<f64>, digits: usize) -> String {
    value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
}

fn range(row: &Row<'_>) -> String {
    let psnrs = row.psnrs();
    let least = psnrs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = psnrs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.2} to {most:.2}")
}

fn in_use(row: &Row<'_>) -> String {
    row.usage(|u| 100.0 * u.unique_share).map(|p| format!("{p:.1} %")).unwrap_or_default()
}

const COLUMNS: [Column; 17] = [
    ("arm", Better::Neither, |row| row.spec.name.clone()),
    ("PSNR dB", Better::More, |row| fixed(Some(row.psnr()), 2)),
    ("range over seeds", Better::Neither, range),
    ("SSIM", Better::More, |row| fixed(row.mean(|s| s.ssim), 3)),
    ("SSIM 7 x 7", Better::More, |row| fixed(row.mean(|s| s.ssim_uniform7), 3)),
    ("MS-SSIM", Better::More, |row| fixed(row.mean(|s| s.ms_ssim), 3)),
    ("foreground PSNR dB", Better::More, |row| fixed(row.mean(|s| s.foreground_psnr), 2)),
    ("MAE dB", Better::Less, |row| fixed(row.mean(|s| s.db_mae), 2)),
    ("LSD dB", Better::Less, |row| fixed(row.mean(|s| s.lsd), 2)),
    ("centroid error bins", Better::Less, |row| fixed(row.mean(|s| s.centroid_error), 2)),
    ("bandwidth error bins", Better::Less, |row| fixed(row.mean(|s| s.bandwidth_error), 2)),
    ("envelope W1", Better::Less, |row| fixed(row.envelopes(), 3)),
    ("bits an image", Better::Neither, |row| format!("{:.0}", row.bits())),
    ("codes in use", Better::More, in_use),
    ("coverage", Better::More, |row| fixed(row.usage(|u| u.coverage), 2)),
    ("perplexity", Better::More, |row| fixed(row.usage(|u| u.perplexity), 1)),
    ("parameters", Better::Neither, |row| {
        row.outcomes.first().map(|o| o.parameters.to_string()).unwrap_or_default()
    }),
];

/// Head, better ends and cells of the table of arms, without the columns that no arm has.
fn table(rows: &[Row<'_>]) -> (Vec<String>, Vec<Better>, Vec<Vec<String>>) {
    let has = |(_, _, cell): &&Column| rows.iter().any(|row| !cell(row).is_empty());
    let columns: Vec<&Column> = COLUMNS.iter().filter(has).collect();
    (
        columns.iter().map(|(head, ..)| head.to_string()).collect(),
        columns.iter().map(|(_, better, _)| *better).collect(),
        rows.iter().map(|row| columns.iter().map(|(_, _, cell)| cell(row)).collect()).collect(),
    )
}

/// What the numbers of the table are, a sentence each.
fn legend(rows: &[Row<'_>], result: &Assembled) -> Vec<String> {
    let mut said = vec![
        format!(
            "Means over held-out images and seeds. The mean training image scores {:.2} dB.",
            result.floor
        ),
        format!("SSIM: {}.", SsimConvention::Gaussian.describe()),
        format!("SSIM 7 x 7: {}.", SsimConvention::Uniform7.describe()),
        "MS-SSIM: the window and range of SSIM, over as many of five scales as fit.".into(),
    ];
    let range = rows.iter().flat_map(|row| &row.outcomes).find_map(|o| o.dynamic_range_db);
    said.extend(range.map(|db| {
        format!("MAE and LSD (log-spectral distance) are of levels: black to white is {db} dB.")
    }));
    if rows.iter().any(|row| row.envelopes().is_some()) {
        said.push(format!(
            "Centroid and bandwidth: mean absolute errors over frames, in Doppler bins (rows). \
             Envelope W1: Wasserstein distance from the originals in standard deviations of theirs, \
             mean of {}.",
            FEATURE_NAMES.join(", ")
        ));
    }
    said
}

/// The comparison as Markdown.
pub fn markdown(
    arms: &[ArmSpec],
    outcomes: &[Outcome],
    samples: &[SampleOutcome],
    result: &Assembled,
    facts: &[(String, String)],
) -> String {
    let mut text = format!("# {}: {}\n\n", result.verdict.decision.name(), result.deciding);
    text.push_str(&result.verdict.to_string());
    text.push_str("\n\n## Arms\n\n");
    let rows = rows(arms, outcomes);
    let (head, _, cells) = table(&rows);
    text.push_str(&markdown_table(&head, &cells));
    text.push('\n');
    legend(&rows, result).iter().for_each(|said| text.push_str(&format!("{said}\n")));
    if let Some((head, cells)) = sample_report::table(samples) {
        let table = markdown_table(&head, &cells);
        text.push_str(&format!("\n## Samples\n\n{table}\n{LEGEND}\n"));
    }
    for note in &result.notes {
        text.push_str(&format!("\n* {note}"));
    }
    text.push_str("\n\n## Circumstances\n\n");
    facts.iter().for_each(|(name, value)| text.push_str(&format!("* {name}: {value}\n")));
    text
}

fn markdown_table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}|{}\n{rows}", line(head), "---|".repeat(head.len()))
}

/// The comparison as a page of its own.
pub fn html(
    arms: &[ArmSpec],
    outcomes: &[Outcome],
    samples: &[SampleOutcome],
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
            head: strings(&Verdict::HEAD),
            rows: result.verdict.rows().into_iter().map(Vec::from).collect(),
        },
    ];
    let notes: Vec<String> = result.verdict.notes.iter().chain(&result.notes).cloned().collect();
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
    let (head, better, cells) = table(&rows);
    let legend = Block::Text(legend(&rows, result).join(" "));
    let table = Block::Ranked { head, rows: cells, better };
    let mut sections = vec![
        Section::new("Verdict", verdict),
        Section::new("Arms", vec![table, legend, Block::Charts(vec![rate_chart(&rows)])]),
    ];
    if let Some((head, rows)) = sample_report::table(samples) {
        let pictures = Block::Images(pictures.samples.clone());
        let blocks = vec![Block::Table { head, rows }, Block::Text(LEGEND.into()), pictures];
        sections.push(Section::new("Samples", blocks));
    }
    sections.extend([
        Section::new("Pictures", grids(result, &rows, pictures)?),
        Section::new("Codebooks", vec![Block::Charts(histograms(&rows))]),
        Section::new("Circumstances", vec![Block::Facts(facts.to_vec())]),
    ]);
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
        .map(|row| (row.bits().max(1.0), row.psnr()))
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
    Note { at: (row.bits().max(1.0), row.psnr()), text: row.spec.name.clone() }
}

/// For the deciding arm and the best KL-VAE originals, reconstructions and errors; then what every arm
/// made of the same images.
fn grids(result: &Assembled, rows: &[Row<'_>], pictures: &Pictures) -> Result<Vec<Block>> {
    let find = |name: &str| pictures.made.iter().find(|(n, _)| n == name).map(|(_, p)| p);
    let best = rows
        .iter()
        .filter(|row| row.spec.kind == ArmKind::Vae)
        .max_by(|a, b| a.psnr().total_cmp(&b.psnr()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::vq_arms;
    use crate::metrics::{QualitySum, Scoring};

    fn outcome(range_db: Option<f64>, channels: usize) -> Outcome {
        let scoring = Scoring { shape: [12, 12, channels], dynamic_range_db: range_db };
        let mut quality = QualitySum::with_scoring(scoring);
        let images: Vec<f32> =
            (0..3 * 144 * channels).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let made: Vec<f32> = images.iter().map(|v| 0.9 * v).collect();
        Outcome {
            arm: "ema".into(),
            seed: 0,
            steps: 1,
            parameters: 7,
            bits: 640.0,
            entropy_bits: None,
            usage: vec![],
            counts: vec![],
            scores: quality.score(&images, &made),
            envelopes: quality.envelopes(),
            failed: None,
            dynamic_range_db: range_db,
        }
    }

    fn heads(outcome: Outcome) -> Vec<String> {
        let (arms, outcomes) = (vq_arms("ema").unwrap(), [outcome]);
        let (head, better, cells) = table(&rows(&arms, &outcomes));
        assert_eq!((head.len(), better.len()), (cells[0].len(), cells[0].len()));
        head
    }

    /// Decibels only where it is known how many the images span, Doppler only of one channel.
    #[test]
    fn columns_that_no_arm_has_are_left_out() {
        let radar = heads(outcome(Some(40.0), 1));
        for column in ["SSIM 7 x 7", "MAE dB", "LSD dB", "bandwidth error bins", "envelope W1"] {
            assert!(radar.iter().any(|head| head == column), "{column}: {radar:?}");
        }
        let photographs = heads(outcome(None, 3));
        for gone in ["MAE dB", "LSD dB", "bandwidth error bins", "envelope W1", "codes in use"] {
            assert!(!photographs.iter().any(|head| head == gone), "{gone}: {photographs:?}");
        }
        let unknown = heads(outcome(None, 1)).join(" ");
        assert!(unknown.contains("envelope W1") && !unknown.contains("LSD"), "{unknown}");
    }
}
