//! The quantiser: nearest codes, per-code sums, the codebook's update.

use super::{Row, fills};
use crate::kernels::argmin_rows::ArgminRows;
use crate::kernels::code_sums::CodeSums;
use crate::kernels::ema_codebook::EmaCodebook;
use crate::kernels::gather::Gather;
use crate::kernels::nearest_code::NearestCode;
use crate::kernels::{Fill, Matmul};

/// `n` vectors of `d` components against `k` codes.
pub fn nearest_code(n: usize, k: usize, d: usize) -> Row {
    let check = NearestCode::new(n.min(67), k.min(300), d);
    let detail = format!("{n}x{d} vs {k}");
    let inputs = [Fill::normal(), Fill::normal()];
    Row::new(&detail, NearestCode::new(n, k, d), check, fills(inputs, 2)).near_ties()
}

/// What the fused kernel is compared with: all scores of [`nearest_code`] by a product, stored, and
/// then the least of every row.
pub fn split_nearest_code(n: usize, k: usize, d: usize) -> [Row; 2] {
    let detail = format!("of a split nearest code {n}x{d} vs {k}");
    let product = Matmul { tb: true, bias: true, ..Matmul::new(n, d, k) };
    let rows = 68.min(160_000_000 / (2 * k * d)).next_multiple_of(4);
    let check = Matmul { m: n.min(rows), ..product.clone() };
    let argmin = |rows| ArgminRows { rows, k };
    let few = argmin(n.min(67));
    [
        Row::new(&detail, product, check, fills(vec![Fill::normal(); 3], 1)),
        Row::new(&detail, argmin(n), few, fills([Fill::normal()], 1)),
    ]
}

/// Sums of `n` vectors of `d` components by code, of `k` codes.
pub fn per_code_sums(n: usize, k: usize, d: usize) -> Row {
    // The kernel's tile depends on k, so the check keeps it.
    let check = CodeSums { n: n.min(1000), k, d, accum: false };
    let detail = format!("{n}x{d} of {k}");
    let inputs = [Fill::Index(k as u32), Fill::normal()];
    Row::new(&detail, CodeSums { n, k, d, accum: false }, check, fills(inputs, 2))
}

fn gather(n: usize, rows: usize, d: usize) -> Row {
    let check = Gather { n: n.min(300), rows: rows.min(300), d };
    let detail = format!("{n} of {rows}x{d}");
    // The check has fewer rows; indices past them give zeros.
    let inputs = [Fill::Index(rows as u32), Fill::normal()];
    Row::new(&detail, Gather { n, rows, d }, check, fills(inputs, 1))
}

fn ema_codebook(k: usize, d: usize) -> Row {
    let kernel = |k| EmaCodebook { k, d, decay: 0.99, eps: 1e-5 };
    // Sums, control words with the update switched on, counts, their total, moving sums, codes.
    let control = Fill::F32(vec![1.0, 1.0, 1.0, 0.0]);
    let inputs = vec![
        Fill::normal(),
        control,
        Fill::Uniform(1.0, 4.0),
        Fill::Uniform(1000.0, 2000.0),
        Fill::normal(),
        Fill::normal(),
    ];
    Row::new(&format!("{k}x{d}"), kernel(k), kernel(k.min(300)), inputs)
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        nearest_code(1024, 512, 64).small(true),
        nearest_code(1024, 512, 3).small(true),
        per_code_sums(1024, 512, 64).small(true),
        gather(1024, 512, 64).small(true),
        ema_codebook(512, 64).small(true),
    ];
    let shapes = [(4096, 512, 64), (16_384, 8192, 64), (16_384, 8192, 3), (16_384, 1024, 256)];
    rows.extend(shapes.map(|(n, k, d)| nearest_code(n, k, d)));
    rows.extend(shapes.map(|(n, k, d)| per_code_sums(n, k, d)));
    rows.push(gather(16_384, 8192, 64));
    rows.push(ema_codebook(8192, 64));
    rows
}
