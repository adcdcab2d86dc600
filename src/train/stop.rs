//! Ctrl-C: once to finish the step and save, twice to stop at once.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};

static PRESSED: AtomicU32 = AtomicU32::new(0);

/// Installs the handler, once per process.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if PRESSED.fetch_add(1, Ordering::SeqCst) > 0 {
            // The last checkpoint was written atomically and is intact.
            std::process::exit(130);
        }
    })
    .map_err(|e| Error::failed("cannot listen for Ctrl-C").why(e))
}

pub fn requested() -> bool {
    PRESSED.load(Ordering::SeqCst) > 0
}
