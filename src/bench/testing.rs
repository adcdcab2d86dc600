//! A report that the tests of this module share.

use super::report::{Control, Measurement, NotRun, Report, SCHEMA};
use super::{Machine, Peaks, Summary, Verdict};
use crate::device::Timer;

/// A report of rows with these medians; quartiles 10 % around them.
pub fn report(rows: &[(&str, f64)]) -> Report {
    let summary = |median: f64| Summary {
        min: 0.8 * median,
        q1: 0.9 * median,
        median,
        q3: 1.1 * median,
        samples: 9,
    };
    let row = |&(name, median): &(&str, f64)| Measurement {
        name: name.into(),
        kernel: "k".into(),
        variant: "baseline".into(),
        seconds: summary(median),
        cpu_seconds: Some(summary(2.0 * median)),
        flops: 1_000_000,
        bytes: 1_000_000,
        roofline: 0.5,
        roofline_cpu: Some(0.5),
        check: Verdict {
            outputs: 10,
            mismatches: 0,
            worst: Some(0.25),
            same_shader: true,
            unwritten: 0,
        },
    };
    Report {
        schema: SCHEMA.into(),
        version: "0.0.0".into(),
        device: "cpu: built-in, 2 threads".into(),
        timer: Timer::Wall,
        threads: Some(2),
        quick: false,
        flush_bytes: 1 << 26,
        machine: Machine {
            date: "2026-01-31".into(),
            cores: 2,
            processor: "Some Processor".into(),
            load: Some([1.5, 1.0, 0.5]),
        },
        peaks: Peaks { flops: 1e11, bytes: 1e10 },
        rows: rows.iter().map(row).collect(),
        controls: vec![Control { name: "a".into(), ratio: 1.01 }],
        not_run: vec![NotRun { name: "c".into(), reason: "the budget is spent".into() }],
    }
}
