//! What outlives a step on the device: parameters, gradients, moments and their average in segments,
//! named states, the optimiser's control words, and the pool of slots that plans share.
//!
//! Parameters, gradients, first and second moments and the weight average share one segmentation, so
//! that the optimiser is one dispatch a segment and an offset means the same in all five.

use crate::device::{BufferId, Device, Range};
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};
use crate::shape::Shape;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Offsets are multiples of 64 words: 256 bytes, WebGPU's alignment of a binding.
pub const ALIGN: usize = 64;
/// Words of a full segment: 64 MiB.
const SEGMENT: usize = 16 << 20;
/// Buffers that consecutive parameters are dealt over, so that neighbouring gradient kernels do
/// not write one buffer and wait for each other.
const DEAL: usize = 4;

/// How a parameter starts.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamInit {
    Zeros,
    Ones,
    /// U(-bound, bound).
    Uniform(f32),
    /// N(0, std^2).
    Normal(f32),
    /// The unit matrix.
    Identity,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    pub name: String,
    pub shape: Shape,
    pub init: ParamInit,
    /// Subject to weight decay.
    pub decay: bool,
}

/// The table of parameters: name, shape, init, decay. A tape refers to them by index.
#[derive(Debug, Clone, Default)]
pub struct ParamTable {
    specs: Vec<ParamSpec>,
    index: HashMap<String, usize>,
    /// Prefixes of the groups that are trained apart.
    groups: Vec<String>,
}

impl ParamTable {
    /// Index of the parameter, registered on first use.
    ///
    /// # Errors
    /// The name is known with another shape.
    pub fn get_or_add(&mut self, spec: ParamSpec) -> Result<usize> {
        if let Some(&i) = self.index.get(&spec.name) {
            if self.specs[i].shape != spec.shape {
                return Err(Error::failed(format!(
                    "parameter {} is {} here and {} there",
                    spec.name, spec.shape, self.specs[i].shape
                )));
            }
            return Ok(i);
        }
        self.index.insert(spec.name.clone(), self.specs.len());
        self.specs.push(spec);
        Ok(self.specs.len() - 1)
    }

    /// Makes a group of the parameters whose names begin with `prefix`: they lie in segments of their
    /// own, and only a plan whose [`super::Options::group`] is `prefix` updates them. To be said
    /// before [`Store::new`]. All other parameters are the group "".
    pub fn train_apart(&mut self, prefix: &str) {
        if !prefix.is_empty() && !self.groups.iter().any(|g| g == prefix) {
            self.groups.push(prefix.into());
        }
    }

    /// The group of a parameter, by its name.
    pub fn group_of(&self, name: &str) -> &str {
        self.groups.iter().find(|g| name.starts_with(g.as_str())).map_or("", |g| g)
    }

    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Number of trainable scalars.
    pub fn elements(&self) -> usize {
        self.specs.iter().map(|s| s.shape.elements()).sum()
    }
}

/// The buffers of one segment, and of every kind the same offsets.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub words: usize,
    pub param: BufferId,
    pub grad: BufferId,
    pub m: BufferId,
    pub v: BufferId,
    pub ema: BufferId,
    /// One float for each 64-word block: 1 where weight decay applies.
    pub decay: BufferId,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    segment: usize,
    offset: usize,
}

/// The five kinds of words kept for every parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Param,
    Grad,
    M,
    V,
    Ema,
}

impl Kind {
    /// What a checkpoint holds.
    pub const SAVED: [Kind; 4] = [Kind::Param, Kind::M, Kind::V, Kind::Ema];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Param => "param",
            Kind::Grad => "grad",
            Kind::M => "m",
            Kind::V => "v",
            Kind::Ema => "ema",
        }
    }
}

#[derive(Debug)]
pub struct Store {
    pub device: Box<dyn Device>,
    table: ParamTable,
    pub(super) segments: Vec<Segment>,
    places: Vec<Place>,
    states: BTreeMap<String, Range>,
    /// Slot buffers shared by all plans of this store; plans never run at the same time.
    pub(super) pool: Vec<Range>,
}

impl std::fmt::Debug for dyn Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Which segment and offset every parameter gets, and how long the segments are. Groups share none.
fn place(table: &ParamTable) -> (Vec<Place>, Vec<usize>) {
    let mut places = vec![Place { segment: 0, offset: 0 }; table.specs.len()];
    let mut words: Vec<usize> = vec![];
    for group in [""].into_iter().chain(table.groups.iter().map(String::as_str)) {
        place_group(table, group, &mut places, &mut words);
    }
    (places, words)
}

/// Appends the segments of one group. Walked from the last parameter to the first, roughly the order
/// of the backward pass.
fn place_group(table: &ParamTable, group: &str, places: &mut [Place], words: &mut Vec<usize>) {
    let specs = &table.specs;
    let mut open: Vec<usize> = vec![];
    let own = (0..specs.len()).rev().filter(|&i| table.group_of(&specs[i].name) == group);
    for (turn, i) in own.enumerate() {
        let need = specs[i].shape.elements().next_multiple_of(ALIGN);
        let hand = turn % DEAL;
        let fits = open.get(hand).is_some_and(|&s| words[s] + need <= SEGMENT);
        if !fits {
            words.push(0);
            if hand < open.len() {
                open[hand] = words.len() - 1;
            } else {
                open.push(words.len() - 1);
            }
        }
        let segment = open[hand];
        places[i] = Place { segment, offset: words[segment] };
        words[segment] += need;
    }
}

impl Store {
    /// Allocates everything and draws the initial parameters, a pure function of `seed`.
    pub fn new(mut device: Box<dyn Device>, table: ParamTable, seed: u64) -> Result<Self> {
        let limit = device.limits().max_binding_bytes.min(device.limits().max_buffer_bytes);
        for spec in table.specs() {
            let bytes = spec.shape.elements() as u64 * 4;
            if bytes > limit {
                return Err(Error::device(format!(
                    "parameter {} {} needs {} MiB in one piece",
                    spec.name,
                    spec.shape,
                    bytes >> 20
                ))
                .at(device.describe())
                .why(format!("the device binds at most {} MiB", limit >> 20))
                .help("use a smaller model, or --device cpu"));
            }
        }
        let (places, words) = place(&table);
        let mut segments = vec![];
        for (i, &n) in words.iter().enumerate() {
            let mut make = |kind: &str| device.create_buffer(n, &format!("{kind} segment {i}"));
            segments.push(Segment {
                words: n,
                param: make("param")?,
                grad: make("grad")?,
                m: make("m")?,
                v: make("v")?,
                ema: make("ema")?,
                decay: device.create_buffer(n / ALIGN, &format!("decay segment {i}"))?,
            });
        }
        let mut store =
            Store { device, table, segments, places, states: BTreeMap::new(), pool: vec![] };
        store.initialise(seed)?;
        Ok(store)
    }

    fn initialise(&mut self, seed: u64) -> Result<()> {
        for i in 0..self.table.specs.len() {
            let spec = self.table.specs[i].clone();
            let mut rng = Rng::new(seed, Stream::Init, i as u64);
            let columns = spec.shape.channels();
            let draw = |at: usize| match spec.init {
                ParamInit::Zeros => 0.0,
                ParamInit::Identity => f32::from(at / columns == at % columns),
                ParamInit::Ones => 1.0,
                ParamInit::Uniform(b) => rng.range(f64::from(-b), f64::from(b)) as f32,
                ParamInit::Normal(std) => std * rng.normal() as f32,
            };
            let data: Vec<f32> = (0..spec.shape.elements()).map(draw).collect();
            self.write_param(Kind::Param, i, &data)?;
            self.write_param(Kind::Ema, i, &data)?;
            let place = self.places[i];
            let blocks = data.len().div_ceil(ALIGN);
            let mask = vec![f32::to_bits(if spec.decay { 1.0 } else { 0.0 }); blocks];
            self.device.write(self.segments[place.segment].decay, place.offset / ALIGN, &mask)?;
        }
        Ok(())
    }

    pub fn table(&self) -> &ParamTable {
        &self.table
    }

    /// The segments of a group of parameters.
    pub(super) fn group_segments(&self, group: &str) -> Vec<Segment> {
        let specs = self.table.specs.iter().zip(&self.places);
        let own = specs.filter(|(spec, _)| self.table.group_of(&spec.name) == group);
        let numbers: BTreeSet<usize> = own.map(|(_, place)| place.segment).collect();
        numbers.into_iter().map(|i| self.segments[i]).collect()
    }

    /// The words of one parameter, or of what is kept beside it.
    pub fn range(&self, kind: Kind, param: usize) -> Range {
        let Place { segment, offset } = self.places[param];
        let s = &self.segments[segment];
        let buffer = match kind {
            Kind::Param => s.param,
            Kind::Grad => s.grad,
            Kind::M => s.m,
            Kind::V => s.v,
            Kind::Ema => s.ema,
        };
        Range { buffer, offset, len: self.table.specs[param].shape.elements() }
    }

    pub fn write_param(&mut self, kind: Kind, param: usize, data: &[f32]) -> Result<()> {
        let range = self.range(kind, param);
        if data.len() != range.len {
            let spec = &self.table.specs[param];
            return Err(Error::failed(format!(
                "{} is {}, not {} elements",
                spec.name,
                spec.shape,
                data.len()
            )));
        }
        self.device.write(range.buffer, range.offset, bytemuck::cast_slice(data))
    }

    pub fn read_param(&mut self, kind: Kind, param: usize) -> Result<Vec<f32>> {
        self.read_f32(self.range(kind, param))
    }

    /// A named state, zeroed when it is new.
    pub fn state(&mut self, name: &str, words: usize) -> Result<Range> {
        if let Some(&range) = self.states.get(name) {
            if range.len != words {
                return Err(Error::failed(format!(
                    "state {name}: {} words, not {words}",
                    range.len
                )));
            }
            return Ok(range);
        }
        let buffer = self.device.create_buffer(words, &format!("state {name}"))?;
        let range = Range { buffer, offset: 0, len: words };
        self.states.insert(name.into(), range);
        Ok(range)
    }

    pub fn states(&self) -> impl Iterator<Item = (&str, Range)> {
        self.states.iter().map(|(n, r)| (n.as_str(), *r))
    }

    pub fn find_state(&self, name: &str) -> Result<Range> {
        self.states
            .get(name)
            .copied()
            .ok_or_else(|| Error::failed(format!("the model has no state {name}")))
    }

    pub fn read_f32(&mut self, range: Range) -> Result<Vec<f32>> {
        let mut words = vec![0u32; range.len];
        self.device.read(range.buffer, range.offset, &mut words)?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    pub fn read_u32(&mut self, range: Range) -> Result<Vec<u32>> {
        let mut words = vec![0u32; range.len];
        self.device.read(range.buffer, range.offset, &mut words)?;
        Ok(words)
    }

    pub fn write_f32(&mut self, range: Range, data: &[f32]) -> Result<()> {
        if data.len() != range.len {
            return Err(Error::failed(format!(
                "{} words for a range of {}",
                data.len(),
                range.len
            )));
        }
        self.device.write(range.buffer, range.offset, bytemuck::cast_slice(data))
    }

    pub fn write_u32(&mut self, range: Range, data: &[u32]) -> Result<()> {
        if data.len() != range.len {
            return Err(Error::failed(format!(
                "{} words for a range of {}",
                data.len(),
                range.len
            )));
        }
        self.device.write(range.buffer, range.offset, data)
    }

    /// Buffers for slots of the given sizes, largest first, reusing the pool's where they are large
    /// enough.
    pub(super) fn slots(&mut self, words: &[usize]) -> Result<Vec<BufferId>> {
        let mut order: Vec<usize> = (0..words.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(words[i]), i));
        let mut free: Vec<Range> = self.pool.clone();
        free.sort_by_key(|r| std::cmp::Reverse(r.len));
        let mut out = vec![BufferId(0); words.len()];
        for i in order {
            // The smallest free buffer that is large enough is the last such one.
            let fit = free.iter().rposition(|r| r.len >= words[i]);
            let range = match fit {
                Some(at) => free.remove(at),
                None => {
                    let buffer = self.device.create_buffer(words[i], "slot")?;
                    let range = Range { buffer, offset: 0, len: words[i] };
                    self.pool.push(range);
                    range
                }
            };
            out[i] = range.buffer;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_respect_their_size_and_neighbours_differ() {
        let spec = |i: usize, n: usize| ParamSpec {
            name: format!("p{i}"),
            shape: Shape::new(&[n]).unwrap(),
            init: ParamInit::Zeros,
            decay: false,
        };
        let mut table = ParamTable::default();
        (0..40).for_each(|i| assert_eq!(table.get_or_add(spec(i, 1 + i * 100_003)).unwrap(), i));
        let (places, words) = place(&table);
        let specs = table.specs();
        assert!(words.iter().all(|&w| w <= SEGMENT));
        let mut used = vec![0; words.len()];
        for (p, s) in places.iter().zip(specs) {
            assert_eq!(p.offset % ALIGN, 0);
            used[p.segment] += s.shape.elements().next_multiple_of(ALIGN);
        }
        assert_eq!(used, words);
        assert!(places.windows(2).all(|w| w[0].segment != w[1].segment));

        // A group moves into segments of its own; those of the others are as they were without it.
        let before = places.iter().map(|p| (p.segment, p.offset)).collect::<Vec<_>>();
        for i in 40..50 {
            let other = ParamSpec { name: format!("other.p{i}"), ..spec(i, 100) };
            assert_eq!(table.get_or_add(other).unwrap(), i);
        }
        table.train_apart("other.");
        let (places, _) = place(&table);
        let after = places.iter().map(|p| (p.segment, p.offset)).collect::<Vec<_>>();
        assert_eq!(after[..40], before);
        assert!(places[40..].iter().all(|p| p.segment >= words.len()));
    }
}
