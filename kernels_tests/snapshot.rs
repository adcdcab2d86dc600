//! A run that goes on from a snapshot in a new store is the run that was not interrupted, to the bit,
//! on each device.

use crate::engine::{self, Run, Tiny, assert_same};
use crate::rig::ok;
use vqforge::plan::Options;
use vqforge::tape::Precision;
use vqforge::train::Snapshot;

#[test]
fn two_and_two_steps_are_four() {
    for place in engine::places() {
        for precision in [Precision::F32, Precision::Mixed] {
            let start = || {
                let options = Options { lanes: 2, ..Options::default() };
                Run::new_in(precision, Tiny::VqVae, (place.fresh)(), true, options)
            };
            let mut first = start();
            (0..2).for_each(|_| first.advance());
            let middle = ok(Snapshot::capture(&mut first.store));
            (0..2).for_each(|_| first.advance());
            let straight = first.bits();
            drop(first);

            let mut second = start();
            // It has gone elsewhere.
            second.advance();
            ok(middle.restore(&mut second.store));
            second.step = 2;
            (0..2).for_each(|_| second.advance());
            assert_same(&format!("{precision:?} on {}", place.kind), &second.bits(), &straight);
        }
    }
}
