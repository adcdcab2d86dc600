//! A run over many rows within a budget of time.

use super::check::Oracle;
use super::measure::Bench;
use super::report::{Control, Measurement, NotRun, Report, SCHEMA, short};
use super::rows::Row;
use super::{Machine, Peaks, Summary, Verdict};
use crate::device::{Device, Flush, Sample};
use crate::error::{Error, Result};
use crate::kernels::{Caps, Case, Kernel};
use std::time::Instant;

/// Samples without which a median and quartiles say nothing, and more than which is waste.
const SAMPLES: (usize, usize) = (5, 51);
/// The most that one row may take beyond its fewest samples, in seconds.
const ROW_SECONDS: f64 = 1.5;
/// Share of the roofline that a kernel is expected to reach at least: a row is left out unseen only
/// where even so it would not fit.
const EXPECTED: f64 = 0.05;
/// What emptying the caches may take, in seconds at the rate of the copy probe, and the bytes written
/// for it: never less than most processors' last cache, nor more than the largest of any GPU.
const FLUSH_SECONDS: f64 = 0.0015;
const FLUSH_BYTES: (f64, f64) = (48.0 * 1048576.0, 256.0 * 1048576.0);

/// What to run and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only rows whose names contain this.
    pub filter: String,
    /// Only small rows.
    pub quick: bool,
    /// Also every variant of each kernel that the device can run.
    pub variants: bool,
    /// Seconds for everything; a row that has begun is finished.
    pub budget: f64,
}

impl Options {
    /// The budget where none is named.
    pub fn usual_budget(quick: bool) -> f64 {
        if quick { 30.0 } else { 180.0 }
    }
}

/// Outcome of one row.
enum Outcome {
    Done {
        rows: Vec<Measurement>,
        control: Option<Control>,
        /// Variants without figures.
        not_run: Vec<NotRun>,
    },
    NotRun(String),
}

/// Times `rows` on a device: the probes first, then small rows, then the others, cheapest first.
/// `tell` hears what is going on.
///
/// # Errors
/// No row fits the filter; the device fails. A row that the device cannot hold is no error: it is
/// listed as not run.
pub fn run(
    device: &mut dyn Device,
    rows: Vec<Row>,
    options: &Options,
    tell: &mut dyn FnMut(&str),
) -> Result<Report> {
    let started = Instant::now();
    let machine = Machine::here();
    device.clear();
    let (rows, left_out): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .filter(|r| r.name.contains(&options.filter))
        .partition(|r| r.small || !options.quick);
    if rows.is_empty() && left_out.is_empty() {
        return Err(Error::usage(format!("no row's name contains {:?}", options.filter))
            .help("see all names with `vqforge bench --quick`"));
    }
    tell("probing");
    let peaks = Peaks::measure(device, (options.budget / 20.0).clamp(0.5, 6.0))?;
    let flush_bytes = (FLUSH_SECONDS * peaks.bytes).clamp(FLUSH_BYTES.0, FLUSH_BYTES.1) as u64;
    let mut report = Report {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        device: device.describe(),
        timer: device.timer(),
        threads: device.host_threads(),
        quick: options.quick,
        flush_bytes,
        machine,
        peaks,
        rows: vec![],
        controls: vec![],
        not_run: vec![],
    };
    let flush = Flush::new(device, flush_bytes)?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    // The cheapest first: what the budget does not reach is then little in number.
    let bound = |i: &usize| peaks.bound(rows[*i].cost);
    order.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
    order.sort_by_key(|&i| !rows[i].small);
    let mut outcomes: Vec<Option<Outcome>> = rows.iter().map(|_| None).collect();
    for (done, &i) in order.iter().enumerate() {
        // A run that measures nothing is of no use: the first row has its time in any case.
        let least = if done == 0 { ROW_SECONDS } else { f64::NEG_INFINITY };
        let left = (options.budget - started.elapsed().as_secs_f64()).max(least);
        tell(&format!("{}/{} {}", done + 1, rows.len(), rows[i].name));
        let turn = Turn { left, share: left / (rows.len() - done) as f64, peaks, flush, options };
        outcomes[i] = Some(turn.take(device, &rows[i])?);
    }
    device.clear();
    for (row, outcome) in rows.into_iter().zip(outcomes) {
        match outcome {
            Some(Outcome::Done { rows, control, not_run }) => {
                report.rows.extend(rows);
                report.controls.extend(control);
                report.not_run.extend(not_run);
            }
            Some(Outcome::NotRun(reason)) => {
                report.not_run.push(NotRun { name: row.name, reason });
            }
            None => {}
        }
    }
    let quick = |row: Row| NotRun { name: row.name, reason: "too large for --quick".into() };
    report.not_run.extend(left_out.into_iter().map(quick));
    Ok(report)
}

/// Rows that are also timed against themselves: one limited by arithmetic, one by memory, in both
/// sizes.
fn control_here(row: &Row) -> bool {
    ["matmul 128x128x128", "matmul 512x512x512", "copy n=65536", "copy n=4194304"]
        .contains(&row.name.as_str())
}

fn summary(timed: &[Sample]) -> Option<Summary> {
    let seconds: Vec<f64> = timed.iter().map(|s| s.seconds).collect();
    Summary::of(&seconds)
}

/// One row's turn.
struct Turn<'a> {
    /// Seconds left of the budget, and this row's fair share of them.
    left: f64,
    share: f64,
    peaks: Peaks,
    flush: Flush,
    options: &'a Options,
}

impl Turn<'_> {
    fn take(&self, device: &mut dyn Device, row: &Row) -> Result<Outcome> {
        if let Some(reason) = self.too_large(&*device, row) {
            return Ok(Outcome::NotRun(reason));
        }
        let (baseline, checked) = (&row.timed.kernel, &row.check.kernel);
        let mut kernels = vec![baseline.clone()];
        let oracle = Oracle::of(&row.check)?;
        let mut verdicts = vec![oracle.judge(device, checked, &**baseline)?];
        let mut not_run = vec![];
        if self.options.variants {
            // Products of factors rounded to f16 too: each is judged by its own naive form.
            let caps = Caps { half_products: true, ..device.caps().clone() };
            let smaller = checked.variants(&caps);
            for variant in baseline.variants(&caps) {
                let name = variant.variant();
                let Some(small) = smaller.iter().find(|v| v.variant() == name) else {
                    let reason = "the smaller case that would check it has no such variant".into();
                    not_run.push(NotRun { name: format!("{} [{name}]", row.name), reason });
                    continue;
                };
                let verdict = if small.needs().f16 {
                    let case = Case { kernel: small.clone(), ..row.check.clone() };
                    Oracle::of(&case)?.judge(device, small, &*variant)?
                } else {
                    oracle.judge(device, small, &*variant)?
                };
                verdicts.push(verdict);
                kernels.push(variant);
            }
        }
        let implementations = kernels.len();
        if control_here(row) {
            kernels.push(baseline.clone());
        }
        let threads = device.host_threads();
        let mut bench = Bench::prepare(device, &row.timed, &kernels, Some(self.flush))?;
        let once = bench.warm_up()?;
        let (fewest, most) = SAMPLES;
        if once * fewest as f64 > self.left.max(2.0 * ROW_SECONDS) {
            let time = short(once);
            let reason =
                format!("a run takes {time}, {fewest} of them more than the budget has left");
            return Ok(Outcome::NotRun(reason));
        }
        let rounds = (self.share.min(ROW_SECONDS) / once) as usize;
        let timed = bench.interleaved(rounds.clamp(fewest, most))?;
        for (i, verdict) in verdicts.iter_mut().enumerate() {
            verdict.unwritten = bench.unwritten(&row.timed, i)?;
        }
        let control = timed.get(implementations).and_then(|again| {
            let (first, again) = (summary(&timed[0])?, summary(again)?);
            Some(Control { name: row.name.clone(), ratio: first.median / again.median })
        });
        let rows = kernels.iter().zip(&timed).zip(verdicts);
        let rows = rows.filter_map(|((k, t), v)| self.measurement(row, &**k, t, v, threads));
        Ok(Outcome::Done { rows: rows.collect(), control, not_run })
    }

    fn measurement(
        &self,
        row: &Row,
        kernel: &dyn Kernel,
        timed: &[Sample],
        check: Verdict,
        threads: Option<usize>,
    ) -> Option<Measurement> {
        let seconds = summary(timed)?;
        let cpu: Vec<f64> = timed.iter().map(|s| s.cpu_seconds).collect();
        let cpu_seconds = Summary::of(&cpu).filter(|_| cpu.iter().all(|s| s.is_finite()));
        let busy = cpu_seconds.zip(threads).map(|(cpu, n)| cpu.median / n as f64);
        Some(Measurement {
            name: row.name.clone(),
            kernel: kernel.name().into(),
            variant: kernel.variant(),
            seconds,
            cpu_seconds,
            flops: row.cost.flops,
            bytes: row.cost.bytes,
            roofline: self.peaks.share(row.cost, seconds.median),
            roofline_cpu: busy.map(|seconds| self.peaks.share(row.cost, seconds)),
            check,
        })
    }

    /// Why the row cannot or should not even be tried.
    fn too_large(&self, device: &dyn Device, row: &Row) -> Option<String> {
        let limits = device.limits();
        let most = limits.max_binding_bytes.min(limits.max_buffer_bytes);
        let largest = row.timed.kernel.lens().into_iter().max().unwrap_or(0) as u64 * 4;
        if largest > most {
            return Some(format!(
                "it binds {} MiB at once, the device at most {}",
                largest >> 20,
                most >> 20
            ));
        }
        let (fewest, _) = SAMPLES;
        let expected = self.peaks.bound(row.cost) / EXPECTED * (fewest + 2) as f64;
        (self.left <= 0.0 || expected > self.left.max(2.0 * ROW_SECONDS)).then(|| match self.left {
            left if left <= 0.0 => "the budget is spent".into(),
            left => format!("it may take {}, the budget has {} left", short(expected), short(left)),
        })
    }
}
