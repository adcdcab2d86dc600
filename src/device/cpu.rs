//! The built-in CPU device: runs every kernel's cpu form on a pool of threads.

use super::widen::{narrow, widen};
use super::{BufferId, Device, Launch, Limits, ListId, Mark, Range, Stats};
use crate::error::{Error, Result};
use crate::kernels::{Bind, Caps, Io, Kernel, MAX_BINDS, StepScalars};
use crate::shader::{self, Element, Layout};
use std::sync::Arc;

#[derive(Debug)]
pub struct CpuDevice {
    buffers: Vec<Vec<u32>>,
    lists: Vec<Vec<Resolved>>,
    /// Where halves are f32 while a kernel runs; as large as the largest launch needs.
    scratch: Vec<f32>,
    pool: rayon::ThreadPool,
    stats: Stats,
    caps: Caps,
    naive: bool,
}

/// A launch with its bindings sorted into reads and writes.
#[derive(Debug)]
struct Resolved {
    kernel: Arc<dyn Kernel>,
    binds: Vec<Range>,
    elements: Vec<Element>,
    /// Elements of each binding: of halves twice the words.
    lens: Vec<usize>,
    /// Binding indices that are written, ordered by (buffer, offset), so that several ranges of one
    /// buffer can be split off one after another.
    writes: Vec<usize>,
    reads: Vec<usize>,
}

impl CpuDevice {
    /// `threads` = 0: one per core. Results do not depend on it.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("cpu-{i}"))
            .build()
            .map_err(|e| Error::no_device("cannot start the CPU device's threads").why(e))?;
        Ok(CpuDevice {
            buffers: vec![],
            lists: vec![],
            scratch: vec![],
            pool,
            stats: Stats::default(),
            // Halves are converted: slower than f32, but half the memory.
            caps: Caps { f16: true, ..Caps::default() },
            naive: false,
        })
    }

    /// The same device running the naive forms: the oracle of whole plans.
    pub fn naive() -> Result<Self> {
        Ok(CpuDevice { naive: true, ..Self::new(1)? })
    }

    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn check(&self, r: &Range) -> Result<()> {
        let len = self.buffers[r.buffer.0 as usize].len();
        if r.offset + r.len > len {
            return Err(Error::failed(format!("range {r:?} exceeds its buffer of {len} words")));
        }
        Ok(())
    }
}

fn resolve(launch: &Launch, layout: &Layout) -> Result<Resolved> {
    check_launch(launch, layout)?;
    let all = 0..launch.binds.len();
    let (mut writes, reads): (Vec<_>, Vec<_>) = all.partition(|&i| layout.writes(i));
    writes.sort_by_key(|&i| (launch.binds[i].buffer, launch.binds[i].offset));
    Ok(Resolved {
        kernel: launch.kernel.clone(),
        binds: launch.binds.clone(),
        elements: layout.storage.iter().map(|b| b.element).collect(),
        lens: launch.kernel.lens(),
        writes,
        reads,
    })
}

/// Bindings as many and as long as the kernel says, written ranges disjoint from every other.
pub(super) fn check_launch(launch: &Launch, layout: &Layout) -> Result<()> {
    let name = launch.kernel.name();
    let lens = launch.kernel.lens();
    if lens.len() != layout.storage.len() || lens.len() != launch.binds.len() {
        return Err(Error::failed(format!(
            "{name}: {} bindings in the shader, {} lengths, {} ranges",
            layout.storage.len(),
            lens.len(),
            launch.binds.len()
        )));
    }
    for (i, (len, range)) in lens.iter().zip(&launch.binds).enumerate() {
        let words = layout.storage[i].element.words(*len);
        if words != range.len {
            return Err(Error::failed(format!(
                "{name}: binding {} ({}) wants {words} words, is given {}",
                i, layout.storage[i].name, range.len
            )));
        }
    }
    for (i, a) in launch.binds.iter().enumerate().filter(|(i, _)| layout.writes(*i)) {
        for (j, b) in launch.binds.iter().enumerate().filter(|(j, _)| *j != i) {
            // wgpu tracks whole buffers: a buffer read and written in one dispatch is refused at
            // any offset, so the CPU device refuses it too.
            let overlap = a.offset < b.offset + b.len && b.offset < a.offset + a.len;
            if a.buffer == b.buffer && (overlap || !layout.writes(j)) {
                return Err(Error::failed(format!(
                    "{name}: bindings {} and {} share a buffer that is written",
                    layout.storage[i].name, layout.storage[j].name
                )));
            }
        }
    }
    Ok(())
}

impl Device for CpuDevice {
    fn describe(&self) -> String {
        format!("cpu: built-in, {} threads", self.threads())
    }

    fn kind(&self) -> &'static str {
        "cpu"
    }

    fn driver(&self) -> String {
        String::new()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn host_threads(&self) -> Option<usize> {
        Some(self.threads())
    }

    fn limits(&self) -> Limits {
        // Kernels index with u32.
        Limits { max_binding_bytes: (1 << 31) - 4, max_buffer_bytes: u64::MAX }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn create_buffer(&mut self, words: usize, label: &str) -> Result<BufferId> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(words).map_err(|e| {
            Error::device(format!("out of memory: {label} wants {} MiB", (words * 4) >> 20))
                .why(e)
                .help("use a smaller batch")
        })?;
        buffer.resize(words, 0);
        self.stats.buffers += 1;
        self.stats.buffer_bytes += words as u64 * 4;
        self.buffers.push(buffer);
        Ok(BufferId(self.buffers.len() as u32 - 1))
    }

    fn write(&mut self, buffer: BufferId, offset: usize, words: &[u32]) -> Result<()> {
        self.check(&Range { buffer, offset, len: words.len() })?;
        self.buffers[buffer.0 as usize][offset..offset + words.len()].copy_from_slice(words);
        Ok(())
    }

    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u32]) -> Result<()> {
        self.check(&Range { buffer, offset, len: out.len() })?;
        out.copy_from_slice(&self.buffers[buffer.0 as usize][offset..offset + out.len()]);
        Ok(())
    }

    fn prepare(
        &mut self,
        launches: &[Launch],
        _progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ListId> {
        let mut list = vec![];
        for launch in launches {
            for range in &launch.binds {
                self.check(range)?;
            }
            list.push(resolve(launch, &*shader::layout(&*launch.kernel)?)?);
        }
        let wanted = list.iter().map(|r| r.halves().map(|i| r.lens[i]).sum()).max().unwrap_or(0);
        if wanted > self.scratch.len() {
            self.scratch.resize(wanted, 0.0);
        }
        self.lists.push(list);
        Ok(ListId(self.lists.len() as u32 - 1))
    }

    fn run(&mut self, lists: &[ListId], step: &StepScalars) -> Result<()> {
        let CpuDevice { buffers, lists: all, scratch, pool, stats, naive, .. } = self;
        pool.install(|| {
            for id in lists {
                for launch in &all[id.0 as usize] {
                    launch.widen(buffers, scratch);
                    launch.run(buffers, scratch, step, *naive);
                    launch.narrow(scratch, buffers);
                    stats.dispatches += 1;
                }
            }
        });
        self.stats.submits += 1;
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            buffers: self.buffers.len(),
            lists: self.lists.len(),
            counted: (self.stats.buffers, self.stats.buffer_bytes),
        }
    }

    fn release(&mut self, mark: Mark) {
        self.buffers.truncate(mark.buffers);
        self.lists.truncate(mark.lists);
        (self.stats.buffers, self.stats.buffer_bytes) = mark.counted;
    }

    fn clear(&mut self) {
        self.buffers.clear();
        self.lists.clear();
        self.scratch = vec![];
        self.stats.buffers = 0;
        self.stats.buffer_bytes = 0;
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

fn words<'b>(buffers: &'b [Vec<u32>], r: &Range) -> &'b [u32] {
    &buffers[r.buffer.0 as usize][r.offset..r.offset + r.len]
}

impl Resolved {
    /// The bindings that are stored as halves.
    fn halves(&self) -> impl Iterator<Item = usize> {
        (0..self.binds.len()).filter(|&i| self.elements[i] == Element::F16)
    }

    /// Fills the front of `scratch` with the halves as f32, one binding after another. Written ones
    /// too: a kernel may add to them.
    fn widen(&self, buffers: &[Vec<u32>], mut scratch: &mut [f32]) {
        for i in self.halves() {
            let (mine, rest) = scratch.split_at_mut(self.lens[i]);
            widen(words(buffers, &self.binds[i]), mine);
            scratch = rest;
        }
    }

    /// Rounds what the kernel wrote.
    fn narrow(&self, mut scratch: &[f32], buffers: &mut [Vec<u32>]) {
        for i in self.halves() {
            let (mine, rest) = scratch.split_at(self.lens[i]);
            if self.writes.contains(&i) {
                let Range { buffer, offset, len } = self.binds[i];
                narrow(mine, &mut buffers[buffer.0 as usize][offset..offset + len]);
            }
            scratch = rest;
        }
    }

    fn run(
        &self,
        buffers: &mut [Vec<u32>],
        mut scratch: &mut [f32],
        step: &StepScalars,
        naive: bool,
    ) {
        // Written buffers are taken out of the table, so that the rest can be borrowed for reading.
        let mut taken: [Vec<u32>; MAX_BINDS] = Default::default();
        for (t, &i) in taken.iter_mut().zip(&self.writes) {
            *t = std::mem::take(&mut buffers[self.binds[i].buffer.0 as usize]);
        }
        {
            let mut io = Io::<f32>::new(*step);
            for i in self.halves() {
                let (mine, rest) = std::mem::take(&mut scratch).split_at_mut(self.lens[i]);
                let written = self.writes.contains(&i);
                io.binds[i] = if written { Bind::Out(mine) } else { Bind::In(mine) };
                scratch = rest;
            }
            for &i in &self.reads {
                let words = words(buffers, &self.binds[i]);
                match self.elements[i] {
                    Element::F32 => io.binds[i] = Bind::In(bytemuck::cast_slice(words)),
                    Element::U32 => io.binds[i] = Bind::InU(words),
                    Element::F16 => {}
                }
            }
            // Several written ranges of one buffer: the first `take` got the vector, the following
            // ones an empty one, and their ranges are split off the first one's rest.
            let mut rest: &mut [u32] = &mut [];
            let mut consumed = 0;
            for (slot, (t, &i)) in taken.iter_mut().zip(&self.writes).enumerate() {
                let r = &self.binds[i];
                let first = slot == 0 || self.binds[self.writes[slot - 1]].buffer != r.buffer;
                if first {
                    rest = t;
                    consumed = 0;
                }
                let (range, tail) =
                    std::mem::take(&mut rest)[r.offset - consumed..].split_at_mut(r.len);
                rest = tail;
                consumed = r.offset + r.len;
                match self.elements[i] {
                    Element::F32 => io.binds[i] = Bind::Out(bytemuck::cast_slice_mut(range)),
                    Element::U32 => io.binds[i] = Bind::OutU(range),
                    Element::F16 => {}
                }
            }
            if naive {
                self.kernel.naive32(&mut io);
            } else {
                self.kernel.cpu(&mut io);
            }
        }
        for (slot, &i) in self.writes.iter().enumerate() {
            let buffer = self.binds[i].buffer;
            if slot == 0 || self.binds[self.writes[slot - 1]].buffer != buffer {
                buffers[buffer.0 as usize] = std::mem::take(&mut taken[slot]);
            }
        }
    }
}
