//! A residual behind a gate.

use super::expect_elements;
use crate::error::{Error, Result};
use crate::kernels::gate::{Gate, GateGrad};
use crate::tape::{Act, Tape};

/// y = x + gate h: x and h [b, .., c], gate [b, c] for each channel of each sample.
pub fn add_gated(tape: &mut Tape, x: Act, gate: Act, h: Act) -> Result<Act> {
    tape.begin_op("add_gated");
    let (rows, c) = (tape.shape(h).rows(), tape.shape(h).channels());
    expect_elements("add_gated", "x", tape.shape(x), rows * c)?;
    let samples = tape.shape(gate).rows();
    if tape.shape(gate).channels() != c || rows % samples != 0 {
        let (gate, h) = (tape.shape(gate), tape.shape(h));
        return Err(Error::failed(format!("add_gated: gates {gate} do not fit {h}")));
    }
    let rows_per_sample = rows / samples;
    let y = tape.temp_like(h);
    let kernel = Gate { rows, rows_per_sample, c, residual: true, accum: false };
    tape.launch(kernel.clone(), &[x.into(), gate.into(), h.into(), y.into()])?;
    tape.record("add_gated", &[x.into(), gate.into(), h.into()], y, move |t, dy| {
        t.add_grad(x, dy)?;
        if let Some(dgate) = t.target(gate) {
            let kernel = GateGrad { rows, rows_per_sample, c, accum: dgate.accum };
            t.launch_into(dgate, kernel, &[h.into(), dy.into(), dgate.value.into()])?;
        }
        let Some(dh) = t.target(h) else { return Ok(()) };
        let kernel = Gate { residual: false, accum: dh.accum, ..kernel };
        t.launch_into(dh, kernel, &[gate.into(), dy.into(), dh.value.into()])
    });
    Ok(y)
}
