//! A report as one HTML file that needs nothing else: no script, no network, no font.
//!
//! The bytes depend on the content alone. It is read on a desk, on a phone, in the dark and on paper.

use super::base64::base64;
use super::chart::Chart;
use super::escape::escape;
use super::svg;

const STYLE: &str = include_str!("report.css");

/// What one file tells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    pub title: String,
    pub subtitle: String,
    pub sections: Vec<Section>,
    /// The last line.
    pub footer: String,
}

/// A heading with what stands below it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// One piece of a section. All texts are plain: what looks like markup is shown as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    Text(String),
    /// A judgement that is seen first.
    Verdict {
        tone: Tone,
        title: String,
        text: String,
    },
    /// Few figures in large letters.
    Tiles(Vec<Tile>),
    /// Names and values.
    Facts(Vec<(String, String)>),
    /// Cells that are numbers stand to the right. Rows shorter than the head are filled up.
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    /// A table with the best cells of its columns set off. `better` says of each column which end
    /// is; the cells of such a column begin with their number and share a unit.
    Ranked {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
        better: Vec<Better>,
    },
    /// Images in named rows and columns, such as an original beside its reconstructions: each the
    /// bytes of a PNG file. Cells without an image stay empty.
    Matrix {
        caption: String,
        columns: Vec<String>,
        rows: Vec<(String, Vec<Vec<u8>>)>,
    },
    /// Charts beside each other where there is room.
    Charts(Vec<Chart>),
    Images(Vec<Picture>),
    Code(String),
    List(Vec<String>),
    /// Shown when asked for.
    Folded {
        title: String,
        blocks: Vec<Block>,
    },
}

/// Which end of a column is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Better {
    /// Neither, or not known.
    #[default]
    Neither,
    More,
    Less,
}

/// How good the news are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warn,
    Bad,
    Neutral,
}

/// A figure in large letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tile {
    pub label: String,
    pub value: String,
    /// In small letters below; may be empty.
    pub note: String,
}

/// A picture inside of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub caption: String,
    /// The bytes of a PNG file; others are replaced by a sentence.
    pub png: Vec<u8>,
}

/// Small pictures are enlarged by a whole number, their pixels seen, to at most about this width.
const PICTURE_WIDTH: u32 = 720;

impl Section {
    pub fn new(title: &str, blocks: Vec<Block>) -> Self {
        Section { title: title.into(), blocks }
    }
}

impl Report {
    /// The file.
    pub fn html(&self) -> String {
        let mut page = Page::default();
        page.push("<main>\n<header>\n<h1>", &self.title, "</h1>\n");
        if !self.subtitle.is_empty() {
            page.push("<p class=\"subtitle\">", &self.subtitle, "</p>\n");
        }
        page.raw("</header>\n");
        self.contents(&mut page);
        for (i, section) in self.sections.iter().enumerate() {
            let id = format!("part-{}", i + 1);
            page.raw(&format!("<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n"));
            page.raw(&format!("<h2 id=\"{id}-title\">"));
            page.push("", &section.title, "</h2>\n");
            section.blocks.iter().for_each(|b| page.block(b));
            page.raw("</section>\n");
        }
        page.raw("</main>\n");
        if !self.footer.is_empty() {
            page.push("<footer>", &self.footer, "</footer>\n");
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
             <style>\n{}{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
            escape(&self.title),
            svg::STYLE,
            page.out
        )
    }

    fn contents(&self, page: &mut Page) {
        if self.sections.len() < 3 {
            return;
        }
        page.raw("<nav aria-label=\"Contents\">");
        for (i, section) in self.sections.iter().enumerate() {
            page.raw(&format!("<a href=\"#part-{}\">", i + 1));
            page.push("", &section.title, "</a> ");
        }
        page.raw("</nav>\n");
    }
}

/// The elements so far.
#[derive(Default)]
struct Page {
    out: String,
    /// For unique ids.
    charts: usize,
}

impl Page {
    fn raw(&mut self, html: &str) {
        self.out.push_str(html);
    }

    /// Text between two pieces of HTML.
    fn push(&mut self, before: &str, text: &str, after: &str) {
        self.raw(before);
        self.raw(&escape(text));
        self.raw(after);
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Text(text) => self.push("<p>", text, "</p>\n"),
            Block::Verdict { tone, title, text } => self.verdict(*tone, title, text),
            Block::Tiles(tiles) => self.tiles(tiles),
            Block::Facts(facts) => {
                self.raw("<dl class=\"facts\">\n");
                for (name, value) in facts {
                    self.push("<div><dt>", name, "</dt>");
                    self.push("<dd>", value, "</dd></div>\n");
                }
                self.raw("</dl>\n");
            }
            Block::Table { head, rows } => self.table(head, rows, &[]),
            Block::Ranked { head, rows, better } => self.table(head, rows, better),
            Block::Matrix { caption, columns, rows } => self.matrix(caption, columns, rows),
            Block::Charts(charts) => {
                self.raw("<div class=\"charts\">\n");
                for chart in charts {
                    self.charts += 1;
                    let drawn = svg::inline(chart, &format!("chart-{}", self.charts));
                    self.raw(&format!("<figure>\n{drawn}</figure>\n"));
                }
                self.raw("</div>\n");
            }
            Block::Images(pictures) => {
                self.raw("<div class=\"pictures\">\n");
                pictures.iter().for_each(|p| self.picture(p));
                self.raw("</div>\n");
            }
            Block::Code(text) => {
                self.push("<pre tabindex=\"0\"><code>", text, "</code></pre>\n");
            }
            Block::List(items) => {
                self.raw("<ul>\n");
                items.iter().for_each(|item| self.push("<li>", item, "</li>\n"));
                self.raw("</ul>\n");
            }
            Block::Folded { title, blocks } => {
                self.push("<details>\n<summary>", title, "</summary>\n");
                blocks.iter().for_each(|b| self.block(b));
                self.raw("</details>\n");
            }
        }
    }

    fn verdict(&mut self, tone: Tone, title: &str, text: &str) {
        // The sign tells the tone without its colour.
        let (class, sign) = match tone {
            Tone::Good => ("good", "✓"),
            Tone::Warn => ("warn", "!"),
            Tone::Bad => ("bad", "✗"),
            Tone::Neutral => ("neutral", "i"),
        };
        self.raw(&format!("<div class=\"verdict {class}\" role=\"note\">"));
        self.raw(&format!("<span class=\"sign\" aria-hidden=\"true\">{sign}</span><div>"));
        self.push("<strong>", title, "</strong>");
        if !text.is_empty() {
            self.push("<p>", text, "</p>");
        }
        self.raw("</div></div>\n");
    }

    fn tiles(&mut self, tiles: &[Tile]) {
        self.raw("<div class=\"tiles\">\n");
        for tile in tiles {
            self.push("<div><span class=\"label\">", &tile.label, "</span> ");
            self.push("<span class=\"value\">", &tile.value, "</span>");
            if !tile.note.is_empty() {
                self.push(" <span class=\"note\">", &tile.note, "</span>");
            }
            self.raw("</div>\n");
        }
        self.raw("</div>\n");
    }

    fn table(&mut self, head: &[String], rows: &[Vec<String>], better: &[Better]) {
        let best: Vec<Option<f64>> = (0..head.len())
            .map(|i| best(rows, i, better.get(i).copied().unwrap_or_default()))
            .collect();
        let number = |text: &str| {
            text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit())
        };
        // A column of numbers has its head above them.
        let numeric: Vec<bool> = (0..head.len())
            .map(|i| rows.iter().filter_map(|r| r.get(i)).any(|cell| number(cell)))
            .collect();
        let class = |n: bool| if n { " class=\"n\"" } else { "" };
        self.raw("<div class=\"wide\" tabindex=\"0\">\n<table>\n<thead><tr>");
        for (cell, numeric) in head.iter().zip(&numeric) {
            self.push(&format!("<th scope=\"col\"{}>", class(*numeric)), cell, "</th>");
        }
        self.raw("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for i in 0..head.len() {
                let cell = row.get(i).map_or("", String::as_str);
                match i {
                    0 => self.push("<th scope=\"row\">", cell, "</th>"),
                    _ if best[i].is_some() && leading(cell) == best[i] => {
                        self.push("<td class=\"n best\"><strong>", cell, "</strong>");
                        self.raw("<span class=\"unseen\"> (best)</span></td>");
                    }
                    _ => self.push(&format!("<td{}>", class(numeric[i])), cell, "</td>"),
                }
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody>\n</table>\n</div>\n");
    }

    fn matrix(&mut self, caption: &str, columns: &[String], rows: &[(String, Vec<Vec<u8>>)]) {
        self.raw("<div class=\"wide\" tabindex=\"0\">\n<table class=\"matrix\">\n");
        self.push("<caption>", caption, "</caption>\n<thead><tr><td></td>");
        columns.iter().for_each(|c| self.push("<th scope=\"col\">", c, "</th>"));
        self.raw("</tr></thead>\n<tbody>\n");
        for (label, images) in rows {
            self.push("<tr><th scope=\"row\">", label, "</th>");
            for (i, column) in columns.iter().enumerate() {
                let image = images.get(i).filter(|png| super::png::size(png).is_some());
                let Some(png) = image else {
                    self.raw("<td></td>");
                    continue;
                };
                let data = base64(png);
                self.push("<td><img alt=\"", &format!("{label}, {column}"), "\" ");
                self.raw(&format!("src=\"data:image/png;base64,{data}\"></td>"));
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody>\n</table>\n</div>\n");
    }

    fn picture(&mut self, picture: &Picture) {
        let Some((width, height)) = super::png::size(&picture.png) else {
            self.push("<p class=\"missing\">", &picture.caption, ": the picture is damaged</p>\n");
            return;
        };
        let scale = (PICTURE_WIDTH / width.max(1)).max(1);
        let (wide, high) = (width.saturating_mul(scale), height.saturating_mul(scale));
        let crisp = if scale > 1 { " class=\"crisp\"" } else { "" };
        let data = base64(&picture.png);
        self.raw(&format!("<figure>\n<img{crisp} width=\"{wide}\" height=\"{high}\" alt=\""));
        self.push("", &picture.caption, &format!("\" src=\"data:image/png;base64,{data}\">\n"));
        self.push("<figcaption>", &picture.caption, "</figcaption>\n</figure>\n");
    }
}

/// The number that a cell begins with: `27.3` of `27.3 ± 0.2 dB`, `8e-4` of `8e-4 s`.
fn leading(cell: &str) -> Option<f64> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let sign = |text: &str| usize::from(text.starts_with(['-', '+']));
    let start = sign(cell);
    let unsigned = &cell[start..];
    let mantissa =
        start + unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let exponent = cell[mantissa..].strip_prefix(['e', 'E']).map_or(0, |rest| {
        let length = sign(rest) + digits(&rest[sign(rest)..]);
        // `3 e` and `3em` have no exponent.
        if length > sign(rest) { 1 + length } else { 0 }
    });
    cell[..mantissa + exponent].parse().ok()
}

/// The best number of a column; None where there is nothing to choose from.
fn best(rows: &[Vec<String>], column: usize, better: Better) -> Option<f64> {
    let values: Vec<f64> =
        rows.iter().filter_map(|r| r.get(column)).filter_map(|cell| leading(cell)).collect();
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
    match better {
        _ if low >= high => None,
        Better::Neither => None,
        Better::More => Some(high),
        Better::Less => Some(low),
    }
}
