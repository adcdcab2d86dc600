//! What a run tells: lines to standard error and to the run's log, and one live line on a terminal
//! (a plain line every ten seconds where there is none).

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Columns of the live line: it must not wrap, or it could not be written over.
const WIDTH: usize = 79;

/// A handle: clones share the screen and the log.
#[derive(Debug, Clone)]
pub struct Console(Arc<Mutex<Screen>>);

#[derive(Debug)]
struct Screen {
    quiet: bool,
    terminal: bool,
    /// Columns of the live line on the screen; 0: none.
    live: usize,
    last: Option<Instant>,
    log: Log,
}

#[derive(Debug)]
enum Log {
    /// Lines told before there is a run folder.
    Waiting(Vec<String>),
    File(File),
}

impl Console {
    pub fn new(quiet: bool) -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        let log = Log::Waiting(vec![]);
        Console(Arc::new(Mutex::new(Screen { quiet, terminal, live: 0, last: None, log })))
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        // A line half told by a thread that panicked is no reason to fall silent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Also writes every line to `file`, beginning with those told so far.
    pub fn log_to(&mut self, file: File) {
        let mut screen = self.screen();
        let told = std::mem::replace(&mut screen.log, Log::File(file));
        if let Log::Waiting(lines) = told {
            lines.iter().for_each(|line| screen.record(line));
        }
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.screen().line(text);
    }

    /// The live line.
    pub fn progress(&mut self, text: &str) {
        let mut screen = self.screen();
        let due = screen.last.is_none_or(|t| t.elapsed() >= PLAIN_EVERY);
        screen.show(text, due);
    }

    /// The live line, which also becomes a plain line at once.
    pub fn milestone(&mut self, text: &str) {
        self.screen().show(text, true);
    }

    /// Writes a line to the log alone.
    pub fn record(&mut self, text: &str) {
        self.screen().record(text);
    }
}

impl Screen {
    fn line(&mut self, text: &str) {
        self.record(text);
        if self.quiet {
            return;
        }
        self.wipe();
        // A closed standard error must not end a training run.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn show(&mut self, text: &str, due: bool) {
        if due {
            self.last = Some(Instant::now());
        }
        if !self.terminal || self.quiet {
            if due {
                self.line(text);
            }
            return;
        }
        if due {
            self.record(text);
        }
        let text: String = text.chars().take(WIDTH).collect();
        let columns = text.chars().count();
        // Blanks wipe the rest of a longer line before it, on any terminal.
        let blanks = self.live.saturating_sub(columns);
        let _ = write!(std::io::stderr(), "\r{text}{:blanks$}", "");
        let _ = std::io::stderr().flush();
        self.live = columns.max(1);
    }

    /// Removes the live line from the screen.
    fn wipe(&mut self) {
        if self.live > 0 {
            let _ = write!(std::io::stderr(), "\r{:1$}\r", "", self.live);
            self.live = 0;
        }
    }

    fn record(&mut self, text: &str) {
        match &mut self.log {
            Log::Waiting(lines) => lines.push(text.to_string()),
            // A log that cannot be written must not end a training run.
            Log::File(file) => drop(writeln!(file, "{text}")),
        }
    }
}

impl Drop for Screen {
    /// Whatever is printed next starts on a line of its own.
    fn drop(&mut self) {
        if self.live > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
