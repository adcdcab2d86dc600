//! The outcome of a run: as JSON for programs, as CSV for records, as a table for people.

use super::{Machine, Peaks, Summary, Verdict};
use crate::data::atomic::write_atomically;
use crate::device::Timer;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Changes when a field changes its meaning or goes away; further fields may appear.
pub const SCHEMA: &str = "vqforge-bench/1";

/// One run. Field names and units are those of the JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Of this program.
    pub version: String,
    pub device: String,
    pub timer: Timer,
    /// Threads of this process that share the work; absent where a device of its own does it.
    pub threads: Option<usize>,
    pub quick: bool,
    /// Written before every sample to empty the caches.
    pub flush_bytes: u64,
    pub machine: Machine,
    pub peaks: Peaks,
    pub rows: Vec<Measurement>,
    pub controls: Vec<Control>,
    pub not_run: Vec<NotRun>,
}

/// One implementation of one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    pub name: String,
    pub kernel: String,
    /// Which implementation: "baseline", or the name of a variant.
    pub variant: String,
    /// Seconds by the clock of [`Report::timer`].
    pub seconds: Summary,
    /// Processor time of all threads of this process, in seconds; absent where there is no such
    /// clock.
    pub cpu_seconds: Option<Summary>,
    /// Required work.
    pub flops: u64,
    pub bytes: u64,
    /// Share of the roofline reached by the median.
    pub roofline: f64,
    /// The same by processor time, as if all threads had been busy all the time: what a machine that
    /// is used by others too lets one see of a CPU device. Absent for GPUs.
    pub roofline_cpu: Option<f64>,
    pub check: Verdict,
}

/// One kernel timed as if it were two.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Control {
    pub name: String,
    /// Median of the one by median of the other: 1 on a quiet machine.
    pub ratio: f64,
}

impl Control {
    /// Whether ratios of other rows say little.
    pub fn noisy(&self) -> bool {
        (self.ratio - 1.0).abs() > 0.05
    }
}

/// A row without figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NotRun {
    pub name: String,
    pub reason: String,
}

impl Measurement {
    /// Billions of floating-point operations a second.
    pub fn gflops(&self) -> f64 {
        self.flops as f64 / self.seconds.median * 1e-9
    }

    /// Billions of bytes a second.
    pub fn gbytes(&self) -> f64 {
        self.bytes as f64 / self.seconds.median * 1e-9
    }

    /// The key by which two records are compared.
    pub fn key(&self) -> String {
        match self.variant.as_str() {
            "baseline" => self.name.clone(),
            variant => format!("{} [{variant}]", self.name),
        }
    }

    fn checked(&self) -> String {
        let Verdict { outputs, mismatches, unwritten, same_shader, .. } = self.check;
        let how = if same_shader { "same shader" } else { "reduced shader" };
        let mut text = format!("{mismatches} of {outputs} ({how})");
        if unwritten > 0 {
            let _ = write!(text, "; {unwritten} UNWRITTEN");
        }
        text
    }
}

impl Report {
    /// Rows whose results are wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &Measurement> {
        self.rows.iter().filter(|r| !r.check.good())
    }

    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::failed("cannot write a report as JSON").why(e))
    }

    /// Reads what [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// No such file, not JSON, or another schema: exit code 4.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |why: String| {
            Error::data("not a record of vqforge bench")
                .at_path(path)
                .why(why)
                .help("give a file that `vqforge bench --json FILE` has written")
        };
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        match value.get("schema").and_then(|s| s.as_str()) {
            Some(SCHEMA) => serde_json::from_value(value).map_err(|e| bad(e.to_string())),
            Some(other) => Err(bad(format!("its schema is {other}, this program reads {SCHEMA}"))),
            None => Err(bad("it has no field \"schema\"".into())),
        }
    }

    /// Header lines after `#`, then one line a row.
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        for line in self.header() {
            let _ = writeln!(text, "# {line}");
        }
        for control in &self.controls {
            let _ = writeln!(text, "# control {}: {:.3}x", control.name, control.ratio);
        }
        for skipped in &self.not_run {
            let _ = writeln!(text, "# not run: {}: {}", skipped.name, skipped.reason);
        }
        text.push_str(
            "name,variant,samples,median_s,q1_s,q3_s,min_s,cpu_median_s,flops,bytes,gflops,gbytes,\
             roofline,roofline_cpu,outputs,mismatches,worst_share_of_bound,same_shader,unwritten\n",
        );
        for r in &self.rows {
            let Summary { min, q1, median, q3, samples } = r.seconds;
            let cpu = r.cpu_seconds.map_or(String::new(), |s| format!("{:.4e}", s.median));
            let worst = r.check.worst.map_or(String::new(), |w| format!("{w:.4}"));
            let Verdict { outputs, mismatches, same_shader, unwritten, .. } = r.check;
            let _ = writeln!(
                text,
                "{},{},{samples},{median:.4e},{q1:.4e},{q3:.4e},{min:.4e},{cpu},{},{},{:.2},{:.2},\
                 {:.4},{},{outputs},{mismatches},{worst},{same_shader},{unwritten}",
                r.name,
                r.variant,
                r.flops,
                r.bytes,
                r.gflops(),
                r.gbytes(),
                r.roofline,
                r.roofline_cpu.map_or(String::new(), |share| format!("{share:.4}")),
            );
        }
        text
    }

    fn header(&self) -> Vec<String> {
        let m = &self.machine;
        let timer = match self.timer {
            Timer::Timestamps => "the GPU's timestamps",
            Timer::Wall => "wall clock",
        };
        let mut lines = vec![
            format!("vqforge {} bench, {}, timed by {timer}", self.version, self.device),
            format!("{}, {} cores, {}", m.date, m.cores, m.processor),
        ];
        if let Some([one, five, fifteen]) = m.load {
            let shared = if one > 0.3 { ": the cores were shared with other work" } else { "" };
            lines.push(format!("load average at the start {one} {five} {fifteen}{shared}"));
        }
        lines.push(format!(
            "probes: {:.1} GFLOP/s in fused multiply-adds, {:.1} GB/s in copying; {} MiB written \
             before every sample",
            self.peaks.flops * 1e-9,
            self.peaks.bytes * 1e-9,
            self.flush_bytes >> 20
        ));
        lines
    }

    /// # Errors
    /// A row with wrong results: the first.
    pub fn verify(&self) -> Result<()> {
        let Some(row) = self.wrong().next() else { return Ok(()) };
        let Verdict { outputs, mismatches, unwritten, .. } = row.check;
        Err(Error::failed(format!("{} computes wrong values", row.key()))
            .at(&self.device)
            .why(format!(
                "{mismatches} of {outputs} outputs are outside the bound, {unwritten} were never \
                 written"
            ))
            .help("update the driver, or run with --device cpu"))
    }

    /// Writes `<folder>/<adapter>/<date>.csv` and `.json`, with a number behind the date where an
    /// earlier record has that name; the path of the former.
    pub fn record(&self, folder: &Path) -> Result<PathBuf> {
        let folder = folder.join(self.adapter());
        std::fs::create_dir_all(&folder)
            .map_err(|e| Error::disk("cannot create the folder").at_path(&folder).why(e))?;
        let date = &self.machine.date;
        let mut csv = folder.join(format!("{date}.csv"));
        let mut number = 1;
        while csv.exists() || csv.with_extension("json").exists() {
            number += 1;
            csv = folder.join(format!("{date}-{number}.csv"));
        }
        let json = self.to_json()?;
        write_atomically(&csv, |w| w.write_all(self.to_csv().as_bytes()))?;
        write_atomically(&csv.with_extension("json"), |w| writeln!(w, "{json}"))?;
        Ok(csv)
    }

    /// The device as the name of a folder.
    fn adapter(&self) -> String {
        let mut name = self.device.clone();
        if name.starts_with("cpu:") {
            name = format!("cpu {} {}", self.machine.processor, &name["cpu:".len()..]);
        }
        let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
        let words = words.filter(|w| !w.is_empty() && *w != "built");
        words.map(str::to_lowercase).collect::<Vec<_>>().join("-").replace("-in-", "-")
    }
}

/// Seconds in the unit that suits them.
pub(super) fn short(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Names side by side, in lines of at most a hundred characters or one name.
fn wrapped(names: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() + 2 <= 100 => {
                line.push_str(", ");
                line.push_str(name);
            }
            _ => lines.push((*name).into()),
        }
    }
    lines
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.header() {
            writeln!(f, "{line}")?;
        }
        let width = self.rows.iter().map(|r| r.key().len()).max().unwrap_or(0).max(10);
        // By processor time only where that says something.
        let by_cpu = |text: String| if self.threads.is_some() { text } else { String::new() };
        writeln!(
            f,
            "\n{:width$} {:>9} {:>20} {:>9} {:>8} {:>9}{}  wrong outputs",
            "",
            "median",
            "quartiles",
            "GFLOP/s",
            "GB/s",
            "roofline",
            by_cpu(format!(" {:>9} {:>9}", "cpu time", "by cpu"))
        )?;
        for r in &self.rows {
            let quartiles = format!("{} .. {}", short(r.seconds.q1), short(r.seconds.q3));
            let cpu = r.cpu_seconds.map_or(String::new(), |s| short(s.median));
            let share = r.roofline_cpu.map_or(String::new(), |s| format!("{:.1} %", 100.0 * s));
            writeln!(
                f,
                "{:width$} {:>9} {quartiles:>20} {:>9.1} {:>8.1} {:>7.1} %{}  {}",
                r.key(),
                short(r.seconds.median),
                r.gflops(),
                r.gbytes(),
                100.0 * r.roofline,
                by_cpu(format!(" {cpu:>9} {share:>9}")),
                r.checked()
            )?;
        }
        for c in &self.controls {
            let noisy = match c.noisy() {
                true => ": the machine is too noisy for smaller differences",
                false => "",
            };
            writeln!(f, "control: {} against itself {:.2}x{noisy}", c.name, c.ratio)?;
        }
        let mut reasons: Vec<(&str, Vec<&str>)> = vec![];
        for NotRun { name, reason } in &self.not_run {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        for (reason, names) in reasons {
            writeln!(f, "\nnot run, {reason}:")?;
            for line in wrapped(&names) {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::report;
    use super::*;
    use crate::data::testing::Scratch;

    #[test]
    fn json_comes_back() {
        let scratch = Scratch::new("bench-json");
        let path = scratch.path("a.json");
        let text = report(&[("a", 1e-3)]).to_json().unwrap();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Report::read(&path).unwrap().to_json().unwrap(), text);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema"], SCHEMA);
        for field in ["device", "timer", "machine", "peaks", "rows", "controls", "not_run"] {
            assert!(!value[field].is_null(), "{field}");
        }
        assert_eq!(value["rows"][0]["seconds"]["median"], 1e-3);
    }

    #[test]
    fn other_files_are_refused() {
        let scratch = Scratch::new("bench-other");
        let path = scratch.path("a.json");
        let newer = report(&[("a", 1e-3)]).to_json().unwrap().replace(SCHEMA, "vqforge-bench/2");
        for (text, why) in [
            ("{", "EOF"),
            ("[1]", "no field"),
            (newer.as_str(), "vqforge-bench/2"),
            ("{\"schema\": \"vqforge-bench/1\"}", "missing field"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Report::read(&path).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(Report::read(&scratch.path("none.json")).unwrap_err().exit_code(), 4);
    }

    /// As many columns in every line, and the record lies where it is looked for.
    #[test]
    fn records() {
        let scratch = Scratch::new("bench-record");
        let report = report(&[("a 1x1", 1e-3), ("b", 2.0)]);
        let csv = report.record(&scratch.path("record")).unwrap();
        assert!(csv.ends_with("record/cpu-some-processor-2-threads/2026-01-31.csv"), "{csv:?}");
        assert!(csv.with_extension("json").is_file());
        let again = report.record(&scratch.path("record")).unwrap();
        assert!(again.ends_with("2026-01-31-2.csv"), "an earlier record is kept: {again:?}");
        let text = std::fs::read_to_string(csv).unwrap();
        let (header, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|l| l.starts_with('#'));
        assert!(header.iter().any(|l| l.contains("load average at the start 1.5")), "{text}");
        assert!(header.iter().any(|l| l.contains("not run: c: the budget is spent")), "{text}");
        let columns: Vec<usize> = lines.iter().map(|l| l.split(',').count()).collect();
        assert_eq!(columns, [columns[0]; 3], "{text}");
        assert!(lines[0].starts_with("name,variant,samples,median_s"));
    }

    #[test]
    fn units() {
        assert_eq!(short(1.234e-6), "1.23 us");
        assert_eq!(short(0.0123), "12.3 ms");
        assert_eq!(short(0.9996), "1000 ms");
        assert_eq!(short(123.4), "123 s");
        let mut result = report(&[("a", 1e-3)]).rows.remove(0);
        (result.flops, result.bytes) = (2_000_000, 3_000_000);
        assert!((result.gflops() - 2.0).abs() < 1e-12 && (result.gbytes() - 3.0).abs() < 1e-12);
    }

    /// What was not run stands there once, under its reason, and a wrong row is not hidden.
    #[test]
    fn the_table_says_everything() {
        let mut report = report(&[("a", 1e-3), ("b", 2.0)]);
        report.rows[1].check.unwritten = 3;
        assert_eq!(report.wrong().count(), 1);
        let text = report.to_string();
        for part in
            ["a   ", "1.00 ms", "2.00 s", "not run, the budget is spent:\n  c", "3 UNWRITTEN"]
        {
            assert!(text.contains(part), "nothing about {part:?} in\n{text}");
        }
        assert_eq!(wrapped(&["x"; 50]).len(), 2);
    }
}
