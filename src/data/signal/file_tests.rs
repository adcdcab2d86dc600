//! Through whole files and folders: which arrays are recordings, and what is known of each.

use rustfft::num_complex::Complex;

use super::recordings::pick;
use super::tests::brightest_row;
use super::*;
use crate::data::arrays::{Array, Named, Node, Values};
use crate::data::testing::Scratch;
use crate::data::{Dataset, LabelChoice, Pixels};

#[test]
fn whole_mat_files() {
    let dir = Scratch::new("signals");
    let ragged = include_bytes!("../../../kernels_tests/fixtures/signal/ragged.mat");
    let dopnet = include_bytes!("../../../kernels_tests/fixtures/signal/dopnet.mat");
    let t = Transform {
        prf: 100.0,
        window_length: 16,
        nfft: 16,
        hop: 8,
        segment: 0.32,
        size: [16, 3],
        ..Transform::default()
    };
    let path = dir.file("ragged.mat", ragged);
    let data = Dataset::load_with(&path, &LabelChoice::Auto, Some(&t)).unwrap();
    // 40, 90 and 64 samples in segments of 32: 1, 2 and 2.
    assert_eq!((data.n, data.height, data.width, data.channels), (5, 16, 3, 1));
    assert_eq!(data.labels.as_deref(), Some(&[0, 1, 1, 1, 1][..]));
    assert_eq!(data.arrays["subject"], [3, 4, 4, 5, 5]);
    assert_eq!(data.arrays["recording"], [0, 1, 1, 2, 2]);
    assert_eq!(data.arrays["segment"], [0, 0, 1, 0, 1]);
    let Pixels::F32(pixels) = &data.pixels else { panic!("{:?}", data.pixels) };
    for image in pixels.chunks_exact(48) {
        // A quarter of a turn a pulse: bin 4 of 16, row 7 - 4.
        assert_eq!(brightest_row(image, 3), 3);
    }
    // What is written comes back with its transform.
    let npz = dir.path("x.npz");
    crate::data::write::write_npz(&npz, &data).unwrap();
    let back = Dataset::load_with(&npz, &LabelChoice::Auto, Some(&t)).unwrap();
    assert_eq!((back.signal.as_ref(), back.labels.as_ref()), (Some(&t), data.labels.as_ref()));
    assert_eq!(back.provenance().to_db(&[0.5]), Some(vec![-20.0]));
    assert!(back.warnings.is_empty(), "{:?}", back.warnings);

    let long = Transform { segment: 0.8, ..t.clone() };
    let data = Dataset::load_with(&path, &LabelChoice::Auto, Some(&long)).unwrap();
    assert_eq!(data.n, 1);
    assert!(data.warnings.join(" ").contains("2 of 3 recordings are shorter"));
    let none = Dataset::load_with(
        &path,
        &LabelChoice::Auto,
        Some(&Transform { segment: 9.0, ..t.clone() }),
    );
    assert!(none.unwrap_err().to_string().contains("as long as a segment"));

    // Files in class folders; and a cell of cells, whose outer index is the class.
    for (class, name) in [("run", "a"), ("walk", "a"), ("walk", "b")] {
        dir.file(&format!("by_class/{class}/{name}.mat"), ragged);
    }
    let data = Dataset::load_with(dir.path("by_class"), &LabelChoice::Auto, Some(&t)).unwrap();
    assert_eq!((data.n, data.class_names.join(",")), (15, "run,walk".into()));
    assert_eq!(data.labels.unwrap()[3..7], [0, 0, 1, 1]);
    assert_eq!(data.arrays["file"][4..6], [0, 1]);
    assert_eq!(data.arrays["recording"][5], 3);
    let doppler = presets::preset("dopnet").unwrap();
    let path = dir.file("dopnet.mat", dopnet);
    let data = Dataset::load_with(&path, &LabelChoice::Auto, Some(&doppler)).unwrap();
    assert_eq!((data.n, data.class_names.join(",")), (3, "wave,pinch".into()));
    assert_eq!(data.labels, Some(vec![0, 1, 1]));
    // Without a transform: what there is, and what to do.
    let error = Dataset::load(&path, &LabelChoice::Auto).unwrap_err().to_string();
    for part in ["Data.Doppler_Signals cell of complex double [2]", "[data.signal]", "dopnet.mat"] {
        assert!(error.contains(part), "{error}");
    }
    let held = crate::data::holdings::Holdings::read(&path).unwrap().unwrap().to_string();
    assert!(held.contains("3 recordings in 2 classes, sizes [4..4, 5..7]"), "{held}");
}

/// What MATLAB makes of a cell with an entry that nobody assigned, of labels that count from 1, and of
/// names as rows of characters.
#[test]
fn cells_with_empty_entries() {
    let dir = Scratch::new("matlab");
    let bytes = include_bytes!("../../../kernels_tests/fixtures/signal/matlab.mat");
    let path = dir.file("m.mat", bytes);
    let t =
        Transform { window_length: 16, nfft: 16, hop: 8, size: [16, 3], ..Transform::default() };
    let data = Dataset::load_with(&path, &LabelChoice::Auto, Some(&t)).unwrap();
    assert_eq!((data.n, data.labels.as_deref()), (2, Some(&[0, 1][..])));
    assert_eq!(data.class_names, ["run", "walk"]);
    assert!(data.notes.iter().any(|n| n.contains("count from 1")), "{:?}", data.notes);
    let warnings = data.warnings.join(" ");
    assert!(warnings.contains("1 of 3 entries of 'x' are empty"), "{warnings}");
}

/// Arrays of MATLAB count recordings along the last axis, those of NumPy along the first; a vector of as
/// many numbers decides, and without one there is a word of doubt.
#[test]
fn which_axis_counts_recordings() {
    let array = |shape: &[usize]| {
        let len = shape.iter().product::<usize>();
        let numbers = (0..len).map(|i| Complex::new(i as f32, 1.0)).collect();
        let values = Values::Complex(numbers);
        let node = Node::Array(Array { dtype: "complex".into(), shape: shape.to_vec(), values });
        Named { name: "x".into(), node }
    };
    let labels = |n: usize| {
        let values = Values::Ints((0..n as i64).collect());
        let node = Node::Array(Array { dtype: "double".into(), shape: vec![1, n], values });
        Named { name: "labels".into(), node }
    };
    let t = Transform::default();
    let found = |named: Vec<Named>, matlab| {
        let found = pick(named, None, &t, matlab).unwrap();
        let second = found.recordings.get(1).map(|r| r.samples[1].re);
        let shape = found.recordings[0].shape.clone();
        (found.recordings.len(), shape, second, found.warnings.join(" "))
    };
    let told = "'x' of shape [50, 3] is read as 3 recordings of [50]";
    // The second sample of the second recording: in a column the next row.
    let by_column = |warning: &str| (3, vec![50], Some(4.0), warning.to_string());
    assert_eq!(found(vec![array(&[50, 3])], true), by_column(told));
    assert_eq!(found(vec![array(&[50, 3]), labels(3)], true), by_column(""));
    let by_row = (50, vec![3], Some(4.0), String::new());
    assert_eq!(found(vec![array(&[50, 3]), labels(50)], true), by_row);
    assert_eq!(found(vec![array(&[50, 3])], false), by_row);
    assert_eq!(found(vec![array(&[50, 1])], true), (1, vec![50], None, String::new()));
}

/// Folders of recordings follow the rules of folders of pictures.
#[test]
fn folders_of_recordings() {
    let dir = Scratch::new("recordings");
    let ragged = include_bytes!("../../../kernels_tests/fixtures/signal/ragged.mat");
    let t =
        Transform { window_length: 16, nfft: 16, hop: 8, size: [16, 3], ..Transform::default() };
    for name in ["train/run/a.mat", "train/walk/b.mat", "test/walk/c.mat", "train/walk/.b.mat"] {
        dir.file(&format!("parts/{name}"), ragged);
    }
    dir.file("parts/train/walk/deeper/d.mat", ragged);
    dir.file("parts/train/walk/notes.txt", b"x");
    let data = Dataset::load_with(dir.path("parts"), &LabelChoice::Auto, Some(&t)).unwrap();
    assert_eq!((data.n, data.class_names.join(",")), (9, "run,walk".into()));
    assert_eq!(data.labels.as_deref(), Some(&[0, 0, 0, 1, 1, 1, 1, 1, 1][..]));
    assert_eq!(data.arrays["split"], [0, 0, 0, 0, 0, 0, 1, 1, 1]);
    let warnings = data.warnings.join("\n");
    for part in ["folders below", "1 files below"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    dir.file("none/deep/er/d.mat", ragged);
    let error = Dataset::from_signals(&dir.path("none"), &LabelChoice::Auto, &t, None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no recordings") && text.contains("deep are ignored"), "{text}");
}

#[test]
fn images_of_a_mat_file() {
    let dir = Scratch::new("mat-images");
    let bytes = include_bytes!("../../../kernels_tests/fixtures/signal/images.mat");
    let data = Dataset::open(dir.file("i.mat", bytes)).unwrap();
    assert_eq!((data.n, data.height, data.width, data.channels), (3, 4, 5, 1));
    assert_eq!(data.pixels, Pixels::U8((0..60).collect()));
    assert_eq!(data.labels.as_deref(), Some(&[1, 0, 1][..]));
    assert_eq!(data.arrays["subject"], [7, 8, 9]);
    // Bytes of rank 3 are images whatever the kind of the file, also where signals are expected.
    let t = Transform::default();
    let both = |path: &std::path::Path| {
        let plain = Dataset::load(path, &LabelChoice::Auto).unwrap();
        let data = Dataset::load_with(path, &LabelChoice::Auto, Some(&t)).unwrap();
        assert_eq!((&data.pixels, &data.signal), (&plain.pixels, &None), "{}", path.display());
        data
    };
    let data = both(&dir.path("i.mat"));
    let npz = dir.path("i.npz");
    crate::data::write::write_npz(&npz, &data).unwrap();
    both(&npz);
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 5), }\n";
    let npy = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()];
    both(&dir.file("i.npy", &[&npy.concat()[..], &[7; 60]].concat()));
    // Numbers in a list of structs are not images.
    let ragged = include_bytes!("../../../kernels_tests/fixtures/signal/ragged.mat");
    let error = Dataset::open(dir.file("r.mat", ragged)).unwrap_err().to_string();
    assert!(error.contains("no image array") && error.contains("x cell of complex"), "{error}");
}
