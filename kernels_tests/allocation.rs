//! A training step allocates nothing: a counting allocator sees every thread of the CPU device, and
//! on a GPU the device's own counts of buffers and pipelines stand still. And the nearest code of
//! many rows among many codes holds nothing that grows with their product.
//!
//! One allocation is not ours: rayon hands a job to its pool through a queue that is a linked list of
//! blocks of 63 jobs (crossbeam-deque's `Injector`), and a step of one lane is one such job. Hence
//! "nothing" means: at most one block of that size for every 63 jobs, and not a byte beside.

#[expect(dead_code, reason = "of the helpers, some are used here")]
#[path = "device.rs"]
mod devices;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::Relaxed};
use vqforge::config::{Config, RateSchedule};
use vqforge::data::Dataset;
use vqforge::data::split::Split;
use vqforge::device::{CpuDevice, Device};
use vqforge::kernels::nearest_code::NearestCode;
use vqforge::kernels::{Kernel, StepScalars};
use vqforge::tape::Precision;
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::codes::Tokenizer;
use vqforge::train::diffusion::DiffusionJob;
use vqforge::train::{Console, Job, Material, Session, Snapshot};

/// Steps before counting starts: every buffer that grows on first use has grown.
const WARM_UP: usize = 6;
const LANES: usize = 2;
/// Jobs of one block of rayon's queue.
const BLOCK_JOBS: usize = 63;
/// Sizes of the first allocations that are kept for the report.
const KEPT: usize = 64;

struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
/// Bytes that are held of those allocated while counting, and their maximum.
static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static SIZES: [AtomicUsize; KEPT] = [const { AtomicUsize::new(0) }; KEPT];

fn count(bytes: usize) {
    if ON.load(Relaxed) {
        let at = COUNT.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes, Relaxed);
        if let Some(slot) = SIZES.get(at) {
            slot.store(bytes, Relaxed);
        }
        hold(bytes as isize);
    }
}

fn hold(change: isize) {
    if ON.load(Relaxed) {
        PEAK.fetch_max(LIVE.fetch_add(change, Relaxed) + change, Relaxed);
    }
}

// SAFETY: every request goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(-(layout.size() as isize));
        unsafe { System.realloc(old, layout, size) }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Sizes of the allocations (the first [`KEPT`]) that `f` makes on any thread, and how many.
fn allocations(f: impl FnOnce()) -> (usize, Vec<usize>) {
    COUNT.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    ON.store(true, Relaxed);
    f();
    ON.store(false, Relaxed);
    let n = COUNT.load(Relaxed);
    (n, SIZES.iter().take(n).map(|s| s.load(Relaxed)).collect())
}

fn config(precision: Precision) -> Config {
    let mut config = Config::default();
    config.train.precision = precision;
    config.model.block_out_channels = vec![8, 16];
    config.model.num_vq_embeddings = 16;
    config.model.vq_embed_dim = 4;
    config.quantiser.kmeans_iters = 1;
    config.quantiser.kmeans_samples = 64;
    // Reviving dead codes happens between steps, on the host, and allocates.
    config.quantiser.revive_every = 0;
    (config.denoiser.layers, config.denoiser.width, config.denoiser.heads) = (1, 16, 2);
    let train = &mut config.train;
    (train.batch, train.lanes, train.steps, train.warmup) = (8, LANES, 100_000, 2);
    train.schedule = RateSchedule::Constant;
    config
}

/// Blots of two classes; fewer images than ten batches, so that epochs end while we count.
fn material() -> Arc<Material> {
    const N: usize = 40;
    let pixel = |i: usize| ((i / 256 * 7919 + i % 256 * 31) % 251) as u8;
    let pixels = (0..N * 256).map(pixel).collect();
    let labels = (0..N as u32).map(|i| i % 2).collect();
    let images = Dataset::from_u8(pixels, [N, 16, 16, 1], Some(labels), vec![], "blots");
    let split = Split { train: (0..32).collect(), test: (32..40).collect(), warnings: vec![] };
    Arc::new(Material { images: images.expect("data"), split })
}

fn autoencoder(device: Box<dyn Device>, precision: Precision) -> (Session, Box<dyn Job>) {
    let mut job = AutoencoderJob::new(config(precision), material()).expect("job");
    let mut session = job.session(device, None, &mut |_, _| {}).expect("session");
    job.start(&mut session, &mut Console::new(true)).expect("start");
    (session, Box::new(job))
}

fn denoiser(device: Box<dyn Device>, precision: Precision) -> (Session, Box<dyn Job>) {
    let (mut trained, _) = autoencoder(Box::new(CpuDevice::new(1).expect("device")), precision);
    let mut snapshot = Snapshot::capture(&mut trained.store).expect("snapshot");
    snapshot.meta.insert("kind".into(), "vqvae".into());
    snapshot.meta.insert("config".into(), config(precision).to_toml().expect("toml"));
    let tokenizer = Tokenizer::from_snapshot(snapshot).expect("tokenizer");
    let open = || -> vqforge::error::Result<Box<dyn Device>> { Ok(Box::new(CpuDevice::new(1)?)) };
    let data = material();
    let (codes, _) = tokenizer.encode(open().expect("device"), &data.images).expect("codes");
    let job = DiffusionJob::new(config(precision), data, tokenizer, codes, Box::new(open));
    let mut job = job.expect("job");
    let session = job.session(device, None, &mut |_, _| {}).expect("session");
    (session, Box::new(job))
}

type Start = fn(Box<dyn Device>, Precision) -> (Session, Box<dyn Job>);
const JOBS: [(&str, Start, Precision); 3] = [
    ("autoencoder", autoencoder, Precision::F32),
    ("denoiser", denoiser, Precision::F32),
    ("autoencoder in mixed precision", autoencoder, Precision::Mixed),
];

fn steps(session: &mut Session, job: &mut dyn Job, n: usize) {
    for _ in 0..n {
        session.advance(job).unwrap_or_else(|e| panic!("{e}"));
    }
    session.store.device.finish().expect("finish");
}

/// One test, so that nothing else runs while the allocator counts.
#[test]
fn a_training_step_allocates_nothing() {
    // The counter counts.
    let (n, sizes) = allocations(|| drop(std::hint::black_box(vec![0u8; 4321])));
    assert_eq!((n, sizes), (1, vec![4321]));
    let (n, _) = allocations(|| {
        let thread = std::thread::spawn(|| drop(std::hint::black_box(Box::new([1u64; 9]))));
        thread.join().expect("thread");
    });
    assert!(n > 1, "allocations of other threads are seen");

    for (name, start, precision) in JOBS {
        for threads in [1, 2, 5] {
            const STEPS: usize = 130;
            const WINDOWS: usize = 6;
            let (mut session, mut job) =
                start(Box::new(CpuDevice::new(threads).expect("device")), precision);
            steps(&mut session, &mut *job, WARM_UP);
            let before = session.store.device.stats();
            // The first block may be nearly full, the last one nearly empty.
            let blocks = (STEPS * LANES).div_ceil(BLOCK_JOBS) + 1;
            let word = size_of::<usize>();
            // 63 jobs of three words, and the link.
            let block = BLOCK_JOBS * 3 * word + word;
            // A thread's scratch grows when it first gets a task of some kernel; on a busy machine
            // that can be after the warm-up. What a step itself allocates shows in every window.
            let settled = (0..WINDOWS).any(|_| {
                let (n, sizes) = allocations(|| steps(&mut session, &mut *job, STEPS));
                println!("{name}, {threads} threads: {n} allocations in {STEPS} steps: {sizes:?}");
                n <= blocks && sizes.iter().all(|&s| s == block)
            });
            assert!(settled, "{name}: more than {blocks} job blocks of {block} bytes each");
            assert_eq!(before.buffers, session.store.device.stats().buffers, "{name}");
        }
    }
    nearest_code_keeps_no_scores();
    on_the_gpu();
}

/// 65,536 rows against 65,536 codes: 16 GiB of scores, if anyone kept them. The CPU form may hold its
/// own copy of the codes and of the rows, with a word or two beside each.
fn nearest_code_keeps_no_scores() {
    const N: usize = 1 << 16;
    const D: usize = 2;
    let mut device = CpuDevice::new(2).expect("device");
    let kernel: Arc<dyn Kernel> = Arc::new(NearestCode::new(N, N, D));
    // A lattice of 256 x 256 points: every score is exact, and row i is code i.
    let points: Vec<u32> =
        (0..N).flat_map(|i| [i / 256, i % 256]).map(|x| (x as f32).to_bits()).collect();
    let binds = devices::bind(&mut device, &*kernel, &[points.clone(), points]);
    let list = devices::list(&mut device, &kernel, &binds);
    allocations(|| device.run(&[list], &StepScalars::default()).expect("run"));
    let peak = PEAK.load(Relaxed);
    println!("nearest code of {N} rows among {N} codes: {peak} bytes at most");
    let bound = 4 * 2 * N * (D + 2);
    assert!(0 < peak && peak as usize <= bound, "{peak} bytes > {bound}");
    let idx = devices::read(&mut device, binds[2]);
    assert!(idx.iter().enumerate().all(|(i, &k)| k as usize == i));
}

fn on_the_gpu() {
    const STEPS: usize = 8;
    for (name, start, precision) in JOBS {
        let Some(device) = devices::own_gpu() else { return };
        let (mut session, mut job) = start(device, precision);
        steps(&mut session, &mut *job, WARM_UP);
        let before = session.store.device.stats();
        let (n, _) = allocations(|| steps(&mut session, &mut *job, STEPS));
        let after = session.store.device.stats();
        let dispatches = after.dispatches - before.dispatches;
        // wgpu encodes anew each time and its driver allocates: told, not judged.
        println!(
            "{name} on a GPU, a step: {} dispatches, {} allocations of {} bytes by wgpu and driver",
            dispatches / STEPS as u64,
            n / STEPS,
            BYTES.load(Relaxed) / STEPS
        );
        assert_eq!(before.buffers, after.buffers, "{name}: buffers");
        assert_eq!(before.buffer_bytes, after.buffer_bytes, "{name}: bytes");
        assert_eq!(before.pipelines, after.pipelines, "{name}: pipelines");
        assert!(dispatches > 0 && dispatches.is_multiple_of(STEPS as u64), "{name}: {dispatches}");
    }
}
