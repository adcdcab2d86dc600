//! The one error type: what went wrong, where, why, and what to do next.
//!
//! Every error carries the exit code of the command line, so that a script can tell bad data
//! from a full disk without reading prose.

use std::fmt;
use std::path::Path;

pub type Result<T> = std::result::Result<T, Error>;

/// Class of an error; the discriminant is the process exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed = 1,
    /// Wrong command line or configuration.
    Usage = 2,
    NoDevice = 3,
    Data = 4,
    /// Disk or checkpoint.
    Disk = 5,
    /// Device lost or out of memory.
    Device = 6,
    Diverged = 7,
    /// Stopped on request; the run can be resumed.
    Stopped = 75,
    /// Ctrl-C, after saving.
    Interrupted = 130,
}

/// Built in reading order: `Error::data("no image array").at(path).why("...").help("...")`.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    what: String,
    at: Option<String>,
    why: Option<String>,
    help: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), at: None, why: None, help: None }
    }
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }
    pub fn no_device(what: impl Into<String>) -> Self {
        Self::new(Kind::NoDevice, what)
    }
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(Kind::Data, what)
    }
    pub fn disk(what: impl Into<String>) -> Self {
        Self::new(Kind::Disk, what)
    }
    pub fn device(what: impl Into<String>) -> Self {
        Self::new(Kind::Device, what)
    }
    pub fn diverged(what: impl Into<String>) -> Self {
        Self::new(Kind::Diverged, what)
    }

    /// Where: a path, `file:line:column`, a kernel.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.at = Some(place.to_string());
        self
    }
    pub fn at_path(self, path: &Path) -> Self {
        self.at(path.display())
    }
    pub fn why(mut self, reason: impl fmt::Display) -> Self {
        self.why = Some(reason.to_string());
        self
    }
    /// The next action, in the imperative.
    pub fn help(mut self, action: impl Into<String>) -> Self {
        self.help = Some(action.into());
        self
    }
    pub fn exit_code(&self) -> i32 {
        self.kind as i32
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(at) = &self.at {
            write!(f, "\n  at: {at}")?;
        }
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
