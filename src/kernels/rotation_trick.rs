//! The rotation trick (Fifty et al. 2024, arXiv 2410.06424): how the gradient of a quantised vector
//! reaches the vector that was quantised.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::cpu::nearest::FAR;
use super::cpu::reduce::{sum, sum2};
use super::normalise_rows::row_lanes;
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, float, grid_1d, int,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// Vectors shorter than this have no direction worth turning by.
pub const SHORT: f32 = 1.0e-3;

/// dz (+)= lambda (dy - 2 r (r . dy) + 2 z^ (q^ . dy)): bindings z, code, dy, dz, each [rows, d].
///
/// With q the code, z^ = z / |z|, q^ = q / |q|, r = (z^ + q^) / |z^ + q^| and lambda = |q| / |z|,
/// code = lambda R z for the rotation R = 1 - 2 r r' + 2 q^ z^', and with lambda and R held constant
/// the gradient of z is lambda R' dy: its angle to z is that of dy to the code. dz (+)= dy, straight
/// through, where |z|, |q| or |z^ + q^| is below [`SHORT`], or |z|^2 or |q|^2 is 3e38 or more.
#[derive(Debug, Clone)]
pub struct RotationTrick {
    pub rows: usize,
    pub d: usize,
    /// Add to dz instead of writing it.
    pub accum: bool,
}

impl RotationTrick {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(z), Bind::In(code), Bind::In(dy), Bind::Out(dz), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let dot = |a: &[T], b: &[T]| a.iter().zip(b).fold(T::zero(), |sum, (&a, &b)| sum + a * b);
        let unit = |x: &[T], length: T| x.iter().map(|&x| x / length).collect::<Vec<T>>();
        let (short, two) = (T::of(SHORT.into()), T::of(2.0));
        for row in 0..self.rows {
            let at = row * self.d..(row + 1) * self.d;
            let (z, q, g) = (&z[at.clone()], &code[at.clone()], &dy[at.clone()]);
            let [zz, qq] = [dot(z, z), dot(q, q)];
            let (z_length, q_length) = (zz.sqrt(), qq.sqrt());
            let mut turned = None;
            let far = T::of(FAR.into());
            if z_length >= short && q_length >= short && zz < far && qq < far {
                let (z_hat, q_hat) = (unit(z, z_length), unit(q, q_length));
                let s: Vec<T> = z_hat.iter().zip(&q_hat).map(|(&z, &q)| z + q).collect();
                let s_length = dot(&s, &s).sqrt();
                if s_length >= short {
                    let r = unit(&s, s_length);
                    let (along_r, along_q) = (dot(&r, g), dot(&q_hat, g));
                    let lambda = q_length / z_length;
                    let rotated = (0..self.d)
                        .map(|i| lambda * (g[i] - two * r[i] * along_r + two * z_hat[i] * along_q));
                    turned = Some(rotated.collect::<Vec<T>>());
                }
            }
            for (dz, &g) in dz[at].iter_mut().zip(turned.as_deref().unwrap_or(g)) {
                *dz = if self.accum { *dz + g } else { g };
            }
        }
    }
}

impl Kernel for RotationTrick {
    fn name(&self) -> &'static str {
        "rotation_trick"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/rotation_trick.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let (width, lanes) = row_lanes(self.d);
        vec![
            flag("VEC4", width == 4),
            int("DV", self.d / width),
            int("ROW_LANES", lanes),
            float("SHORT", SHORT),
            float("FAR", FAR),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.rows * self.d; 4]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1, 2, 3])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 256 / row_lanes(self.d).1)
    }
    fn cost(&self) -> Cost {
        let (n, accum) = ((self.rows * self.d) as u64, u64::from(self.accum));
        Cost { flops: (19 + accum) * n, bytes: (4 + accum) * 4 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(z), Bind::In(code), Bind::In(dy), Bind::Out(dz), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (d, block) = (self.d, rows_per_block(self.d) * self.d);
        let inputs = z.par_chunks(block).zip(code.par_chunks(block)).zip(dy.par_chunks(block));
        dz.par_chunks_mut(block).zip(inputs).for_each(|(dz, ((z, code), dy))| {
            vectorised(
                #[inline(always)]
                || {
                    let inputs =
                        z.chunks_exact(d).zip(code.chunks_exact(d)).zip(dy.chunks_exact(d));
                    for (dz, ((z, code), dy)) in dz.chunks_exact_mut(d).zip(inputs) {
                        turn(self.accum, z, code, dy, dz);
                    }
                },
            );
        });
    }
    naive_forms!();
}

/// One row.
#[inline(always)]
fn turn(accum: bool, z: &[f32], code: &[f32], dy: &[f32], dz: &mut [f32]) {
    let [zz, qq] = [sum(z, |x| x * x), sum(code, |x| x * x)];
    let lengths = [zz.sqrt(), qq.sqrt()];
    // Those of rows that are passed straight through are not used.
    let [of_z, of_code] = lengths.map(|length| 1.0 / length);
    let ss = sum2(z, code, |z, q| (of_z * z + of_code * q) * (of_z * z + of_code * q));
    let long = lengths.iter().all(|&length| length >= SHORT) && ss.sqrt() >= SHORT;
    let turns = long && zz < FAR && qq < FAR;
    let lambda = lengths[1] * of_z;
    let (with_z, with_code) = (sum2(z, dy, |z, g| z * g), sum2(code, dy, |q, g| q * g));
    let along_code = of_code * with_code;
    let along_s = (of_z * with_z + along_code) / ss;
    let each = dz.iter_mut().zip(z).zip(code.iter().zip(dy));
    for ((dz, &z), (&q, &g)) in each {
        let unit = of_z * z;
        let s = unit + of_code * q;
        let turned = lambda * (g - 2.0 * along_s * s + 2.0 * along_code * unit);
        let g = if turns { turned } else { g };
        *dz = if accum { *dz + g } else { g };
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let mut both = |name: &str, (rows, d): (usize, usize), z: Fill, code: Fill| {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let kernel = RotationTrick { rows, d, accum };
            let fills = vec![z.clone(), code.clone(), Fill::normal(), out];
            cases.push(Case::new(format!("{rows} x {d}{name} accum={accum}"), kernel, fills));
        }
    };
    for shape in [(1, 2), (47, 3), (61, 8), (55, 41), (300, 4), (9, 256), (5, 300)] {
        both("", shape, Fill::normal(), Fill::Normal { mean: 0.3, std: 1.0 });
    }
    // A row and its code, each ordinary, zero, short, long, of opposite directions or NaN, in turn.
    let scales = [1.0, 0.0, 1.0e-4, 0.02, 1.0e15, 1.0e30, f32::NAN];
    let direction = |i: usize| [0.5, -1.0, 0.25, 2.0, 1.5][i % 5];
    let z = (0..49 * 5).map(|i| scales[i / 5 % 7] * direction(i)).collect();
    let code = |i: usize| {
        let turn = if i.is_multiple_of(3) { -0.4 } else { 1.0 };
        scales[i / 35] * turn * direction(i)
    };
    both(" strays", (49, 5), Fill::F32(z), Fill::F32((0..49 * 5).map(code).collect()));
    let opposite = (0..6 * 5).map(|i| direction(i) * 3.0).collect();
    let code = (0..6 * 5).map(|i| -direction(i)).collect();
    both(" opposite", (6, 5), Fill::F32(opposite), Fill::F32(code));
    cases
}
