//! Which arrays of a file are recordings, and what is known about each.

use rustfft::num_complex::Complex;

use super::transform::{Input, Transform};
use crate::data::arrays::{Array, Named, Node, Values};
use crate::data::header::Checked;
use crate::data::layout::counted_axis;
use crate::data::npz::{CLASS_NAMES, Member};

/// One recording, in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Variable and number, for messages.
    pub name: String,
    /// `[samples]`, `[fast, slow]`, `[doppler, time]` or `[frames, range, doppler]`.
    pub shape: Vec<usize>,
    pub samples: Vec<Complex<f32>>,
    /// Whether the file has an imaginary part.
    pub complex: bool,
}

/// The recordings of a file.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub recordings: Vec<Recording>,
    /// Integers, one per recording.
    pub arrays: Vec<(String, Vec<i64>)>,
    pub class_names: Vec<String>,
    pub members: Vec<Member>,
    pub warnings: Vec<String>,
}

/// Axes of one recording.
fn rank(input: Input) -> usize {
    match input {
        Input::SlowTime => 1,
        Input::FastSlow | Input::DopplerTime => 2,
        Input::RangeDoppler => 3,
    }
}

/// Takes the recordings out of the variables of a file: the variable `array`, or else the first
/// with complex numbers, or else the first that can be what the transform wants.
///
/// The entries of a cell are recordings of any length; a cell of cells is a list of classes.
/// Vectors with one integer per recording, or per entry of the cell, go with them. Entries without
/// numbers, which MATLAB makes of what nobody assigned, are no recordings.
///
/// `matlab`: whether an array of many recordings counts them along its last axis, as is done there, unless
/// its vectors say otherwise.
pub fn pick(
    named: Vec<Named>,
    array: Option<&str>,
    transform: &Transform,
    matlab: bool,
) -> Checked<Found> {
    let input = transform.input;
    let members = named.iter().map(|n| {
        let (dtype, shape) = n.node.describe();
        Member { name: n.name.clone(), dtype, shape, role: "not used".into() }
    });
    let mut members: Vec<Member> = members.collect();
    let listing = || {
        let entry = |m: &Member| format!("{} {} {:?}", m.name, m.dtype, m.shape);
        members.iter().map(entry).collect::<Vec<_>>().join("; ")
    };
    let complex = |n: &Named| n.node.arrays().first().is_some_and(|a| a.is_complex());
    let fits = |n: &Named| n.node.arrays().first().is_some_and(|a| can_be(a, input));
    let at = match array {
        Some(name) => named
            .iter()
            .position(|n| n.name == name)
            .ok_or_else(|| format!("there is no array '{name}'; arrays found: [{}]", listing()))?,
        None => named
            .iter()
            .position(|n| complex(n) && fits(n))
            .or_else(|| named.iter().position(fits))
            .ok_or_else(|| {
                format!("no array can be {}; arrays found: [{}]", wanted(input), listing())
            })?,
    };
    let mut found = Found::default();
    let name = named[at].name.clone();
    let lengths: Vec<usize> =
        named.iter().filter_map(|n| vector(&n.node)).map(|v| v.len()).collect();
    let (mut classes, mut entries) = (Vec::new(), Vec::new());
    match &named[at].node {
        Node::List(nodes) if nodes.iter().any(|n| matches!(n, Node::List(v) if !v.is_empty())) => {
            for (class, node) in nodes.iter().enumerate() {
                let before = found.recordings.len();
                take(node, &format!("{name}{{{}}}", class + 1), input, &mut found.recordings)?;
                classes.resize(classes.len() + found.recordings.len() - before, class as i64);
            }
        }
        Node::List(nodes) => {
            for (entry, node) in nodes.iter().enumerate() {
                let before = found.recordings.len();
                take(node, &format!("{name}{{{}}}", entry + 1), input, &mut found.recordings)?;
                entries.resize(entries.len() + found.recordings.len() - before, entry);
            }
            let empty = (0..nodes.len()).filter(|entry| !entries.contains(entry)).count();
            if empty > 0 {
                let all = nodes.len();
                found
                    .warnings
                    .push(format!("{empty} of {all} entries of '{name}' are empty: skipped"));
            }
        }
        Node::Array(array) if matlab => {
            let (array, warning) = counted_first(array, &name, input, &lengths);
            found.warnings.extend(warning);
            split(&array, &name, input, &mut found.recordings)
                .map_err(|w| format!("{name}: {w}"))?;
        }
        node => take(node, &name, input, &mut found.recordings)?,
    }
    let n = found.recordings.len();
    if n == 0 {
        return Err(format!("'{name}' is empty"));
    }
    members[at].role = "recordings".into();
    for (member, other) in members.iter_mut().zip(&named) {
        if other.name == name {
            continue;
        }
        let ints = vector(&other.node);
        if let Some(ints) = ints.as_ref().filter(|v| v.len() == n) {
            found.arrays.push((other.name.clone(), ints.clone()));
            member.role = "one integer per recording".into();
        } else if let (Some(ints), Node::List(nodes)) = (ints, &named[at].node)
            && ints.len() == nodes.len()
            && !entries.is_empty()
        {
            let of = entries.iter().map(|&entry| ints[entry]).collect();
            found.arrays.push((other.name.clone(), of));
            member.role = "one integer per entry".into();
        } else if CLASS_NAMES.contains(&other.name.to_lowercase().as_str()) {
            found.class_names = other.node.texts().into_iter().map(str::to_string).collect();
            member.role = "class names".into();
        }
    }
    if !classes.is_empty() {
        found.arrays.insert(0, ("labels".into(), classes));
    }
    found.members = members;
    Ok(found)
}

/// Integers in a row.
fn vector(node: &Node) -> Option<Vec<i64>> {
    match node {
        Node::Array(array) => array.ints(),
        _ => None,
    }
}

/// An array of MATLAB with the axis that counts recordings as its first, and the doubt about it.
fn counted_first(
    array: &Array,
    name: &str,
    input: Input,
    lengths: &[usize],
) -> (Array, Option<String>) {
    let quadrature = !array.is_complex() && array.shape.last() == Some(&2);
    let vector = array.shape.iter().filter(|&&d| d != 1).count() <= 1;
    if array.shape.len() != rank(input) + 1 || quadrature || vector {
        return (array.clone(), None);
    }
    let axis = counted_axis(&array.shape, lengths);
    let turned = if axis.first { array.clone() } else { array.clone().last_axis_first() };
    let doubt = (!axis.sure).then(|| {
        let (n, one) = (turned.shape[0], &turned.shape[1..]);
        format!("'{name}' of shape {:?} is read as {n} recordings of {one:?}", array.shape)
    });
    (turned, doubt)
}

fn wanted(input: Input) -> &'static str {
    match input {
        Input::SlowTime => "a signal (complex, or I and Q along the last axis)",
        Input::FastSlow => "pulses (complex, or I and Q along the last axis; fast by slow time)",
        Input::DopplerTime => "a spectrogram of Doppler by time",
        Input::RangeDoppler => "range-Doppler maps of frames by range by Doppler",
    }
}

/// Whether an array has the axes and the kind of numbers of recordings.
fn can_be(array: &Array, input: Input) -> bool {
    let signal = matches!(input, Input::SlowTime | Input::FastSlow);
    let quadrature = !array.is_complex() && array.shape.last() == Some(&2);
    let axes = array.shape.len() - usize::from(signal && quadrature && !array.shape.is_empty());
    let vector = array.ints().is_some() && !array.is_complex();
    (array.is_complex() || !signal || quadrature) && axes >= rank(input) && !vector
}

/// The recordings of all arrays below a node.
fn take(node: &Node, name: &str, input: Input, out: &mut Vec<Recording>) -> Checked<()> {
    match node {
        Node::Text(_) => Ok(()),
        Node::Array(array) => {
            split(array, name, input, out).map_err(|why| format!("{name}: {why}"))
        }
        Node::List(nodes) => nodes
            .iter()
            .enumerate()
            .try_for_each(|(i, n)| take(n, &format!("{name}{{{}}}", i + 1), input, out)),
    }
}

/// One recording, or one for each entry of a further first axis.
fn split(array: &Array, name: &str, input: Input, out: &mut Vec<Recording>) -> Checked<()> {
    if array.values.is_empty() {
        return Ok(());
    }
    let rank = rank(input);
    let mut shape = array.shape.clone();
    let signal = matches!(input, Input::SlowTime | Input::FastSlow);
    let (samples, complex) = match &array.values {
        Values::Complex(z) => (z.clone(), true),
        _ if signal && shape.last() == Some(&2) => {
            shape.pop();
            let pairs = array.complex();
            let pair = |z: &[Complex<f32>]| Complex::new(z[0].re, z[1].re);
            (pairs.chunks_exact(2).map(pair).collect(), true)
        }
        _ if signal => {
            return Err("the numbers are real: a signal is complex, or has I and Q along a last \
                        axis of 2"
                .into());
        }
        _ => (array.complex(), false),
    };
    if let Some(at) = samples.iter().position(|z| !(z.re.is_finite() && z.im.is_finite())) {
        return Err(format!("sample {at} is {}", samples[at]));
    }
    // A row or a column of MATLAB is a vector.
    if rank == 1 && shape.len() == 2 && shape.contains(&1) {
        shape = vec![samples.len()];
    }
    let (count, one) = match shape.len().checked_sub(rank) {
        Some(0) => (1, shape),
        Some(1) => (shape[0], shape[1..].to_vec()),
        _ => return Err(format!("shape {shape:?} is not {}", wanted(input))),
    };
    let len = samples.len() / count;
    for (i, part) in samples.chunks_exact(len).enumerate() {
        let name = if count == 1 { name.to_string() } else { format!("{name}[{i}]") };
        out.push(Recording { name, shape: one.clone(), samples: part.to_vec(), complex });
    }
    Ok(())
}
