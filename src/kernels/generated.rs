//! WGSL that a kernel writes for itself.

use std::fmt;
use std::ops::Deref;

/// The text of a generated shader. It follows from the other fields of its kernel, whose `Debug`
/// form, a key of the tuner's tables, is a line without it.
#[derive(Clone)]
pub(super) struct Generated(pub String);

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl Deref for Generated {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
