//! Text inside of HTML and SVG.

/// `text` so that it shows as it is, between tags and inside of quoted attributes. Characters that
/// no document may hold (control characters other than tab and line breaks) become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out() {
        assert_eq!(escape("<b a=\"1\">&'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(escape("a\u{1b}[1m\tb\n"), "a\u{fffd}[1m\tb\n");
        assert_eq!(escape("lines = 2\r\nof CRLF\r\n"), "lines = 2\r\nof CRLF\r\n");
        assert_eq!(escape("&amp;"), "&amp;amp;");
    }
}
