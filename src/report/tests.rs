//! Whole charts, pages and run folders.

use super::*;
use crate::data::testing::Scratch;
use std::path::Path;

const ODD: &str = "<script>alert('1')</script> & \"quotes\"";

/// Every element is closed in order, every attribute is quoted, no `&` stands alone. Returns the ids.
fn well_formed(html: &str) -> Vec<String> {
    const VOID: [&str; 3] = ["meta", "img", "!DOCTYPE"];
    let html = match (html.find("<style>"), html.find("</style>")) {
        (Some(from), Some(to)) => format!("{}{}", &html[..from + 7], &html[to..]),
        _ => html.to_string(),
    };
    let mut open: Vec<String> = vec![];
    let mut ids = vec![];
    for piece in html.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        if let Some((_, rest)) = tag.split_once(" id=\"") {
            ids.push(rest.split('"').next().unwrap().to_string());
        }
        let name = tag.split([' ', '\n']).next().unwrap();
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name.into());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for (i, _) in html.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|e| html[i..].starts_with(e)), "{}", &html[i..i + 9]);
    }
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    ids
}

/// Needs nothing from elsewhere.
fn self_contained(html: &str) {
    let own = html.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "//cdn", "<script", "<link", "@import", "<iframe", "url("] {
        assert!(!own.contains(outside), "{outside}");
    }
    for (i, _) in own.match_indices(" src=\"") {
        assert!(own[i + 6..].starts_with("data:image/png;base64,"));
    }
    for (i, _) in own.match_indices(" href=\"") {
        assert!(own[i + 7..].starts_with("#part-"));
    }
}

fn chart(points: Vec<(f64, f64)>, mark: Mark) -> Chart {
    let one = |colour| Series { name: ODD.into(), mark, colour, points: points.clone() };
    let axis = |scale| AxisSpec { label: ODD.into(), scale, from_zero: false };
    Chart {
        title: ODD.into(),
        description: ODD.into(),
        x: axis(Scale::Log),
        y: axis(Scale::Linear),
        series: vec![one(0), one(7)],
        ..Chart::default()
    }
}

/// The numbers of an attribute of every element called `name`.
fn attributes(svg: &str, name: &str, attribute: &str) -> Vec<f64> {
    let elements = svg.split('<').filter(|e| e.starts_with(&format!("{name} ")));
    elements
        .map(|e| {
            let (_, rest) = e.split_once(&format!(" {attribute}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        })
        .collect()
}

#[test]
fn points_lie_in_the_picture_in_their_order() {
    let drawn = svg::inline(&chart(vec![(1.0, 3.0), (10.0, -1.0), (100.0, 9.0)], Mark::Dots), "a");
    well_formed(&drawn);
    let (xs, ys) = (attributes(&drawn, "circle", "cx"), attributes(&drawn, "circle", "cy"));
    // Two of the legend, then twice three.
    let (xs, ys) = (&xs[2..5], &ys[2..5]);
    assert!(xs.iter().all(|x| (0.0..chart::WIDTH).contains(x)), "{xs:?}");
    assert!(ys.iter().all(|y| (0.0..chart::HEIGHT).contains(y)), "{ys:?}");
    assert!(((xs[1] - xs[0]) - (xs[2] - xs[1])).abs() < 0.2, "equal ratios are equal distances");
    assert!(ys[2] < ys[0] && ys[0] < ys[1], "larger is further up");
}

/// Points without a place are left out, and nothing at all is still a picture.
#[test]
fn impossible_points_are_left_out() {
    let odd = vec![(0.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (10.0, 10.0)];
    for mark in [Mark::Line, Mark::Faint, Mark::LineAndDots, Mark::Dots, Mark::Bars] {
        for points in [odd.clone(), vec![], vec![(5.0, 5.0); 3]] {
            let chart = chart(points, mark);
            let drawn = svg::standalone(std::slice::from_ref(&chart));
            well_formed(&drawn);
            self_contained(&drawn);
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
            assert!(drawn.contains("role=\"img\"") && drawn.contains("<desc id=\"chart-0-desc\">"));
            sheet(&[chart], 1);
        }
    }
    assert_eq!(
        attributes(&svg::inline(&chart(odd, Mark::LineAndDots), "a"), "circle", "cx").len(),
        2
    );
}

#[test]
fn intervals_and_notes_lie_where_their_points_are() {
    let dot = chart(vec![(4.0, 3.0)], Mark::Dots);
    let interval = |low| Interval { x: 4.0, low, high: 9.0, colour: 1 };
    let note = Note { at: (4.0, 3.0), text: ODD.into() };
    let nowhere = Note { at: (-1.0, 3.0), text: "nowhere".into() };
    let intervals = vec![interval(-5.0), interval(f64::NAN)];
    let shown = Chart { intervals, notes: vec![note, nowhere], ..dot.clone() };
    let (before, drawn) = (svg::inline(&dot, "a"), svg::inline(&shown, "a"));
    well_formed(&drawn);
    assert!(!drawn.contains("nowhere") && !drawn.contains("NaN"));
    let of_series = |svg: &str| svg.matches("<polyline class=\"line s1\"").count();
    assert_eq!(of_series(&drawn) - of_series(&before), 3, "a line and a stroke across each end");
    // Its ends are seen: from the low one to the high one the point lies 8 of 14 up.
    let line = drawn.lines().rfind(|l| l.contains("line s1")).unwrap();
    let (_, places) = line.split_once(" points=\"").unwrap();
    let places: Vec<f64> =
        places.split('"').next().unwrap().split([',', ' ']).map(|n| n.parse().unwrap()).collect();
    let dots = attributes(&drawn, "circle", "cy");
    let share = (places[1] - dots[2]) / (places[1] - places[3]);
    // Places are written in tenths of a pixel, and the line is longer than 100.
    assert!((share - 8.0 / 14.0).abs() < 0.003, "{share}");
    assert!((0.0..=chart::HEIGHT).contains(&places[3]) && places[3] < places[1]);
}

#[test]
fn the_best_of_a_column_is_set_off() {
    let cells = |texts: [&str; 4]| texts.map(String::from).to_vec();
    let block = Block::Ranked {
        head: cells(["arm", "PSNR", "bits", "seed"]),
        rows: vec![
            cells(["a", "27.3 ± 0.2", "-3", "1"]),
            cells(["b", "27.31 dB", "", "2"]),
            cells(["c", "9", "+4", "3"]),
            vec!["short".into()],
        ],
        better: vec![Better::Neither, Better::More, Better::Less],
    };
    let section = Section::new("x", vec![block]);
    let html = Report { sections: vec![section], ..<_>::default() }.html();
    well_formed(&html);
    let best: Vec<&str> = html.split("<td class=\"n best\"><strong>").skip(1).collect();
    assert_eq!(best.len(), 2);
    assert!(best[0].starts_with("-3<") && best[1].starts_with("27.31 dB<"));
}

/// 8e-4 is less than 7e-2, and a unit that begins with an e is no exponent.
#[test]
fn exponents_are_part_of_a_number() {
    let cells = |texts: [&str; 3]| texts.map(String::from).to_vec();
    let block = Block::Ranked {
        head: cells(["arm", "error", "width"]),
        rows: vec![
            cells(["a", "7e-2 dB", "2em"]),
            cells(["b", "8e-4 dB", "3.5 e"]),
            cells(["c", "1.5E+1", "1e"]),
        ],
        better: vec![Better::Neither, Better::Less, Better::More],
    };
    let section = Section::new("x", vec![block]);
    let html = Report { sections: vec![section], ..<_>::default() }.html();
    let best: Vec<&str> = html.split("<td class=\"n best\"><strong>").skip(1).collect();
    assert!(best.len() == 2 && best[0].starts_with("8e-4 dB<") && best[1].starts_with("3.5 e<"));
}

fn every_block() -> Report {
    let odd = || ODD.to_string();
    let png = encode(&Raster { width: 2, height: 2, channels: 1, pixels: vec![9; 4] }).unwrap();
    let tones = [Tone::Good, Tone::Warn, Tone::Bad, Tone::Neutral];
    let mut blocks: Vec<Block> =
        tones.map(|tone| Block::Verdict { tone, title: odd(), text: odd() }).to_vec();
    blocks.extend([
        Block::Text(odd()),
        Block::Tiles(vec![Tile { label: odd(), value: odd(), note: odd() }]),
        Block::Facts(vec![(odd(), odd())]),
        Block::Table {
            head: vec![odd(), "n".into()],
            rows: vec![vec![odd(), "-3.5".into()], vec![]],
        },
        Block::Matrix {
            caption: odd(),
            columns: vec![odd(), odd(), odd()],
            rows: vec![(odd(), vec![png.clone(), b"no PNG".to_vec()]), (odd(), vec![])],
        },
        Block::Charts(vec![chart(vec![(1.0, 2.0)], Mark::Line), chart(vec![], Mark::Bars)]),
        Block::Images(vec![
            Picture { caption: odd(), png },
            Picture { caption: odd(), png: b"no PNG".to_vec() },
        ]),
        Block::Code(odd()),
        Block::List(vec![odd(), odd()]),
        Block::Folded { title: odd(), blocks: vec![Block::Text(odd())] },
    ]);
    let section = Section { title: odd(), blocks };
    Report { title: odd(), subtitle: odd(), sections: vec![section; 3], footer: odd() }
}

#[test]
fn pages_are_well_formed_escaped_and_self_contained() {
    let html = every_block().html();
    let ids = well_formed(&html);
    self_contained(&html);
    assert!(ids.contains(&"chart-6-desc".to_string()), "{ids:?}");
    assert!(html.contains("&lt;script&gt;alert(&#39;1&#39;)"));
    assert!(html.contains("<td class=\"n\">-3.5</td>"));
    // Three columns and two rows in each of three sections; one image is there.
    assert_eq!(html.matches("<td></td>").count(), 3 * (1 + 5));
    assert!(html.contains("width=\"720\" height=\"720\""), "small pictures are enlarged");
    assert_eq!(html.matches("the picture is damaged").count(), 3);
    assert_eq!(html, every_block().html(), "the same bytes for the same content");
    let empty = Report::default().html();
    well_formed(&empty);
}

const LOG: &str = r#"{"grad_norm":2.0,"images_per_second":90.0,"loss":0.5,"reconstruction":0.4,"seconds":1.0,"step":1}
{"grad_norm":1.0,"images_per_second":90.0,"loss":0.25,"reconstruction":0.2,"seconds":75.0,"step":2}
{"eval":{"codes_used":2,"psnr":20.0,"usage":{"codes":5,"unique":2,"counts":[5,0,3,0,0]}},"step":1}
{"eval":{"codes_used":2,"psnr":19.0,"usage":{"codes":5,"unique":2,"counts":[5,0,4,0,0],"dead_codes":[1,3,4]}},"step":2}
{"loss":0.1,"st"#;

fn run_folder(dir: &Scratch) {
    let png = encode(&Raster { width: 2, height: 2, channels: 1, pixels: vec![9; 4] }).unwrap();
    dir.file("samples/recon_00002.png", &png);
    dir.file("metrics.jsonl", LOG.as_bytes());
    dir.file(
        "config.toml",
        b"name = \"<b>\"\n[model]\nnum_vq_embeddings = 5\n[train]\nsteps = 9\n",
    );
    dir.file("env.json", br#"{"device":"cpu: x","argv":["vqforge","train"]}"#);
    dir.file("plan.txt", b"[lane] 134 launches\n2 slots; 413257 parameters in 4 segments\n");
    dir.file("run.log", b"warning: <odd>\n");
}

#[test]
fn a_run_becomes_files() {
    let dir = Scratch::new("report-run");
    run_folder(&dir);
    write_results(&dir.path("")).unwrap();
    let text = |name: &str| std::fs::read_to_string(dir.path(name)).unwrap();
    let html = text("report.html");
    well_formed(&html);
    self_contained(&html);
    for told in [
        "<h1>&lt;b&gt;</h1>",
        "Not finished: 2 of 9 steps",
        "1 lines of metrics.jsonl are unreadable",
        "Only 2 of 5 codes",
        "3 unused",
        "codebook 0: 1, 3, 4</li>",
        "<th scope=\"col\" class=\"n\">codes used</th>",
        "413.3k",
        "1 m 15 s",
        "warning: &lt;odd&gt;",
        "trained on cpu: x",
        "; step 2</figcaption>",
        // psnr: first, last, best and where.
        "<td class=\"n\">20</td><td class=\"n\">19</td><td class=\"n\">20</td><td class=\"n\">1</td>",
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert!(text("results.csv").starts_with("step,grad_norm,images_per_second,loss,"));
    assert_eq!(text("results.csv").lines().count(), 3);
    for name in ["results.png", "samples/codes_usage.png"] {
        let bytes = std::fs::read(dir.path(name)).unwrap();
        assert!(png::size(&bytes).is_some_and(|(w, _)| w >= 880), "{name}");
    }
    // What was written is no input: a second time gives the same bytes.
    write_results(&dir.path("")).unwrap();
    assert_eq!(html, text("report.html"));
}

/// The report of a run with these lines.
fn told(lines: &str) -> String {
    let dir = Scratch::new("report-told");
    dir.file("metrics.jsonl", lines.as_bytes());
    let html = run_report(&dir.path("")).unwrap();
    well_formed(&html);
    html
}

/// A loss that is no number is null in JSON, with a null gradient beside it; a skipped step may have a
/// finite loss. An evaluation after it takes nothing away.
#[test]
fn losses_that_are_not_finite_are_told() {
    let good = r#"{"grad_norm":2.0,"loss":0.5,"step":1}"#;
    let eval = r#"{"eval":{"psnr":20.0},"step":2}"#;
    let lost = "The last loss is not finite";
    let skipped = "The last step was skipped";
    for (line, verdict) in [
        (r#"{"grad_norm":null,"loss":null,"step":2}"#, lost),
        (r#"{"grad_norm":null,"loss":null,"skipped":true,"step":2}"#, lost),
        (r#"{"grad_norm":null,"loss":0.5,"skipped":true,"step":2}"#, skipped),
    ] {
        for end in ["", eval] {
            let html = told(&format!("{good}\n{line}\n{end}"));
            assert!(html.contains(verdict), "{line}");
        }
    }
    let scaled = r#"{"grad_norm":null,"loss":0.5,"loss_scale":8.0,"skipped":true,"step":2}"#;
    let searching = told(&format!("{good}\n{scaled}"));
    assert!(!searching.contains(skipped) && searching.contains("1 of 2 steps were skipped"));
    let fine = told(&format!("{good}\n{eval}"));
    assert!(!fine.contains(lost) && !fine.contains("skipped"));
}

/// Each of two codebooks: its measures, its histogram, its dead codes and its warning.
#[test]
fn several_codebooks_are_told_apart() {
    let html = told(
        r#"{"loss":0.5,"step":1}
{"eval":{"codes_used":5,"ssim":0.5,"ssim_uniform7":0.4,"usage":{"unique":4,"coverage":1.0,"counts":[5,1,3,2],"dead_codes":[]},"usage.1":{"unique":1,"coverage":0.25,"counts":[0,9,0,0],"dead_codes":[0,2,3]},"training_usage":{"unique":4,"counts":[1,1,1,1]},"training_usage.1":{"unique":3,"counts":[1,1,1,0]}},"step":1}"#,
    );
    for text in [
        "of 8",
        "Only 1 of 4 codes of codebook 1 are used",
        "codebook 1: 0, 2, 3</li>",
        "How often the codes are used: codebook 0",
        "How often the codes are used: codebook 1",
        "trained on</td>",
        "11 x 11 Gaussian window (sigma 1.5), population covariance, data range 1. SSIM uniform7: ",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("codes of codebook 0"));
}

#[test]
fn an_empty_run_has_a_report_and_no_run_has_none() {
    let dir = Scratch::new("report-empty");
    write_results(&dir.path("")).unwrap();
    let html = std::fs::read_to_string(dir.path("report.html")).unwrap();
    well_formed(&html);
    assert!(html.contains("Nothing was measured yet"));
    assert_eq!(std::fs::read_to_string(dir.path("results.csv")).unwrap(), "step\n");
    assert!(!dir.path("results.png").exists());
    assert_eq!(run_report(Path::new("no/such/run")).unwrap_err().exit_code(), 2);
}
