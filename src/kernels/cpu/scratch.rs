//! Buffers that outlive a call: each thread keeps those it once needed.

use std::cell::RefCell;

/// Bytes of a cache line and of the widest vector: panels start at a multiple of it.
const ALIGN: usize = 64;

thread_local! {
    /// A stack, so that nested uses find the same buffers again call after call.
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats of arbitrary contents, aligned to a cache line.
pub fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    const SLACK: usize = ALIGN / size_of::<f32>();
    let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + SLACK {
        buffer.resize(len + SLACK, 0.0);
    }
    let start = buffer.as_ptr().align_offset(ALIGN).min(SLACK);
    let result = f(&mut buffer[start..start + len]);
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}
