//! Diffusion runs opened for sampling, and what their samples follow.

use super::common::DeviceArgs;
use super::inpaint::Given;
use super::latents;
use std::path::{Path, PathBuf};
use vqforge::config::{Conditioning, Config, Process};
use vqforge::data::Embeddings;
use vqforge::data::provenance::Provenance;
use vqforge::diffusion::Corruption;
use vqforge::error::{Error, Result};
use vqforge::interop::text::TextEncoder;
use vqforge::model::denoiser::{CONTEXT, Context, Grid};
use vqforge::model::{Scope, denoiser};
use vqforge::plan::{ParamTable, Store};
use vqforge::tape::Tape;
use vqforge::train::codes::{TOKENIZER, Tokenizer};
use vqforge::train::generate::{Generator, Request};
use vqforge::train::maker::Maker;
use vqforge::train::{Console, Snapshot, stop};

/// A diffusion run opened for sampling.
pub struct Opened {
    pub store: Store,
    pub generator: Maker,
    /// Samples made at once.
    pub batch: usize,
    pub grid: Grid,
    pub class_names: Vec<String>,
    pub tokenizer: Tokenizer,
    pub shape: [usize; 3],
    /// How the pixels of the training images came to be, where the tokenizer knows.
    pub provenance: Option<Provenance>,
    pub conditioning: Conditioning,
}

/// Opens the best checkpoint of a diffusion run for batches of `n` samples.
pub fn open(run: &Path, n: usize, device: &DeviceArgs, console: &mut Console) -> Result<Opened> {
    let snapshot = Snapshot::load_best(run)?;
    if snapshot.meta("kind")? != "diffusion" {
        return Err(Error::usage(format!("{} is a {} run", run.display(), snapshot.meta("kind")?))
            .help("sample from the run folder of `vqforge train diffusion`"));
    }
    let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
    if config.diffusion.process == Process::Gaussian {
        return latents::open(run, &snapshot, &config, n, device, console);
    }
    let tokenizer = Tokenizer::from_snapshot(Snapshot::load(&run.join(TOKENIZER))?)?;
    let parsed: [usize; 4] = parse(&snapshot, "grid")?;
    let [rows, cols, codes, classes] = parsed;
    let times = Corruption::new(&config.diffusion, codes)?.times();
    let context = match snapshot.meta.contains_key(CONTEXT) {
        true => {
            let [tokens, width] = parse(&snapshot, CONTEXT)?;
            Some(Context { tokens, width })
        }
        false => None,
    };
    let grid = Grid { rows, cols, codes, classes, times, context };
    let class_names: Vec<String> = parse(&snapshot, "class_names")?;
    // Registers the parameters; the generator records its own tape against them.
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let tokens = s.tape.input_idx("tokens", &[grid.tokens()])?;
    let class = s.tape.input_idx("class", &[1])?;
    denoiser::logits(&mut s, &config.denoiser, grid, 1, tokens, class)?;
    let mut store = Store::new(device.announce(console)?, table, 0)?;
    snapshot.restore(&mut store)?;
    let second = device.open(None, console)?;
    let generator = Generator::new(&config, grid, n, &tokenizer, second)?;
    let r = tokenizer.config.model.reduction();
    let shape = [rows * r, cols / tokenizer.heads() * r, tokenizer.config.model.out_channels];
    let (generator, provenance) = (Maker::Tokens(Box::new(generator)), tokenizer.provenance()?);
    let conditioning = config.denoiser.conditioning;
    Ok(Opened {
        store,
        generator,
        batch: n,
        grid,
        class_names,
        tokenizer,
        shape,
        provenance,
        conditioning,
    })
}

/// What is asked of a run, for any number of samples.
pub struct Wanted<'a> {
    /// The class of every sample.
    pub labels: &'a [u32],
    /// Of the first sample; the others count on.
    pub how: Request,
    pub embeddings: Option<&'a Embeddings>,
    /// Larger images than those of training: rows and columns of the latent grid.
    pub places: Option<[usize; 2]>,
    /// What images have already.
    pub given: Option<&'a Given>,
}

impl<'a> Wanted<'a> {
    /// Whole images of the size of training.
    pub fn new(labels: &'a [u32], how: Request) -> Self {
        Wanted { labels, how, embeddings: None, places: None, given: None }
    }
}

impl Opened {
    /// Makes all that is wanted, batch by batch: `take` gets the images [n, h, w, c] of each, and the number
    /// of the first.
    pub fn make(
        &mut self,
        wanted: &Wanted<'_>,
        console: &mut Console,
        take: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let batch = self.batch;
        for (at, chunk) in wanted.labels.chunks(batch).enumerate() {
            stop::check()?;
            let first = at * batch;
            console.progress(&format!("sampled {first} of {}", wanted.labels.len()));
            // A short last batch is filled up; what is too much is dropped.
            let classes: Vec<u32> = (0..batch).map(|i| chunk[i.min(chunk.len() - 1)]).collect();
            let how = Request { first: wanted.how.first + first as u64, ..wanted.how };
            if let Some(embeddings) = wanted.embeddings {
                self.generator.condition_on(embeddings.in_turn(first, batch));
            }
            let (generator, store) = (&mut self.generator, &mut self.store);
            let made = match wanted.places {
                Some(places) => generator.generate_wide(store, &classes, places, &how)?.1,
                None => {
                    let tokens = wanted.given.map(|g| g.tokens(first, batch)).unwrap_or_default();
                    generator.generate(store, &classes, &tokens, &how)?.1
                }
            };
            take(first, &made[..chunk.len() * (made.len() / batch)])?;
        }
        Ok(())
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(snapshot: &Snapshot, key: &str) -> Result<T> {
    serde_json::from_str(snapshot.meta(key)?)
        .map_err(|e| Error::disk(format!("the checkpoint's {key} cannot be read")).why(e))
}

/// What samples follow beside a class, for runs that were trained with embeddings.
#[derive(Debug, Default, clap::Args)]
pub struct Followed {
    /// Embeddings to follow, for a run that was trained with some: row i for sample i, in turn
    #[arg(long, value_name = "FILE.npy")]
    embeddings: Option<PathBuf>,
    /// A text to follow, for a run that was trained with texts; several are taken in turn
    #[arg(long, value_name = "TEXT", conflicts_with = "embeddings")]
    prompt: Vec<String>,
    /// The folder of the text encoder that the run was trained with; default: the run's own, if it was
    /// imported
    #[arg(long, value_name = "DIR", requires = "prompt")]
    text_encoder: Option<PathBuf>,
}

impl Followed {
    /// The embeddings, as the run `opened` at `run` follows them; `None` for a run without.
    ///
    /// # Errors
    /// Some where the run has none, or none where it has; another shape than it was trained with.
    pub fn embeddings(
        &self,
        run: &Path,
        opened: &Opened,
        device: &DeviceArgs,
        console: &mut Console,
    ) -> Result<Option<Embeddings>> {
        let asked = self.embeddings.is_some() || !self.prompt.is_empty();
        let Some(Context { tokens, width }) = opened.grid.context else {
            if !asked {
                return Ok(None);
            }
            return Err(Error::usage("the run was trained without embeddings")
                .at(if self.prompt.is_empty() { "--embeddings" } else { "--prompt" })
                .help("leave it away, or train with --set data.embeddings=FILE.npy"));
        };
        let embeddings = match &self.embeddings {
            Some(file) => Embeddings::open(file, None)?,
            None if asked => self.texts(run, device, console)?,
            None => {
                return Err(Error::usage(
                    "the run was trained on embeddings, which samples need too",
                )
                .help(format!(
                    "--embeddings FILE.npy, of {tokens} x {width} numbers a sample, or --prompt TEXT"
                )));
            }
        };
        let embeddings = match opened.conditioning {
            Conditioning::Pooled => embeddings.pooled(),
            Conditioning::Cross => embeddings,
        };
        embeddings.shaped(tokens, width).map(Some)
    }

    /// The vectors of the prompts.
    fn texts(&self, run: &Path, device: &DeviceArgs, console: &mut Console) -> Result<Embeddings> {
        let folder = self.text_encoder.as_deref().unwrap_or(run);
        if self.text_encoder.is_none() && !run.join("text_encoder").is_dir() {
            return Err(Error::usage("the run has no text encoder of its own")
                .at("--prompt")
                .help("--text-encoder DIR: that which `vqforge data embed` was run with"));
        }
        let mut encoder = TextEncoder::open(folder, device.open(None, console)?)?;
        let [length, width] = encoder.shape();
        let vectors = encoder.embed(&self.prompt)?;
        Embeddings::from_values([self.prompt.len(), length, width], vectors)
            .ok_or_else(|| Error::failed("the texts have no vectors"))
    }
}
