//! What a run tells: lines to standard error and to the run's log, and one live line on a terminal
//! (a plain line every ten seconds where there is none).

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const PLAIN_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Console {
    quiet: bool,
    terminal: bool,
    live: bool,
    last: Option<Instant>,
    log: Option<File>,
}

impl Console {
    pub fn new(quiet: bool) -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        Console { quiet, terminal, live: false, last: None, log: None }
    }

    /// Also writes every line to `file`.
    pub fn log_to(&mut self, file: File) {
        self.log = Some(file);
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.log(text);
        if self.quiet {
            return;
        }
        let clear = if self.live { "\r\x1b[K" } else { "" };
        self.live = false;
        // A closed standard error must not end a training run.
        let _ = writeln!(std::io::stderr(), "{clear}{text}");
    }

    /// The live line.
    pub fn progress(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
            self.live = true;
            return;
        }
        if self.last.is_none_or(|t| t.elapsed() >= PLAIN_EVERY) {
            self.last = Some(Instant::now());
            self.line(text);
        }
    }

    fn log(&mut self, text: &str) {
        if let Some(file) = &mut self.log {
            let _ = writeln!(file, "{text}");
        }
    }
}
