//! The job on the CPU device: what is learned, how latents become codes, what guidance does.

use super::batch::{self, MicroBatch};
use super::*;
use crate::config::{Bottleneck, Process};
use crate::data::Dataset;
use crate::data::split::Split;
use crate::device::CpuDevice;
use crate::diffusion::gaussian::{alpha, sigma};
use crate::diffusion::sampler::Pace;
use crate::kernels::StepScalars;
use crate::train::Snapshot;
use crate::train::autoencoder::AutoencoderJob;

const IMAGES: usize = 24;

fn device() -> Result<Box<dyn Device>> {
    Ok(Box::new(CpuDevice::new(1)?))
}

/// A model of 4 x 4 places with four channels.
fn config() -> Config {
    config_with("")
}

/// With further settings.
fn config_with(more: &str) -> Config {
    let sets = "diffusion.process=gaussian model.block_out_channels=[4,4,4] model.norm_num_groups=2 \
                model.latent_channels=4 model.num_vq_embeddings=16 model.vq_embed_dim=4 \
                quantiser.kmeans_samples=64 quantiser.kmeans_iters=1 denoiser.layers=1 \
                denoiser.width=16 denoiser.heads=2 train.batch=8 train.lanes=2 train.warmup=5 \
                train.steps=150 train.lr=1e-2 train.ema_decay=0 data.split.fraction=0.5";
    let sets: Vec<String> =
        sets.split_whitespace().chain(more.split_whitespace()).map(String::from).collect();
    Config::parse("tests", "", &sets).unwrap()
}

/// Blots of two classes, half of them held out.
fn material() -> Arc<Material> {
    let pixel = |i: usize| ((i / 256 * 7919 + i % 256 * 31) % 251) as u8;
    let pixels = (0..IMAGES * 256).map(pixel).collect();
    let labels = (0..IMAGES as u32).map(|i| i % 2).collect();
    let images = Dataset::from_u8(pixels, [IMAGES, 16, 16, 1], Some(labels), vec![], "blots");
    let half = IMAGES as u32 / 2;
    let split =
        Split { train: (0..half).collect(), test: (half..2 * half).collect(), warnings: vec![] };
    Arc::new(Material { images: images.unwrap(), split })
}

/// An autoencoder with its first codebook.
fn tokenizer(config: &Config) -> Tokenizer {
    let mut job = AutoencoderJob::new(config.clone(), material()).unwrap();
    let mut session = job.session(device().unwrap(), None, &mut |_, _| {}).unwrap();
    job.start(&mut session, &mut Console::new(true)).unwrap();
    let mut snapshot = Snapshot::capture(&mut session.store).unwrap();
    snapshot.meta.insert("kind".into(), job.kind().into());
    snapshot.meta.insert("config".into(), config.to_toml().unwrap());
    Tokenizer::of_latents(snapshot).unwrap()
}

/// A code is its own nearest one, of every kind of codes: from an image by way of its latent, standardised
/// and back, come the codes of the image.
#[test]
fn latents_round_to_their_codes() {
    for kind in [
        "ema",
        "ema quantiser.distance=cosine",
        "gradient quantiser.distance=cosine",
        "simvq",
        "fsq quantiser.fsq_levels=[8,5,5,5]",
        "fsq quantiser.num_codebooks=2",
        "lfq",
        "bsq",
    ] {
        let tokenizer = tokenizer(&config_with(&format!("quantiser.kind={kind}")));
        let images = &material().images;
        let (codes, _) = tokenizer.encode(device().unwrap(), images).unwrap();
        let (mut latents, _) = tokenizer.latents(device().unwrap(), images).unwrap();
        let grid = tokenizer.latent_grid(images).unwrap();
        let rows: Vec<u32> = (0..IMAGES as u32).collect();
        let standard = Standard::fit(&latents, &rows, grid.length(), grid.channels);
        standard.apply(&mut latents);
        // A batch that does not divide the images.
        let decoder = Decoder::new(&tokenizer, grid, standard, 7, false, device().unwrap());
        assert!(codes.iter().any(|&c| c != codes[0]), "{kind}: all codes are one");
        assert_eq!(decoder.unwrap().codes(&latents).unwrap(), codes, "{kind}");
    }
}

/// x_t and v are x and the noise, turned; the noise of a sample is that of its global index.
#[test]
fn noise_is_added_as_the_maths_says() {
    let config = config();
    let grid = LatentGrid { rows: 8, cols: 8, channels: 16, classes: 2 };
    let (n, length) = (6, grid.length());
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let pass = batch::record(&mut s, &config.denoiser, grid, n).unwrap();
    tape.output("noisy", pass.noisy).unwrap();
    tape.output("velocity", pass.velocity).unwrap();
    let mut store = Store::new(device().unwrap(), table, 0).unwrap();
    let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).unwrap();
    let x = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 30.0;
    let latents: Vec<f32> = (0..n * length).map(x).collect();
    let times = [1e-9, 0.1, 0.5, 0.5, 0.9, 1.0];
    let mut noises = vec![];
    for first in [0, 4] {
        let mut micro = MicroBatch::default();
        (micro.samples.rows, micro.samples.classes) = ((0..n as u32).collect(), vec![2; n]);
        micro.samples.times = times.to_vec();
        micro.write(&latents, length, &mut store, &plan).unwrap();
        let step = StepScalars { sample_base: first, seed_lo: 5, ..StepScalars::default() };
        plan.run_lane(&mut store, 0, &step).unwrap();
        let [noisy, v] =
            ["noisy", "velocity"].map(|name| store.read_f32(plan.output(name).unwrap()).unwrap());
        let mut eps = vec![];
        for i in 0..n * length {
            let (a, s) = (alpha(times[i / length]), sigma(times[i / length]));
            let (x_t, v) = (f64::from(noisy[i]), f64::from(v[i]));
            // Alpha, sigma, two products and a sum are rounded, in x_t and in v, of numbers below 8: a normal
            // number beyond 6 among so few would be one in a million runs.
            let bound = 2.0 * 5.0 * 8.0 * f64::from(f32::EPSILON);
            let back = a * x_t - s * v - f64::from(latents[i]);
            assert!(back.abs() < bound, "{i}: {back:e}");
            eps.push(s * x_t + a * v);
        }
        let count = eps.len() as f64;
        let mean = eps.iter().sum::<f64>() / count;
        let variance = eps.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (count - 1.0);
        assert!(mean.abs() < 5.0 / count.sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / count).sqrt(), "{variance}");
        noises.push(eps);
    }
    // Samples 4 and 5 of the first call are 0 and 1 of the second.
    for (a, b) in noises[0][4 * length..].iter().zip(&noises[1]) {
        // As rounded as before; different noise is apart by about 1.
        assert!((a - b).abs() < 4.0 * 5.0 * 8.0 * f64::from(f32::EPSILON), "{a} {b}");
    }
}

/// Latents that the class alone decides, with a job on them.
fn job(config: &Config) -> GaussianJob {
    let tokenizer = tokenizer(config);
    let grid = tokenizer.latent_grid(&material().images).unwrap();
    let sign = |i: usize, class: usize| 1.0 - 2.0 * ((i * 37 + class * 61) % 97 % 2) as f32;
    let latents = (0..IMAGES * grid.length())
        .map(|i| sign(i % grid.length(), i / grid.length() % 2))
        .collect();
    let data = material();
    GaussianJob::new(config.clone(), data, tokenizer, latents, None, Box::new(device)).unwrap()
}

/// Held-out loss falls by more than chance: five standard errors of both measurements. With and without
/// weights of the times.
#[test]
fn the_loss_falls() {
    for min_snr in [0.0, 5.0] {
        let mut config = config();
        config.diffusion.min_snr = min_snr;
        let mut job = job(&config);
        let mut session = job.session(device().unwrap(), None, &mut |_, _| {}).unwrap();
        let measure = |session: &mut Session, job: &mut GaussianJob| {
            let numbers = job.evaluate(&mut session.store).unwrap();
            let names: Vec<&str> = numbers.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, ["v_loss", "standard_error", "codes_found", "codes_found_noisy"]);
            assert!(numbers[2..].iter().all(|(_, share)| (0.0..=1.0).contains(share)));
            [numbers[0].1, numbers[1].1]
        };
        let before = measure(&mut session, &mut job);
        for _ in 0..config.train.steps {
            session.advance(&mut job).unwrap();
        }
        let after = measure(&mut session, &mut job);
        println!("min_snr {min_snr}: v_loss {before:?} -> {after:?}");
        assert!(after[0] + 5.0 * after[1] < before[0] - 5.0 * before[1], "{before:?} {after:?}");
        assert_eq!(after, measure(&mut session, &mut job), "an evaluation is not repeatable");
    }
}

/// At guidance 1 the doubled batch gives what the plain one does; beyond, the velocity moves on a line.
#[test]
fn guidance_moves_on_a_line() {
    let config = config();
    let mut job = job(&config);
    let mut session = job.session(device().unwrap(), None, &mut |_, _| {}).unwrap();
    for _ in 0..20 {
        session.advance(&mut job).unwrap();
    }
    let mut generator = LatentGenerator::new(
        &config,
        job.grid,
        job.standard.clone(),
        3,
        &job.tokenizer,
        device().unwrap(),
    )
    .unwrap();
    let how = Request { seed: 4, ..Request::new(Sampler::Ddim { eta: 0.0 }, 1) };
    let store = &mut session.store;
    // One step from t = 1 ends at x = -v.
    let mut at = |guidance: Option<f32>| {
        let how = Request { guidance: guidance.unwrap_or(1.0), ..how };
        generator.latents(store, &[0, 1, 1], &how, guidance.is_some()).unwrap()
    };
    let [plain, one, two, three] = [None, Some(1.0), Some(2.0), Some(3.0)].map(&mut at);
    assert_eq!(plain, one);
    assert_ne!(one, two, "guidance does nothing");
    for ((one, two), three) in one.iter().zip(&two).zip(&three) {
        // Each is a sum and a product of numbers below 8 in f32, rounded again by the sampler's step.
        let bend = (three - two) - (two - one);
        assert!(bend.abs() < 16.0 * 8.0 * f32::EPSILON, "{one} {two} {three}");
    }
    for (how, part) in [
        (Request { sampler: Sampler::Halton, ..how }, "masked"),
        (Request { temperature: 0.5, ..how }, "no probabilities"),
        (Request { top_k: 3, ..how }, "no probabilities"),
        (Request { pace: Pace::Cosine, ..how }, "grid of times"),
        (Request { steps: 0, ..how }, "at least one step"),
    ] {
        let error = generator.generate(store, &[0, 1, 1], &how).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let (codes, images) = generator.generate(store, &[0, 1, 1], &how).unwrap();
    assert_eq!((codes.len(), images.len()), (3 * job.grid.places(), 3 * 256));
    assert!(codes.iter().all(|&c| c < 16) && images.iter().all(|v| (0.0..=1.0).contains(v)));
}

/// What a KL-VAE may be used for.
#[test]
fn tokenizers_of_either_kind() {
    let mut config = config();
    config.model.bottleneck = Bottleneck::Kl;
    config.diffusion.process = Process::Masked;
    let kl = tokenizer(&config);
    let error = Tokenizer::from_snapshot(kl.snapshot.clone()).unwrap_err().to_string();
    assert!(error.contains("klvae") && error.contains("process=gaussian"), "{error}");
    let images = &material().images;
    let (latents, _) = kl.latents(device().unwrap(), images).unwrap();
    let grid = kl.latent_grid(images).unwrap();
    assert_eq!(latents.len(), IMAGES * grid.length());
    let standard = Standard::fit(&latents, &[0, 1], grid.length(), grid.channels);
    let mut decoder = Decoder::new(&kl, grid, standard, 2, true, device().unwrap()).unwrap();
    let (codes, images) = decoder.images(vec![0.0; 2 * grid.length()]).unwrap();
    assert_eq!((codes.len(), images.len()), (0, 2 * 256));
    let mut other = kl.snapshot;
    other.meta.insert("kind".into(), "diffusion".into());
    let error = Tokenizer::of_latents(other).unwrap_err().to_string();
    assert!(error.contains("vqvae or a klvae"), "{error}");
}
