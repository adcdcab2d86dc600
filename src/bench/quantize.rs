//! The quantiser over a grid of sizes: how its time grows with codes, vectors and components.

use super::rows::{Row, nearest_code, per_code_sums, split_nearest_code};
use super::{Measurement, Report};
use crate::report::{AxisSpec, Chart, Mark, Scale, Series};

const VECTORS: [usize; 3] = [1024, 4096, 16_384];
const CODES: [usize; 5] = [64, 256, 1024, 4096, 16_384];
const COMPONENTS: [usize; 3] = [4, 64, 256];
/// Kernel names and what the panels call them.
const KERNELS: [(&str, &str); 2] =
    [("nearest_code", "nearest code"), ("code_sums", "per-code sums")];

/// Scores that the split form may store: 64 MiB.
const STORED: usize = 1 << 24;

/// A point of the grid.
type Point = (usize, usize, usize);

fn points() -> impl Iterator<Item = Point> {
    VECTORS.into_iter().flat_map(|n| {
        CODES.into_iter().flat_map(move |k| COMPONENTS.into_iter().map(move |d| (n, k, d)))
    })
}

fn make(kernel: &str, (n, k, d): Point) -> Row {
    if kernel == KERNELS[0].0 { nearest_code(n, k, d) } else { per_code_sums(n, k, d) }
}

/// Nearest code and per-code sums at every point, and the two launches of the split form where its
/// scores can be stored. The smallest number of vectors, with up to 1024 codes of up to 64
/// components, serves quick runs.
pub fn grid() -> Vec<Row> {
    let small = |(n, k, d): Point| n == VECTORS[0] && k <= 1024 && d <= 64;
    let mut rows = vec![];
    for (kernel, _) in KERNELS {
        rows.extend(points().map(|point| make(kernel, point).small(small(point))));
    }
    for point in split_points() {
        let (n, k, d) = point;
        rows.extend(split_nearest_code(n, k, d).map(|row| row.small(small(point))));
    }
    rows
}

fn split_points() -> impl Iterator<Item = Point> {
    points().filter(|&(n, k, _)| n * k <= STORED)
}

/// Time per vector over the number of codes: a curve for each number of vectors and components.
/// With `cpu` it is processor time over threads. Points that were not run are missing.
pub fn charts(report: &Report, cpu: bool) -> Vec<Chart> {
    let threads = report.threads.unwrap_or(1) as f64;
    let seconds = |row: &Measurement| match cpu {
        true => row.cpu_seconds.map(|s| s.median / threads),
        false => Some(row.seconds.median),
    };
    KERNELS
        .into_iter()
        .map(|(kernel, title)| {
            let mut series: Vec<Series> = vec![];
            for d in COMPONENTS {
                for n in VECTORS {
                    let at = |k: usize| {
                        let name = make(kernel, (n, k, d)).name;
                        let row = report.rows.iter().find(|r| r.name == name)?;
                        Some((k as f64, seconds(row)? / n as f64 * 1e9))
                    };
                    let points = CODES.into_iter().filter_map(at).collect();
                    let (name, colour) = (format!("d = {d}, n = {n}"), series.len());
                    series.push(Series { name, mark: Mark::LineAndDots, colour, points });
                }
            }
            let unit = format!("nanoseconds{} a vector", if cpu { " of all cores" } else { "" });
            let axis =
                |label: &str, scale| AxisSpec { label: label.into(), scale, from_zero: false };
            Chart {
                title: title.into(),
                description: format!("{unit} over the number of codes, by size"),
                x: axis("codes", Scale::Log2),
                y: axis(&unit, Scale::Log),
                series,
                ..Chart::default()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_grid_is_complete() {
        let rows = grid();
        let names: BTreeSet<&str> = rows.iter().map(|r| r.name.as_str()).collect();
        let points = VECTORS.len() * CODES.len() * COMPONENTS.len();
        assert_eq!(names.len(), 2 * (points + split_points().count()));
        assert_eq!(names.len(), rows.len());
        assert!(rows.iter().any(|r| r.small) && rows.iter().any(|r| !r.small));
    }
}
