//! Charts as pixels.

use super::chart::{Anchor, Chart, HEIGHT, Ink, Surface, Text, WIDTH};
use super::font;
use super::grid::Raster;

/// Pixels of the picture per pixel of a chart: sharp on dense displays and in print.
const SCALE: f64 = 2.0;
const GROUND: [u8; 3] = [255; 3];
/// What letters clear around themselves, on both sides together.
const RIM: f64 = 3.0;

/// The colours of a light page.
fn colour(ink: Ink) -> [u8; 3] {
    const SERIES: [[u8; 3]; super::chart::COLOURS] = [
        [0x00, 0x72, 0xb2],
        [0xd5, 0x5e, 0x00],
        [0x00, 0x9e, 0x73],
        [0xb4, 0x54, 0x8c],
        [0x8a, 0x6d, 0x00],
        [0x3b, 0x42, 0x52],
    ];
    match ink {
        Ink::Text => [0x1c, 0x24, 0x30],
        Ink::Muted => [0x5c, 0x66, 0x74],
        Ink::Grid => [0xe3, 0xe7, 0xec],
        Ink::Frame => [0x9a, 0xa4, 0xb1],
        Ink::Alert => [0xb3, 0x26, 0x1e],
        Ink::Series(i) => SERIES[i % SERIES.len()],
    }
}

/// Charts beside and below each other in so many columns.
pub fn sheet(charts: &[Chart], columns: usize) -> Raster {
    let columns = columns.clamp(1, charts.len().max(1));
    let rows = charts.len().div_ceil(columns).max(1);
    let side = |count: usize, chart: f64| (count as f64 * chart * SCALE) as usize;
    let (width, height) = (side(columns, WIDTH), side(rows, HEIGHT));
    let pixels = GROUND.repeat(width * height);
    let raster = Raster { width, height, channels: 3, pixels };
    let mut canvas = Canvas { raster, origin: (0.0, 0.0) };
    for (i, chart) in charts.iter().enumerate() {
        canvas.origin = ((i % columns) as f64 * WIDTH, (i / columns) as f64 * HEIGHT);
        chart.draw(&mut canvas);
    }
    canvas.raster
}

/// A picture, and where the chart that is being drawn begins.
struct Canvas {
    raster: Raster,
    origin: (f64, f64),
}

/// The pixels `from..to` that a range covers, inside of `0..len`.
fn covered(low: f64, high: f64, len: usize) -> (usize, usize) {
    let inside = |v: f64| v.clamp(0.0, len as f64) as usize;
    (inside(low.floor()), inside(high.ceil()))
}

impl Canvas {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        ((x + self.origin.0) * SCALE, (y + self.origin.1) * SCALE)
    }

    /// Lays a colour over a pixel.
    fn blend(&mut self, x: usize, y: usize, colour: [u8; 3], alpha: f64) {
        let at = 3 * (y * self.raster.width + x);
        for (pixel, target) in self.raster.pixels[at..at + 3].iter_mut().zip(colour) {
            let mixed = f64::from(*pixel) * (1.0 - alpha) + f64::from(target) * alpha;
            *pixel = mixed.round() as u8;
        }
    }

    /// Lines of a width with round ends, each pixel laid over once however many lines meet in it.
    fn strokes(&mut self, lines: &[Vec<(f64, f64)>], colour: [u8; 3], width: f64, opacity: f64) {
        let half = width * SCALE / 2.0;
        let reach = half + 1.0;
        let all = || lines.iter().flatten();
        let low = |v: fn(&(f64, f64)) -> f64| all().map(v).fold(f64::INFINITY, f64::min) - reach;
        let high =
            |v: fn(&(f64, f64)) -> f64| all().map(v).fold(f64::NEG_INFINITY, f64::max) + reach;
        let (left, right) = covered(low(|p| p.0), high(|p| p.0), self.raster.width);
        let (top, bottom) = covered(low(|p| p.1), high(|p| p.1), self.raster.height);
        if left >= right || top >= bottom {
            return;
        }
        let mut mask = vec![0f64; (right - left) * (bottom - top)];
        for ends in lines.iter().flat_map(|line| line.windows(2)) {
            let (a, b) = (ends[0], ends[1]);
            let columns = covered(a.0.min(b.0) - reach, a.0.max(b.0) + reach, self.raster.width);
            let rows = covered(a.1.min(b.1) - reach, a.1.max(b.1) + reach, self.raster.height);
            for y in rows.0..rows.1 {
                for x in columns.0..columns.1 {
                    let distance = to_segment((x as f64 + 0.5, y as f64 + 0.5), a, b);
                    let cover = (half + 0.5 - distance).clamp(0.0, 1.0);
                    let cell = &mut mask[(y - top) * (right - left) + x - left];
                    *cell = cell.max(cover);
                }
            }
        }
        for (i, cover) in mask.into_iter().enumerate().filter(|(_, cover)| *cover > 0.0) {
            let (x, y) = (left + i % (right - left), top + i / (right - left));
            self.blend(x, y, colour, cover * opacity);
        }
    }
}

/// Distance of a point from a segment.
fn to_segment(p: (f64, f64), a: (f64, f64), b: (f64, f64)) -> f64 {
    let (along, from) = ((b.0 - a.0, b.1 - a.1), (p.0 - a.0, p.1 - a.1));
    let square = along.0 * along.0 + along.1 * along.1;
    let t = match square > 0.0 {
        true => ((from.0 * along.0 + from.1 * along.1) / square).clamp(0.0, 1.0),
        false => 0.0,
    };
    (from.0 - t * along.0).hypot(from.1 - t * along.1)
}

/// The dashes of a line. No pattern: the line.
fn dashed(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    if pattern.is_empty() {
        return vec![points.to_vec()];
    }
    let mut out = vec![];
    let (mut part, mut left) = (0, pattern[0]);
    let mut current: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for ends in points.windows(2) {
        let (mut a, b) = (ends[0], ends[1]);
        loop {
            let length = (b.0 - a.0).hypot(b.1 - a.1);
            if length <= left {
                left -= length;
                current.push(b);
                break;
            }
            let t = left / length;
            a = (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
            current.push(a);
            if part % 2 == 0 {
                out.push(std::mem::take(&mut current));
            }
            current = vec![a];
            part = (part + 1) % pattern.len();
            left = pattern[part];
        }
    }
    if part % 2 == 0 && current.len() > 1 {
        out.push(current);
    }
    out
}

impl Surface for Canvas {
    fn text_width(&self, text: &str, size: f64) -> f64 {
        font::width(text, size)
    }

    fn text(&mut self, text: Text<'_>) {
        let wide = font::width(text.text, text.size);
        let back = match text.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => wide / 2.0,
            Anchor::End => wide,
        };
        let turn = |(x, y): (f64, f64)| {
            let along = x - back;
            if text.turned { (y, -along) } else { (along, y) }
        };
        let moved = |p: (f64, f64)| {
            let (x, y) = turn(p);
            self.place((text.at.0 + x, text.at.1 + y))
        };
        let lines: Vec<Vec<_>> = font::lay_out(text.text, text.size)
            .into_iter()
            .map(|stroke| stroke.into_iter().map(moved).collect())
            .collect();
        let width = if text.bold { 0.125 } else { 0.088 } * text.size;
        self.strokes(&lines, GROUND, width + RIM, 1.0);
        self.strokes(&lines, colour(text.ink), width, 1.0);
    }

    fn line(&mut self, points: &[(f64, f64)], ink: Ink, width: f64, dash: &[f64], opacity: f64) {
        let lines: Vec<Vec<_>> = dashed(points, dash)
            .into_iter()
            .map(|line| line.into_iter().map(|p| self.place(p)).collect())
            .collect();
        self.strokes(&lines, colour(ink), width, opacity);
    }

    fn area(&mut self, [x, y, width, height]: [f64; 4], ink: Ink, opacity: f64) {
        let ((left, top), (right, bottom)) =
            (self.place((x, y)), self.place((x + width, y + height)));
        // How much of pixel i lies between two places.
        let share = |i: usize, low: f64, high: f64| {
            (high.min(i as f64 + 1.0) - low.max(i as f64)).clamp(0.0, 1.0)
        };
        let columns = covered(left, right, self.raster.width);
        let rows = covered(top, bottom, self.raster.height);
        for row in rows.0..rows.1 {
            for column in columns.0..columns.1 {
                let cover = share(column, left, right) * share(row, top, bottom);
                self.blend(column, row, colour(ink), cover * opacity);
            }
        }
    }

    fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink, _tip: &str) {
        let place = self.place(at);
        self.strokes(&[vec![place, place]], colour(ink), 2.0 * radius, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas() -> Canvas {
        let pixels = GROUND.repeat(40 * 40);
        let raster = Raster { width: 40, height: 40, channels: 3, pixels };
        Canvas { raster, origin: (0.0, 0.0) }
    }

    fn at(canvas: &Canvas, x: usize, y: usize) -> [u8; 3] {
        std::array::from_fn(|k| canvas.raster.pixels[3 * (y * 40 + x) + k])
    }

    #[test]
    fn lines_boxes_and_dots_cover_their_pixels() {
        let mut c = canvas();
        // A line of 2 along y = 5: rows 8..12 of the picture.
        c.line(&[(2.0, 5.0), (18.0, 5.0)], Ink::Text, 2.0, &[], 1.0);
        for (y, inked) in [(7, false), (8, true), (11, true), (12, false)] {
            let want = if inked { colour(Ink::Text) } else { GROUND };
            assert_eq!(at(&c, 20, y), want, "row {y}");
        }
        c.area([1.0, 10.0, 2.5, 1.0], Ink::Alert, 1.0);
        assert_eq!(at(&c, 2, 20), colour(Ink::Alert));
        assert_eq!(at(&c, 6, 21), colour(Ink::Alert));
        assert_eq!((at(&c, 1, 20), at(&c, 7, 20), at(&c, 2, 22)), (GROUND, GROUND, GROUND));
        c.dot((15.0, 15.0), 2.0, Ink::Series(0), "");
        assert_eq!(at(&c, 30, 30), colour(Ink::Series(0)));
        assert_eq!(at(&c, 35, 30), GROUND);
    }

    /// An `I` over a dark box: the stroke is seen, and the ground beside it.
    #[test]
    fn letters_have_a_rim() {
        let mut c = canvas();
        c.area([0.0, 0.0, 20.0, 20.0], Ink::Series(5), 1.0);
        let (at_, anchor, ink) = ((10.0, 15.0), Anchor::Start, Ink::Text);
        c.text(Text { at: at_, anchor, size: 12.5, bold: false, turned: false, ink, text: "I" });
        assert_eq!(at(&c, 20, 24), colour(Ink::Text));
        assert_eq!((at(&c, 17, 24), at(&c, 23, 24)), (GROUND, GROUND));
        assert_eq!(
            (at(&c, 10, 24), at(&c, 30, 24)),
            (colour(Ink::Series(5)), colour(Ink::Series(5)))
        );
    }

    #[test]
    fn a_pixel_is_laid_over_once() {
        let mut c = canvas();
        c.line(&[(2.0, 5.0), (10.0, 5.0), (2.0, 5.0)], Ink::Text, 2.0, &[], 0.5);
        let half = colour(Ink::Text).map(|v| ((f64::from(v) + 255.0) / 2.0).round() as u8);
        assert_eq!(at(&c, 10, 10), half);
    }

    #[test]
    fn dashes_add_up() {
        let bent = [(0.0, 0.0), (7.0, 0.0), (7.0, 13.0)];
        let parts = dashed(&bent, &[4.0, 2.0]);
        let length = |l: &[(f64, f64)]| {
            l.windows(2).map(|p| (p[1].0 - p[0].0).hypot(p[1].1 - p[0].1)).sum::<f64>()
        };
        let lengths: Vec<f64> = parts.iter().map(|p| length(p).round()).collect();
        assert_eq!(lengths, [4.0, 4.0, 4.0, 2.0]);
        assert_eq!(dashed(&bent, &[]), [bent.to_vec()]);
    }

    /// What lies outside of the picture is not drawn and does no harm.
    #[test]
    fn outside() {
        let mut c = canvas();
        c.line(&[(-50.0, -50.0), (-40.0, 90.0)], Ink::Text, 3.0, &[], 1.0);
        c.area([90.0, 90.0, 5.0, 5.0], Ink::Text, 1.0);
        c.dot((1e9, -1e9), 3.0, Ink::Text, "");
        assert!(c.raster.pixels.iter().all(|&v| v == 255));
    }
}
