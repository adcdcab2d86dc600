//! Words beside the points of a chart, put where they hide nothing.

use super::chart::{Anchor, Chart, Ink, Plot, SMALL, Surface, Text, small};

/// Left, top, right, bottom.
type Area = [f64; 4];

/// From a point to its word.
const AWAY: f64 = 8.0;
/// Around a dot.
const DOT: f64 = 4.0;

/// Each word takes the first free place of eight around its point, or the one that hides least.
pub fn draw(chart: &Chart, surface: &mut dyn Surface, plot: &Plot) {
    let points = chart.series.iter().flat_map(|s| chart.points(s));
    let mut taken: Vec<Area> =
        points.map(|p| plot.at(p)).map(|(x, y)| [x - DOT, y - DOT, x + DOT, y + DOT]).collect();
    for note in chart.notes.iter().filter(|n| chart.places(n.at)) {
        let width = surface.text_width(&note.text, SMALL);
        let (area, baseline) = place(plot.at(note.at), width, &taken, plot);
        let text = small(Ink::Text, &note.text);
        surface.text(Text { at: (area[0], baseline), anchor: Anchor::Start, ..text });
        taken.push(area);
    }
}

/// Where a word of this width goes, and its baseline.
fn place((x, y): (f64, f64), width: f64, taken: &[Area], plot: &Plot) -> (Area, f64) {
    let (ascent, descent) = (0.75 * SMALL, 0.25 * SMALL);
    let (right, left, middle) = (x + AWAY, x - AWAY - width, x - width / 2.0);
    let (level, above, below) = (y + 4.0, y - AWAY - descent, y + AWAY + ascent);
    let places = [
        (right, level),
        (left, level),
        (middle, above),
        (middle, below),
        (right, above),
        (right, below),
        (left, above),
        (left, below),
    ];
    let framed = [plot.left, plot.top, plot.right, plot.bottom];
    let mut best = ([0.0; 4], 0.0, f64::INFINITY);
    for (from, baseline) in places {
        let area = [from, baseline - ascent, from + width, baseline + descent];
        let outside = size(area) - common(area, framed);
        let hidden = taken.iter().map(|&other| common(area, other)).sum::<f64>() + 4.0 * outside;
        if hidden < best.2 {
            best = (area, baseline, hidden);
        }
    }
    (best.0, best.1)
}

fn size([left, top, right, bottom]: Area) -> f64 {
    (right - left) * (bottom - top)
}

/// How much two areas have in common.
fn common(a: Area, b: Area) -> f64 {
    let across = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let down = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    across * down
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::HEIGHT;
    use crate::report::scale::{Axis, Scale};

    fn plot() -> Plot {
        let axis = Axis::around(Scale::Linear, [0.0, 1.0].into_iter());
        Plot { left: 50.0, top: 30.0, right: 400.0, bottom: HEIGHT - 44.0, x: axis, y: axis }
    }

    #[test]
    fn free_places_are_taken_in_turn() {
        let plot = plot();
        let at = (200.0, 100.0);
        let (first, baseline) = place(at, 40.0, &[], &plot);
        assert_eq!((first[0], baseline), (at.0 + AWAY, at.1 + 4.0));
        let (second, _) = place(at, 40.0, &[first], &plot);
        assert_eq!(second[2], at.0 - AWAY);
        let (third, _) = place(at, 40.0, &[first, second], &plot);
        assert!(third[3] < at.1 && third[0] < at.0 && third[2] > at.0);
        for (a, b) in [(first, second), (first, third), (second, third)] {
            assert_eq!(common(a, b), 0.0);
        }
        // At the right edge there is only room to the left.
        let (edge, _) = place((395.0, 100.0), 40.0, &[], &plot);
        assert!(edge[2] < 395.0);
    }
}
