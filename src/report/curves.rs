//! Charts of what a run measured over its steps.

use super::canvas::sheet;
use super::chart::{AxisSpec, Chart, Mark, Rule, Series};
use super::grid::Raster;
use super::history::{EVAL, History};
use super::scale::{Scale, precise};

/// Points that a curve is thinned to.
const POINTS: usize = 400;
/// Smoothing averages over about this share of the steps.
const MEMORY: f64 = 0.02;
/// A positive curve that spans more than this factor has a logarithmic axis.
const WIDE: f64 = 8.0;

/// Entries of a step's line that are no term of the loss.
const NOT_TERMS: [&str; 6] =
    ["loss", "grad_norm", "seconds", "images_per_second", "skipped", "loss_scale"];

/// Metrics that belong on one pair of axes: title, unit, and what their names begin with.
const FAMILIES: [(&str, &str, &[&str]); 8] = [
    ("Signal to noise", "dB", &["psnr", "foreground_psnr", "snr"]),
    ("Structural similarity", "SSIM", &["ssim", "foreground_ssim", "ms_ssim"]),
    ("Codes", "codes", &["codes_used", "perplexity", "unique", "usage.unique", "usage.perplexity"]),
    ("Bits a token", "bits", &["bits_per_token", "neighbour_model", "neighbor_model"]),
    ("Bits a dimension, of the codes alone", "bits", &["bits_per_dim"]),
    (
        "Shares of the codebook",
        "share",
        &[
            "usage.unique_share",
            "usage.perplexity_share",
            "usage.active_share",
            "training_usage.unique_share",
        ],
    ),
    ("Codes found again under noise", "share", &["codes_found", "codes_found_noisy"]),
    ("Distances of distributions", "distance", &["fid", "kid", "fsd"]),
];

/// All charts of a run, the most asked for first. `codes` is the size of the codebook.
pub fn charts(history: &History, codes: Option<u64>) -> Vec<Chart> {
    let mut out = vec![];
    let names = history.names();
    out.extend(training("Loss", "loss", &["loss"], history));
    let terms: Vec<&str> = names
        .iter()
        .copied()
        .filter(|n| !n.starts_with(EVAL) && !NOT_TERMS.contains(n))
        .filter(|n| history.column(n) != history.column("loss"))
        .collect();
    // More would not be told apart.
    for some in terms.chunks(4) {
        out.extend(training("Terms of the loss", "value", some, history));
    }
    out.extend(held_out(history, codes));
    out.extend(training("Norm of the gradient", "norm", &["grad_norm"], history));
    let speed = history.column("images_per_second");
    let speed = Series { mark: Mark::Line, ..series("images a second", 0, thinned(&speed)) };
    let linear = |label: &str| AxisSpec { label: label.into(), from_zero: true, ..<_>::default() };
    if !speed.points.is_empty() {
        let axis = linear("images a second");
        out.push(over_steps("Speed", axis, vec![speed]));
    }
    out
}

/// The charts as one picture, two beside each other.
pub fn picture(charts: &[Chart]) -> Raster {
    sheet(charts, 2)
}

fn series(name: &str, colour: usize, points: Vec<(f64, f64)>) -> Series {
    Series { name: words(name), mark: Mark::LineAndDots, colour, points }
}

/// A chart over the steps, with what the curves end at as its description.
fn over_steps(title: &str, y: AxisSpec, series: Vec<Series>) -> Chart {
    let ends: Vec<String> = series
        .iter()
        .filter(|s| !s.name.is_empty())
        .filter_map(|s| {
            let (step, value) = s.points.last()?;
            Some(format!("{} ends at {} after step {step}", s.name, precise(*value, 4)))
        })
        .collect();
    let x = AxisSpec { label: "step".into(), ..<_>::default() };
    let description = format!("{} over the steps of training: {}.", title, ends.join("; "));
    Chart { title: title.into(), description, x, y, series, ..<_>::default() }
}

/// Curves of every step: thin and pale as they are, and smoothed.
fn training(title: &str, label: &str, names: &[&str], history: &History) -> Option<Chart> {
    let mut curves = vec![];
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (i, name) in names.iter().enumerate() {
        let points = history.column(name);
        for (_, v) in &points {
            (low, high) = (low.min(*v), high.max(*v));
        }
        if points.is_empty() {
            continue;
        }
        let raw = Series { mark: Mark::Faint, ..series("", i, thinned(&points)) };
        let line = Series { mark: Mark::Line, ..series(name, i, thinned(&smoothed(&points))) };
        curves.extend([raw, line]);
    }
    let scale = if low > 0.0 && high > WIDE * low { Scale::Log } else { Scale::Linear };
    let axis = AxisSpec { label: label.into(), scale, from_zero: false };
    (!curves.is_empty()).then(|| over_steps(title, axis, curves))
}

/// Charts of evaluations: families together, the others each alone. What was measured once or never
/// changes is no curve; the table has it.
fn held_out(history: &History, codes: Option<u64>) -> Vec<Chart> {
    let mut left: Vec<(&str, Vec<(f64, f64)>)> = history
        .names()
        .into_iter()
        .filter_map(|name| Some((name.strip_prefix(EVAL)?, history.column(name))))
        .filter(|(_, points)| points.len() > 1)
        .filter(|(name, _)| charted(name))
        .collect();
    let mut out = vec![];
    for (title, unit, members) in FAMILIES {
        let taken: Vec<_> = members
            .iter()
            .filter_map(|m| left.iter().position(|(n, _)| n == m).map(|i| left.remove(i)))
            .collect();
        if taken.is_empty() {
            continue;
        }
        // Two names of one quantity are one curve.
        let again = |i: usize| taken[..i].iter().any(|earlier| earlier.1 == taken[i].1);
        let own: Vec<usize> = (0..taken.len()).filter(|&i| !again(i)).collect();
        let named = own.into_iter().map(|i| taken[i].clone()).enumerate();
        let curves: Vec<Series> =
            named.map(|(i, (name, p))| series(name, i, thinned(&p))).collect();
        let axis = AxisSpec { label: unit.into(), from_zero: unit == "codes", ..<_>::default() };
        let mut chart = over_steps(title, axis, curves);
        if let (Some(codes), "codes") = (codes, unit) {
            chart.rules.push(Rule { y: codes as f64, label: format!("all {codes} codes") });
        }
        out.push(chart);
    }
    let constant = |p: &[(f64, f64)]| p.iter().all(|v| v.1 == p[0].1);
    for (name, points) in left.into_iter().filter(|(_, p)| !constant(p)) {
        let shown = capital(&words(name));
        let axis = AxisSpec { label: shown.clone(), ..<_>::default() };
        out.push(over_steps(&shown, axis, vec![series(name, 0, thinned(&points))]));
    }
    out
}

/// Of the many figures of codebooks only those of the first one on held-out data, and what a family
/// asks for; a table has the others.
fn charted(name: &str) -> bool {
    let further =
        name.strip_prefix("usage.").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
    let member = FAMILIES.iter().any(|(.., members)| members.contains(&name));
    member || !(further || name.starts_with("training_usage"))
}

/// The name of a metric as it is read: `foreground_psnr` as `foreground PSNR`.
pub fn words(name: &str) -> String {
    const ABBREVIATIONS: [&str; 9] =
        ["psnr", "ssim", "snr", "fid", "kid", "fsd", "mse", "mae", "lpips"];
    let word = |w: &str| if ABBREVIATIONS.contains(&w) { w.to_uppercase() } else { w.into() };
    name.split(['_', '.']).map(word).collect::<Vec<String>>().join(" ")
}

/// The first letter as a capital.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |c| c.to_uppercase().chain(letters).collect())
}

/// The exponential average, without the pull of its start.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / (MEMORY * points.len() as f64).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mut next = |&(x, y): &(f64, f64)| {
        sum = keep * sum + (1.0 - keep) * y;
        weight = keep * weight + (1.0 - keep);
        (x, sum / weight)
    };
    points.iter().map(&mut next).collect()
}

/// About [`POINTS`] points: of each run of neighbours the lowest and the highest, and both ends.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let each = points.len().div_ceil(POINTS / 2);
    let mut kept: Vec<usize> = vec![0, points.len() - 1];
    for first in (0..points.len()).step_by(each) {
        let run = first..points.len().min(first + each);
        let by = |a: &usize, b: &usize| points[*a].1.total_cmp(&points[*b].1);
        kept.extend(run.clone().min_by(by));
        kept.extend(run.max_by(by));
    }
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().map(|i| points[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(steps: u64) -> History {
        let mut text = String::new();
        for step in 1..=steps {
            let loss = 1.0 / step as f64;
            text += &format!(
                "{{\"step\":{step},\"loss\":{loss},\"reconstruction\":0.5,\"x\":{loss}}}\n"
            );
        }
        for step in [1, steps] {
            text += &format!(
                "{{\"step\":{step},\"eval\":{{\"psnr\":20,\"codes_used\":7,\"usage\":{{\"unique\":7,\"unique_share\":0.{step},\"dead\":{step}}},\"usage.1\":{{\"dead\":{step}}},\"training_usage\":{{\"unique_share\":0.5,\"dead\":{step}}},\"odd\":{step}}}}}\n"
            );
        }
        text += &format!("{{\"step\":{steps},\"eval\":{{\"once\":1}}}}\n");
        History::parse(&text)
    }

    #[test]
    fn what_is_charted() {
        let charts = charts(&history(100), Some(8));
        let titles: Vec<&str> = charts.iter().map(|c| c.title.as_str()).collect();
        let own = ["Signal to noise", "Codes", "Shares of the codebook", "Odd", "Usage dead"];
        assert_eq!(titles, [&["Loss", "Terms of the loss"], &own[..]].concat());
        let shares: Vec<&str> = charts[4].series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(shares, ["usage unique share", "training usage unique share"]);
        assert_eq!(charts[0].y.scale, Scale::Log);
        // A second name for the loss is not a term of it.
        let names: Vec<&str> = charts[1].series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["", "reconstruction"]);
        assert_eq!(charts[3].rules[0].y, 8.0);
        assert_eq!(charts[3].series.len(), 1, "usage.unique is codes_used");
        let nothing = super::charts(&History::default(), None);
        assert!(nothing.is_empty());
        assert!(!picture(&nothing).pixels.is_empty());
    }

    #[test]
    fn names_are_read_as_words() {
        assert_eq!(words("foreground_psnr"), "foreground PSNR");
        assert_eq!(capital(&words("usage.dead_codes")), "Usage dead codes");
        assert_eq!(capital(""), "");
    }

    #[test]
    fn thinning_keeps_ends_and_extremes() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        points[1234].1 = 9.0;
        points[4321].1 = -9.0;
        let thin = thinned(&points);
        assert!((POINTS / 2..=POINTS + 2).contains(&thin.len()), "{}", thin.len());
        for i in [0, 1234, 4321, 9999] {
            assert!(thin.contains(&points[i]), "{i}");
        }
        assert!(thin.windows(2).all(|p| p[0].0 < p[1].0));
        assert_eq!(thinned(&points[..POINTS]).len(), POINTS);
    }

    #[test]
    fn smoothing_has_no_pull_of_its_start() {
        let flat: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 4.0)).collect();
        // A weighted mean of equal values: two roundings a step, and they do not pile up.
        assert!(smoothed(&flat).iter().all(|p| (p.1 - 4.0).abs() < 1e-9));
        let two = [(1.0, 1.0), (2.0, 3.0)];
        assert_eq!(smoothed(&two), two, "short runs are left as they are");
    }
}
