//! Lookup-free binary codes (LFQ, 2310.05737; BSQ, 2406.07548) and the entropies of their loss.

use crate::error::{Error, Result};
use crate::kernels::SumPartials;
use crate::kernels::bit_entropy::{BitEntropy, BitEntropyGrad};
use crate::kernels::code_distribution::{
    CodeDistribution, CodeDistributionGrad, DistributionEntropy, Grouping, MAX_GROUP,
};
use crate::kernels::sign_code::{SignCode, SignCodes};
use crate::kernels::sum_finish::SumFinish;
use crate::tape::{Act, Idx, Tape};

/// # Errors
/// More bits than an index has, or none.
fn check_bits(op: &str, d: usize) -> Result<()> {
    if (1..=32).contains(&d) {
        return Ok(());
    }
    Err(Error::usage(format!("{op}: {d} bits are not possible"))
        .why("an index is a u32: 1 to 32 channels")
        .help("use fewer latent channels, or finite scalar quantisation"))
}

/// z [.., d], d <= 32 -> scale * sign(z) with sign(0) = 1, and the index of every row: the bit of
/// channel 0 is the highest, as in vector-quantize-pytorch (where, however, sign(0) = -1). The gradient
/// goes straight through. On the sphere (BSQ) the scale is 1 / sqrt(d).
///
/// # Errors
/// Too many channels; a scale that is not finite.
pub fn sign_code(tape: &mut Tape, z: Act, scale: f32) -> Result<(Act, Idx)> {
    tape.begin_op("sign_code");
    let (rows, d) = (tape.shape(z).rows(), tape.shape(z).channels());
    check_bits("sign_code", d)?;
    finite("sign_code", "scale", scale)?;
    let (y, idx) = (tape.temp_like(z), tape.temp_idx(&[rows])?);
    tape.launch(SignCode { rows, d, scale }, &[z.into(), y.into(), idx.into()])?;
    tape.record("sign_code", &[z.into()], y, move |t, dy| t.add_grad(z, dy));
    Ok((y, idx))
}

/// Indices of any shape -> their codes [n, d], as [`sign_code`] gives them; no gradient. Bits above the
/// d lowest are ignored.
///
/// # Errors
/// Too many channels; a scale that is not finite.
pub fn sign_codes(tape: &mut Tape, idx: Idx, d: usize, scale: f32) -> Result<Act> {
    tape.begin_op("sign_codes");
    check_bits("sign_codes", d)?;
    finite("sign_codes", "scale", scale)?;
    let rows = tape.shape(idx).elements();
    let y = tape.temp(&[rows, d])?;
    tape.launch(SignCodes { rows, d, scale }, &[idx.into(), y.into()])?;
    Ok(y)
}

fn finite(op: &str, what: &str, x: f32) -> Result<()> {
    if x.is_finite() {
        return Ok(());
    }
    Err(Error::failed(format!("{op}: {what} is {x}, wants a finite number")))
}

/// The two entropies of the loss of binary codes, in nats, of rows whose bit c is set with probability
/// sigmoid(slope z_c), independently; z [.., d]:
///
/// * the mean over rows of the entropy of a row's code: exact, the sum over its bits;
/// * the entropy of the mean distribution. Channels form consecutive groups of at most `group` bits;
///   each group has the joint distribution over its 2^group codes, averaged over the rows, and the
///   entropies of the groups are added. group = 1 is factorised per bit, group >= d exact.
///
/// The soft assignment softmax(2 t z.code) over codes in {-1, 1}^d is this with slope 4 t. The rows are
/// those of one lane: under gradient accumulation the mean distribution is a lane's.
///
/// # Errors
/// `group` is 0 or above 10; a slope that is not finite.
pub fn bit_entropy(tape: &mut Tape, z: Act, slope: f32, group: usize) -> Result<(Act, Act)> {
    tape.begin_op("bit_entropy");
    let (rows, d) = (tape.shape(z).rows(), tape.shape(z).channels());
    if !(1..=MAX_GROUP).contains(&group) {
        return Err(Error::usage(format!("bit_entropy: groups of {group} bits are not possible"))
            .why(format!("a group of g bits has 2^g codes; 1 to {MAX_GROUP} bits"))
            .help("group = 1 treats every bit by itself"));
    }
    finite("bit_entropy", "slope", slope)?;
    let of = Grouping { rows, d, group: group.min(d), slope };
    let (n, share) = (rows * d, (1.0 / rows as f64) as f32);

    let partials = (n / 4096).clamp(1, 256);
    let (sums, of_rows) = (tape.temp(&[partials])?, tape.temp(&[1])?);
    tape.launch(BitEntropy { n, slope, partials }, &[z.into(), sums.into()])?;
    let finish = SumFinish { p: partials, factor: share, accum: false };
    tape.launch(finish, &[sums.into(), of_rows.into()])?;
    tape.record("bit_entropy", &[z.into()], of_rows, move |t, dy| {
        let Some(dz) = t.target(z) else { return Ok(()) };
        let kernel = BitEntropyGrad { n, slope, factor: share, accum: dz.accum };
        t.launch_into(dz, kernel, &[z.into(), dy.into(), dz.value.into()])
    });

    let (splits, entries) = ((rows / 256).clamp(1, 64), of.entries());
    let (sums, q) = (tape.temp(&[splits, entries])?, tape.temp(&[entries])?);
    tape.launch(CodeDistribution { of, splits }, &[z.into(), sums.into()])?;
    tape.launch(SumPartials { splits, n: entries, accum: false }, &[sums.into(), q.into()])?;
    let (of_mean, log_q) = (tape.temp(&[1])?, tape.temp(&[entries])?);
    let entropy = DistributionEntropy { n: entries };
    tape.launch(entropy, &[q.into(), of_mean.into(), log_q.into()])?;
    tape.record("bit_entropy", &[z.into()], of_mean, move |t, dy| {
        let Some(dz) = t.target(z) else { return Ok(()) };
        let kernel = CodeDistributionGrad { of, factor: share, accum: dz.accum };
        t.launch_into(dz, kernel, &[z.into(), log_q.into(), dy.into(), dz.value.into()])
    });
    Ok((of_rows, of_mean))
}
