//! Plans as text, and plans that a device cannot hold.

use super::with_lanes;
use crate::device::{self, one_mebibyte};
use crate::engine::{self, Run, Tiny};
use std::path::Path;
use vqforge::kernels::StepScalars;
use vqforge::ops;
use vqforge::plan::{Options, ParamInit, ParamSpec, ParamTable, Plan, Store};
use vqforge::shape::Shape;
use vqforge::tape::Tape;

/// The launches, ranges and barriers of tiny plans, as text. `VQFORGE_BLESS=1` rewrites the files.
#[test]
fn dumps_are_golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels_tests/golden");
    // Barriers are a cost of their own: a change must be noticed, not only blessed.
    let pinned = [("vqvae", Tiny::VqVae, 60), ("denoiser", Tiny::Denoiser, 67)];
    for (name, tiny, barriers) in pinned {
        let run = Run::new(tiny, engine::cpu(1), true, with_lanes(2));
        let path = folder.join(format!("{name}.txt"));
        if device::blessing() {
            std::fs::create_dir_all(&folder).expect("folder");
            std::fs::write(&path, &run.plan.dump).expect("write");
            println!("{name}: pin {} barriers", run.plan.stats.barriers);
            continue;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = run.plan.dump.lines().zip(golden.lines()).enumerate();
        if let Some((i, (got, want))) = lines.find(|(_, (a, b))| a != b) {
            panic!(
                "{name}.txt:{}: the plan changed (VQFORGE_BLESS=1 accepts it)\n- {want}\n+ {got}",
                i + 1
            );
        }
        assert_eq!(run.plan.dump.lines().count(), golden.lines().count(), "{name}");
        assert_eq!(run.plan.stats.barriers, barriers, "{name}: barriers");
        println!("{name}: {:?}", run.plan.stats);
    }
}

/// sum of y^2 of an upsampled x [1, 128, 128, 8] (512 KiB): y is 2 MiB.
fn upsampling() -> Tape {
    let mut tape = Tape::new();
    let x = tape.input("x", &[1, 128, 128, 8]).expect("input");
    let y = ops::upsample2x(&mut tape, x).expect("op");
    let double = ops::add(&mut tape, y, y).expect("op");
    let total = ops::sum_of_squared_errors(&mut tape, double, y, 1.0).expect("op");
    tape.output("total", total).expect("output");
    tape
}

/// What a device cannot bind is refused with the reason, before anything runs; where it fits, it is
/// computed.
#[test]
fn oversized_tensors_are_refused() {
    let tape = upsampling();
    let mut store = Store::new(one_mebibyte(), ParamTable::default(), 0).expect("store");
    let e = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).unwrap_err();
    assert_eq!(e.exit_code(), 6, "{e}");
    for part in ["2 MiB", "[1x256x256x8]", "upsample2x", "noop: 1 MiB", "at most 1 MiB", "help:"] {
        assert!(e.to_string().contains(part), "{part}: {e}");
    }
    let stats = store.device.stats();
    assert_eq!((stats.dispatches, stats.submits, stats.pipelines), (0, 0, 0), "{stats:?}");

    let mut big = ParamTable::default();
    let shape = Shape::new(&[1024, 1024]).expect("shape");
    let spec = ParamSpec { name: "w".into(), shape, init: ParamInit::Zeros, decay: false };
    big.get_or_add(spec).expect("parameter");
    let e = Store::new(one_mebibyte(), big, 0).unwrap_err();
    assert!(e.to_string().contains("parameter w [1024x1024] needs 4 MiB"), "{e}");

    let mut tape = Tape::new();
    let x = tape.input("wide", &[1024, 1024]).expect("input");
    let sum = ops::sum_of_squared_errors(&mut tape, x, x, 1.0).expect("op");
    tape.output("sum", sum).expect("output");
    let mut store = Store::new(one_mebibyte(), ParamTable::default(), 0).expect("store");
    let e = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).unwrap_err();
    assert!(e.to_string().contains("input wide wants 4 MiB"), "{e}");

    let tape = upsampling();
    let mut store = Store::new(engine::cpu(2), ParamTable::default(), 0).expect("store");
    let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).expect("plan");
    let x: Vec<f32> = (0..128 * 128 * 8).map(|i| (i % 1013) as f32 * 0.01).collect();
    store.write_f32(plan.input("x").expect("input"), &x).expect("write");
    plan.run_lane(&mut store, 0, &StepScalars::default()).expect("run");
    let got = store.read_f32(plan.output("total").expect("output")).expect("read")[0];
    let want = 4.0 * x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    // 2^19 squares, none negative: (2^19 + 4) u covers every order of adding them.
    let bound = f64::from((1 << 19) + 4) * f64::from(f32::EPSILON) / 2.0 * want;
    assert!((f64::from(got) - want).abs() <= bound, "{got} instead of {want}");
}
