//! Half precision by lowering: chosen storage bindings of a kernel hold f16, while everything that
//! the kernel computes stays f32.
//!
//! Kernels are written for f32. Whether a value is stored as f16 is a property of the value, which
//! the planner decides, so the preprocessed WGSL is rewritten, not the kernel:
//!
//! ```text
//! var<storage, read> x: array<vec4<f32>>;    var<storage, read> x: array<vec4<f16>>;
//! let v = x[i].y + x[at][c];                 let v = vec4<f32>(x[i]).y + vec4<f32>(x[at])[c];
//! y[i] = v;                                  y[i] = f16(v);
//! y[i] += v;                                 y[i] = f16(f32(y[i]) + (v));
//! ```
//!
//! Aliases are resolved, locals that hide a binding's name are left alone, and a use that is none of
//! these (a pointer, the whole array) is an error with file and line. That no use was overlooked,
//! the validator proves: WGSL converts nothing between f16 and f32 by itself.
//!
//! Rounding is the device's f32 -> f16 conversion. WGSL leaves its mode open; the tests hold devices
//! to round to nearest. A magnitude of 65,520 or more becomes an infinity: that is what loss
//! scaling looks for. Values below 6.1e-5 lose digits, below 3.0e-8 they are zero.

use super::preprocess::{Expanded, place};
use super::tokens::{Lexeme, Token, tokens};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// What may be called within the index of a compound assignment, which is written twice: pure
/// functions only.
const PURE: [&str; 6] = ["u32", "i32", "min", "max", "clamp", "select"];

/// Rewrites `text` so that storage binding i holds f16 where bit i of `mask` is set.
///
/// # Errors
/// A binding that is no array of f32 or of vectors of f32; a use that cannot be lowered.
pub fn lower(text: Expanded, mask: u32) -> Result<Expanded> {
    let all = tokens(&text.source);
    let lowering = Lowering { text: &text, tokens: &all, edits: vec![] };
    let source = lowering.run(mask)?;
    let mut origins = text.origins;
    origins.insert(0, ("prelude".into(), 0));
    Ok(Expanded { source: format!("enable f16;\n{source}"), origins })
}

/// A lowered binding: its element as loaded and as stored.
#[derive(Debug, Clone)]
struct Narrow {
    wide: String,
    half: String,
}

struct Lowering<'a> {
    text: &'a Expanded,
    tokens: &'a [Token],
    /// Byte range of the source, and what stands there instead.
    edits: Vec<(usize, usize, String)>,
}

impl<'a> Lowering<'a> {
    fn run(mut self, mask: u32) -> Result<String> {
        let narrow = self.declarations(mask)?;
        let mut scopes = Scopes::default();
        let mut i = 0;
        while i < self.tokens.len() {
            i = match self.word(i) {
                // Members and attributes are not variables.
                "struct" => self.past(i, "{")?,
                "fn" => self.header(i, &mut scopes)?,
                "alias" => self.past(i, ";")?,
                _ => {
                    scopes.enter(&self, i);
                    self.use_of(i, &narrow, &scopes)?;
                    i + 1
                }
            };
        }
        Ok(self.edited())
    }

    /// The text of a token; empty past the end.
    fn word(&self, i: usize) -> &'a str {
        self.tokens.get(i).map_or("", |t| &self.text.source[t.start..t.end])
    }

    fn defect(&self, i: usize, what: String) -> Error {
        let line = self.tokens.get(i).map_or(0, |t| t.line);
        let error = Error::failed(what);
        match self.text.origins.get(line) {
            Some((file, line)) => error.at(place(file, *line)),
            None => error,
        }
    }

    /// The token after the next `end` (for a bracket: after the one that closes it).
    fn past(&self, from: usize, end: &str) -> Result<usize> {
        match (from..self.tokens.len()).find(|&i| self.word(i) == end) {
            Some(at) if end == "{" => Ok(self.closing(at)? + 1),
            Some(at) => Ok(at + 1),
            None => Err(self.defect(from, format!("no {end} follows"))),
        }
    }

    /// The bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> Result<usize> {
        let mut depth = 0;
        for i in open..self.tokens.len() {
            match self.word(i) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(i);
            }
        }
        Err(self.defect(open, format!("{} is never closed", self.word(open))))
    }

    /// Rewrites the declarations of the masked bindings; their names.
    fn declarations(&mut self, mask: u32) -> Result<HashMap<&'a str, Narrow>> {
        let mut aliases: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut narrow = HashMap::new();
        for i in (0..self.tokens.len()).filter(|&i| self.word(i) == "alias") {
            aliases.insert(self.word(i + 1), (i + 3, self.past(i, ";")? - 1));
        }
        let (mut seen, mut binding) = (0u32, None);
        for i in 0..self.tokens.len() {
            if self.word(i) == "binding" {
                binding = self.word(i + 2).parse::<u32>().ok();
            }
            let storage = ["var", "<", "storage"].iter().enumerate();
            if !storage.into_iter().all(|(k, w)| self.word(i + k) == *w) {
                continue;
            }
            let Some(bit) = binding.filter(|b| *b < 32 && mask >> b & 1 == 1) else { continue };
            seen |= 1 << bit;
            let colon = self.past(i, ":")?;
            let name = self.word(colon - 2);
            let (first, end) = (colon + 2, self.past(colon, ";")? - 2);
            let array = self.word(colon) == "array" && self.word(colon + 1) == "<";
            let element = self.resolve(first, end, &aliases);
            let types = array.then(|| narrowed(&element)).flatten().ok_or_else(|| {
                self.defect(i, format!("{name} cannot be stored as f16: array of {element}"))
            })?;
            let (start, end) = (self.tokens[first].start, self.tokens[end - 1].end);
            self.edits.push((start, end, types.half.clone()));
            narrow.insert(name, types);
        }
        if seen != mask {
            return Err(self.defect(0, format!("no storage binding for bits {:#b}", mask & !seen)));
        }
        Ok(narrow)
    }

    /// The type spelled by tokens `first..end`, behind its aliases.
    fn resolve(&self, first: usize, end: usize, aliases: &HashMap<&str, (usize, usize)>) -> String {
        match aliases.get(self.word(first)) {
            Some(&(a, b)) if end == first + 1 => self.resolve(a, b, aliases),
            _ => (first..end).map(|i| self.word(i)).collect(),
        }
    }

    /// A function's name and parameters, which hide bindings in its body; the token of the `{`.
    fn header(&self, i: usize, scopes: &mut Scopes<'a>) -> Result<usize> {
        let body = (i..self.tokens.len()).find(|&k| self.word(k) == "{");
        let body = body.ok_or_else(|| self.defect(i, "a function without a body".into()))?;
        let named = (i..body).filter(|&k| self.word(k + 1) == ":");
        scopes.arriving = named.map(|k| self.word(k)).collect();
        Ok(body)
    }

    /// Rewrites what token i is, if it names a lowered binding.
    fn use_of(
        &mut self,
        i: usize,
        narrow: &HashMap<&'a str, Narrow>,
        scopes: &Scopes<'_>,
    ) -> Result<()> {
        let name = self.word(i);
        let Some(types) = narrow.get(name).filter(|_| !scopes.hides(name)) else { return Ok(()) };
        let before = |k: usize| i.checked_sub(k).map_or("", |at| self.word(at));
        // A member, an attribute, a local on its way to hide the binding, the binding's declaration.
        let other = [".", "@", "let", "var", "const"].contains(&before(1))
            || before(1) == ">" && self.word(i + 1) == ":";
        let measured = before(1) == "&" && before(2) == "(" && before(3) == "arrayLength";
        if other || measured {
            return Ok(());
        }
        if self.word(i + 1) != "[" || before(1) == "&" {
            return Err(
                self.defect(i, format!("{name} is stored as f16: only {name}[..] is known"))
            );
        }
        let element = self.closing(i + 1)? + 1;
        let mut end = element;
        loop {
            end = match self.word(end) {
                "." => end + 2,
                "[" => self.closing(end)? + 1,
                _ => break,
            };
        }
        match self.word(end) {
            "=" | "+=" | "-=" | "*=" | "/=" => self.store(i, element, end, types, narrow),
            "++" | "--" => Err(self.defect(i, format!("{name} is no integer"))),
            _ => {
                let (start, end) = (self.tokens[i].start, self.tokens[element - 1].end);
                self.edits.push((start, start, format!("{}(", types.wide)));
                self.edits.push((end, end, ")".into()));
                Ok(())
            }
        }
    }

    /// `place op value;`, where the element is tokens i..element and a component of it may follow up
    /// to the operator.
    fn store(
        &mut self,
        i: usize,
        element: usize,
        operator: usize,
        types: &Narrow,
        narrow: &HashMap<&str, Narrow>,
    ) -> Result<()> {
        let half = if operator > element { "f16" } else { &*types.half };
        let mut end = operator + 1;
        while !matches!(self.word(end), ";" | ")" | "") {
            end = match self.word(end) {
                "(" | "[" => self.closing(end)? + 1,
                _ => end + 1,
            };
        }
        let sign = &self.tokens[operator];
        let (at, after) = ((sign.start, sign.end), self.tokens[end - 1].end);
        let Some(arithmetic) = self.word(operator).strip_suffix('=').filter(|s| !s.is_empty())
        else {
            self.edits.push((at.1, at.1, format!(" {half}(")));
            self.edits.push((after, after, ")".into()));
            return Ok(());
        };
        // The place is written twice, so finding it must have no effects and no f16 in it.
        for k in i + 1..operator {
            let call = self.tokens[k].lexeme == Lexeme::Word && self.word(k + 1) == "(";
            if narrow.contains_key(self.word(k)) || call && !PURE.contains(&self.word(k)) {
                let what = format!("`{}` within the place of a compound assignment", self.word(k));
                return Err(self.defect(k, what));
            }
        }
        let source = &self.text.source;
        let whole = &source[self.tokens[i].start..self.tokens[element - 1].end];
        let component = &source[self.tokens[element - 1].end..self.tokens[operator - 1].end];
        let opening = format!("= {half}({}({whole}){component} {arithmetic} (", types.wide);
        self.edits.push((at.0, at.1, opening));
        self.edits.push((after, after, "))".into()));
        Ok(())
    }

    /// The source with all edits. Those at one place keep the order in which they were found, which
    /// is from the outside in, and what closes is the same everywhere.
    fn edited(mut self) -> String {
        self.edits.sort_by_key(|(start, ..)| *start);
        let mut out = String::with_capacity(2 * self.text.source.len());
        let mut done = 0;
        for (start, end, text) in &self.edits {
            out.push_str(&self.text.source[done..*start]);
            out.push_str(text);
            done = *end;
        }
        out.push_str(&self.text.source[done..]);
        out
    }
}

/// An f32 element type and its half; None for any other type.
fn narrowed(element: &str) -> Option<Narrow> {
    let half = match element {
        "f32" => "f16",
        "vec2<f32>" => "vec2<f16>",
        "vec4<f32>" => "vec4<f16>",
        _ => return None,
    };
    Some(Narrow { wide: element.into(), half: half.into() })
}

/// Names that locals hide, block by block.
#[derive(Default)]
struct Scopes<'a> {
    /// Of each open block; a `for` opens one before its body.
    open: Vec<(bool, Vec<&'a str>)>,
    /// Parameters of the function whose body comes next.
    arriving: Vec<&'a str>,
    /// Declared by the statement under way: hides from its end on.
    declared: Option<&'a str>,
}

impl<'a> Scopes<'a> {
    fn enter(&mut self, source: &Lowering<'a>, i: usize) {
        match source.word(i) {
            "{" => self.open.push((false, std::mem::take(&mut self.arriving))),
            "for" => self.open.push((true, vec![])),
            "}" => {
                self.open.pop();
                if self.open.last().is_some_and(|(is_for, _)| *is_for) {
                    self.open.pop();
                }
            }
            "let" | "var" | "const" if !self.open.is_empty() => {
                self.declared = Some(source.word(i + 1));
            }
            ";" => {
                if let (Some(name), Some((_, names))) = (self.declared.take(), self.open.last_mut())
                {
                    names.push(name);
                }
            }
            _ => {}
        }
    }

    fn hides(&self, name: &str) -> bool {
        self.open.iter().any(|(_, names)| names.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "alias Element = vec4<f32>;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
";

    fn run(body: &str, mask: u32) -> Result<String> {
        let source = format!("{HEAD}{body}\n");
        let origins = (1..=source.lines().count()).map(|i| ("t".to_string(), i)).collect();
        let lowered = lower(Expanded { source, origins }, mask)?;
        assert_eq!(lowered.source.lines().count(), lowered.origins.len());
        assert!(lowered.source.starts_with("enable f16;\n"));
        Ok(lowered.source.lines().skip(1 + HEAD.lines().count()).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn declarations_through_aliases() {
        let text = Expanded { source: HEAD.into(), origins: vec![("t".into(), 1); 4] };
        let lowered = lower(text, 0b011).unwrap().source;
        assert!(lowered.contains("read> x: array<vec4<f16>>;"), "{lowered}");
        assert!(lowered.contains("read> s: array<f16>;"), "{lowered}");
        assert!(lowered.contains("read_write> y: array<Element>;"), "{lowered}");
    }

    #[test]
    fn loads_and_stores() {
        for (body, want) in [
            (
                "fn f() { let a = x[i + 1u].y * s[u32(q[2])]; } // x[1]",
                "fn f() { let a = vec4<f32>(x[i + 1u]).y * f32(s[u32(q[2])]); } // x[1]",
            ),
            ("fn f() { y[i] = x[i]; }", "fn f() { y[i] = vec4<f16>( vec4<f32>(x[i])); }"),
            (
                "fn f() { y[i]+=g(x[i])*x[j]; }",
                "fn f() { y[i]= vec4<f16>(vec4<f32>(y[i]) + (g(vec4<f32>(x[i]))*vec4<f32>(x[j]))); }",
            ),
            ("fn f() { y[i][c] = 1.0; }", "fn f() { y[i][c] = f16( 1.0); }"),
            (
                "fn f() { y[min(i, 3u)].z *= s[0]; }",
                "fn f() { y[min(i, 3u)].z = f16(vec4<f32>(y[min(i, 3u)]).z * (f32(s[0]))); }",
            ),
            ("fn f() { let n = arrayLength(&x); }", "fn f() { let n = arrayLength(&x); }"),
            (
                "fn f() { if y[0].x == 1.0 && s[1] >= 2.0 {} }",
                "fn f() { if vec4<f32>(y[0]).x == 1.0 && f32(s[1]) >= 2.0 {} }",
            ),
        ] {
            let got = run(body, 0b111).unwrap();
            let same = |t: &str| t.split_whitespace().collect::<String>();
            assert_eq!(same(&got), same(want), "{body}");
        }
    }

    #[test]
    fn locals_hide_bindings() {
        for body in [
            "struct P { x: f32, s: u32 }",
            "fn f(x: vec4<f32>, @builtin(id) s: u32) -> f32 { return x[0] + p.s; }",
            "fn f() { for (var s = 0u; s < 4u; s++) { let x = v[s]; g(x); } }",
        ] {
            assert_eq!(run(body, 0b111).unwrap(), body);
        }
        let got = run("fn f() { { let s = s[0]; g(s); } g(s[1]); }", 0b111).unwrap();
        assert_eq!(got, "fn f() { { let s = f32(s[0]); g(s); } g(f32(s[1])); }");
    }

    #[test]
    fn other_uses_are_defects() {
        for (body, mask, what) in [
            ("\nfn f() {\ng(&x[0]); }", 0b1, "shaders/t.wgsl:7"),
            ("fn f() { let p = &x; }", 0b1, "only x[..] is known"),
            ("fn f() { y[next()] += 1.0; }", 0b100, "`next` within the place"),
            ("fn f() { y[u32(x[0].x)] += 1.0; }", 0b101, "`x` within the place"),
            ("fn f() { y[0]++; }", 0b100, "y is no integer"),
            ("fn f() {}", 0b1000, "no storage binding for bits 0b1000"),
        ] {
            let message = run(body, mask).unwrap_err().to_string();
            assert!(message.contains(what), "{body}: {message}");
        }
        let words = "@group(0) @binding(0) var<storage, read> n: array<u32>;";
        let text = Expanded { source: words.into(), origins: vec![("t".into(), 1)] };
        let message = lower(text, 1).unwrap_err().to_string();
        assert!(message.contains("n cannot be stored as f16: array of u32"), "{message}");
    }
}
