//! Sizes past the round numbers: more than 65,535 workgroups, more than 2^24 elements (which f32
//! cannot count), tensors that a device may not be able to bind, and a search whose scores would
//! not fit anywhere.

use crate::device::{self, floats, on_devices};
use crate::engine;
use crate::registry::{self, Oracle};
use vqforge::device::Device;
use vqforge::kernels::copy::Copy;
use vqforge::kernels::gather::Gather;
use vqforge::kernels::nearest_code::NearestCode;
use vqforge::kernels::softmax_rows::SoftmaxRows;
use vqforge::kernels::sum_all::{SumAll, SumOp};
use vqforge::kernels::unary::{Activation, Unary};
use vqforge::kernels::{Case, Fill, Kernel, Matmul, StepScalars};
use vqforge::ops;
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::tape::Tape;

/// WebGPU's limit on workgroups of one dimension.
const GROUPS: usize = 65_535;

/// Runs a kernel on given inputs; its outputs are poisoned before. Returns all bindings.
fn run(device: &mut dyn Device, kernel: impl Kernel + 'static, inputs: Vec<Fill>) -> Vec<Vec<u32>> {
    let [x, y, z] = kernel.grid().map(|g| g as usize);
    assert!(x * y * z > GROUPS, "{kernel:?} has {x} x {y} x {z} workgroups");
    let poisoned = kernel.lens().len() - inputs.len();
    let fills = inputs.into_iter().chain(vec![Fill::Poison; poisoned]).collect();
    let case = Case::new("large", kernel, fills);
    registry::on_device(device, &case, &registry::inputs(&case))
}

/// Element i of a large input: small, exact, and unlike its neighbours a tile or 2^16 further on.
fn pattern(i: usize) -> f32 {
    (i % 4093) as f32 - 2000.0
}

fn patterns(n: usize) -> Fill {
    Fill::F32((0..n).map(pattern).collect())
}

/// One element an invocation, in more than 65,535 workgroups of 256 and past 2^24 elements.
#[test]
fn elements() {
    const N: usize = GROUPS * 256 + 4 * 256 + 3;
    const { assert!(N > 1 << 24) };
    on_devices(|device| {
        let out = run(device, Copy { n: N, accum: false }, vec![patterns(N)]);
        assert!(floats(&out[1]).into_iter().enumerate().all(|(i, y)| y == pattern(i)), "copy");
        let relu = Unary { op: Activation::Relu, n: N, backward: false, accum: false };
        let out = run(device, relu, vec![patterns(N)]);
        assert!(
            floats(&out[1]).into_iter().enumerate().all(|(i, y)| y == pattern(i).max(0.0)),
            "relu"
        );
        let idx = Fill::U32((0..N).map(|i| (i % 1009) as u32).collect());
        let out = run(device, Gather { n: N, rows: 1009, d: 1 }, vec![idx, patterns(1009)]);
        assert!(
            floats(&out[2]).into_iter().enumerate().all(|(i, y)| y == pattern(i % 1009)),
            "gather"
        );
    });
}

/// Sums of more elements than f32 has integers for; each partial sum is exact.
#[test]
fn sums() {
    const N: usize = (1 << 24) + 4099;
    const PARTS: usize = 4096;
    on_devices(|device| {
        let kernel = SumAll { n: N, op: SumOp::Identity, partials: PARTS, factor: 1.0 };
        let x: Vec<f32> = (0..N).map(|i| (i % 7) as f32 - 2.0).collect();
        let case = Case::new("sum", kernel, vec![Fill::F32(x.clone()), Fill::Poison]);
        let out = registry::on_device(device, &case, &registry::inputs(&case));
        let want = x.chunks(N.div_ceil(PARTS)).map(|c| c.iter().sum::<f32>());
        assert!(floats(&out[1]).into_iter().eq(want.chain([0.0; PARTS]).take(PARTS)));
    });
}

/// One workgroup a row, and one for every block of rows.
#[test]
fn rows() {
    on_devices(|device| {
        let kernel = SoftmaxRows { rows: GROUPS + 5, k: 3, log: false };
        assert!(kernel.grid()[1] > 1);
        let case = Case::new("softmax", kernel, vec![Fill::normal(), Fill::Poison]);
        let oracle = Oracle::of(&case);
        let got = registry::on_device(device, &case, &oracle.inputs);
        oracle.judge(&case, &got).unwrap_or_else(|e| panic!("softmax: {e}"));

        // Blocks of one column are 256 rows high.
        let m = GROUPS * 256 + 41;
        let out = run(device, Matmul::new(m, 1, 1), vec![patterns(m), Fill::F32(vec![3.0])]);
        assert!(
            floats(&out[2]).into_iter().enumerate().all(|(i, y)| y == 3.0 * pattern(i)),
            "matmul"
        );
        let n = GROUPS * 64 + 41;
        let z = Fill::F32((0..n).map(|i| (i % 5) as f32).collect());
        let codebook = Fill::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0]);
        let out = run(device, NearestCode::new(n, 5, 1), vec![z, codebook]);
        assert!(out[2].iter().enumerate().all(|(i, &k)| k == i as u32 % 5), "nearest_code");
    });
}

/// A tensor of more than 128 MiB: refused before anything runs where it cannot be bound, computed
/// where it can.
#[test]
fn beyond_one_binding() {
    const SIDE: usize = 2049;
    let mut tape = Tape::new();
    let x = tape.input("x", &[1, SIDE, SIDE, 2]).expect("input");
    let big = ops::upsample2x(&mut tape, x).expect("upsample");
    let half = ops::sum_of_squared_errors(&mut tape, big, big, 1.0).expect("sum");
    tape.output("zero", half).expect("output");
    tape.output("big", big).expect("output");
    let bytes = 4 * 4 * SIDE as u64 * SIDE as u64 * 2;
    assert!(bytes > 128 << 20);
    for device in std::iter::once(device::cpu(0)).chain(engine::gpu()) {
        let (place, limit) = (device.describe(), device.limits().max_binding_bytes);
        let before = device.stats();
        let mut store = Store::new(device, ParamTable::default(), 0).expect("store");
        let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {});
        if limit < bytes {
            let e = plan.err().unwrap_or_else(|| panic!("{place} binds {limit} bytes at most"));
            for part in ["128 MiB", &format!("at most {} MiB", limit >> 20), "help:"] {
                assert!(e.to_string().contains(part), "{part}: {e}");
            }
            let after = store.device.stats();
            assert_eq!(after.dispatches, before.dispatches, "{place}: ran before it refused");
            println!("{place}: refused, as it binds {} MiB", limit >> 20);
            continue;
        }
        let plan = plan.unwrap_or_else(|e| panic!("{place}: {e}"));
        let values: Vec<f32> = (0..SIDE * SIDE * 2).map(pattern).collect();
        store.write_f32(plan.input("x").expect("input"), &values).expect("write");
        plan.run_lane(&mut store, 0, &StepScalars::default()).expect("run");
        let big = store.read_f32(plan.output("big").expect("output")).expect("read");
        let source = |i: usize| {
            let (pixel, channel) = (i / 2, i % 2);
            (pixel / (2 * SIDE) / 2 * SIDE + pixel % (2 * SIDE) / 2) * 2 + channel
        };
        assert!(big.iter().enumerate().all(|(i, &y)| y == pattern(source(i))), "{place}");
        let zero = store.read_f32(plan.output("zero").expect("output")).expect("read");
        assert_eq!(zero, [0.0], "{place}");
        println!("{place}: computed, as it binds {} MiB", limit >> 20);
        store.device.clear();
    }
}

/// Points of a 256 x 256 lattice as codes and, in another order, as rows: every score is exact.
fn lattice(step: usize) -> Vec<f32> {
    (0..1 << 16)
        .map(|i| i * step % (1 << 16))
        .flat_map(|i| [i / 256, i % 256])
        .map(|x| x as f32)
        .collect()
}

/// 65,536 rows against 65,536 codes: 16 GiB of scores, if anyone kept them. The device holds the
/// bindings and nothing that grows with n k. (The CPU form: `allocation.rs`.)
#[test]
fn nearest_code_keeps_no_scores() {
    const N: usize = 1 << 16;
    // 40,503 is odd, hence a permutation.
    let (codes, rows) = (lattice(1), lattice(40_503));
    on_devices(|device| {
        let kernel = NearestCode::new(N, N, 2);
        let fills = [&rows, &codes].map(|v| Fill::F32(v.clone())).into_iter();
        let fills = fills.chain([Fill::Poison, Fill::Poison]).collect();
        let case = Case::new("lattice", kernel, fills);
        device.clear();
        let out = registry::on_device(device, &case, &registry::inputs(&case));
        for (i, &k) in out[2].iter().enumerate() {
            assert_eq!(k as usize, i * 40_503 % N, "row {i} on {}", device.describe());
        }
        let held = device.stats().buffer_bytes;
        // z and codebook of two channels, index and distance; a page for the sizes.
        let bound = 4 * (2 * N + 2 * N + N + N) as u64 + 4096;
        println!("{}: {held} bytes for {N} x {N}", device.describe());
        assert!(held <= bound, "{held} bytes > {bound}");
    });
}
