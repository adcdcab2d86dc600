//! WGSL as tokens with their places: enough for a rewriter that must not be fooled by comments,
//! brackets or longer names.

/// What a token is; the text is the slice of the source at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lexeme {
    /// Identifier or keyword.
    Word,
    Number,
    /// Operator or bracket. `>>` and `>>=` come as single `>`s, as they may close template lists.
    Sign,
}

/// A token: bytes `start..end` of the source, on line `line` (from 0).
#[derive(Debug, Clone, Copy)]
pub struct Token {
    pub lexeme: Lexeme,
    pub start: usize,
    pub end: usize,
    pub line: usize,
}

/// Signs of more than one character, longest first.
const LONG_SIGNS: [&str; 18] = [
    "<<=", "==", "!=", "<=", ">=", "&&", "||", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
    "->", "++", "--",
];

/// All tokens of `source`, without comments.
pub fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let (mut at, mut line) = (0, 0);
    let mut found = vec![];
    while at < bytes.len() {
        let rest = &source[at..];
        let skipped = blank(rest);
        if skipped > 0 {
            line += rest[..skipped].matches('\n').count();
            at += skipped;
            continue;
        }
        let run = |inside: fn(char) -> bool| rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let first = rest.chars().next().unwrap_or(' ');
        let (lexeme, length) = if first.is_ascii_digit() {
            // An exponent's sign ends the number; what follows is a number again: places suffice.
            (Lexeme::Number, run(|c| c.is_ascii_alphanumeric() || c == '.'))
        } else if is_word(first) {
            (Lexeme::Word, run(is_word))
        } else {
            let long = LONG_SIGNS.iter().find(|sign| rest.starts_with(**sign));
            (Lexeme::Sign, long.map_or(first.len_utf8(), |sign| sign.len()))
        };
        found.push(Token { lexeme, start: at, end: at + length, line });
        at += length;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of white space or of one comment that `rest` begins with. Block comments nest.
fn blank(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if !rest.starts_with("/*") {
        return rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
    }
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_numbers_and_signs() {
        let source = "x[i]+=a0 /* x[1] /* y */ ; */ >= 1.5e-3f; // x[2]\n  array<vec4<f32>>";
        let all = tokens(source);
        let texts: Vec<&str> = all.iter().map(|t| &source[t.start..t.end]).collect();
        assert_eq!(
            texts,
            [
                "x", "[", "i", "]", "+=", "a0", ">=", "1.5e", "-", "3f", ";", "array", "<", "vec4",
                "<", "f32", ">", ">"
            ]
        );
        assert_eq!((all[10].line, all[11].line), (0, 1));
    }
}
