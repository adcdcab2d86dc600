//! Compiles a tape against a store: who lives where, which launches, in which lists.

use super::flatten::{Flat, flatten};
use super::halves::{self, Halves};
use super::optimise::{self, Optimiser};
use super::ring::{Ring, RingRow};
use super::slots::{Interval, assign};
use super::store::{ALIGN, Kind, Store};
use super::totals::Totals;
use super::{dump, fuse, lanes};
use crate::device::{Launch, ListId, Range};
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::kernels::fill::FillWord;
use crate::tape::{Home, Phase, Precision, Tape, Value, ValueId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A quiet NaN that no computation produces, of two NaN halves: what poisoned slots hold.
const POISON: u32 = 0x7fc0_7fad;

/// Which weights a plan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    #[default]
    Current,
    /// The exponential moving average.
    Average,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub weights: Weights,
    /// Train: gradients are clipped and applied after the lanes.
    pub optimiser: Option<Optimiser>,
    /// Whose gradients the plan gathers and which parameters it updates: the prefix of a group that
    /// is trained apart ([`ParamTable::train_apart`](super::ParamTable::train_apart)), or "" for all
    /// others.
    pub group: String,
    /// Micro-batches a step; 0 counts as 1.
    pub lanes: usize,
    /// Every value its own slot (a proof of the planner: results must not change).
    pub no_reuse: bool,
    /// NaN bits at the birth and death of every slot (another one).
    pub poison: bool,
    /// Joins launches where that changes no result; on by default.
    pub fuse: bool,
    /// In mixed precision, nothing stored as f16 all the same (a proof of loss scaling: results are
    /// those of f32).
    pub no_half: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            weights: Weights::default(),
            optimiser: None,
            group: String::new(),
            lanes: 1,
            no_reuse: false,
            poison: false,
            fuse: true,
            no_half: false,
        }
    }
}

/// What a compiled plan costs, beside the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanStats {
    pub lane_launches: usize,
    pub update_launches: usize,
    /// Barriers a device that tracks hazards by buffer inserts in lane and update together.
    pub barriers: usize,
    pub slots: usize,
    pub slot_bytes: u64,
    /// Bytes of all temporaries if none shared a slot.
    pub tensor_bytes: u64,
    /// Temporaries stored as f16, and what the slots would be without them.
    pub halves: usize,
    pub slot_bytes_f32: u64,
    pub flops: u64,
}

/// A replayable step.
#[derive(Debug)]
pub struct Plan {
    lane: ListId,
    update: ListId,
    merge: lanes::Merge,
    inputs: HashMap<String, Range>,
    outputs: HashMap<String, Range>,
    sums: BTreeMap<String, Range>,
    /// Rows of (all sums | control words) of the last steps.
    ring: Option<Ring>,
    pub stats: PlanStats,
    pub dump: String,
    /// Of the dump and of all shaders: equal hashes on one device promise equal bits.
    pub hash: String,
}

/// A launch, with what the planner and the dump need to know about it.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub launch: Launch,
    pub writes: Vec<bool>,
    pub op: &'static str,
}

impl Plan {
    /// # Errors
    /// A tensor that the device cannot bind; memory; mixed precision on a device without f16; a
    /// defect of the tape.
    pub fn compile(
        store: &mut Store,
        tape: &Tape,
        options: &Options,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Plan> {
        let mut flat = flatten(tape);
        let device = &store.device;
        halves::supported(&device.describe(), device.caps(), tape.precision())?;
        let mut places = HashMap::new();
        let mut plan_maps = persistent(store, tape, options.weights, &mut places)?;
        let mut joined = String::new();
        if options.fuse {
            let before = Totals::of(tape, &flat, &places)?;
            let contracts = store.device.kind() != "cpu";
            let done;
            (flat, done) = fuse::fuse(tape, flat, contracts)?;
            joined = dump::joined(&done, before, Totals::of(tape, &flat, &places)?);
        }
        let half_products = tape.precision() == Precision::Mixed && !options.no_half;
        let halves = if half_products { Halves::choose(tape, &flat) } else { Halves::default() };
        halves.lower(&mut flat);
        let (intervals, owners) = lifetimes(tape, &flat, &halves)?;
        let (slot_of, words) = if options.no_reuse {
            ((0..intervals.len()).collect(), intervals.iter().map(|i| i.words).collect())
        } else {
            assign(&intervals)
        };
        check_limits(store, tape, &halves, &words)?;
        let buffers = store.slots(&words)?;
        for (&value, &interval) in &owners {
            let len = halves.words(tape, value);
            places.insert(value, Range { buffer: buffers[slot_of[interval]], offset: 0, len });
        }
        let mut lane = vec![];
        let mut update = vec![];
        for (at, node) in flat.iter().enumerate() {
            let list = if node.phase == Phase::Lane { &mut lane } else { &mut update };
            let born = |i: &&Interval| i.first == at;
            let dead = |i: &&Interval| i.last == at;
            if options.poison {
                poison(list, &intervals, &slot_of, &buffers, born);
            }
            let binds = node.binds.iter().map(|b| places[b]).collect();
            let launch = Launch { kernel: node.kernel.clone(), binds };
            list.push(Planned { launch, writes: node.writes.clone(), op: node.op });
            if options.poison {
                poison(list, &intervals, &slot_of, &buffers, dead);
            }
        }
        check_group(store, tape, &options.group)?;
        let lanes = options.lanes.max(1);
        let merge = lanes::Merge::new(store, &options.group, plan_maps.sum_buffer, lanes)?;
        if let Some(optimiser) = &options.optimiser {
            let mut all = optimise::control(store, optimiser, tape.precision(), &options.group)?;
            all.append(&mut update);
            all.extend(optimise::apply(store, optimiser, &options.group)?);
            update = all;
            let scalars = plan_maps.sum_buffer.map(|s| Range { len: plan_maps.scalar_words, ..s });
            plan_maps.ring =
                Ring::append(store, scalars, tape.precision(), &options.group, &mut update)?;
        }
        for planned in lane.iter_mut().chain(&mut update) {
            let kernel = &mut planned.launch.kernel;
            *kernel = store.device.choose(kernel, half_products)?;
        }
        let mut stats = PlanStats {
            lane_launches: lane.len(),
            update_launches: update.len(),
            barriers: dump::barriers(lane.iter().chain(&update)),
            slots: words.len(),
            slot_bytes: words.iter().map(|&w| w as u64 * 4).sum(),
            tensor_bytes: owners.keys().map(|&v| halves.words(tape, v) as u64 * 4).sum(),
            halves: halves.len(),
            slot_bytes_f32: 0,
            flops: 0,
        };
        stats.flops = lane.iter().chain(&update).map(|p| p.launch.kernel.cost().flops).sum();
        stats.slot_bytes_f32 = stats.slot_bytes;
        if stats.halves > 0 {
            let full = lifetimes(tape, &flat, &Halves::default())?.0;
            stats.slot_bytes_f32 = assign(&full).1.iter().map(|&w| w as u64 * 4).sum();
        }
        let text = dump::text(store, tape, &lane, &update, &stats) + &joined;
        let hash = dump::hash(&text, lane.iter().chain(&update))?;
        let launches = |list: Vec<Planned>| list.into_iter().map(|p| p.launch).collect::<Vec<_>>();
        let (lane, update) = (launches(lane), launches(update));
        let all = lane.len() + update.len();
        let lane_len = lane.len();
        let lane = store.device.prepare(&lane, &mut |i, _| progress(i, all))?;
        let update = store.device.prepare(&update, &mut |i, _| progress(lane_len + i, all))?;
        Ok(Plan {
            lane,
            update,
            merge,
            inputs: plan_maps.inputs,
            outputs: plan_maps.outputs,
            sums: plan_maps.sums,
            ring: plan_maps.ring,
            stats,
            hash,
            dump: text,
        })
    }

    /// Where the host writes an input.
    pub fn input(&self, name: &str) -> Result<Range> {
        self.inputs
            .get(name)
            .copied()
            .ok_or_else(|| Error::failed(format!("the plan has no input {name}")))
    }

    pub fn output(&self, name: &str) -> Result<Range> {
        self.outputs
            .get(name)
            .copied()
            .ok_or_else(|| Error::failed(format!("the plan has no output {name}")))
    }

    /// A named sum after the step (summed over lanes).
    pub fn sum(&self, name: &str) -> Result<Range> {
        self.sums
            .get(name)
            .copied()
            .ok_or_else(|| Error::failed(format!("the plan has no sum {name}")))
    }

    pub fn lanes(&self) -> usize {
        self.merge.lanes()
    }

    /// Replays one lane; after the last one, merges what is pending and runs the update list.
    pub fn run_lane(&self, store: &mut Store, lane: usize, step: &StepScalars) -> Result<()> {
        let mut lists = lanes::Lists::starting(self.lane);
        self.merge.after_lane(lane, &mut lists);
        if lane + 1 == self.lanes() {
            lists.push(self.update);
        }
        store.device.run(lists.as_slice(), step)
    }

    /// The named scalars and the control words of recent steps, oldest first.
    ///
    /// # Errors
    /// More steps than the ring has rows; a plan that does not train.
    pub fn read_ring(
        &self,
        store: &mut Store,
        steps: std::ops::Range<u64>,
    ) -> Result<Vec<RingRow>> {
        match &self.ring {
            Some(ring) => ring.read(store, &self.sums, steps),
            None => Err(Error::failed("the plan does not train and keeps no ring")),
        }
    }
}

/// The gradients on the tape belong to the group alone: those of others would be lost.
fn check_group(store: &Store, tape: &Tape, group: &str) -> Result<()> {
    for (_, value) in tape.values() {
        let Home::Grad(i) = value.home else { continue };
        let name = &store.table().specs()[i].name;
        let own = store.table().group_of(name);
        if own != group {
            return Err(Error::failed(format!("{name} of group {own:?} in a plan of {group:?}"))
                .help("freeze the parameters that another plan trains"));
        }
    }
    Ok(())
}

/// Ranges of everything that is not a temporary.
struct PlanMaps {
    inputs: HashMap<String, Range>,
    outputs: HashMap<String, Range>,
    sums: BTreeMap<String, Range>,
    sum_buffer: Option<Range>,
    scalar_words: usize,
    ring: Option<Ring>,
}

fn is_scalar_sum(value: &Value) -> bool {
    matches!(value.home, Home::Sum(_)) && value.shape.elements() == 1
}

fn persistent(
    store: &mut Store,
    tape: &Tape,
    weights: Weights,
    places: &mut HashMap<ValueId, Range>,
) -> Result<PlanMaps> {
    let mut maps = PlanMaps {
        inputs: HashMap::new(),
        outputs: HashMap::new(),
        sums: BTreeMap::new(),
        sum_buffer: None,
        scalar_words: 0,
        ring: None,
    };
    let sum_words: usize = tape
        .values()
        .filter(|(_, v)| matches!(v.home, Home::Sum(_)))
        .map(|(_, v)| v.shape.elements().next_multiple_of(ALIGN))
        .sum();
    if sum_words > 0 {
        let buffer = store.device.create_buffer(sum_words, "sums")?;
        maps.sum_buffer = Some(Range { buffer, offset: 0, len: sum_words });
    }
    // Scalars come first, so that the ring keeps a short prefix of the sums.
    let scalars = tape.values().filter(|(_, v)| is_scalar_sum(v)).count() * ALIGN;
    maps.scalar_words = scalars;
    let (mut next_scalar, mut next_sum) = (0, scalars);
    for (id, value) in tape.values() {
        let len = value.shape.elements();
        let own = |store: &mut Store, label: &str| -> Result<Range> {
            Ok(Range { buffer: store.device.create_buffer(len, label)?, offset: 0, len })
        };
        let range = match &value.home {
            Home::Temp | Home::Alias(_) => continue,
            Home::Input(name) => {
                let range = own(store, &format!("input {name}"))?;
                maps.inputs.insert(name.clone(), range);
                range
            }
            Home::Output(name) => {
                let range = own(store, &format!("output {name}"))?;
                maps.outputs.insert(name.clone(), range);
                range
            }
            Home::Const(bits) => {
                let range = own(store, "constant")?;
                store.device.write(range.buffer, 0, bits)?;
                range
            }
            Home::Param(i) => {
                store.range(if weights == Weights::Average { Kind::Ema } else { Kind::Param }, *i)
            }
            Home::Grad(i) => store.range(Kind::Grad, *i),
            Home::State(name) => store.state(name, len)?,
            Home::Sum(name) => {
                let Some(all) = maps.sum_buffer else { continue };
                let next = if is_scalar_sum(value) { &mut next_scalar } else { &mut next_sum };
                let range = Range { buffer: all.buffer, offset: *next, len };
                *next += len.next_multiple_of(ALIGN);
                maps.sums.insert(name.clone(), range);
                range
            }
        };
        places.insert(id, range);
    }
    Ok(maps)
}

/// Intervals of all temporaries; values that share storage by an in-place write are one interval.
pub(super) fn lifetimes(
    tape: &Tape,
    flat: &[Flat],
    halves: &Halves,
) -> Result<(Vec<Interval>, HashMap<ValueId, usize>)> {
    let mut intervals: Vec<Interval> = vec![];
    let mut phases: Vec<Phase> = vec![];
    let mut owner: HashMap<ValueId, usize> = HashMap::new();
    for (at, node) in flat.iter().enumerate() {
        if let Some((from, to)) = node.takes {
            let shared = owner[&from];
            owner.insert(to, shared);
        }
        for &id in &node.binds {
            if tape.value(id).home != Home::Temp {
                continue;
            }
            let words = halves.words(tape, id);
            let index = *owner.entry(id).or_insert_with(|| {
                intervals.push(Interval { words, first: at, last: at });
                phases.push(node.phase);
                intervals.len() - 1
            });
            intervals[index].last = at;
            if phases[index] != node.phase {
                return Err(Error::failed(format!(
                    "{}: a temporary crosses from the lane to the update list",
                    node.op
                )));
            }
        }
    }
    Ok((intervals, owner))
}

fn check_limits(store: &Store, tape: &Tape, halves: &Halves, words: &[usize]) -> Result<()> {
    let limit = store.device.limits().max_binding_bytes.min(store.device.limits().max_buffer_bytes);
    let largest = words.iter().copied().max().unwrap_or(0) as u64 * 4;
    if largest <= limit {
        return Ok(());
    }
    let guilty = tape.values().find(|&(id, _)| halves.words(tape, id) as u64 * 4 == largest);
    let what = guilty.map_or(String::new(), |(_, v)| format!(" ({} of {})", v.shape, v.op));
    Err(Error::device(format!("a tensor needs {} MiB in one piece{what}", largest >> 20))
        .at(store.device.describe())
        .why(format!("the device binds at most {} MiB", limit >> 20))
        .help("use a smaller batch with more lanes, or --device cpu"))
}

fn poison(
    list: &mut Vec<Planned>,
    intervals: &[Interval],
    slot_of: &[usize],
    buffers: &[crate::device::BufferId],
    when: impl Fn(&&Interval) -> bool,
) {
    for (i, interval) in intervals.iter().enumerate().filter(|(_, x)| when(x)) {
        let range = Range { buffer: buffers[slot_of[i]], offset: 0, len: interval.words };
        list.push(Planned {
            launch: Launch {
                kernel: Arc::new(FillWord { n: interval.words, bits: POISON }),
                binds: vec![range],
            },
            writes: vec![true],
            op: "poison",
        });
    }
}
