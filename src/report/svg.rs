//! Charts as SVG: inline in a page, whose colours they take, or a file of its own.

use super::chart::{Anchor, COLOURS, Chart, HEIGHT, Ink, Surface, Text, WIDTH};
use super::escape::escape;
use std::fmt::Write as _;

/// Colours and letters of charts, by light and by dark. The series' colours are Okabe and Ito's,
/// told apart by the colour-blind, and lighter relatives of them on a dark ground.
pub const STYLE: &str = include_str!("chart.css");

/// A chart for a page with [`STYLE`]. `id` must be unique there: screen readers find the title and the
/// description by it.
pub fn inline(chart: &Chart, id: &str) -> String {
    picture(chart, id, "")
}

/// Charts beside each other as a file of its own.
pub fn standalone(charts: &[Chart]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {HEIGHT}\">\n\
         <style>\n{STYLE}svg {{ background: var(--ground); }}\n</style>\n",
        WIDTH * charts.len().max(1) as f64
    );
    for (i, chart) in charts.iter().enumerate() {
        let place = format!(" x=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\"", WIDTH * i as f64);
        out.push_str(&picture(chart, &format!("chart-{i}"), &place));
    }
    out.push_str("</svg>\n");
    out
}

fn picture(chart: &Chart, id: &str, place: &str) -> String {
    let mut sheet = Sheet::default();
    chart.draw(&mut sheet);
    let (id, title) = (escape(id), escape(&chart.title));
    let about = escape(&chart.description);
    format!(
        "<svg{place} class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\">\n<title id=\"{id}-title\">{title}</title>\n\
         <desc id=\"{id}-desc\">{about}</desc>\n{}</svg>\n",
        sheet.out
    )
}

/// The elements so far.
#[derive(Debug, Default)]
struct Sheet {
    out: String,
}

fn class(ink: Ink) -> String {
    match ink {
        Ink::Text => "text".into(),
        Ink::Muted => "muted".into(),
        Ink::Grid => "grid".into(),
        Ink::Frame => "frame".into(),
        Ink::Alert => "alert".into(),
        Ink::Series(i) => format!("s{}", i % COLOURS),
    }
}

fn opaque(opacity: f64) -> String {
    if opacity < 1.0 { format!(" opacity=\"{opacity}\"") } else { String::new() }
}

/// Writing to a String cannot fail, so the results of `write!` are of no interest here.
impl Surface for Sheet {
    /// A little more than the mean letter of the usual sans-serif faces is wide.
    fn text_width(&self, text: &str, size: f64) -> f64 {
        text.chars().map(|c| if c.is_ascii() { 0.57 } else { 1.0 }).sum::<f64>() * size
    }

    fn text(&mut self, text: Text<'_>) {
        let (x, y) = text.at;
        let anchor = match text.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let bold = if text.bold { " font-weight=\"600\"" } else { "" };
        let turn = match text.turned {
            true => format!(" transform=\"rotate(-90 {x:.1} {y:.1})\""),
            false => String::new(),
        };
        let _ = writeln!(
            self.out,
            "<text class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" \
             text-anchor=\"{anchor}\"{bold}{turn}>{}</text>",
            class(text.ink),
            text.size,
            escape(text.text)
        );
    }

    fn line(&mut self, points: &[(f64, f64)], ink: Ink, width: f64, dash: &[f64], opacity: f64) {
        let places: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", p.0, p.1)).collect();
        let lengths: Vec<String> = dash.iter().map(f64::to_string).collect();
        let dash = match lengths.is_empty() {
            true => String::new(),
            false => format!(" stroke-dasharray=\"{}\"", lengths.join(" ")),
        };
        let _ = writeln!(
            self.out,
            "<polyline class=\"line {}\" points=\"{}\" stroke-width=\"{width}\"{dash}{}/>",
            class(ink),
            places.join(" "),
            opaque(opacity)
        );
    }

    fn area(&mut self, [x, y, width, height]: [f64; 4], ink: Ink, opacity: f64) {
        let _ = writeln!(
            self.out,
            "<rect class=\"{}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" \
             height=\"{height:.1}\"{}/>",
            class(ink),
            opaque(opacity)
        );
    }

    fn dot(&mut self, (x, y): (f64, f64), radius: f64, ink: Ink, tip: &str) {
        let tip = match tip {
            "" => String::new(),
            tip => format!("<title>{}</title>", escape(tip)),
        };
        let _ = writeln!(
            self.out,
            "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\">{tip}</circle>",
            class(ink)
        );
    }
}
