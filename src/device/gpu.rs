//! A GPU through wgpu. Only this file, its parts `gpu_*.rs` and `select.rs` name wgpu.
//!
//! A command buffer cannot be submitted twice, so a step is re-encoded each time; what can be
//! resolved beforehand is: pipelines, bind groups and the `dims` uniforms are made in `prepare`, and
//! `run` walks flat arrays.

use super::cpu::check_launch;
use super::gpu_clock::Stopwatch;
use super::gpu_pass::{self, Dispatch};
use super::gpu_pipeline::Pipeline;
use super::timing::{CpuClock, by_wall_clock};
use super::{BufferId, Device, Launch, Limits, ListId, Mark, Sample, Stats, Timer, Tuner};
use crate::error::{Error, Result};
use crate::kernels::{Caps, Kernel, SOFTWARE_ROUNDS, StepScalars};
use crate::shader::{self, DIMS_BINDING, STEP_BINDING};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Steps that may be under way on the device while the CPU encodes the next one.
const IN_FLIGHT: usize = 2;
/// A wait longer than this is reported as a hang.
const HANG: Duration = Duration::from_secs(600);
/// Words of the read-back buffer.
const STAGING: usize = 1 << 20;

pub struct GpuDevice {
    name: String,
    driver: String,
    caps: Caps,
    tuner: Tuner,
    device: wgpu::Device,
    queue: wgpu::Queue,
    buffers: Vec<wgpu::Buffer>,
    lists: Vec<Vec<Dispatch>>,
    /// By preprocessed source: kernels that differ only in `dims` share one.
    pipelines: HashMap<String, Arc<Pipeline>>,
    step: wgpu::Buffer,
    staging: Option<wgpu::Buffer>,
    /// None where the adapter has no timestamps.
    stopwatch: Option<Stopwatch>,
    pending: VecDeque<wgpu::SubmissionIndex>,
    limits: Limits,
    stats: Stats,
    fault: Arc<Mutex<Option<String>>>,
    /// What the device was last given to do, for the error of a hang.
    last: &'static str,
}

impl std::fmt::Debug for GpuDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuDevice").field("name", &self.name).field("stats", &self.stats).finish()
    }
}

impl GpuDevice {
    pub(super) fn new(
        name: String,
        driver: String,
        caps: Caps,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Self {
        let fault = Arc::new(Mutex::new(None));
        let keep = |fault: &Arc<Mutex<Option<String>>>, text: String| {
            if let Ok(mut slot) = fault.lock() {
                slot.get_or_insert(text);
            }
        };
        let at_error = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| keep(&at_error, e.to_string())));
        let at_loss = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            keep(&at_loss, format!("device lost ({reason:?}): {message}"));
        });
        let limits = device.limits();
        let step = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step"),
            size: size_of::<StepScalars>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let timestamps = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        GpuDevice {
            name,
            driver,
            caps,
            tuner: Tuner::default(),
            stopwatch: timestamps.then(|| Stopwatch::new(&device, &queue)),
            buffers: vec![],
            lists: vec![],
            pipelines: HashMap::new(),
            step,
            staging: None,
            pending: VecDeque::new(),
            limits: Limits {
                max_binding_bytes: limits.max_storage_buffer_binding_size,
                max_buffer_bytes: limits.max_buffer_size,
            },
            stats: Stats::default(),
            fault,
            last: "nothing",
            device,
            queue,
        }
    }

    /// An error the driver or wgpu reported since the last check.
    fn check(&self) -> Result<()> {
        match self.fault.lock().ok().and_then(|f| f.clone()) {
            None => Ok(()),
            Some(message) => Err(Error::device("the GPU reported an error")
                .at(format!("{}, near kernel {}", self.name, self.last))
                .why(message)
                .help("resume from the last checkpoint, or run with --device cpu")),
        }
    }

    fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index, timeout: Some(HANG) };
        if let Err(e) = self.device.poll(poll) {
            return Err(Error::device(format!(
                "the GPU did not finish within {} s",
                HANG.as_secs()
            ))
            .at(format!("{}, near kernel {}", self.name, self.last))
            .why(e));
        }
        self.check()
    }

    fn pipeline(&mut self, kernel: &dyn Kernel) -> Result<Arc<Pipeline>> {
        let source = shader::source(kernel)?;
        if let Some(known) = self.pipelines.get(&source) {
            return Ok(known.clone());
        }
        self.last = kernel.name();
        let made = Arc::new(Pipeline::compile(&self.device, &self.name, kernel, &source)?);
        self.stats.pipelines += 1;
        self.pipelines.insert(source, made.clone());
        Ok(made)
    }

    /// All `dims` words of a list in one uniform buffer, each at an aligned offset.
    fn dims_buffer(&mut self, launches: &[Launch]) -> (Option<wgpu::Buffer>, Vec<u64>) {
        let align = u64::from(self.device.limits().min_uniform_buffer_offset_alignment);
        let mut bytes: Vec<u8> = vec![];
        let mut offsets = vec![];
        for launch in launches {
            offsets.push(bytes.len() as u64);
            let words = launch.kernel.dims();
            bytes.extend_from_slice(bytemuck::cast_slice(&words));
            bytes.resize((bytes.len() as u64).next_multiple_of(align) as usize, 0);
        }
        if bytes.is_empty() {
            return (None, offsets);
        }
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("dims"),
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.stats.buffers += 1;
        self.stats.buffer_bytes += bytes.len() as u64;
        self.queue.write_buffer(&buffer, 0, &bytes);
        (Some(buffer), offsets)
    }

    fn submit(&mut self, encoder: wgpu::CommandEncoder) {
        self.pending.push_back(self.queue.submit([encoder.finish()]));
        self.stats.submits += 1;
    }

    /// One timed run: the sum over its submissions, each waited for.
    fn sample(&mut self, clock: &Stopwatch, list: ListId, step: &StepScalars) -> Result<Sample> {
        self.finish()?;
        self.queue.write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        let cpu = CpuClock::start();
        let mut seconds = 0.0;
        let mut dispatches = self.lists[list.0 as usize].iter().peekable();
        while dispatches.peek().is_some() {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(clock.writes()),
            });
            let (last, done) = gpu_pass::encode(&mut pass, &mut dispatches);
            drop(pass);
            clock.resolve(&mut encoder);
            self.queue.submit([encoder.finish()]);
            clock.map();
            self.stats.submits += 1;
            self.stats.dispatches += done;
            self.last = last;
            self.wait(None)?;
            seconds += clock.seconds()?;
        }
        Ok(Sample { seconds, cpu_seconds: cpu.seconds() })
    }
}

impl Device for GpuDevice {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> &'static str {
        "gpu"
    }

    fn driver(&self) -> String {
        self.driver.clone()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn create_buffer(&mut self, words: usize, label: &str) -> Result<BufferId> {
        let bytes = (words.max(4) * 4) as u64; // Zero-sized bindings are invalid.
        if bytes > self.limits.max_buffer_bytes.min(self.limits.max_binding_bytes) {
            let limit = self.limits.max_binding_bytes.min(self.limits.max_buffer_bytes) >> 20;
            return Err(Error::device(format!("{label} wants {} MiB", bytes >> 20))
                .at(&self.name)
                .why(format!("the device binds at most {limit} MiB at once"))
                .help("use a smaller batch, or more lanes"));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        if let Some(e) = pollster::block_on(scope.pop()) {
            let total = (self.stats.buffer_bytes + bytes) >> 20;
            return Err(Error::device(format!("out of device memory at {total} MiB"))
                .at(format!("{}, buffer {label}", self.name))
                .why(e)
                .help("use a smaller batch, or more lanes"));
        }
        self.stats.buffers += 1;
        self.stats.buffer_bytes += bytes;
        self.buffers.push(buffer);
        Ok(BufferId(self.buffers.len() as u32 - 1))
    }

    fn write(&mut self, buffer: BufferId, offset: usize, words: &[u32]) -> Result<()> {
        let target = &self.buffers[buffer.0 as usize];
        self.queue.write_buffer(target, offset as u64 * 4, bytemuck::cast_slice(words));
        self.check()
    }

    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u32]) -> Result<()> {
        let staging = self.staging.get_or_insert_with(|| {
            self.stats.buffers += 1;
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: STAGING as u64 * 4,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let staging = staging.clone();
        let mut at = offset as u64 * 4;
        for chunk in out.chunks_mut(STAGING) {
            let bytes = chunk.len() as u64 * 4;
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&self.buffers[buffer.0 as usize], at, &staging, 0, bytes);
            self.submit(encoder);
            // The outcome arrives in the uncaptured-error handler and in get_mapped_range.
            staging.map_async(wgpu::MapMode::Read, 0..bytes, |_| {});
            self.pending.clear();
            self.wait(None)?;
            let view = staging.get_mapped_range(0..bytes).map_err(|e| {
                Error::device("cannot read back from the GPU").at(&self.name).why(e)
            })?;
            bytemuck::cast_slice_mut::<u32, u8>(chunk).copy_from_slice(&view);
            drop(view);
            staging.unmap();
            at += bytes;
        }
        Ok(())
    }

    fn prepare(
        &mut self,
        launches: &[Launch],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ListId> {
        let (dims, offsets) = self.dims_buffer(launches);
        let mut list = vec![];
        for (i, (launch, &offset)) in launches.iter().zip(&offsets).enumerate() {
            progress(i, launches.len());
            let name = launch.kernel.name();
            let rounds = launch.kernel.rounds();
            if self.caps.software && rounds > SOFTWARE_ROUNDS {
                return Err(Error::device(format!("{name} loops {rounds} times at these sizes"))
                    .at(&self.name)
                    .why(format!("software Vulkan may leave loops after {SOFTWARE_ROUNDS} rounds"))
                    .help("use --device cpu, or fewer codes"));
            }
            let pipeline = self.pipeline(&*launch.kernel)?;
            check_launch(launch, &pipeline.layout)?;
            let words = launch.kernel.dims().len() as u32;
            if (words * 4).next_multiple_of(16) != pipeline.layout.dims_bytes.next_multiple_of(16) {
                return Err(Error::failed(format!(
                    "{name}: {words} dims words for a uniform of {} bytes",
                    pipeline.layout.dims_bytes
                )));
            }
            let mut entries = vec![];
            for (binding, range) in launch.binds.iter().enumerate() {
                entries.push(wgpu::BindGroupEntry {
                    binding: binding as u32,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &self.buffers[range.buffer.0 as usize],
                        offset: range.offset as u64 * 4,
                        size: NonZeroU64::new(range.len as u64 * 4),
                    }),
                });
            }
            if let (Some(dims), true) = (&dims, pipeline.layout.dims_bytes > 0) {
                entries.push(wgpu::BindGroupEntry {
                    binding: DIMS_BINDING,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: dims,
                        offset,
                        size: NonZeroU64::new(u64::from(pipeline.layout.dims_bytes)),
                    }),
                });
            }
            if pipeline.layout.uses_step {
                entries.push(wgpu::BindGroupEntry {
                    binding: STEP_BINDING,
                    resource: self.step.as_entire_binding(),
                });
            }
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(name),
                layout: &pipeline.bindings,
                entries: &entries,
            });
            self.last = name;
            self.check()?;
            list.push(Dispatch {
                pipeline: pipeline.pipeline.clone(),
                group,
                grid: launch.kernel.grid(),
                seconds: gpu_pass::slow_seconds(launch.kernel.cost()),
                name,
            });
        }
        progress(launches.len(), launches.len());
        self.lists.push(list);
        Ok(ListId(self.lists.len() as u32 - 1))
    }

    fn run(&mut self, lists: &[ListId], step: &StepScalars) -> Result<()> {
        while self.pending.len() > IN_FLIGHT {
            let oldest = self.pending.pop_front();
            self.wait(oldest)?;
        }
        let started = Instant::now();
        self.queue.write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        let mut dispatches = lists.iter().flat_map(|l| &self.lists[l.0 as usize]).peekable();
        while dispatches.peek().is_some() {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let (last, done) = gpu_pass::encode(&mut pass, &mut dispatches);
            drop(pass);
            self.pending.push_back(self.queue.submit([encoder.finish()]));
            self.stats.submits += 1;
            self.stats.dispatches += done;
            self.last = last;
        }
        self.stats.encode_ns += started.elapsed().as_nanos() as u64;
        self.check()
    }

    fn choose(&mut self, kernel: &Arc<dyn Kernel>, half_products: bool) -> Result<Arc<dyn Kernel>> {
        let mut tuner = std::mem::take(&mut self.tuner);
        let caps = Caps { half_products, ..self.caps.clone() };
        let chosen = tuner.choose(self, kernel, &caps);
        self.tuner = tuner;
        chosen
    }

    fn set_tuner(&mut self, tuner: Tuner) {
        self.tuner = tuner;
    }

    fn tuner(&self) -> Option<&Tuner> {
        Some(&self.tuner)
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

    fn timer(&self) -> Timer {
        if self.stopwatch.is_some() { Timer::Timestamps } else { Timer::Wall }
    }

    fn time(&mut self, list: ListId, step: &StepScalars, samples: usize) -> Result<Vec<Sample>> {
        let Some(stopwatch) = self.stopwatch.take() else {
            return by_wall_clock(self, list, step, samples);
        };
        let all = (0..samples).map(|_| self.sample(&stopwatch, list, step)).collect();
        self.stopwatch = Some(stopwatch);
        all
    }

    fn clear(&mut self) {
        self.lists.clear();
        self.buffers.clear();
        self.stats.buffers = 0;
        self.stats.buffer_bytes = 0;
    }

    fn finish(&mut self) -> Result<()> {
        self.pending.clear();
        self.wait(None)
    }
}
