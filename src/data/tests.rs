//! Whole files through `Dataset::load`: every element type, folders, splits.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::testing::{Scratch, shared};
use super::*;

/// The bytes of an `.npy` file.
pub(super) fn npy(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({dims}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(data);
    bytes
}

pub(super) fn npz(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn png(
    width: u32,
    height: u32,
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

pub(super) fn gray(width: u32, height: u32, value: u8) -> Vec<u8> {
    let data = vec![value; (width * height) as usize];
    png(width, height, png::ColorType::Grayscale, png::BitDepth::Eight, &data)
}

/// The error of a load that must fail with exit code 4 and mention all of `parts`.
pub(super) fn refused(path: &Path, parts: &[&str]) {
    let error = match Dataset::open(path) {
        Ok(data) => panic!("{} was accepted: {data:?}", path.display()),
        Err(error) => error,
    };
    assert_eq!(error.exit_code(), 4, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error}\nlacks {part:?}");
    }
}

fn values(data: &Dataset) -> Vec<f32> {
    let mut out = vec![0.0; data.n * data.image_len()];
    let rows: Vec<u32> = (0..data.n as u32).collect();
    data.images(&rows, &mut out);
    out
}

/// 24 small integers as two images of 3 x 4 in every element type, byte order and axis order.
#[test]
fn every_element_type() {
    let dir = Scratch::new("types");
    let ints: Vec<i64> = (0..24).map(|v| v * 5 % 24).collect();
    let encode = |kind: &str, v: i64| -> Vec<u8> {
        match kind {
            "u1" | "i1" => vec![v as u8],
            "b1" => vec![u8::from(v % 2 == 1)],
            "u2" | "i2" => (v as u16).to_le_bytes().to_vec(),
            "u4" | "i4" => (v as u32).to_le_bytes().to_vec(),
            "u8" | "i8" => v.to_le_bytes().to_vec(),
            "f2" => half::f16::from_f64(v as f64).to_le_bytes().to_vec(),
            "f4" => (v as f32).to_le_bytes().to_vec(),
            _ => (v as f64).to_le_bytes().to_vec(),
        }
    };
    // Position in C order of the element at position `p` of Fortran order.
    let to_c = |p: usize| (p % 2) * 12 + (p / 2 % 3) * 4 + p / 6;
    for kind in ["u1", "i1", "b1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"] {
        for big in [false, true] {
            for fortran in [false, true] {
                let mut bytes = Vec::new();
                for p in 0..24 {
                    let mut element = encode(kind, ints[if fortran { to_c(p) } else { p }]);
                    if big {
                        element.reverse();
                    }
                    bytes.extend(element);
                }
                let descr = format!("{}{kind}", if big { '>' } else { '<' });
                let name = format!("{kind}-{big}-{fortran}.npy");
                let path = dir.file(&name, &npy(&descr, fortran, &[2, 3, 4], &bytes));
                let data = Dataset::load(&path, &LabelChoice::Auto).unwrap();
                assert_eq!((data.n, data.height, data.width, data.channels), (2, 3, 4, 1));
                let want: Vec<f32> = match kind {
                    "u1" => ints.iter().map(|&v| v as f32 / 255.0).collect(),
                    "b1" => ints.iter().map(|&v| (v % 2) as f32).collect(),
                    _ => ints.iter().map(|&v| v as f32).collect(),
                };
                assert_eq!(values(&data), want, "{descr} fortran {fortran}");
            }
        }
    }
}

#[test]
fn archive_roles() {
    let dir = Scratch::new("roles");
    let i64s = |v: &[i64]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let unicode: Vec<u8> =
        "noyes".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<u8>>();
    let mut padded = unicode[..8].to_vec();
    padded.extend([0; 4]);
    padded.extend(&unicode[8..]);
    let members = [
        ("subject.npy", npy("<i8", false, &[3], &i64s(&[7, 7, 9]))),
        ("weights.npy", npy("<f4", false, &[3], &[0; 12])),
        ("short.npy", npy("<i8", false, &[2], &i64s(&[1, 2]))),
        ("x.npy", npy("|u1", false, &[3, 2, 2], &[9; 12])),
        ("more.npy", npy("|u1", false, &[3, 5, 5], &[0; 75])),
        ("y.npy", npy(">u2", false, &[3], &[0, 1, 0, 0, 0, 1])),
        ("class_names.npy", npy("<U3", false, &[2], &padded)),
        ("remarks.npy", npy("<U3", false, &[2], &padded)),
        ("broken.npy", b"\x93NUMPY\x01\x00\x20\x00{'descr': [[[[[[[[[[[[[[[[[[[[[[".to_vec()),
        ("readme.txt", b"hello".to_vec()),
    ];
    let data = Dataset::open(dir.file("d.npz", &npz(&members))).unwrap();
    assert_eq!((data.n, data.height, data.width, data.channels), (3, 2, 2, 1));
    assert_eq!(data.labels.as_deref(), Some(&[1, 0, 1][..]));
    assert_eq!(data.class_names, ["no", "yes"]);
    assert_eq!(data.arrays.keys().collect::<Vec<_>>(), ["subject"]);
    assert_eq!(data.arrays["subject"], [7, 7, 9]);
    let warnings = data.warnings.join("\n");
    for part in ["'remarks' was skipped", "'broken' was skipped", "'readme.txt' was skipped"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    let role = |name: &str| data.members.iter().find(|m| m.name == name).unwrap().role.as_str();
    assert_eq!(role("x"), "images");
    assert_eq!(role("y"), "labels");
    assert_eq!(role("more"), "not used");
    let info = info::Info::of(&data);
    assert_eq!(info.classes[1], info::ClassCount { name: "yes".into(), images: 2 });
    let text = info.to_string();
    for part in ["3 of 2 x 2", "y: >u2 [3], labels", "2 x yes", "7: 2, 9: 1", "warning"] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
}

/// What a user should be told about odd labels.
#[test]
fn info_warnings() {
    let warnings = |labels: Vec<u32>| {
        let n = labels.len();
        let data = Dataset::from_u8(vec![1; n], [n, 1, 1, 1], Some(labels), vec![], "memory");
        info::Info::of(&data.unwrap()).warnings.join("; ")
    };
    assert!(warnings(vec![1, 3]).contains("no image of class 0, 2"));
    let odd = [vec![0; 11], vec![1]].concat();
    assert!(warnings(odd.clone()).contains("fewer than 1/10"));
    assert!(!warnings(odd[1..].to_vec()).contains("fewer than 1/10"));
    assert!(warnings(vec![0]).contains("all pixels are equal"));
    assert!(Dataset::from_u8(vec![1; 3], [2, 1, 1, 1], None, vec![], "memory").is_err());
}

#[test]
fn clear_refusals() {
    let dir = Scratch::new("refusals");
    refused(&dir.path("nothing.npz"), &["cannot be opened", "nothing.npz", "help:"]);
    refused(&dir.path(""), &["no PNG images", "help:"]);
    refused(&dir.file("text.npz", b"hello world"), &["neither .npz, .npy nor .mat"]);
    refused(&dir.file("m.mat", b"MATLAB 5.0 MAT-file"), &["too short", "-v7"]);
    refused(&dir.file("one.png", &gray(2, 2, 0)), &["single PNG"]);
    refused(&dir.file("empty", b""), &["neither"]);
    let labels = npz(&[("labels.npy", npy("<i8", false, &[1], &[0; 8]))]);
    refused(&dir.file("l.npz", &labels), &["no image array", "labels <i8 [1]", "help:"]);
    refused(&dir.file("flat.npy", &npy("|u1", false, &[4, 4], &[0; 16])), &["rank 2"]);
    refused(&dir.file("five.npy", &npy("|u1", false, &[1; 5], &[0])), &["rank 5"]);
    refused(&dir.file("zero.npy", &npy("|u1", false, &[0, 4, 4], &[])), &["empty"]);
    refused(&dir.file("c.npy", &npy("<c8", false, &[1, 1, 1], &[0; 8])), &["cannot be pixels"]);
    refused(&dir.file("cut.npy", &npy("|u1", false, &[2, 4, 4], &[0; 31])), &["needs 32 bytes"]);
}

#[test]
fn floats_are_checked() {
    let dir = Scratch::new("floats");
    let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut pixels = vec![0.5; 2 * 3 * 4 * 2];
    pixels[24 + 8 + 4 + 1] = f32::NAN;
    let path = dir.file("nan.npy", &npy("<f4", false, &[2, 3, 4, 2], &bytes(&pixels)));
    refused(&path, &["a pixel is NaN", "image 1, row 1, column 2, channel 1", "nan.npy"]);
    let huge = npy("<f8", false, &[1, 1, 2], &[[0; 8], 1e300f64.to_le_bytes()].concat());
    refused(&dir.file("huge.npy", &huge), &["a pixel is inf", "column 1"]);
    pixels[37] = -3.5;
    let path = dir.file("db.npy", &npy("<f4", false, &[2, 3, 4, 2], &bytes(&pixels)));
    refused(&path, &["-3.5, outside [0, 1]", "from -3.5 to 0.5", "data.norm"]);

    // Statistics come from the training images only; the held-out ones are clipped.
    let ramp: Vec<f32> = (0..40).map(|v| v as f32).collect();
    let path = dir.file("ramp.npy", &npy("<f4", false, &[10, 2, 2], &bytes(&ramp)));
    let how = Preparation {
        labels: LabelChoice::Auto,
        norm: Norm::MinMax,
        size: Some((1, 1)),
        split: SplitSpec::Fraction { fraction: 0.3, seed: 5 },
    };
    let data = Dataset::load(&path, &how.labels).unwrap();
    let (data, split) = data.prepare(&how).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (7, 3));
    let first = f64::from(split.train[0]) * 4.0;
    let last = f64::from(*split.train.last().unwrap()) * 4.0 + 3.0;
    assert_eq!(data.scale, Scale::Affine { low: first, high: last });
    assert_eq!((data.height, data.width, values(&data).len()), (1, 1, 10));
    assert!(values(&data).iter().all(|v| (0.0..=1.0).contains(v)));
}

#[test]
fn folders() {
    use png::{BitDepth, ColorType};
    let dir = Scratch::new("folders");
    for (class, value) in [("walk", 10), ("run", 20), ("walk", 30)] {
        dir.file(&format!("a/{class}/{value}.png"), &gray(3, 2, value));
    }
    dir.file("a/run/notes.txt", b"x");
    dir.file("a/run/.hidden.png", b"x");
    let data = Dataset::open(dir.path("a")).unwrap();
    assert_eq!((data.n, data.height, data.width, data.channels), (3, 2, 3, 1));
    assert_eq!(data.class_names, ["run", "walk"]);
    assert_eq!(data.labels.as_deref(), Some(&[0, 1, 1][..]));
    let Pixels::U8(pixels) = &data.pixels else { panic!("{:?}", data.pixels) };
    assert_eq!(pixels[..], [[20; 6], [10; 6], [30; 6]].concat());
    assert!(data.warnings.join("\n").contains("1 files below"), "{:?}", data.warnings);

    // Ragged: the two files are named.
    dir.file("a/walk/40.png", &gray(2, 3, 0));
    refused(&dir.path("a"), &["20.png", "40.png", "3 x 2 gray, 8 bit", "2 x 3 gray, 8 bit"]);
    let rgb = png(3, 2, ColorType::Rgb, BitDepth::Eight, &[1; 18]);
    dir.file("a/walk/40.png", &rgb);
    refused(&dir.path("a"), &["20.png", "40.png", "RGB"]);
    dir.file("a/walk/40.png", b"\x89PNG\r\n\x1a\nrubbish");
    refused(&dir.path("a"), &["40.png", "cannot be read"]);

    // Parts, RGB with alpha, and a class that occurs in one part only.
    let rgba = png(1, 1, ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 4]);
    dir.file("b/train/x/1.png", &rgba);
    dir.file("b/train/y/1.png", &rgba);
    dir.file("b/test/y/1.png", &rgba);
    let data = Dataset::open(dir.path("b")).unwrap();
    assert_eq!((data.n, data.channels), (3, 3));
    assert_eq!(values(&data)[..3], [1.0 / 255.0, 2.0 / 255.0, 3.0 / 255.0]);
    assert_eq!(data.labels.as_deref(), Some(&[0, 1, 1][..]));
    let split = SplitSpec::Folder.split(&data).unwrap();
    assert_eq!((split.train, split.test), (vec![0, 1], vec![2]));
    assert_eq!(split.warnings, ["the test part has no image of x"]);
    assert!(data.warnings[0].contains("alpha channel of 3"), "{:?}", data.warnings);

    // 16 bit, a palette, one bit: all become what they mean.
    let deep = png(2, 1, ColorType::Grayscale, BitDepth::Sixteen, &[0xff, 0xff, 0x80, 0x00]);
    dir.file("c/1.png", &deep);
    let data = Dataset::open(dir.path("c")).unwrap();
    assert_eq!(values(&data), [1.0, 32_768.0 / 65_535.0]);
    assert_eq!(data.labels, None);
    let bits = png(8, 1, ColorType::Grayscale, BitDepth::One, &[0b1010_0001]);
    dir.file("d/1.png", &bits);
    let data = Dataset::open(dir.path("d")).unwrap();
    assert_eq!(values(&data), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
}

/// What is written is read back the same, twice the same bytes.
#[test]
fn round_trip() {
    let dir = Scratch::new("round-trip");
    let names = vec!["gehen".to_string(), "跑步".to_string()];
    let pixels: Vec<u8> = (0..2 * 6 * 5 * 3).map(|v| (v * 7 % 256) as u8).collect();
    let mut data =
        Dataset::from_u8(pixels, [2, 6, 5, 3], Some(vec![1, 0]), names, "memory").unwrap();
    data.arrays.insert("subject".into(), vec![-4, 1 << 40]);
    let path = dir.path("x.npz");
    write::write_npz(&path, &data).unwrap();
    let first = std::fs::read(&path).unwrap();
    write::write_npz(&path, &data).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    let back = Dataset::open(&path).unwrap();
    assert_eq!(back.pixels, data.pixels);
    assert_eq!((back.n, back.height, back.width, back.channels), (2, 6, 5, 3));
    assert_eq!((back.labels, back.class_names), (data.labels.clone(), data.class_names.clone()));
    assert_eq!(back.arrays, data.arrays);
    assert!(back.warnings.is_empty(), "{:?}", back.warnings);

    // Arrays that are called as the archive's own members keep their values under another name.
    let mut named = data.clone();
    for (i, name) in ["Labels", "images", "labels", "other_images", "provenance"].iter().enumerate()
    {
        named.arrays.insert((*name).into(), vec![i as i64, -1]);
    }
    write::write_npz(&path, &named).unwrap();
    let back = Dataset::open(&path).unwrap();
    assert_eq!((&back.labels, &back.class_names), (&named.labels, &named.class_names));
    assert_eq!(back.pixels, named.pixels);
    let names: Vec<_> = back.arrays.iter().map(|(name, v)| (name.as_str(), v[0])).collect();
    assert_eq!(
        names,
        [
            ("other_Labels", 0),
            ("other_images", 1),
            ("other_other_images", 3),
            ("other_other_labels", 2),
            ("other_provenance", 4),
            ("subject", -4)
        ]
    );

    // All 256 levels survive the way through floats.
    let levels: Vec<f32> = (0..=255u8).map(|v| f32::from(v) / 255.0).collect();
    assert!((0..=255u8).all(|v| write::to_u8(levels[v as usize]) == v));
    data.pixels = Pixels::F32(vec![2.0; 180]);
    write::write_npz(&path, &data).unwrap();
    assert_eq!(Dataset::open(&path).unwrap().pixels, Pixels::U8(vec![255; 180]));
    assert_eq!(write::write_npz(&dir.path("no/x.npz"), &data).unwrap_err().exit_code(), 5);
}

#[test]
fn radar_gestures() {
    let Some(path) = shared("data/radar_gestures/train.npz") else { return };
    let data = Dataset::open(path).unwrap();
    assert_eq!((data.n, data.height, data.width, data.channels), (3200, 64, 64, 1));
    assert_eq!((data.classes(), data.class_names.len()), (8, 8));
    assert_eq!(data.class_name(7), "forefinger-thumb open-close");
    let split = SplitSpec::BlockInClass { size: 50, test: vec![7] }.split(&data).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (2800, 400));
    let mut counts = [0; 8];
    let labels = data.labels.as_ref().unwrap();
    split.test.iter().for_each(|&i| counts[labels[i as usize] as usize] += 1);
    assert_eq!(counts, [50; 8]);
    // The mean image of the seven people, against the eighth: 18.6 dB is published for others.
    let mut mean = vec![0f64; data.image_len()];
    let mut image = vec![0f32; data.image_len()];
    for &i in &split.train {
        data.image(i as usize, &mut image);
        mean.iter_mut().zip(&image).for_each(|(m, &v)| *m += f64::from(v) / 2800.0);
    }
    assert!(mean.iter().all(|m| (0.0..=1.0).contains(m)));
    assert!(mean[32 * 64 + 32] > mean[0], "the centre row is the brightest");
}

#[test]
fn other_shared_files() {
    for (name, n, classes) in [
        ("data/mnist_small/mnist_10k.npz", 10_000, 10),
        ("data/mdsim/mdsim_human_64_test.npz", 600, 10),
        ("data/mdsim/mdsim_rotor_64_small.npz", 300, 5),
    ] {
        let Some(path) = shared(name) else { return };
        let data = Dataset::open(path).unwrap();
        assert_eq!((data.n, data.classes(), data.channels), (n, classes, 1), "{name}");
    }
}
