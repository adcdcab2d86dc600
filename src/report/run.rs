//! The report of one run, and the other files that sum it up.

use super::chart::Chart;
use super::codebook::{self, HELD_OUT, TRAINING};
use super::folder::{self, Checkpoint, integer, setting};
use super::history::{EVAL, History};
use super::html::{Block, Report, Section, Tile, Tone};
use super::scale::precise;
use super::{codes, csv::csv, curves, write_png};
use crate::data::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::metrics::SsimConvention;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The numbers of a step by name.
type Row = BTreeMap<String, f64>;

/// Lines of the plan shown from its beginning and its end.
const PLAN_LINES: usize = 12;
/// Writes `results.csv`, `results.png` and `report.html` into a run folder, and
/// `samples/codes_usage.png` where the use of every code is known.
///
/// # Errors
/// No such folder; metrics that cannot be read; a full disk.
pub fn write_results(run: &Path) -> Result<()> {
    let told = Told::of(run)?;
    let table = csv(&told.history);
    write_atomically(&run.join("results.csv"), |w| w.write_all(table.as_bytes()))?;
    if !told.charts.is_empty() {
        write_png(&run.join("results.png"), &curves::picture(&told.charts))?;
    }
    let (samples, heads) = (run.join("samples"), told.history.codebooks(HELD_OUT));
    if samples.is_dir() && !heads.is_empty() {
        write_png(&samples.join("codes_usage.png"), &codes::picture(&heads))?;
    }
    let page = told.report().html();
    write_atomically(&run.join("report.html"), |w| w.write_all(page.as_bytes()))
}

/// The report of a run folder as HTML, from whatever is in it.
///
/// # Errors
/// No such folder; metrics that are there and cannot be read.
pub fn run_report(run: &Path) -> Result<String> {
    Ok(Told::of(run)?.report().html())
}

/// What a run folder tells.
struct Told<'a> {
    run: &'a Path,
    history: History,
    charts: Vec<Chart>,
    config: toml::Table,
    checkpoints: Vec<Checkpoint>,
}

impl<'a> Told<'a> {
    fn of(run: &'a Path) -> Result<Self> {
        if !run.is_dir() {
            let help = "give the folder of a run, such as runs/NAME";
            return Err(Error::usage("there is no such run folder").at_path(run).help(help));
        }
        let history = History::read(&run.join("metrics.jsonl"))?;
        let config = folder::config(run);
        let charts = curves::charts(&history, integer(&config, "model.num_vq_embeddings"));
        let checkpoints = folder::checkpoints(run);
        Ok(Told { run, history, charts, config, checkpoints })
    }

    fn report(&self) -> Report {
        let known = setting(&self.config, "name");
        let here = self.run.canonicalize().unwrap_or_else(|_| self.run.to_path_buf());
        let folder = here.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut subtitle = vec![self.kind().to_string(), format!("run folder {folder}")];
        if let Some(device) = folder::environment(self.run).get("device").and_then(|d| d.as_str()) {
            subtitle.push(format!("trained on {device}"));
        }
        let sections = [
            ("Summary", self.summary()),
            ("Pictures", self.pictures()),
            ("Curves", vec![Block::Charts(self.charts.clone())]),
            ("Codebook", codebook::section(&self.history)),
            ("Held-out metrics", self.metrics()),
            ("Settings", self.settings()),
            ("Plan", self.plan()),
            ("Checkpoints", self.saved()),
            ("Environment", self.environment()),
        ];
        let shown = sections.into_iter().filter(|(title, blocks)| match title {
            &"Curves" => !self.charts.is_empty(),
            _ => !blocks.is_empty(),
        });
        Report {
            title: known.unwrap_or(folder),
            subtitle: subtitle.join(" · "),
            sections: shown.map(|(title, blocks)| Section::new(title, blocks)).collect(),
            footer: format!("Written by vqforge {}.", env!("CARGO_PKG_VERSION")),
        }
    }

    /// What was trained: as a checkpoint says, else by the files that only one kind has.
    fn kind(&self) -> String {
        let noted = self.checkpoints.iter().find_map(|c| c.notes.get("kind").cloned());
        let tokens = self.run.join("tokenizer.safetensors").exists();
        let guess = || if tokens { "diffusion" } else { "autoencoder" }.to_string();
        match noted.unwrap_or_else(guess).as_str() {
            "vqvae" => "VQ-VAE".into(),
            "vae" | "klvae" => "KL-VAE".into(),
            "diffusion" => "discrete diffusion over codes".into(),
            other => other.to_string(),
        }
    }

    fn last(&self, metric: &str) -> Option<f64> {
        self.history.last(metric)
    }

    /// Codes of all codebooks of the quantiser together.
    fn all_codes(&self) -> Option<u64> {
        let heads = self.history.codebooks(HELD_OUT);
        if !heads.is_empty() {
            return Some(heads.iter().map(|head| head.counts.len() as u64).sum());
        }
        let number = |name: &str| integer(&self.config, name);
        let heads = ["quantiser.residual_levels", "quantiser.num_codebooks"];
        let heads: u64 = heads.iter().filter_map(|name| number(name)).product();
        Some(number("model.num_vq_embeddings")? * heads)
    }

    fn summary(&self) -> Vec<Block> {
        let mut out = self.verdicts();
        let mut tiles = vec![];
        let mut tile = |label: &str, value: Option<String>, note: String| {
            tiles.extend(value.map(|value| Tile { label: label.into(), value, note }));
        };
        let number = |metric: &str, digits| self.last(metric).map(|v| precise(v, digits));
        tile("PSNR, held out", number("psnr", 4).map(|v| v + " dB"), String::new());
        tile("SSIM, held out", number("ssim", 3), String::new());
        let of = self.all_codes().map_or(String::new(), |k| format!("of {k}"));
        tile("Codes used", number("codes_used", 5), of);
        tile("Perplexity", number("perplexity", 4), "effective number of codes".into());
        let neighbours = number("neighbour_model", 4);
        let note = neighbours.map_or(String::new(), |v| format!("neighbour model {v}"));
        tile("Bits a token", number("bits_per_token", 4), note);
        let note = "rate of the codes, without the decoder's distortion";
        tile("Bits a dimension", number("bits_per_dim", 4), note.into());
        let column = |name: &str| self.history.column(name);
        let loss = column("loss").last().map(|(step, v)| (precise(*v, 4), format!("step {step}")));
        let bound = column("reweighted_loss").is_empty();
        if let Some((value, note)) = loss {
            let note = if bound { note } else { format!("{note}; reweighted, not a bound") };
            tile("Loss", Some(value), note);
        }
        let time = column("seconds").last().map(|(_, s)| duration(*s));
        let rate = column("images_per_second").last().map(|(_, v)| precise(*v, 3));
        let note = rate.map_or(String::new(), |v| format!("{v} images a second"));
        tile("Time", time, note);
        tile("Parameters", self.parameters(), String::new());
        if !tiles.is_empty() {
            out.push(Block::Tiles(tiles));
        }
        out
    }

    /// How far it came, and what a reader must know before the numbers.
    fn verdicts(&self) -> Vec<Block> {
        let verdict = |tone, title: String, text: &str| {
            let text = text.into();
            Block::Verdict { tone, title, text }
        };
        let mut out = vec![];
        let planned = integer(&self.config, "train.steps");
        out.push(match (self.history.last_step(), planned) {
            (None, _) => verdict(Tone::Warn, "Nothing was measured yet".into(), ""),
            (Some(done), Some(all)) if done < all => verdict(
                Tone::Warn,
                format!("Not finished: {done} of {all} steps"),
                "The run is still under way or was stopped; --resume continues it.",
            ),
            (Some(done), _) => {
                verdict(Tone::Good, format!("Finished after {done} steps"), &self.headline())
            }
        });
        out.extend(self.not_finite());
        for title in codebook::little_used(&self.history) {
            let text = "More data, revival of unused codes or a smaller codebook may help.";
            out.push(verdict(Tone::Warn, title, text));
        }
        if self.history.unreadable > 0 {
            let title =
                format!("{} lines of metrics.jsonl are unreadable", self.history.unreadable);
            out.push(verdict(
                Tone::Neutral,
                title,
                "They are left out; a killed run cuts its last.",
            ));
        }
        out
    }

    /// The metrics that are asked for first, in a sentence.
    fn headline(&self) -> String {
        let part = |metric: &str, unit: &str| {
            let name = curves::words(metric);
            self.last(metric).map(|v| format!("{name} {}{unit}", precise(v, 4)))
        };
        let parts =
            [part("psnr", " dB"), part("ssim", ""), part("bits_per_token", ""), part("v_loss", "")];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        if known.is_empty() { String::new() } else { format!("Held out: {}.", known.join(", ")) }
    }

    /// Whether the training steps could be taken: a loss that is not finite is NaN here, and a step that
    /// was not applied is marked as skipped.
    fn not_finite(&self) -> Option<Block> {
        let trained = |row: &&Row| row.keys().any(|k| !k.starts_with(EVAL));
        let rows: Vec<&Row> = self.history.steps.values().filter(trained).collect();
        let last = rows.last()?;
        let skipped = rows.iter().filter(|row| row.contains_key("skipped")).count();
        // In mixed precision single steps are skipped to find the scale of the loss.
        let searching = last.contains_key("loss_scale");
        let title = if !last.get("loss").is_some_and(|loss| loss.is_finite()) {
            "The last loss is not finite".into()
        } else if last.contains_key("skipped") && !searching {
            "The last step was skipped: its gradient is not finite".into()
        } else if 20 * skipped > rows.len() {
            return Some(Block::Verdict {
                tone: Tone::Warn,
                title: format!("{skipped} of {} steps were skipped", rows.len()),
                text: "Their gradients were not finite.".into(),
            });
        } else {
            return None;
        };
        let text = "Lower train.lr or train.clip and continue from a checkpoint.".into();
        Some(Block::Verdict { tone: Tone::Bad, title, text })
    }

    /// As the plan counts them.
    fn parameters(&self) -> Option<String> {
        let plan = folder::text(self.run, "plan.txt")?;
        let count = plan.split(" parameters in").next()?.rsplit(' ').next()?;
        let count: f64 = count.parse().ok()?;
        Some(super::scale::number(count))
    }

    fn pictures(&self) -> Vec<Block> {
        let mut shown = vec![];
        let mut left_out = vec![];
        for (kind, step, path) in folder::pictures(self.run) {
            // The chart of the codebook tells the same.
            if kind == "codes_usage" && !self.history.codebooks(HELD_OUT).is_empty() {
                continue;
            }
            let what = match kind.as_str() {
                "recon" => "Reconstructions of held-out images: inputs, outputs, their difference",
                "gen" => "New images, of the same seeds and classes at every step",
                "codes_usage" => "How often each code is used",
                "dataset" => "Images of the first batch",
                other => other,
            };
            let caption = match step {
                Some(step) => format!("{what}; step {step}"),
                None => what.to_string(),
            };
            match folder::picture(&path, caption.clone()) {
                Some(picture) => shown.push(picture),
                None => left_out.push(format!("{caption}: in {}", path.display())),
            }
        }
        let mut out = vec![];
        if !shown.is_empty() {
            out.push(Block::Images(shown));
        }
        if !left_out.is_empty() {
            out.push(Block::List(left_out));
        }
        out
    }

    fn metrics(&self) -> Vec<Block> {
        let row = |name: &str| {
            let points = self.history.column(name);
            let (first, last) = (points.first()?, points.last()?);
            // What is not held out, the section on the codebook has.
            let metric = name.strip_prefix(EVAL).filter(|n| !n.starts_with(TRAINING))?;
            let best = more_is_better(metric).and_then(|more| {
                let better = |a: &&(f64, f64), b: &&(f64, f64)| {
                    if more { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) }
                };
                // Of equals the first.
                points.iter().rev().max_by(better)
            });
            let (value, step) =
                best.map_or(("".into(), "".into()), |b| (precise(b.1, 5), b.0.to_string()));
            let name = curves::words(metric);
            Some(vec![name, precise(first.1, 5), precise(last.1, 5), value, step])
        };
        let rows: Vec<_> = self.history.names().into_iter().filter_map(row).collect();
        let head = ["metric", "first", "last", "best", "at step"].map(String::from).to_vec();
        if rows.is_empty() {
            return vec![];
        }
        let mut out = vec![Block::Table { head, rows }];
        let known = self.history.names();
        if known.contains("eval.ssim") {
            out.push(Block::Text(format!(
                "SSIM: {}. SSIM uniform7: {}.",
                SsimConvention::Gaussian.describe(),
                SsimConvention::Uniform7.describe()
            )));
        }
        if known.contains("eval.envelope_w1") {
            out.push(Block::Text(
                "Centroid and bandwidth errors are in Doppler bins (rows), envelope W1 is the distance \
                 from the originals in standard deviations of theirs; all of them take rows for Doppler \
                 and columns for time."
                    .into(),
            ));
        }
        out
    }

    fn settings(&self) -> Vec<Block> {
        const SHOWN: [(&str, &str); 15] = [
            ("Family", "model.family"),
            ("Channels", "model.block_out_channels"),
            ("Quantiser", "quantiser.kind"),
            ("Codes", "model.num_vq_embeddings"),
            ("Components of a code", "model.vq_embed_dim"),
            ("Commitment", "model.commitment_cost"),
            ("Denoiser layers", "denoiser.layers"),
            ("Denoiser width", "denoiser.width"),
            ("Steps", "train.steps"),
            ("Batch", "train.batch"),
            ("Lanes", "train.lanes"),
            ("Learning rate", "train.lr"),
            ("Schedule", "train.schedule"),
            ("Precision", "train.precision"),
            ("Seed", "train.seed"),
        ];
        let diffusion = self.kind().contains("diffusion");
        let facts: Vec<(String, String)> = SHOWN
            .iter()
            .filter(|(_, name)| diffusion || !name.starts_with("denoiser"))
            .filter_map(|(label, name)| Some((label.to_string(), setting(&self.config, name)?)))
            .collect();
        let Some(text) = folder::text(self.run, "config.toml") else { return vec![] };
        let title = "config.toml: every setting".into();
        vec![Block::Facts(facts), Block::Folded { title, blocks: vec![Block::Code(text)] }]
    }

    fn plan(&self) -> Vec<Block> {
        let Some(plan) = folder::text(self.run, "plan.txt") else { return vec![] };
        let lines: Vec<&str> = plan.lines().collect();
        let totals = |l: &&&str| l.contains(" launches") || l.contains(" slots");
        let sums = lines.iter().filter(totals).map(|l| l.trim().to_string()).collect();
        let excerpt = match lines.len() > 2 * PLAN_LINES {
            false => lines.join("\n"),
            true => {
                let (head, tail) = (&lines[..PLAN_LINES], &lines[lines.len() - PLAN_LINES..]);
                let between = lines.len() - 2 * PLAN_LINES;
                format!("{}\n... {between} lines ...\n{}", head.join("\n"), tail.join("\n"))
            }
        };
        let title = "plan.txt: its first and last lines".into();
        vec![Block::List(sums), Block::Folded { title, blocks: vec![Block::Code(excerpt)] }]
    }

    fn saved(&self) -> Vec<Block> {
        let row = |c: &Checkpoint| {
            let note = |name: &str| c.notes.get(name).cloned().unwrap_or_default();
            let size = format!("{} MB", precise(c.bytes as f64 / 1e6, 3));
            vec![c.name.clone(), note("step"), size]
        };
        let rows: Vec<_> = self.checkpoints.iter().map(row).collect();
        let head = ["checkpoint", "step", "size"].map(String::from).to_vec();
        if rows.is_empty() { vec![] } else { vec![Block::Table { head, rows }] }
    }

    fn environment(&self) -> Vec<Block> {
        let environment = folder::environment(self.run);
        let shown = |v: &serde_json::Value| match v {
            serde_json::Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        let facts = environment.iter().filter(|(name, _)| *name != "argv");
        let facts: Vec<_> = facts.map(|(name, value)| (name.clone(), shown(value))).collect();
        let mut out = vec![];
        if !facts.is_empty() {
            out.push(Block::Facts(facts));
        }
        if let Some(argv) = environment.get("argv").and_then(|a| a.as_array()) {
            let words: Vec<String> = argv.iter().map(shown).collect();
            out.push(Block::Code(words.join(" ")));
        }
        let warnings = folder::warnings(self.run);
        if !warnings.is_empty() {
            out.push(Block::Text("Warnings in run.log:".into()));
            out.push(Block::List(warnings));
        }
        out
    }
}

/// Which way a metric is better, where that is known.
fn more_is_better(metric: &str) -> Option<bool> {
    let name = metric.rsplit('.').next().unwrap_or(metric);
    let more =
        ["psnr", "ssim", "codes_used", "codes_found", "perplexity", "coverage", "unique", "share"];
    let less = ["loss", "bits_per_token", "mse", "mae", "l1", "lpips", "fid", "kid", "fsd", "nll"];
    let less_alone = ["commonest_share", "dead", "lsd", "envelope_w1"];
    if less_alone.contains(&name)
        || name.ends_with("_error")
        || less.iter().any(|m| name.contains(m))
    {
        return Some(false);
    }
    more.iter().any(|m| name.contains(m)).then_some(true)
}

/// 75 s as `1 m 15 s`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{} s", precise(seconds, 3)),
        (0, _) => format!("{minutes} m {rest} s"),
        _ => format!("{hours} h {minutes} m"),
    }
}
