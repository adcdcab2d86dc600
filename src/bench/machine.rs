//! What a record says about the machine and the moment.

use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Figures without these are worth little.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// UTC, `2026-01-31`.
    pub date: String,
    /// Cores this process may use.
    pub cores: usize,
    /// As the system names it; empty where it does not say.
    pub processor: String,
    /// Runnable processes, averaged over 1, 5 and 15 minutes, before the start; absent outside Linux.
    /// Above the number of `cores`, or far above 0 before the start, others were using them.
    pub load: Option<[f64; 3]>,
}

impl Machine {
    pub fn here() -> Self {
        let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Machine {
            date: civil(days),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor(&read("/proc/cpuinfo")),
            load: load(&read("/proc/loadavg")),
        }
    }
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|l| l.starts_with("model name"));
    let name = line.and_then(|l| l.split_once(':')).map_or("", |(_, name)| name.trim());
    // Commas separate the columns of a record.
    name.replace(',', " ")
}

fn load(loadavg: &str) -> Option<[f64; 3]> {
    let mut numbers = loadavg.split_whitespace().map(|w| w.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Days since 1970-01-01 as a date of the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last of a year: the months before day `d` of such a year are (5 d + 2) / 153.
fn civil(days: u64) -> String {
    // From 0000-03-01; 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (days, date) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (20_454, "2026-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(civil(days), date);
        }
    }

    #[test]
    fn files_of_the_system() {
        assert_eq!(load("0.50 1.25 3.00 2/100 12345\n"), Some([0.5, 1.25, 3.0]));
        assert_eq!(load(""), None);
        let text = "processor\t: 0\nmodel name\t: A, B 3\nmodel name\t: other\n";
        assert_eq!(processor(text), "A  B 3");
        assert_eq!(processor(""), "");
        assert!(Machine::here().cores > 0);
    }
}
