//! Letters as strokes: what labels a picture without a font file.
//!
//! A glyph is a few polylines on a grid of twelve rows, each point two digits: column, then row in
//! base 16. Capitals stand on row 9 and begin at row 0, small letters begin at row 3, tails reach to
//! row 12. A `~` before a polyline makes it a curve with these control points.

/// Rows of a line of text.
const LINE: f64 = 12.5;
/// Columns between two glyphs.
const SPACING: f64 = 2.8;
const BASELINE: f64 = 9.0;
/// Of a blank.
const BLANK: f64 = 3.0;

/// From `!` to `~` in the order of ASCII.
const GLYPHS: [&str; 94] = [
    "0006 0909",                          // !
    "0002 2022",                          // "
    "2019 5049 0363 0666",                // #
    "~6260000465690907 3a30",             // $
    "6009 ~010020230301 ~484666694948",   // %
    "~691120404205094965",                // &
    "0002",                               // '
    "~2003082b",                          // (
    "~0023280b",                          // )
    "2125 0244 4204",                     // *
    "0646 2428",                          // +
    "190b",                               // ,
    "0646",                               // -
    "0909",                               // .
    "0a40",                               // /
    "~30606939090030",                    // 0
    "123039 1959",                        // 1
    "~0200606409 0969",                   // 2
    "~0100606424 ~2464690908",            // 3
    "5059 500666",                        // 4
    "601004 ~042363690908",               // 5
    "~500006 ~060464690906",              // 6
    "006029",                             // 7
    "~30606434040030 ~34646939090434",    // 8
    "~196963 ~636505006063",              // 9
    "0505 0909",                          // :
    "1515 190b",                          // ;
    "420648",                             // <
    "0545 0848",                          // =
    "024608",                             // >
    "~0200505426 2627 2929",              // ?
    "~7909007077 ~57343757",              // @
    "093069 1656",                        // A
    "0009 ~00606404 ~04646909",           // B
    "~626000096967",                      // C
    "0009 ~00606909",                     // D
    "60000969 0454",                      // E
    "600009 0454",                        // F
    "~626000096965 6535",                 // G
    "0009 6069 0464",                     // H
    "0009",                               // I
    "~50590907",                          // J
    "0009 6005 2369",                     // K
    "000959",                             // L
    "0900356069",                         // M
    "09006960",                           // N
    "~30606939090030",                    // O
    "0009 ~00606505",                     // P
    "~30606939090030 466a",               // Q
    "0009 ~00606505 3569",                // R
    "~6260000465690907",                  // S
    "0060 3039",                          // T
    "~00096960",                          // U
    "003960",                             // V
    "0029426980",                         // W
    "0069 6009",                          // X
    "003560 3539",                        // Y
    "00600969",                           // Z
    "20000b2b",                           // [
    "004a",                               // \
    "00202b0b",                           // ]
    "022042",                             // ^
    "0a5a",                               // _
    "0012",                               // `
    "5359 ~555303095957",                 // a
    "0009 ~050353590907",                 // b
    "~545303095958",                      // c
    "5059 ~555303095957",                 // d
    "0656 ~565303095958",                 // e
    "~402022 2229 0343",                  // f
    "535a ~5a5c0c0b ~555303095957",       // g
    "0009 ~06035356 5659",                // h
    "0309 0000",                          // i
    "232a ~2a2c0c 2020",                  // j
    "0009 5307 2659",                     // k
    "0009",                               // l
    "0309 ~06034346 4649 ~46438386 8689", // m
    "0309 ~06035356 5659",                // n
    "~060353590906",                      // o
    "030c ~050353590907",                 // p
    "535c ~555303095957",                 // q
    "0309 ~060343",                       // r
    "~5453030656590908",                  // s
    "2027 ~272949 0343",                  // t
    "0306 ~06095956 5359",                // u
    "032943",                             // v
    "0329446983",                         // w
    "0359 5309",                          // x
    "0329 431c",                          // y
    "03530959",                           // z
    "30202405262b3b",                     // {
    "000b",                               // |
    "00101435161b0b",                     // }
    "~06145755",                          // ~
];
/// In the place of everything else.
const UNKNOWN: &str = "0050590900";

fn glyph(c: char) -> &'static str {
    // Signs of names and units that are no ASCII.
    let c = match c {
        '×' => return "0448 4408",
        '·' => return "0606",
        '±' => return "0545 2327 0949",
        'µ' | 'μ' => 'u',
        '–' | '—' | '−' => '-',
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        c => c,
    };
    (c as usize).checked_sub('!' as usize).and_then(|i| GLYPHS.get(i).copied()).unwrap_or(UNKNOWN)
}

type Stroke = Vec<(f64, f64)>;

/// Pairs of digits to points, and curves to many.
fn strokes(glyph: &str) -> Vec<Stroke> {
    let point = |pair: &[u8]| {
        let digit = |i: usize| char::from(pair[i]).to_digit(16).unwrap_or(0);
        (f64::from(digit(0)), f64::from(digit(1)))
    };
    let stroke = |part: &str| {
        let digits = part.trim_start_matches('~');
        let points: Stroke = digits.as_bytes().chunks_exact(2).map(point).collect();
        if digits.len() < part.len() { smooth(smooth(smooth(points))) } else { points }
    };
    glyph.split(' ').map(stroke).collect()
}

/// Cuts every corner at a quarter of its sides (Chaikin 1974): repeated, a quadratic B-spline.
fn smooth(points: Stroke) -> Stroke {
    let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return points };
    let between =
        |a: (f64, f64), b: (f64, f64), t: f64| (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
    let cut =
        points.windows(2).flat_map(|p| [between(p[0], p[1], 0.25), between(p[0], p[1], 0.75)]);
    std::iter::once(first).chain(cut).chain(std::iter::once(last)).collect()
}

/// Columns that a character takes, without the spacing. Digits are all as wide, so that numbers do
/// not jump.
fn columns(c: char, strokes: &[Stroke]) -> f64 {
    match c {
        ' ' => BLANK,
        '0'..='9' => 6.0,
        _ => strokes.iter().flatten().map(|p| p.0).fold(0.0, f64::max),
    }
}

/// Width in pixels of a text whose lines are `size` pixels high.
pub fn width(text: &str, size: f64) -> f64 {
    let wide = |c| columns(c, &strokes(glyph(c))) + SPACING;
    (text.chars().map(wide).sum::<f64>() - SPACING).max(0.0) * size / LINE
}

/// The strokes of a text from (0, 0) on its baseline to the right, in pixels, y downwards.
pub fn lay_out(text: &str, size: f64) -> Vec<Stroke> {
    let (unit, mut x) = (size / LINE, 0.0);
    let mut out = vec![];
    for c in text.chars() {
        let shape = if c == ' ' { vec![] } else { strokes(glyph(c)) };
        let wide = columns(c, &shape);
        let place = |p: (f64, f64)| ((x + p.0) * unit, (p.1 - BASELINE) * unit);
        out.extend(shape.into_iter().map(|s| s.into_iter().map(place).collect::<Stroke>()));
        x += wide + SPACING;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every glyph is whole pairs of digits inside of the grid, and no two look the same but those
    /// that do in many faces.
    #[test]
    fn glyphs_are_whole() {
        for (i, glyph) in GLYPHS.iter().enumerate() {
            let c = char::from(b'!' + i as u8);
            for part in glyph.split(' ') {
                let digits = part.trim_start_matches('~');
                assert!(digits.len() >= 4 && digits.len().is_multiple_of(2), "{c}: {part}");
                for pair in digits.as_bytes().chunks(2) {
                    assert!((b'0'..=b'8').contains(&pair[0]), "{c}: {part}");
                    let row = char::from(pair[1]).to_digit(16);
                    assert!(row.is_some_and(|r| r <= 12), "{c}: {part}");
                }
            }
            let twin = GLYPHS.iter().position(|g| g == glyph).unwrap();
            let twins = [('0', 'O'), ('I', 'l')];
            let seen = (char::from(b'!' + twin as u8), c);
            assert!(twin == i || twins.contains(&seen), "{seen:?}");
        }
        assert_eq!(glyph('é'), UNKNOWN);
        for sign in "×·±µ–’”".chars() {
            assert!(glyph(sign) != UNKNOWN && !strokes(glyph(sign)).is_empty(), "{sign}");
        }
    }

    #[test]
    fn text_fits_its_width() {
        for text in ["psnr 24.3 dB", "Qgy|", "x", "1111", "é"] {
            let (wide, size) = (width(text, 20.0), 20.0);
            for (x, y) in lay_out(text, size).concat() {
                assert!((-1e-9..=wide + 1e-9).contains(&x), "{text}: {x} of {wide}");
                assert!((-size..=size / 2.0).contains(&y), "{text}: {y}");
            }
        }
        assert_eq!(width("", 12.0), 0.0);
        assert_eq!(width("111", 12.0), width("808", 12.0));
        assert!(width("a b", 12.0) > width("ab", 12.0));
    }
}
