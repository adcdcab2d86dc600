//! Copies of the source pixels under convolution windows.

/// Windows of at most this many floats are gathered: copied one by one.
pub const SMALL_WINDOW: usize = 32;

/// Copies pixels `first..` of a row into `to`, zeros where the row has none.
pub fn copy_padded(to: &mut [f32], row: &[f32], first: isize, channels: usize) {
    let pixels = (row.len() / channels) as isize;
    let count = (to.len() / channels) as isize;
    let from = first.clamp(0, pixels);
    let end = (first + count).clamp(from, pixels);
    let before = (-first).clamp(0, count) as usize * channels;
    let inner = (end - from) as usize * channels;
    to[..before].fill(0.0);
    to[before..before + inner].copy_from_slice(&row[from as usize * channels..][..inner]);
    to[before + inner..].fill(0.0);
}

/// Copies every `from_step`-th float to every `to_step`-th place, until `to` is full.
pub fn copy_strided(to: &mut [f32], to_step: usize, from: &[f32], from_step: usize) {
    if (to_step, from_step) == (1, 1) {
        to.copy_from_slice(&from[..to.len()]);
    } else {
        let from = from.iter().step_by(from_step);
        to.iter_mut().step_by(to_step).zip(from).for_each(|(to, &v)| *to = v);
    }
}
