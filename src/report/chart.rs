//! A chart and how it is drawn: once, on anything that has lines, boxes and letters.

use super::labels;
use super::scale::{Axis, Scale, number};

/// One set of axes with its curves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    pub title: String,
    /// What there is to see, for those who cannot.
    pub description: String,
    pub x: AxisSpec,
    pub y: AxisSpec,
    pub series: Vec<Series>,
    pub rules: Vec<Rule>,
    pub span: Option<Span>,
    pub intervals: Vec<Interval>,
    pub notes: Vec<Note>,
}

/// What one axis shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AxisSpec {
    pub label: String,
    pub scale: Scale,
    /// Begin at zero, where the scale can.
    pub from_zero: bool,
}

/// One curve. Points without a place on the axes are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// As in the legend; an empty name is not in it.
    pub name: String,
    pub mark: Mark,
    /// Index of a colour and a dash pattern; beyond the last they start again.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
}

/// How the points of a series are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Line,
    /// A thin pale line behind the others: what a smoothed curve was made of.
    Faint,
    /// A line with a dot at each point.
    LineAndDots,
    Dots,
    /// A bar from the bottom of the plot to each point, all as wide as the first two are apart.
    Bars,
}

/// A dashed horizontal line at a value to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub y: f64,
    pub label: String,
}

/// How far a value is uncertain: a vertical line between two ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub x: f64,
    pub low: f64,
    pub high: f64,
    /// As that of the series.
    pub colour: usize,
}

/// A word beside a point, where it hides no other and no dot if there is such a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub at: (f64, f64),
    pub text: String,
}

/// A shaded range of x.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub from: f64,
    pub to: f64,
    pub label: String,
}

/// What a thing is drawn with: a meaning, so that a page can have a light and a dark form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Text,
    Muted,
    Grid,
    Frame,
    /// Something lost or wrong.
    Alert,
    Series(usize),
}

/// How many colours and dash patterns there are before they repeat.
pub const COLOURS: usize = 6;

/// Lengths of dashes and gaps of the n-th series: told apart without colours.
pub fn dashes(series: usize) -> &'static [f64] {
    [&[][..], &[7.0, 3.0], &[2.0, 2.5], &[9.0, 3.0, 2.0, 3.0]][series % 4]
}

/// Which end of a text lies at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of letters.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Of its baseline.
    pub at: (f64, f64),
    pub anchor: Anchor,
    /// Height of a line in pixels.
    pub size: f64,
    pub bold: bool,
    /// Runs upwards.
    pub turned: bool,
    pub ink: Ink,
    pub text: &'a str,
}

/// Something to draw on: pixels from the top left.
pub trait Surface {
    /// Width of a text of this size, at least about.
    fn text_width(&self, text: &str, size: f64) -> f64;
    /// Letters with a rim in the colour of the ground, to be read on top of anything.
    fn text(&mut self, text: Text<'_>);
    /// A line through points; `dash` as in [`dashes`].
    fn line(&mut self, points: &[(f64, f64)], ink: Ink, width: f64, dash: &[f64], opacity: f64);
    /// A filled box: left, top, width, height.
    fn area(&mut self, area: [f64; 4], ink: Ink, opacity: f64);
    /// A filled disc; `tip` says what it stands for.
    fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink, tip: &str);
}

/// Pixels of a chart.
pub const WIDTH: f64 = 440.0;
pub const HEIGHT: f64 = 290.0;

pub(super) const SMALL: f64 = 12.0;
const TITLE: f64 = 14.0;
const LEGEND_ROW: f64 = 17.0;
const SWATCH: f64 = 22.0;

/// The plotting area and its axes.
pub(super) struct Plot {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: Axis,
    pub y: Axis,
}

impl Plot {
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.across(x), self.bottom - self.y.place(y) * (self.bottom - self.top))
    }

    fn across(&self, x: f64) -> f64 {
        self.left + self.x.place(x) * (self.right - self.left)
    }
}

impl Chart {
    /// Draws into [`WIDTH`] x [`HEIGHT`] pixels.
    pub fn draw(&self, surface: &mut dyn Surface) {
        let title = Text {
            at: (10.0, 21.0),
            anchor: Anchor::Start,
            size: TITLE,
            bold: true,
            turned: false,
            ink: Ink::Text,
            text: &self.title,
        };
        surface.text(title);
        let top = self.legend(surface) + 8.0;
        let plot = self.plot(surface, top);
        let shaded = self.placed_span().map(|s| (plot.across(s.from), plot.across(s.to), &s.label));
        if let Some((from, to, _)) = shaded {
            surface.area([from, top, (to - from).max(0.0), plot.bottom - top], Ink::Alert, 0.13);
        }
        self.axes(surface, &plot);
        for series in &self.series {
            self.curve(surface, &plot, series);
        }
        for interval in self.drawn_intervals() {
            whisker(surface, &plot, interval);
        }
        for rule in self.rules.iter().filter(|r| self.y.scale.admits(r.y)) {
            let y = plot.at((0.0, rule.y)).1;
            surface.line(&[(plot.left, y), (plot.right, y)], Ink::Text, 1.2, &[4.0, 3.0], 1.0);
            let text = small(Ink::Text, &rule.label);
            surface.text(Text { at: (plot.right - 4.0, y - 5.0), anchor: Anchor::End, ..text });
        }
        if let Some((from, to, label)) = shaded {
            // A narrow range has its words at its left.
            let wide = surface.text_width(label, SMALL) < to - from;
            let (x, anchor) =
                if wide { ((from + to) / 2.0, Anchor::Middle) } else { (to - 4.0, Anchor::End) };
            surface.text(Text { at: (x, top + 14.0), anchor, ..small(Ink::Alert, label) });
        }
        labels::draw(self, surface, &plot);
    }

    pub(super) fn places(&self, at: (f64, f64)) -> bool {
        self.x.scale.admits(at.0) && self.y.scale.admits(at.1)
    }

    fn placed_span(&self) -> Option<&Span> {
        self.span.as_ref().filter(|s| self.x.scale.admits(s.from) && self.x.scale.admits(s.to))
    }

    fn drawn_intervals(&self) -> impl Iterator<Item = &Interval> {
        self.intervals.iter().filter(|i| self.places((i.x, i.low)) && self.places((i.x, i.high)))
    }

    pub(super) fn points<'a>(
        &'a self,
        series: &'a Series,
    ) -> impl Iterator<Item = (f64, f64)> + 'a {
        series.points.iter().copied().filter(|p| self.places(*p))
    }

    /// Between the first two points along x; 1 if there are fewer.
    fn spacing(&self, series: &Series) -> f64 {
        let xs: Vec<f64> = self.points(series).take(2).map(|p| p.0).collect();
        if let [first, second] = xs[..] { second - first } else { 1.0 }
    }

    /// Names beside samples of their lines, in rows below the title; the end of the last row. A
    /// single curve needs none.
    fn legend(&self, surface: &mut dyn Surface) -> f64 {
        let named: Vec<&Series> = self.series.iter().filter(|s| !s.name.is_empty()).collect();
        if named.len() < 2 {
            return 28.0;
        }
        let (mut x, mut y) = (10.0, 40.0);
        for series in named {
            let width = SWATCH + 6.0 + surface.text_width(&series.name, SMALL);
            if x > 10.0 && x + width > WIDTH - 8.0 {
                (x, y) = (10.0, y + LEGEND_ROW);
            }
            let (ink, middle) = (Ink::Series(series.colour % COLOURS), y - 4.0);
            match series.mark {
                Mark::Bars => surface.area([x, y - 9.0, SWATCH, 9.0], ink, 1.0),
                Mark::Dots => surface.dot((x + SWATCH / 2.0, middle), 3.0, ink, ""),
                _ => {
                    let ends = [(x, middle), (x + SWATCH, middle)];
                    surface.line(&ends, ink, 2.0, dashes(series.colour), 1.0);
                }
            }
            let text = small(Ink::Text, &series.name);
            surface.text(Text { at: (x + SWATCH + 6.0, y), ..text });
            x += width + 16.0;
        }
        y
    }

    fn plot(&self, surface: &dyn Surface, top: f64) -> Plot {
        let all = || self.series.iter().flat_map(|s| self.points(s));
        let bars = self.series.iter().filter(|s| s.mark == Mark::Bars);
        let halves = bars.map(|s| self.spacing(s) / 2.0).fold(0.0, f64::max);
        let uncertain = || self.drawn_intervals().flat_map(|i| [(i.x, i.low), (i.x, i.high)]);
        let xs = all().flat_map(|p| [p.0 - halves, p.0 + halves]);
        let xs = xs.chain(uncertain().map(|p| p.0));
        let xs = xs.chain(self.placed_span().into_iter().flat_map(|s| [s.from, s.to]));
        let ys = all().chain(uncertain()).map(|p| p.1).chain(self.rules.iter().map(|r| r.y));
        let (mut x, mut y) = (Axis::around(self.x.scale, xs), Axis::around(self.y.scale, ys));
        if self.x.from_zero {
            x = x.from_zero();
        }
        if self.y.from_zero {
            y = y.from_zero();
        }
        let widest =
            y.ticks(5).into_iter().map(|t| surface.text_width(&self.y.scale.label(t), SMALL));
        let left = 12.0 + SMALL + 10.0 + widest.fold(0.0, f64::max);
        Plot { left, top, right: WIDTH - 14.0, bottom: HEIGHT - 44.0, x, y }
    }

    fn axes(&self, surface: &mut dyn Surface, plot: &Plot) {
        let middle = Anchor::Middle;
        // There is no step 12.5.
        let whole = self.series.iter().flat_map(|s| self.points(s)).all(|p| p.0.fract() == 0.0);
        for tick in plot.x.ticks(6).into_iter().filter(|t| !whole || t.fract() == 0.0) {
            let x = plot.across(tick);
            surface.line(&[(x, plot.top), (x, plot.bottom)], Ink::Grid, 1.0, &[], 1.0);
            let (label, at) = (self.x.scale.label(tick), (x, plot.bottom + 16.0));
            surface.text(Text { at, anchor: middle, ..small(Ink::Muted, &label) });
        }
        for tick in plot.y.ticks(5) {
            let y = plot.at((1.0, tick)).1;
            surface.line(&[(plot.left, y), (plot.right, y)], Ink::Grid, 1.0, &[], 1.0);
            let (label, at) = (self.y.scale.label(tick), (plot.left - 6.0, y + 4.0));
            surface.text(Text { at, anchor: Anchor::End, ..small(Ink::Muted, &label) });
        }
        let corners = [(plot.left, plot.top), (plot.left, plot.bottom), (plot.right, plot.bottom)];
        surface.line(&corners, Ink::Frame, 1.2, &[], 1.0);
        let at = ((plot.left + plot.right) / 2.0, HEIGHT - 10.0);
        surface.text(Text { at, anchor: middle, ..small(Ink::Text, &self.x.label) });
        let at = (17.0, (plot.top + plot.bottom) / 2.0);
        let text = small(Ink::Text, &self.y.label);
        surface.text(Text { at, anchor: middle, turned: true, ..text });
    }

    fn curve(&self, surface: &mut dyn Surface, plot: &Plot, series: &Series) {
        let values: Vec<(f64, f64)> = self.points(series).collect();
        let places: Vec<(f64, f64)> = values.iter().map(|&p| plot.at(p)).collect();
        let ink = Ink::Series(series.colour % COLOURS);
        match series.mark {
            Mark::Faint => surface.line(&places, ink, 1.0, &[], 0.35),
            Mark::Line | Mark::LineAndDots if places.len() > 1 => {
                surface.line(&places, ink, 2.0, dashes(series.colour), 1.0);
            }
            Mark::Bars => {
                let width = match places[..] {
                    [first, second, ..] => (second.0 - first.0).max(0.5),
                    _ => plot.right - plot.left,
                };
                let bar = width - if width > 4.0 { 1.0 } else { 0.0 };
                for (x, y) in &places {
                    surface.area([x - bar / 2.0, *y, bar, plot.bottom - y], ink, 1.0);
                }
            }
            _ => {}
        }
        // A lone point of a line is seen as a dot.
        let dots = matches!(series.mark, Mark::LineAndDots | Mark::Dots);
        if dots || (series.mark == Mark::Line && places.len() == 1) {
            for (place, (x, y)) in places.iter().zip(values) {
                let tip = format!("{} {}: {}", self.x.label, number(x), super::precise(y, 5));
                surface.dot(*place, 3.0, ink, tip.trim_start());
            }
        }
    }
}

/// A vertical line with a short stroke across each end.
fn whisker(surface: &mut dyn Surface, plot: &Plot, interval: &Interval) {
    const HALF: f64 = 3.5;
    let (low, high) = (plot.at((interval.x, interval.low)), plot.at((interval.x, interval.high)));
    let ink = Ink::Series(interval.colour % COLOURS);
    for end in [low, high] {
        surface.line(&[(end.0 - HALF, end.1), (end.0 + HALF, end.1)], ink, 1.4, &[], 1.0);
    }
    surface.line(&[low, high], ink, 1.4, &[], 1.0);
}

pub(super) fn small(ink: Ink, text: &str) -> Text<'_> {
    let (at, anchor) = ((0.0, 0.0), Anchor::Start);
    Text { at, anchor, size: SMALL, bold: false, turned: false, ink, text }
}
