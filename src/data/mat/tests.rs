//! Files written by SciPy, and what strangers could make of them.

use super::*;
use crate::data::arrays::{Array, Node, Values};
use crate::rng::{Rng, Stream};

const DOPNET: &[u8] = include_bytes!("../../../kernels_tests/fixtures/signal/dopnet.mat");
const IMAGES: &[u8] = include_bytes!("../../../kernels_tests/fixtures/signal/images.mat");
const MATLAB: &[u8] = include_bytes!("../../../kernels_tests/fixtures/signal/matlab.mat");
const V73: &[u8] = include_bytes!("../../../kernels_tests/fixtures/signal/v73.mat");
const RAGGED: &[u8] = include_bytes!("../../../kernels_tests/fixtures/signal/ragged.mat");

fn find<'a>(all: &'a [Named], name: &str) -> &'a Node {
    let names: Vec<&str> = all.iter().map(|n| &*n.name).collect();
    &all.iter().find(|n| n.name == name).unwrap_or_else(|| panic!("{name} of {names:?}")).node
}

fn array<'a>(all: &'a [Named], name: &str) -> &'a Array {
    match find(all, name) {
        Node::Array(array) => array,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn numbers_in_c_order() {
    let (all, skipped) = parse(IMAGES).unwrap();
    assert!(skipped.is_empty(), "{skipped:?}");
    let images = array(&all, "images");
    assert_eq!((&images.shape[..], &*images.dtype), (&[3, 4, 5][..], "uint8"));
    assert_eq!(images.values, Values::U8((0..60).collect()));
    assert_eq!(array(&all, "labels").ints(), Some(vec![1, 0, 1]));
    assert_eq!(array(&all, "subject").ints(), Some(vec![7, 8, 9]));
    assert_eq!(array(&all, "real").values, Values::F32(vec![1.5, 2.5, 3.5, -4.5, 0.0, 9.0]));
    assert_eq!(array(&all, "real").shape, [3, 2]);
    assert_eq!(find(&all, "note"), &Node::Text("text".into()));
}

/// A struct of a ragged cell of cells of complex matrices, compressed.
#[test]
fn nested_cells_of_complex_matrices() {
    let (all, _) = parse(DOPNET).unwrap();
    assert_eq!(find(&all, "class_names").texts(), ["wave", "pinch"]);
    assert_eq!(find(&all, "Data.person"), &Node::Text("A".into()));
    let signals = find(&all, "Data.Doppler_Signals");
    let Node::List(classes) = signals else { panic!("{signals:?}") };
    let counts: Vec<usize> = classes.iter().map(|c| c.arrays().len()).collect();
    assert_eq!(counts, [1, 2]);
    let shapes: Vec<_> = signals.arrays().iter().map(|a| a.shape.clone()).collect();
    assert_eq!(shapes, [[4, 5], [4, 6], [4, 7]]);
    for (array, cycles) in signals.arrays().iter().zip([0.1f64, 0.2, 0.2]) {
        let columns = array.shape[1];
        for (i, z) in array.complex().iter().enumerate() {
            let (row, t) = ((i / columns + 1) as f64, (i % columns) as f64);
            let (sin, cos) = (std::f64::consts::TAU * cycles * t).sin_cos();
            // Doubles rounded to floats of size up to 4, and the two libraries' sines.
            let off = (f64::from(z.re) - row * cos).abs().max((f64::from(z.im) - row * sin).abs());
            assert!(off <= 4.0 * f64::from(f32::EPSILON), "{i}: {z}");
        }
    }
}

#[test]
fn lists_of_structs_are_lists() {
    let (all, _) = parse(RAGGED).unwrap();
    let lengths: Vec<usize> = find(&all, "x").arrays().iter().map(|a| a.values.len()).collect();
    assert_eq!(lengths, [40, 90, 64]);
    assert_eq!(find(&all, "records").arrays().len(), 2);
}

/// The file with the bytes of every number in the other order, as a big-endian machine writes it.
fn byte_swapped(file: &[u8]) -> Vec<u8> {
    fn swap(bytes: &mut [u8], width: usize) {
        bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    fn elements(bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let word = |i: usize| u32::from_le_bytes(bytes[at + i..][..4].try_into().unwrap());
            let (first, second) = (word(0), word(4));
            let small = first >> 16 != 0;
            let (kind, len) = match small {
                true => (first & 0xffff, (first >> 16) as usize),
                false => (first, second as usize),
            };
            let from = at + if small { 4 } else { 8 };
            swap(&mut bytes[at..from], 4);
            let body = &mut bytes[from..from + len];
            match kind {
                14 => elements(body),
                _ => swap(body, super::bytes::width(kind).max(1)),
            }
            at = if small { at + 8 } else { from + len.next_multiple_of(8) };
        }
    }
    let mut out = file.to_vec();
    // Version 1.0 and the mark, read as MI.
    swap(&mut out[124..128], 2);
    elements(&mut out[HEADER..]);
    out
}

/// Either byte order, every integer type, text as rows of characters, an empty entry of a cell.
#[test]
fn big_endian_files_and_integer_types() {
    let little = parse(MATLAB).unwrap();
    assert_eq!(parse(&byte_swapped(MATLAB)).unwrap(), little);
    assert_eq!(parse(&byte_swapped(IMAGES)).unwrap(), parse(IMAGES).unwrap());
    assert_eq!(parse(&byte_swapped(RAGGED)).unwrap(), parse(RAGGED).unwrap());
    let (all, skipped) = little;
    assert!(skipped.is_empty(), "{skipped:?}");
    for kind in ["int", "uint"] {
        for bits in [8, 16, 32, 64] {
            let name = format!("{kind}{bits}");
            let found = array(&all, &name);
            assert_eq!((&found.shape[..], &found.dtype), (&[2, 3][..], &name));
            let numbers: Vec<f32> = found.complex().iter().map(|z| z.re).collect();
            assert_eq!(numbers, [0.0, 1.0, 100.0, 2.0, 3.0, 4.0], "{name}");
        }
    }
    let negative: Vec<f32> = array(&all, "negative").complex().iter().map(|z| z.re).collect();
    assert_eq!(negative, [-1.0, -2.0, -3.0, -128.0]);
    assert_eq!(find(&all, "class_names").texts(), ["run", "walk"]);
    let lengths: Vec<usize> = find(&all, "x").arrays().iter().map(|a| a.values.len()).collect();
    assert_eq!(lengths, [40, 0, 64]);
}

/// Version 7.3: cells of complex numbers with an empty entry, rows of characters, compressed bytes, both
/// byte orders, fields of a struct.
#[test]
fn hdf5_files() {
    let (all, skipped) = parse(V73).unwrap();
    assert!(skipped.is_empty(), "{skipped:?}");
    let images = array(&all, "images");
    assert_eq!((&images.shape[..], &*images.dtype), (&[3, 4, 5][..], "uint8"));
    assert_eq!(images.values, Values::U8((0..60).collect()));
    assert_eq!(array(&all, "labels").ints(), Some(vec![1, 2, 2]));
    assert_eq!(find(&all, "class_names").texts(), ["run", "walk"]);
    assert_eq!(array(&all, "big").values, Values::F32(vec![1.0, -2.0, 300.0, 4.0]));
    assert_eq!(array(&all, "flag").ints(), Some(vec![1, 0]));
    assert_eq!(find(&all, "s.name"), &Node::Text("Ann".into()));
    assert_eq!(array(&all, "s.z").values, Values::F32(vec![1.5, 2.5, 3.5]));
    let Node::List(cell) = find(&all, "x") else { panic!("{all:?}") };
    assert_eq!((cell.len(), &cell[1]), (3, &Node::List(vec![])));
    for (node, len) in [(&cell[0], 40), (&cell[2], 64)] {
        let numbers = node.arrays()[0].complex();
        assert_eq!(numbers.len(), len);
        for (i, z) in numbers.iter().enumerate() {
            // A quarter of a turn each; sines of f64 near whole multiples of it err by a few 1e-15.
            let (re, im) = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][i % 4];
            assert!((z.re - re).abs() + (z.im - im).abs() <= 1e-12, "{i}: {z}");
        }
    }
}

#[test]
fn other_versions_are_named() {
    let why = |bytes: &[u8]| parse(bytes).unwrap_err();
    assert!(why(b"\x89HDF\r\n\x1a\n").contains("version 7.3"));
    let mut seven = IMAGES[..512].to_vec();
    seven.extend(b"\x89HDF\r\n\x1a\n");
    assert!(why(&seven).contains("version 7.3"));
    assert!(why(&[0; 40]).contains("too short"));
    assert!(why(&[0; 400]).contains("format 5"));
}

/// Every truncation and thousands of flipped bits and bytes: an error or other values, never a
/// panic, and never more numbers than the bytes can hold.
#[test]
fn damage_never_panics() {
    fn held(node: &Node) -> usize {
        node.arrays().iter().map(|a| a.values.len()).sum()
    }
    let check = |bytes: &[u8]| {
        if let Ok((all, _)) = parse(bytes) {
            let numbers: usize = all.iter().map(|n| held(&n.node)).sum();
            // Compressed bytes expand at most 1032 times.
            assert!(numbers <= bytes.len() * 1032);
        }
    };
    let rng = &mut Rng::new(3, Stream::Test, 0);
    for file in [DOPNET, IMAGES, MATLAB, RAGGED, V73] {
        // Each byte of the larger file is a parse of all of it.
        let (step, rounds) = if file.len() > 8000 { (29, 1000) } else { (1, 4000) };
        for cut in (0..file.len()).step_by(step) {
            check(&file[..cut]);
        }
        for round in 0..rounds {
            let mut bytes = file.to_vec();
            for _ in 0..1 + round % 3 {
                let at = 120 + rng.below(file.len() as u32 - 120) as usize;
                bytes[at] = match round % 2 {
                    0 => bytes[at] ^ (1 << rng.below(8)),
                    _ => rng.next_u32() as u8,
                };
            }
            check(&bytes);
        }
    }
    for _ in 0..2000 {
        let mut bytes = IMAGES[..128].to_vec();
        let len = rng.below(200) as usize;
        bytes.extend((0..len).map(|_| (rng.next_u32() & 0x0f) as u8));
        check(&bytes);
    }
}

/// Variables that each expand within reason may not do so together beyond it.
#[test]
fn expansion_is_bounded_for_the_file() {
    use std::io::Write;
    let mut zeros = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::best());
    // A matrix element that never ends its first part.
    let body = [&14u32.to_le_bytes()[..], &(10u32 << 20).to_le_bytes()].concat();
    zeros.write_all(&body).unwrap();
    zeros.write_all(&vec![0; 10 << 20]).unwrap();
    let zeros = zeros.finish().unwrap();
    let part = [&15u32.to_le_bytes()[..], &(zeros.len() as u32).to_le_bytes(), &zeros].concat();
    let why = |parts: usize| parse(&[&IMAGES[..128], &part.repeat(parts)].concat()).unwrap_err();
    assert!(!why(1).contains("bomb"), "{}", why(1));
    let mut found = 0;
    let mut budget = Budget::of(2 * part.len() as u64);
    for _ in 0..2 {
        found += usize::from(inflate(&zeros, &mut budget).is_ok());
    }
    assert_eq!(found, 1, "10 MiB fit into the 16 that are always granted, 20 do not");
}

/// A cell within a cell, and so on, and sizes that are not there.
#[test]
fn nesting_and_counts_are_bounded() {
    fn element(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(body);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }
    let cell = |dims: [i32; 2], inner: &[u8]| {
        let mut body = element(6, &[1, 0, 0, 0, 0, 0, 0, 0]);
        body.extend(element(5, &dims.map(i32::to_le_bytes).concat()));
        body.extend(element(1, b""));
        body.extend(inner);
        element(14, &body)
    };
    let mut nested = Vec::new();
    for _ in 0..200 {
        nested = cell([1, 1], if nested.is_empty() { &[] } else { &nested });
        if nested.len() == 48 {
            nested = cell([0, 0], &[]);
        }
    }
    let file = |variable: &[u8]| [&IMAGES[..128], variable].concat();
    assert!(parse(&file(&nested)).unwrap_err().contains("deeper"));
    // An entry without any content, between others: nothing, and no list of lists.
    let empty = [element(14, b""), element(14, b"")].concat();
    let (all, _) = parse(&file(&cell([1, 2], &empty))).unwrap();
    assert_eq!(all[0].node, Node::List(vec![Node::List(vec![]), Node::List(vec![])]));
    let many = cell([i32::MAX, i32::MAX], &[]);
    assert!(parse(&file(&many)).unwrap_err().contains("entries are announced"));
}
