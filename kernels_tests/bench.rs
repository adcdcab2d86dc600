//! `vqforge bench`: records, comparisons, plots, and what is refused.

use super::Place;
use serde_json::Value;

/// A run that takes seconds: the rows whose names contain `filter`, in small sizes.
const QUICK: [&str; 7] = ["bench", "--quick", "--budget", "20", "--device", "cpu", "--filter"];

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&place.read(name)).unwrap()
}

/// A table for people, figures for programs, a record for the repository; rows that were not run are
/// named; the results are right.
#[test]
fn rows_are_measured_and_recorded() {
    let place = Place::new("bench");
    let args = [&QUICK[..], &["matmul", "--json", "a.json", "--record"]].concat();
    let done = place.run(&args).expect(0, &["device cpu", "recorded in benches/record/cpu-"]);
    for part in ["matmul 128x128x128 ", "roofline", "against itself", "too large for --quick"] {
        assert!(done.out.contains(part), "nothing about {part:?} in\n{}", done.out);
    }
    let report = json(&place, "a.json");
    assert_eq!(report["schema"], "vqforge-bench/1");
    assert_eq!(report["timer"], "wall");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{report}");
    for row in rows {
        assert!(row["seconds"]["median"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["seconds"]["samples"].as_u64().unwrap() >= 5, "{row}");
        assert_eq!(
            (&row["check"]["mismatches"], &row["check"]["unwritten"]),
            (&0.into(), &0.into())
        );
        assert_eq!(row["flops"].as_u64(), Some(2 * 128 * 128 * 128));
    }
    // Nothing vanishes: what the filter fits is measured or listed.
    let listed = report["not_run"].as_array().unwrap();
    assert!(listed.iter().any(|r| r["name"] == "matmul 1024x1024x1024"), "{report}");
    assert!(listed.iter().all(|r| !r["reason"].as_str().unwrap().is_empty()));
    assert_eq!(report["controls"].as_array().unwrap().len(), 1);

    let folder = std::fs::read_dir(place.path("benches/record")).unwrap().next().unwrap().unwrap();
    let files = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path());
    let (mut csv, mut same) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        match file.extension().and_then(|e| e.to_str()) {
            Some("csv") => csv += text.lines().filter(|l| l.starts_with("matmul ")).count(),
            _ => same += usize::from(serde_json::from_str::<Value>(&text).unwrap() == report),
        }
    }
    assert_eq!((csv, same), (2, 1));

    // Against itself nothing has changed.
    let same = place.run(&["bench", "cmp", "a.json", "a.json"]).expect(0, &[]).out;
    assert!(same.contains("over 2 rows: 1.000x"), "{same}");
    let args = ["bench", "cmp", "a.json", "a.json", "--json", "--cpu"];
    let compared: Value = serde_json::from_str(&place.run(&args).expect(0, &[]).out).unwrap();
    assert_eq!(
        (&compared["geometric_mean"], compared["rows"].as_array().unwrap().len()),
        (&1.0.into(), 2)
    );
}

/// With `--json -` standard output holds the figures and nothing else, and with -q standard error
/// nothing.
#[test]
fn json_to_standard_output() {
    let place = Place::new("bench-stdout");
    let args = [&QUICK[..], &["copy", "--json", "-", "--variants", "-q"]].concat();
    let done = place.run(&args).expect(0, &[]);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["rows"][0]["name"], "copy n=65536");
    assert_eq!(done.err, "");
}

#[test]
fn the_quantiser_is_plotted() {
    let place = Place::new("bench-quantize");
    let mut args = [&QUICK[..], &["vs 256", "--svg", "plot.svg"]].concat();
    args.insert(1, "quantize");
    let done = place.run(&args).expect(0, &["plot in plot.svg"]);
    assert!(done.out.contains("nearest_code 1024x64 vs 256"), "{}", done.out);
    let svg = place.text("plot.svg");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    // One point for each of the two sizes of vectors.
    assert_eq!(svg.matches("<circle ").count(), 2, "{svg}");
    assert_eq!(svg.matches("<svg ").count(), 3, "two charts beside each other");
}

/// Mistakes are told before anything is measured, with the exit code of their kind.
#[test]
fn mistakes_are_told() {
    let place = Place::new("bench-wrong");
    std::fs::write(place.path("a.txt"), "no JSON").unwrap();
    std::fs::write(place.path("b.json"), "{\"schema\": \"vqforge-bench/9\"}").unwrap();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["bench", "--tune", "now"], 2, "--variants"),
        (&["bench", "--device", "abacus"], 3, "use one of: auto, cpu"),
        (&["bench", "--device", "cpu", "--filter", "no such row"], 2, "no row's name contains"),
        (&["bench", "--budget", "0"], 2, "use 1 to 86400 seconds"),
        (&["bench", "--budget", "NaN"], 2, "use 1 to 86400 seconds"),
        (&["bench", "--device", "cpu", "--json", "no/such/folder/a.json"], 5, "does not exist"),
        (&["bench", "quantize", "--device", "cpu", "--svg", "."], 5, "it is a folder"),
        (&["bench", "cmp", "a.txt"], 2, "SECOND"),
        (&["bench", "cmp", "a.txt", "a.txt"], 4, "not a record of vqforge bench"),
        (&["bench", "cmp", "b.json", "b.json"], 4, "its schema is vqforge-bench/9"),
    ];
    for (args, code, part) in cases {
        place.run(args).expect(code, &[part]);
    }
}
