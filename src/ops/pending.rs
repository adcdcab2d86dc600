use super::Nearest;
use crate::error::Result;
use crate::tape::*;
pub fn normalise_rows(_: &mut Tape, _: Act) -> Result<Act> {
    todo!()
}
pub fn normalise_state(_: &mut Tape, _: Act) -> Result<()> {
    todo!()
}
pub fn nearest_code_cosine(_: &mut Tape, _: Act, _: impl Into<ValueId>) -> Result<Nearest> {
    todo!()
}
pub fn rotate(_: &mut Tape, _: Act, _: Act) -> Result<Act> {
    todo!()
}
pub fn select_rows(_: &mut Tape, _: Idx, _: Act) -> Result<Act> {
    todo!()
}
pub fn sub(_: &mut Tape, _: Act, _: Act) -> Result<Act> {
    todo!()
}
pub fn scale_by(_: &mut Tape, _: Act, _: Act) -> Result<Act> {
    todo!()
}
pub fn slice_columns(_: &mut Tape, _: Act, _: usize, _: usize) -> Result<Act> {
    todo!()
}
pub fn pad_columns(_: &mut Tape, _: Act, _: usize, _: usize) -> Result<Act> {
    todo!()
}
pub fn fsq(_: &mut Tape, _: Act, _: &[usize]) -> Result<(Act, Idx)> {
    todo!()
}
pub fn fsq_codes(_: &mut Tape, _: Idx, _: &[usize]) -> Result<Act> {
    todo!()
}
pub fn sign_code(_: &mut Tape, _: Act, _: f32) -> Result<(Act, Idx)> {
    todo!()
}
pub fn sign_codes(_: &mut Tape, _: Idx, _: usize, _: f32) -> Result<Act> {
    todo!()
}
pub fn bit_entropy(_: &mut Tape, _: Act, _: f32, _: usize) -> Result<(Act, Act)> {
    todo!()
}
pub fn gaussian_noise(_: &mut Tape, _: &[usize]) -> Result<Act> {
    todo!()
}
pub fn sample_gaussian(_: &mut Tape, _: Act, _: Act) -> Result<Act> {
    todo!()
}
pub fn kl_divergence(_: &mut Tape, _: Act, _: f32) -> Result<Act> {
    todo!()
}
