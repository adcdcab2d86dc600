//! Curves on logarithmic axes as SVG: panels side by side, one legend.

use std::fmt::Write as _;

/// One set of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub title: String,
    /// Labels of the axes.
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
}

/// One curve. Points whose coordinates are not both positive and finite have no place on logarithmic
/// axes and are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    /// Index of a colour and of a dash pattern; beyond the last they start again.
    pub colour: usize,
    pub dash: usize,
    pub points: Vec<(f64, f64)>,
}

/// Told apart by the colour-blind and on paper (Okabe and Ito's palette).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000"];
const DASHES: [&str; 3] = ["", "7 4", "2 3"];

/// Pixels of a panel's plotting area, and of the margins around it.
const PLOT: (f64, f64) = (360.0, 300.0);
const LEFT: f64 = 78.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
const GAP: f64 = 22.0;
const LEGEND: f64 = 190.0;

/// A range of a logarithmic axis, in powers of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    pixels: f64,
}

impl Axis {
    /// Holds all values, with a little air; a decade where there are none.
    fn around(values: impl Iterator<Item = f64>, pixels: f64) -> Self {
        let (low, high) = values
            .map(f64::log10)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let air = (0.04 * (high - low)).max(0.1);
        Axis { low: low - air, high: high + air, pixels }
    }

    /// Pixels from the axis' beginning.
    fn at(&self, value: f64) -> f64 {
        (value.log10() - self.low) / (self.high - self.low) * self.pixels
    }

    /// Values that get a line and a number: 1, 2 and 5 of each decade, or powers of ten alone, or
    /// fewer where there are many.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.high - self.low;
        let every = (decades / 8.0).ceil().max(1.0) as i32;
        let steps: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = self.low.floor() as i32;
        let powers = (first..=self.high.ceil() as i32).filter(|p| p.rem_euclid(every) == 0);
        powers
            .flat_map(|p| steps.iter().map(move |s| s * 10f64.powi(p)))
            .filter(|v| (self.low..=self.high).contains(&v.log10()))
            .collect()
    }
}

/// 20000 as `20k`, 0.05 as `0.05`.
fn number(value: f64) -> String {
    for (size, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= size {
            return format!("{}{suffix}", (value / size * 1000.0).round() / 1000.0);
        }
    }
    format!("{}", (value * 1e6).round() / 1e6)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A text at a place; `anchor` is start, middle or end.
fn label(out: &mut String, x: f64, y: f64, anchor: &str, rest: &str, text: &str) {
    let text = escaped(text);
    let _ =
        writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}"{rest}>{text}</text>"#);
}

/// The picture. Panels share the legend of the first.
pub fn svg(panels: &[Panel]) -> String {
    let step = LEFT + PLOT.0 + GAP;
    let width = step * panels.len() as f64 + LEGEND;
    let height = TOP + PLOT.1 + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        axes(&mut out, panel, step * i as f64 + LEFT);
    }
    if let Some(first) = panels.first() {
        legend(&mut out, &first.series, step * panels.len() as f64);
    }
    out.push_str("</svg>\n");
    out
}

fn axes(out: &mut String, panel: &Panel, left: f64) {
    let placed = |s: &Series| -> Vec<(f64, f64)> {
        let log = |v: f64| v > 0.0 && v.is_finite();
        s.points.iter().copied().filter(|&(x, y)| log(x) && log(y)).collect()
    };
    let all: Vec<(f64, f64)> = panel.series.iter().flat_map(placed).collect();
    let x = Axis::around(all.iter().map(|p| p.0), PLOT.0);
    let y = Axis::around(all.iter().map(|p| p.1), PLOT.1);
    let (right, bottom) = (left + PLOT.0, TOP + PLOT.1);
    for tick in x.ticks() {
        let at = left + x.at(tick);
        let _ =
            writeln!(out, r##"<path d="M{at:.1} {TOP}V{bottom}" stroke="#dddddd" fill="none"/>"##);
        label(out, at, bottom + 17.0, "middle", "", &number(tick));
    }
    for tick in y.ticks() {
        let at = bottom - y.at(tick);
        let _ =
            writeln!(out, r##"<path d="M{left} {at:.1}H{right}" stroke="#dddddd" fill="none"/>"##);
        label(out, left - 7.0, at + 4.0, "end", "", &number(tick));
    }
    let (w, h) = PLOT;
    let _ = writeln!(
        out,
        r##"<rect x="{left}" y="{TOP}" width="{w}" height="{h}" fill="none" stroke="#444444"/>"##
    );
    let title = r#" font-size="15" font-weight="bold""#;
    label(out, left + w / 2.0, TOP - 16.0, "middle", title, &panel.title);
    label(out, left + w / 2.0, bottom + 40.0, "middle", "", &panel.x);
    let (turned_x, turned_y) = (left - 54.0, TOP + h / 2.0);
    let turn = format!(r#" transform="rotate(-90 {turned_x:.1} {turned_y:.1})""#);
    label(out, turned_x, turned_y, "middle", &turn, &panel.y);
    for s in &panel.series {
        let colour = COLOURS[s.colour % COLOURS.len()];
        let points: Vec<(f64, f64)> =
            placed(s).iter().map(|p| (left + x.at(p.0), bottom - y.at(p.1))).collect();
        let line: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", p.0, p.1)).collect();
        if line.len() > 1 {
            let _ = writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{}"/>"#,
                line.join(" "),
                DASHES[s.dash % DASHES.len()]
            );
        }
        for (px, py) in points {
            let _ = writeln!(out, r#"<circle cx="{px:.1}" cy="{py:.1}" r="3" fill="{colour}"/>"#);
        }
    }
}

fn legend(out: &mut String, series: &[Series], left: f64) {
    for (i, s) in series.iter().enumerate() {
        let y = TOP + 12.0 + 21.0 * i as f64;
        let end = left + 34.0;
        let _ = writeln!(
            out,
            r#"<path d="M{left} {y}H{end}" fill="none" stroke="{}" stroke-width="1.8" stroke-dasharray="{}"/>"#,
            COLOURS[s.colour % COLOURS.len()],
            DASHES[s.dash % DASHES.len()]
        );
        label(out, end + 8.0, y + 4.0, "start", "", &s.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f64)>) -> Panel {
        let one = |dash| Series {
            name: "a < b & \"c\"".into(),
            colour: dash,
            dash,
            points: points.clone(),
        };
        Panel { title: "t".into(), x: "n".into(), y: "s".into(), series: vec![one(0), one(1)] }
    }

    /// The value of an attribute of every element called `name`.
    fn attributes(svg: &str, name: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.split('<').filter(|e| e.starts_with(&format!("{name} ")));
        elements
            .map(|e| {
                let (_, rest) = e.split_once(&format!(" {attribute}=\"")).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            })
            .collect()
    }

    /// Well-formed: every element is closed in order, every attribute is quoted, no bare `&`.
    fn well_formed(svg: &str) {
        let mut open: Vec<String> = vec![];
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
            assert_eq!(tag.matches('=').count(), tag.matches("=\"").count(), "{tag}");
            if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap().into());
            }
        }
        assert!(open.is_empty(), "{open:?}");
        for (i, _) in svg.match_indices('&') {
            assert!(["&amp;", "&lt;", "&gt;", "&quot;"].iter().any(|e| svg[i..].starts_with(e)));
        }
    }

    #[test]
    fn points_lie_inside_their_plots() {
        let values = vec![(64.0, 3.0), (1024.0, 70_000.0), (16_384.0, 0.02), (7.0, 1.0)];
        let text = svg(&[panel(values.clone()), panel(vec![(1.0, 1.0)])]);
        well_formed(&text);
        let (xs, ys) = (attributes(&text, "circle", "cx"), attributes(&text, "circle", "cy"));
        assert_eq!(xs.len(), 2 * values.len() + 2);
        let second = LEFT + PLOT.0 + GAP;
        for (i, (x, y)) in xs.iter().zip(&ys).enumerate() {
            let left = if i < 2 * values.len() { LEFT } else { second + LEFT };
            assert!((left..=left + PLOT.0).contains(x), "{x}");
            assert!((TOP..=TOP + PLOT.1).contains(y), "{y}");
        }
        // Larger is further right and further up.
        assert!(xs[0] < xs[1] && xs[1] < xs[2] && xs[3] < xs[0]);
        assert!(ys[1] < ys[0] && ys[0] < ys[2]);
        // Equal ratios are equal distances.
        assert!(((xs[1] - xs[0]) - (xs[2] - xs[1])).abs() < 0.2);
    }

    /// What logarithms cannot place is left out, and nothing at all is still a picture.
    #[test]
    fn impossible_points_are_left_out() {
        let odd =
            vec![(0.0, 1.0), (1.0, -1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (10.0, 10.0)];
        let text = svg(&[panel(odd)]);
        well_formed(&text);
        assert_eq!(attributes(&text, "circle", "cx").len(), 2);
        for panels in [vec![], vec![panel(vec![])]] {
            let text = svg(&panels);
            well_formed(&text);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn ticks_are_few_and_inside() {
        for (low, high) in [(1.0, 2.0), (64.0, 16_384.0), (1e-3, 1e9), (1e-30, 1e30), (5.0, 5.0)] {
            let axis = Axis::around([low, high].into_iter(), 300.0);
            let ticks = axis.ticks();
            assert!((1..=10).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(ticks.iter().all(|&t| (0.0..=300.0).contains(&axis.at(t))));
        }
        assert_eq!(number(20_000.0), "20k");
        assert_eq!(number(0.05), "0.05");
        assert_eq!(number(2e6), "2M");
    }
}
