//! How often each code is used: a histogram by rank.

use super::canvas::sheet;
use super::chart::{AxisSpec, Chart, Mark, Rule, Series, Span};
use super::grid::Raster;
use super::history::CodeCounts;
use super::scale::{Scale, precise};

/// Bars of a histogram; larger codebooks have several codes a bar.
const BARS: usize = 320;
/// On a logarithmic axis of ranks, neighbours are taken together when they differ by less than one
/// part in so many.
const NEIGHBOURS: usize = 50;

/// Uses of each code, the commonest first, on a logarithmic axis, with the line of uniform use and the
/// range of codes that were not used at all. Of larger codebooks a bar is the mean of neighbours in
/// rank.
pub fn usage(counts: &[u64]) -> Chart {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let used = sorted.iter().take_while(|&&c| c > 0).count();
    let (codes, tokens) = (sorted.len(), sorted.iter().map(|&c| c as f64).sum::<f64>());
    let dead = codes - used;
    let each = codes.div_ceil(BARS).max(1);
    let bars = |(i, group): (usize, &[u64])| {
        let mean = group.iter().map(|&c| c as f64).sum::<f64>() / group.len() as f64;
        ((i as f64 + 0.5) * each as f64, mean)
    };
    let points = sorted[..used].chunks(each).enumerate().map(bars).collect();
    let uniform = tokens / codes.max(1) as f64;
    let label = match each {
        1 => "codes by rank".to_string(),
        n => format!("codes by rank, {n} to a bar"),
    };
    let mut chart = Chart {
        title: "How often the codes are used".into(),
        description: format!(
            "{used} of {codes} codes are used in {tokens} tokens; the commonest {} times, uniform use \
             would be {}.",
            sorted.first().copied().unwrap_or(0),
            precise(uniform, 4)
        ),
        x: AxisSpec { label, from_zero: true, ..<_>::default() },
        y: AxisSpec { label: "uses".into(), scale: Scale::Log, from_zero: false },
        series: vec![Series { name: "uses".into(), mark: Mark::Bars, colour: 0, points }],
        ..<_>::default()
    };
    if uniform > 0.0 {
        chart.rules.push(Rule { y: uniform, label: format!("uniform: {}", precise(uniform, 3)) });
    }
    if dead > 0 {
        let label = format!("{dead} unused");
        chart.span = Some(Span { from: used as f64, to: codes as f64, label });
    }
    chart
}

/// The use of several codebooks in one chart: the share of the tokens that each code takes, by rank,
/// with a line for every name. A codebook of which all codes were used alike is level.
pub fn usages(arms: &[(&str, &[u64])]) -> Chart {
    let line = |(colour, (name, counts)): (usize, &(&str, &[u64]))| {
        let mut sorted = counts.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let tokens = sorted.iter().map(|&c| c as f64).sum::<f64>().max(1.0);
        let used = sorted.iter().take_while(|&&c| c > 0).count();
        // Groups that look alike on a logarithmic axis; a mean stands at the middle of its ranks,
        // which begin at 1.
        let (mut points, mut first) = (vec![], 0);
        while first < used {
            let group = &sorted[first..used.min(first + 1 + first / NEIGHBOURS)];
            let share = group.iter().map(|&c| c as f64).sum::<f64>() / group.len() as f64 / tokens;
            points.push((first as f64 + (group.len() as f64 + 1.0) / 2.0, share));
            first += group.len();
        }
        let name = format!("{name}: {used} of {}", sorted.len());
        Series { name, mark: Mark::Line, colour, points }
    };
    let series: Vec<Series> = arms.iter().enumerate().map(line).collect();
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    Chart {
        title: "Use of the codebooks".into(),
        description: format!("Codes used: {}.", names.join("; ")),
        x: AxisSpec { label: "codes by rank".into(), scale: Scale::Log2, from_zero: false },
        y: AxisSpec { label: "share of the tokens".into(), scale: Scale::Log, from_zero: false },
        series,
        ..<_>::default()
    }
}

/// The histograms of the codebooks of a quantiser, in the order of its heads.
pub fn charts(heads: &[&CodeCounts]) -> Vec<Chart> {
    let one = |(head, book): (usize, &&CodeCounts)| {
        let chart = usage(&book.counts);
        match heads.len() {
            1 => chart,
            _ => Chart { title: format!("{}: codebook {head}", chart.title), ..chart },
        }
    };
    heads.iter().enumerate().map(one).collect()
}

/// The histograms as a picture.
pub fn picture(heads: &[&CodeCounts]) -> Raster {
    sheet(&charts(heads), if heads.len() > 1 { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_uniform_line_and_unused() {
        let chart = usage(&[0, 4, 0, 12]);
        assert_eq!(chart.series[0].points, [(0.5, 12.0), (1.5, 4.0)]);
        assert_eq!(chart.rules[0].y, 4.0);
        let span = chart.span.unwrap();
        assert_eq!((span.from, span.to, span.label.as_str()), (2.0, 4.0, "2 unused"));
        assert!(usage(&[1, 1]).span.is_none());
        // The axis reaches to the last of the codes.
        let drawn = crate::report::svg::inline(&usage(&[4, 0, 0, 0, 0, 0, 0, 0, 0]), "a");
        let shaded = drawn.lines().find(|l| l.contains("<rect class=\"alert\"")).unwrap();
        let value = |name: &str| -> f64 {
            let (_, rest) = shaded.split_once(name).unwrap();
            rest.split('"').nth(1).unwrap().parse().unwrap()
        };
        let (from, wide) = (value(" x="), value(" width="));
        let width = crate::report::chart::WIDTH;
        assert!(wide > width / 2.0 && from + wide < width, "{shaded}");
    }

    #[test]
    fn several_codebooks() {
        let chart = usages(&[("a", &[1, 0, 3]), ("b", &[]), ("c", &[1; 1000])]);
        assert_eq!(chart.series[0].points, [(1.0, 0.75), (2.0, 0.25)]);
        assert_eq!(chart.series[0].name, "a: 2 of 3");
        assert!(chart.series[1].points.is_empty());
        let level = &chart.series[2].points;
        // 50 alone, then at most one more for every 2 %: 50 + 50 ln(1000 / 50) = 200 at the most.
        assert!((100..=200).contains(&level.len()), "{}", level.len());
        assert!(level.iter().all(|p| (p.1 - 1e-3).abs() < 1e-15 && (1.0..=1000.0).contains(&p.0)));
    }

    #[test]
    fn large_and_empty_codebooks() {
        let many: Vec<u64> = (0..16_384).collect();
        let chart = usage(&many);
        assert!((BARS / 2..=BARS).contains(&chart.series[0].points.len()));
        assert!(chart.x.label.contains("52 to a bar"), "{}", chart.x.label);
        for counts in [&[][..], &[0; 8], &[u64::MAX; 3]] {
            let book = CodeCounts { counts: counts.to_vec(), dead: vec![] };
            assert!(!picture(&[&book]).pixels.is_empty());
            assert_eq!(charts(&[&book])[0].title, usage(counts).title);
            assert!(charts(&[&book; 2])[1].title.ends_with("codebook 1"));
        }
    }
}
