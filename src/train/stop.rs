//! Ctrl-C: once to finish the step and save, twice to stop at once.

use crate::error::{Error, Kind, Result};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

static PRESSED: AtomicU32 = AtomicU32::new(0);

/// Installs the handler, once per process.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if PRESSED.fetch_add(1, Ordering::SeqCst) > 0 {
            // The last checkpoint was written atomically and is intact.
            std::process::exit(Kind::Interrupted as i32);
        }
        // Nothing is left to do if standard error is closed.
        let _ = writeln!(std::io::stderr(), "\nstopping after this step; Ctrl-C again: at once");
    })
    .map_err(|e| Error::failed("cannot listen for Ctrl-C").why(e))
}

pub fn requested() -> bool {
    PRESSED.load(Ordering::SeqCst) > 0
}

/// Ends what comes before the first step, when nothing is there to be saved.
///
/// # Errors
/// Ctrl-C was pressed.
pub fn check() -> Result<()> {
    match requested() {
        true => Err(Error::new(Kind::Interrupted, "stopped; there was nothing to save yet")),
        false => Ok(()),
    }
}
