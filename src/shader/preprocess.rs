//! A preprocessor of four directives, each alone on its line:
//!
//! ```text
//! #import NAME               a fragment of shaders/lib, once
//! #if COND / #else / #endif  COND: NAME, !NAME, or NAME ==|!=|<|> INTEGER|NAME
//! #unroll i in A..B          repeats the lines up to #endunroll; `$i` becomes the number,
//! #endunroll                 so `acc$i` are named accumulators; B may be a constant
//! ```
//!
//! The constants come from Rust and become a prelude of `const` lines. Constants rather than
//! `override`: arrays of registers need constant lengths and constant divisors make exact index
//! maths. Unknown directives, unused constants and import cycles are errors with file and line.

use super::library;
use crate::error::{Error, Result};
use crate::kernels::{Const, Value};

/// Final source, with the origin of every line for error messages.
#[derive(Debug)]
pub struct Expanded {
    pub source: String,
    /// (file stem, line) of each line of `source`; the prelude's lines come from "prelude".
    pub origins: Vec<(String, usize)>,
}

/// Expands `text` (the shader called `name`) under `consts`.
pub fn expand(name: &str, text: &str, consts: &[Const]) -> Result<Expanded> {
    let mut state = State {
        consts,
        used: vec![false; consts.len()],
        done: vec![],
        open: vec![],
        lines: vec![],
    };
    for (i, (n, value)) in consts.iter().enumerate() {
        let line = match value {
            Value::U32(v) => format!("const {n}: u32 = {v}u;"),
            Value::F32(v) if v.is_finite() => format!("const {n}: f32 = {v:?}f;"),
            Value::F32(v) => {
                return Err(defect(
                    name,
                    0,
                    format!("constant {n} is {v}: WGSL has no such literal"),
                ));
            }
        };
        state.lines.push((line, "prelude".into(), i + 1));
    }
    let prelude = state.lines.len();
    state.body(name, text)?;
    for (i, (n, _)) in consts.iter().enumerate() {
        let mentioned =
            state.used[i] || state.lines[prelude..].iter().any(|(l, ..)| has_word(l, n));
        if !mentioned {
            return Err(defect(name, 1, format!("constant {n} is given but never used")));
        }
    }
    // WGSL wants its `enable` directives before any declaration, the prelude's included.
    state.lines.sort_by_key(|(line, ..)| !line.starts_with("enable "));
    let mut source = String::new();
    let mut origins = vec![];
    for (line, file, number) in state.lines {
        source.push_str(&line);
        source.push('\n');
        origins.push((file, number));
    }
    Ok(Expanded { source, origins })
}

fn defect(file: &str, line: usize, what: String) -> Error {
    Error::failed(what).at(place(file, line))
}

/// Where a line was written. A kernel that generates its text calls it "generated" and its name.
pub(super) fn place(file: &str, line: usize) -> String {
    match file.strip_prefix("generated ") {
        Some(kernel) => format!("line {line} of what {kernel} generates"),
        None => format!("shaders/{file}.wgsl:{line}"),
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == word)
}

struct State<'a> {
    consts: &'a [Const],
    used: Vec<bool>,
    /// Fragments already imported, and those being imported now.
    done: Vec<String>,
    open: Vec<String>,
    lines: Vec<(String, String, usize)>,
}

impl State<'_> {
    /// All lines of a file. A kernel may have the name of a fragment, which it may import.
    fn body(&mut self, name: &str, text: &str) -> Result<()> {
        let numbered: Vec<(usize, String)> =
            text.lines().enumerate().map(|(i, l)| (i + 1, l.to_string())).collect();
        self.block(name, &numbered)
    }

    fn block(&mut self, file: &str, lines: &[(usize, String)]) -> Result<()> {
        let mut i = 0;
        while i < lines.len() {
            let (number, line) = &lines[i];
            let trimmed = line.trim();
            let Some(directive) = trimmed.strip_prefix('#') else {
                self.lines.push((line.clone(), file.into(), *number));
                i += 1;
                continue;
            };
            let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
            let rest = rest.trim();
            match word {
                "import" => {
                    self.import(file, *number, rest)?;
                    i += 1;
                }
                "if" => {
                    let (otherwise, end) = matching(file, lines, i, "if", "endif")?;
                    let middle = otherwise.unwrap_or(end);
                    if self.condition(file, *number, rest)? {
                        self.block(file, &lines[i + 1..middle])?;
                    } else if let Some(middle) = otherwise {
                        self.block(file, &lines[middle + 1..end])?;
                    }
                    i = end + 1;
                }
                "unroll" => {
                    let (_, end) = matching(file, lines, i, "unroll", "endunroll")?;
                    let (variable, from, to) = self.range(file, *number, rest)?;
                    for k in from..to {
                        let body: Vec<(usize, String)> = lines[i + 1..end]
                            .iter()
                            .map(|(n, l)| (*n, l.replace(&format!("${variable}"), &k.to_string())))
                            .collect();
                        self.block(file, &body)?;
                    }
                    i = end + 1;
                }
                _ => return Err(defect(file, *number, format!("unknown directive #{word}"))),
            }
        }
        Ok(())
    }

    fn import(&mut self, file: &str, line: usize, name: &str) -> Result<()> {
        if self.open.iter().any(|n| n == name) {
            return Err(defect(file, line, format!("import cycle through {name}")));
        }
        if self.done.iter().any(|n| n == name) {
            return Ok(());
        }
        let text = library::find(name).ok_or_else(|| {
            let known: Vec<_> = library::names().collect();
            defect(file, line, format!("no fragment {name}"))
                .why(format!("known: {}", known.join(", ")))
        })?;
        self.open.push(name.into());
        self.body(name, text)?;
        self.open.pop();
        self.done.push(name.into());
        Ok(())
    }

    /// Integer value of a constant or literal.
    fn integer(&mut self, file: &str, line: usize, word: &str) -> Result<u32> {
        if let Ok(v) = word.parse() {
            return Ok(v);
        }
        match self.consts.iter().position(|(n, _)| *n == word) {
            Some(i) => {
                self.used[i] = true;
                match self.consts[i].1 {
                    Value::U32(v) => Ok(v),
                    Value::F32(_) => Err(defect(file, line, format!("{word} is not an integer"))),
                }
            }
            None => Err(defect(file, line, format!("{word} is not a constant of this kernel"))),
        }
    }

    fn condition(&mut self, file: &str, line: usize, text: &str) -> Result<bool> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [name] => match name.strip_prefix('!') {
                Some(name) => Ok(self.integer(file, line, name)? == 0),
                None => Ok(self.integer(file, line, name)? != 0),
            },
            [a, operator, b] => {
                let (a, b) = (self.integer(file, line, a)?, self.integer(file, line, b)?);
                match operator {
                    "==" => Ok(a == b),
                    "!=" => Ok(a != b),
                    "<" => Ok(a < b),
                    ">" => Ok(a > b),
                    _ => Err(defect(file, line, format!("unknown operator {operator} in #if"))),
                }
            }
            _ => Err(defect(file, line, format!("cannot read the condition `{text}`"))),
        }
    }

    fn range<'t>(&mut self, file: &str, line: usize, text: &'t str) -> Result<(&'t str, u32, u32)> {
        let parts =
            text.split_once(" in ").and_then(|(v, r)| Some((v.trim(), r.split_once("..")?)));
        let Some((variable, (from, to))) = parts else {
            return Err(defect(file, line, format!("#unroll wants `i in 0..N`, got `{text}`")));
        };
        let (from, to) =
            (self.integer(file, line, from.trim())?, self.integer(file, line, to.trim())?);
        Ok((variable, from, to))
    }
}

/// Index of the `#else` (if any, for `#if`) and of the closing directive of the block at `start`.
fn matching(
    file: &str,
    lines: &[(usize, String)],
    start: usize,
    open: &str,
    close: &str,
) -> Result<(Option<usize>, usize)> {
    let (mut depth, mut otherwise) = (0, None);
    for (i, (_, line)) in lines.iter().enumerate().skip(start) {
        let Some(directive) = line.trim().strip_prefix('#') else { continue };
        let word = directive.split_whitespace().next().unwrap_or("");
        if word == open {
            depth += 1;
        } else if word == close {
            depth -= 1;
            if depth == 0 {
                return Ok((otherwise, i));
            }
        } else if word == "else" && open == "if" && depth == 1 {
            otherwise = Some(i);
        }
    }
    Err(defect(file, lines[start].0, format!("#{open} without #{close}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{flag, int};

    fn run(text: &str, consts: &[Const]) -> Result<String> {
        expand("t", text, consts).map(|e| e.source)
    }

    #[test]
    fn conditions_and_unrolling() {
        let text = "#if ON\n#unroll i in 0..N\nlet a$i = $i;\n#endunroll\n#else\noff\n#endif";
        let on = run(text, &[flag("ON", true), int("N", 2)]).unwrap();
        assert!(on.ends_with("let a0 = 0;\nlet a1 = 1;\n"), "{on}");
        assert!(
            run("#if ON\n#else\noff\n#endif", &[flag("ON", false)]).unwrap().ends_with("off\n")
        );
        assert!(run("#if N > 3\nbig\n#endif", &[int("N", 4)]).unwrap().ends_with("big\n"));
        let nested = run(
            "#if A\n#if B\nx\n#else\ny\n#endif\n#else\nz\n#endif",
            &[flag("A", true), flag("B", false)],
        );
        assert!(nested.unwrap().ends_with("y\n"));
    }

    #[test]
    fn defects_name_file_and_line() {
        for (text, consts, what) in [
            ("ok\n#pragma x", vec![], "shaders/t.wgsl:2"),
            ("fine", vec![int("N", 1)], "N is given but never used"),
            ("// N", vec![int("N", 1)], "N is given but never used"),
            ("#if X\n#endif", vec![], "X is not a constant"),
            ("a\n#if 1\n", vec![], "#if without #endif"),
            ("#import nothing", vec![], "no fragment nothing"),
            ("#unroll i 0..3\n#endunroll", vec![], "wants"),
        ] {
            let message = run(text, &consts).unwrap_err().to_string();
            assert!(message.contains(what), "{text}: {message}");
        }
    }

    #[test]
    fn kernel_named_like_its_fragment() {
        let text = expand("flat", "#import flat\nbody", &[]).unwrap().source;
        assert!(text.contains("fn flat_group") && text.ends_with("body\n"), "{text}");
    }

    #[test]
    fn import_cycle() {
        let mut state = State {
            consts: &[],
            used: vec![],
            done: vec![],
            open: vec!["flat".into()],
            lines: vec![],
        };
        let message = state.import("t", 4, "flat").unwrap_err().to_string();
        assert!(message.contains("import cycle") && message.contains("t.wgsl:4"), "{message}");
    }
}
