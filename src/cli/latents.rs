//! `train diffusion` and `sample` where the process is Gaussian: latents take the place of codes.

use super::common::{DeviceArgs, material, preparing};
use super::opened::{Opened, parse};
use super::resume::Start;
use super::train::{Common, Ended, finish, open_tokenizer, seen_as_by};
use std::path::Path;
use vqforge::config::Config;
use vqforge::device::tuner::Table;
use vqforge::error::Result;
use vqforge::model::Scope;
use vqforge::model::denoiser::Grid;
use vqforge::model::denoiser::continuous::{LatentGrid, TIME_FEATURES, velocity};
use vqforge::plan::{ParamTable, Store};
use vqforge::tape::Tape;
use vqforge::train::codes::{TOKENIZER, Tokenizer};
use vqforge::train::gaussian::{GaussianJob, LatentGenerator};
use vqforge::train::latents::{self, STANDARD, Standard};
use vqforge::train::maker::Maker;
use vqforge::train::{Console, RunFolder, Snapshot, choices};

/// The latents of a run's images, in its folder.
const LATENTS: &str = "latents.safetensors";

/// Trains Gaussian diffusion of the latents of a tokenizer.
pub fn train(
    args: &Common,
    mut start: Start,
    tokenizer: Option<&Path>,
    console: &mut Console,
) -> Result<Option<Ended>> {
    let tokenizer =
        open_tokenizer(tokenizer, start.run.as_deref(), Tokenizer::of_latents, console)?;
    let device = args.device.announce_with(start.choices.as_ref(), console)?;
    let scale = seen_as_by(&tokenizer, &mut start.config, console)?;
    let data = material(&start.config, &start.data, scale, console)?;
    let (arguments, own, screen) = (args.device.clone(), start.choices.clone(), console.clone());
    let open = move || arguments.open(own.as_ref(), &screen);
    let cache = start.folder.as_ref().map(|f| f.file(LATENTS));
    let known = match &cache {
        Some(file) => latents::recall(file, &tokenizer, &data.images)?,
        None => None,
    };
    let (made, chosen) = match known {
        Some(latents) => (latents, Table::default()),
        None => {
            console.line(&format!("encoding {} images with the tokenizer", data.images.n));
            tokenizer.latents(open()?, &data.images)?
        }
    };
    let channels = tokenizer.latent_grid(&data.images)?.channels;
    let standard = start.snapshot.as_ref().and_then(|snapshot| snapshot.meta.get(STANDARD));
    let standard = standard.map(|text| Standard::parse(text, channels)).transpose()?;
    let (mine, numbers) = (tokenizer.clone(), made.clone());
    let config = start.config.clone();
    let mut job = GaussianJob::new(config, data.clone(), mine, numbers, standard, Box::new(open))?;
    let session = job.session(device, None, &mut preparing(console))?;
    let mut made = Some(made);
    let mut keep = |folder: &RunFolder| {
        choices::add(folder, chosen.clone())?;
        tokenizer.snapshot.save(&folder.file(TOKENIZER))?;
        // Not kept in memory for as long as the run lasts.
        made.take().map_or(Ok(()), |made| {
            latents::remember(&folder.file(LATENTS), &tokenizer, &data.images, made)
        })
    };
    finish(args, start, args.pause(), &data, session, &mut job, &mut keep, console)
}

/// Opens the checkpoint of a run for batches of `n` samples.
pub fn open(
    run: &Path,
    snapshot: &Snapshot,
    config: &Config,
    n: usize,
    device: &DeviceArgs,
    console: &mut Console,
) -> Result<Opened> {
    let tokenizer = Tokenizer::of_latents(Snapshot::load(&run.join(TOKENIZER))?)?;
    let parsed: [usize; 4] = parse(snapshot, "grid")?;
    let [rows, cols, codes, classes] = parsed;
    let model = &tokenizer.config.model;
    let (places, channels) = (cols / tokenizer.heads(), model.vq_embed_dim);
    let latents = LatentGrid { rows, cols: places, channels, classes };
    let standard = Standard::parse(snapshot.meta(STANDARD)?, channels)?;
    // Registers the parameters; the generator records its own tape against them.
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = s.tape.input("x", &[latents.places(), channels])?;
    let time = s.tape.input("time", &[1, TIME_FEATURES])?;
    let class = s.tape.input_idx("class", &[1])?;
    velocity(&mut s, &config.denoiser, latents, x, time, class)?;
    let mut store = Store::new(device.announce(console)?, table, 0)?;
    snapshot.restore(&mut store)?;
    let second = device.open(None, console)?;
    let generator = LatentGenerator::new(config, latents, standard, n, &tokenizer, second)?;
    let r = model.reduction();
    Ok(Opened {
        store,
        generator: Maker::Latents(Box::new(generator)),
        batch: n,
        grid: Grid { rows, cols, codes, classes, times: 0, context: None },
        class_names: parse(snapshot, "class_names")?,
        shape: [rows * r, places * r, model.out_channels],
        provenance: tokenizer.provenance()?,
        tokenizer,
        conditioning: config.denoiser.conditioning,
    })
}
