//! Runs with variants of kernels, on the adapter under test: variants round differently, so what a run
//! chose is part of the run.

use super::Place;
use super::resume::same;
use std::fs;
use std::path::PathBuf;
use vqforge::device::tuner::Table;
use vqforge::train::choices;

/// The adapter that the kernels' tests use, by its name for `--device`.
fn adapter(place: &Place) -> Option<String> {
    if let Ok(name) = std::env::var("VQFORGE_TEST_DEVICE") {
        return Some(name);
    }
    let listed = place.run(&["devices", "--json"]).expect(0, &[]).out;
    let mut devices = listed.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let found = devices.find(|d| d["kind"] != "cpu").map(|d| d["index"].to_string());
    if found.is_none() {
        let ci = std::env::var("CI").as_deref() == Ok("true");
        assert!(!ci, "no Vulkan adapter: install a driver (Debian: mesa-vulkan-drivers)");
        eprintln!("SKIPPED: no adapter here");
    }
    found
}

/// The one table in the cache folder.
fn table(place: &Place) -> PathBuf {
    let mut files = fs::read_dir(place.path("cache/tune")).unwrap();
    let (first, second) = (files.next().unwrap().unwrap(), files.next());
    assert!(second.is_none(), "{second:?}");
    first.path()
}

#[test]
fn a_run_goes_on_with_its_own_choices() {
    let place = Place::new("tuned");
    let Some(device) = adapter(&place) else { return };
    let run = |args: &str| {
        let all = format!("train {args} --device {device}");
        place.run(&all.split_whitespace().collect::<Vec<_>>())
    };
    let job = "vqvae tiny.toml --data synth:rotor";
    let first = run(&format!("{job} --tune now --max-steps 4 --out pieces -q")).expect(75, &[]);
    assert!(!first.err.contains("tuned"), "{}", first.err);
    let log = place.text("pieces/run.log");
    assert!(log.contains("\ntuned ") && log.contains(" kernels tuned, "), "{log}");
    let known = Table::parse(&fs::read_to_string(table(&place)).unwrap()).unwrap();
    let used = choices::of_run(&place.path("pieces")).unwrap();
    assert_eq!(used, known);
    // Of the step and of the start of the codebook, which is compiled after the first files are
    // written.
    let searches = used.choices().filter(|c| c.key.starts_with("nearest_code")).count();
    assert_eq!(searches, 2, "{}", used.text());

    run(&format!("{job} --out straight")).expect(0, &[]);
    assert_eq!(choices::of_run(&place.path("straight")).unwrap(), used);
    // What the user's table says now is of no concern to a run that goes on.
    fs::write(table(&place), "damage").unwrap();
    run(&format!("{job} --out other")).expect(5, &["cannot read the tuner table"]);
    let own = ["--tune is for new runs: the run's own choices are used"];
    let resumed = run("vqvae --resume pieces --tune off").expect(0, &own);
    assert!(!resumed.err.contains("the rest of the run will differ"), "{}", resumed.err);
    assert_eq!(choices::of_run(&place.path("pieces")).unwrap(), used, "choices were lost");
    same(&place, "straight", "pieces");

    // Without them, or elsewhere, the rest of the run is another, and that is said.
    fs::remove_file(place.path("pieces/tune.txt")).unwrap();
    let without = run("vqvae --resume pieces@step_8").expect(0, &[]);
    let tuned = used.choices().any(|c| c.gain > 1.0);
    assert_eq!(without.err.contains("compiled otherwise than before"), tuned, "{}", without.err);
    let elsewhere = place.train("vqvae --resume straight@step_8");
    elsewhere.expect(0, &["warning: the device or its driver is another"]);

    // A folder without a checkpoint has no choices to keep to.
    fs::remove_dir_all(place.path("straight/checkpoints")).unwrap();
    fs::create_dir(place.path("straight/checkpoints")).unwrap();
    let again = run(&format!("{job} --out straight --resume auto --tune off --max-steps 1"));
    again.expect(75, &["baselines only", "step 1/11"]);
    assert!(!place.path("straight/tune.txt").exists());
    assert_eq!(place.metrics("straight").len(), 1);
}
