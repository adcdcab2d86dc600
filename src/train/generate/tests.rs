//! A generator with random weights, on the CPU.

use super::*;
use crate::device::{CpuDevice, Stats};
use crate::plan::{Kind, ParamInit, ParamTable};
use crate::train::Snapshot;

const N: usize = 2;
const CODES: usize = 16;

fn device() -> Box<dyn Device> {
    Box::new(CpuDevice::new(2).unwrap())
}

/// Images of 16 x 16 as 4 x 4 places of `heads` codes.
fn generator(process: &str, heads: usize) -> (Store, Generator) {
    let text = format!(
        "[model]\nblock_out_channels = [4, 4, 4]\nnorm_num_groups = 2\nlatent_channels = 4\n\
         num_vq_embeddings = {CODES}\nvq_embed_dim = 4\n[quantiser]\nresidual_levels = {heads}\n\
         [denoiser]\nlayers = 1\nwidth = 16\nheads = 2\n[diffusion]\nprocess = \"{process}\"\nsteps = 20\n"
    );
    let config = Config::parse("test", &text, &["train.ema_decay=0".into()]).unwrap();
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = s.tape.input("x", &[1, 16, 16, config.model.in_channels]).unwrap();
    autoencoder::reconstruct(&mut s, &config, x).unwrap();
    let mut snapshot = Snapshot::capture(&mut Store::new(device(), table, 5).unwrap()).unwrap();
    snapshot.meta.insert("kind".into(), "vqvae".into());
    snapshot.meta.insert("config".into(), config.to_toml().unwrap());
    let tokenizer = Tokenizer::from_snapshot(snapshot).unwrap();

    let times = Corruption::new(&config.diffusion, CODES).unwrap().times();
    let grid = Grid { rows: 4, cols: 4 * heads, codes: CODES, classes: 3, times, context: None };
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let tokens = s.tape.input_idx("tokens", &[grid.tokens()]).unwrap();
    let class = s.tape.input_idx("class", &[1]).unwrap();
    denoiser::logits(&mut s, &config.denoiser, grid, 1, tokens, class).unwrap();
    let mut store = Store::new(device(), table, 6).unwrap();
    // Ten times the weights that training starts with: tokens and classes make a difference.
    for i in 0..store.table().specs().len() {
        if matches!(store.table().specs()[i].init, ParamInit::Normal(_)) {
            let mut weights = store.read_param(Kind::Param, i).unwrap();
            weights.iter_mut().for_each(|w| *w *= 10.0);
            store.write_param(Kind::Param, i, &weights).unwrap();
        }
    }
    let made = Generator::new(&config, grid, N, &tokenizer, device()).unwrap();
    (store, made)
}

const HOW: fn(&str) -> Request = |sampler| Request::new(Sampler::parse(sampler).unwrap(), 5);

/// Guidance of 1 is the conditional branch alone. The doubled batch computes the same logits, and u +
/// (c - u) of their log-probabilities, which rounds: its draws are the same but where two times of the
/// race agree within that rounding, once in a million draws or so.
#[test]
fn guidance_of_one_is_the_conditional_branch() {
    for process in ["masked", "uniform"] {
        let (mut store, mut generator) = generator(process, 1);
        let mut codes = |guidance: f32| {
            let how = Request { guidance, ..HOW("ancestral") };
            generator.generate(&mut store, &[0, 2], &[], &how).unwrap().0
        };
        let (alone, both, more) = (codes(1.0), codes(1.0 + f32::EPSILON), codes(5.0));
        assert_eq!(alone, both, "{process}");
        assert_ne!(alone, more, "{process}: guidance does nothing");
        assert!(generator.networks.iter().all(Option::is_some));
    }
}

/// Guidance that grows is none in the first round, and its scale in the last.
#[test]
fn guidance_grows_over_the_rounds() {
    let (mut store, mut generator) = generator("masked", 1);
    let mut codes = |schedule, guidance| {
        let how = Request { guidance_schedule: schedule, guidance, ..HOW("halton") };
        generator.generate(&mut store, &[0, 2], &[], &how).unwrap().0
    };
    let [none, constant] = [1.0, 9.0].map(|s| codes(GuidanceSchedule::Constant, s));
    let [linear, cosine] =
        [GuidanceSchedule::Linear, GuidanceSchedule::Cosine].map(|s| codes(s, 9.0));
    assert!(none != linear && linear != constant && linear != cosine && cosine != none);
}

/// All there is to a run but its scalars and tokens is made in its first round.
#[test]
fn plans_are_compiled_once() {
    let (mut store, mut generator) = generator("masked", 1);
    let made = |s: Stats| (s.buffers, s.buffer_bytes, s.pipelines);
    let mut stats = vec![];
    for steps in [1, 7, 16] {
        let how = Request { steps, guidance: 2.0, ..HOW("maskgit") };
        generator.generate(&mut store, &[1, 1], &[], &how).unwrap();
        let (own, decoder) = (store.device.stats(), generator.decoder.device.stats());
        stats.push([made(own), made(decoder)]);
    }
    assert!(stats[0][0].0 > 0 && stats[1] == stats[0] && stats[2] == stats[0], "{stats:?}");
    assert!(generator.networks[0].is_none(), "one branch is not needed");
}

/// A larger grid: of the size of training it is what it is without windows; else the first window is that,
/// all images are whole, and what is made is the same each time. With one and with several codes a place,
/// in chains too.
#[test]
fn larger_grids_continue_the_first_window() {
    for (process, heads) in [("masked", 1), ("masked", 2), ("uniform", 1)] {
        let (mut store, mut generator) = generator(process, heads);
        let how = Request { seed: 3, ..HOW("ancestral") };
        let plain = generator.generate(&mut store, &[0, 2], &[], &how).unwrap();
        let mut wide = |size| generator.generate_wide(&mut store, &[0, 2], size, &how).unwrap();
        assert_eq!(wide([4, 4]), plain, "{process} {heads}");
        let size = [5, 9];
        let (codes, images) = wide(size);
        assert_eq!((codes.len(), images.len()), (N * 45 * heads, N * 45 * 16));
        assert!(codes.iter().all(|&code| code < CODES as u32));
        assert_eq!(wide(size), (codes.clone(), images));
        let of =
            |codes: &[u32], row: usize, width: usize| codes[row * width..][..4 * heads].to_vec();
        for sample in 0..N {
            for row in 0..4 {
                let whole = of(&codes, sample * 5 + row, 9 * heads);
                assert_eq!(whole, of(&plain.0, sample * 4 + row, 4 * heads), "{process} {heads}");
            }
        }
    }
}

/// An image is decoded alike, alone and among several.
#[test]
fn larger_grids_are_decoded_in_parts() {
    let (_, mut generator) = generator("masked", 1);
    let codes: Vec<u32> = (0..N as u32 * 36).map(|i| i * 7 % CODES as u32).collect();
    let all = generator.decode(&codes, [6, 6]).unwrap();
    assert!(generator.decoders.last().unwrap().n < N);
    for (sample, image) in all.chunks(all.len() / N).enumerate() {
        assert_eq!(generator.decode(&codes[sample * 36..][..36], [6, 6]).unwrap(), image);
    }
}
