//! VQModel and AutoencoderKL at every depth and number of channels, on images that are not square.

use crate::device;
use crate::rig::ok;
use vqforge::config::{Bottleneck, Config};
use vqforge::model::{Scope, autoencoder as model};
use vqforge::plan::{Kind, Options, ParamTable, Plan, RING_ROWS, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::Tape;
use vqforge::train::{autoencoder, optimiser, step_scalars};

const SIZE: [usize; 2] = [24, 40];
const LATENT: usize = 3;

fn settings(bottleneck: Bottleneck, levels: usize, channels: usize, attention: bool) -> Config {
    let kind = if bottleneck == Bottleneck::Kl { "kl" } else { "vq" };
    // The second level is wider, so that its first block has a shortcut.
    let widths = ["[4]", "[4,8]", "[4,8,8]", "[4,8,8,8]"][levels - 1];
    let text = format!(
        "[model]
        family = \"vqmodel\"
        bottleneck = \"{kind}\"
        in_channels = {channels}
        out_channels = {channels}
        block_out_channels = {widths}
        norm_num_groups = 2
        latent_channels = {LATENT}
        vq_embed_dim = {LATENT}
        num_vq_embeddings = 16
        mid_block_add_attention = {attention}
        [train]
        batch = 1
        warmup = 0"
    );
    ok(Config::parse("backbones", &text, &[]))
}

/// Shapes of latents (or moments) and of the image.
fn shapes(config: &Config, dims: [usize; 4]) {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &dims));
    let z = ok(model::encode(&mut s, &config.model, x));
    let r = 1 << (config.model.block_out_channels.len() - 1);
    let [n, h, w, _] = dims;
    let moments = if config.model.bottleneck == Bottleneck::Kl { 2 } else { 1 };
    assert_eq!(s.tape.shape(z).dims(), [n, h / r, w / r, moments * LATENT]);
    let z = ok(s.tape.input("z", &[n, h / r, w / r, LATENT]));
    let image = ok(model::decode(&mut s, &config.model, z));
    assert_eq!(s.tape.shape(image).dims(), dims);
}

/// One step of training: losses and parameters stay finite, and every parameter whose gradient is not
/// zero by its nature moves.
fn step(config: &Config, dims: [usize; 4], name: &str) {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(autoencoder::record(&mut tape, &mut table, config, dims));
    let mut store = ok(Store::new(device::cpu(0), table, 0));
    let options = Options { optimiser: Some(optimiser(&config.train)), ..Options::default() };
    let plan = ok(Plan::compile(&mut store, &tape, &options, &mut |_, _| {}));
    let mut rng = Rng::new(3, Stream::Test, 0);
    let pixels = dims.iter().product();
    let x: Vec<f32> = (0..pixels).map(|_| rng.range(-1.0, 1.0) as f32).collect();
    ok(store.write_f32(ok(plan.input("x")), &x));
    let specs = store.table().specs().to_vec();
    let before: Vec<_> = (0..specs.len()).map(|i| ok(store.read_param(Kind::Param, i))).collect();
    ok(plan.run_lane(&mut store, 0, &step_scalars(&config.train, 0, 0, RING_ROWS)));
    let row = ok(plan.read_ring(&mut store, 0..1)).remove(0);
    assert!(row.scalars.len() > 1, "{name}");
    for (loss, value) in &row.scalars {
        assert!(value.is_finite(), "{name}: {loss} is {value}");
    }
    for (i, spec) in specs.iter().enumerate() {
        let after = ok(store.read_param(Kind::Param, i));
        assert!(after.iter().all(|v| v.is_finite()), "{name}: {} is not finite", spec.name);
        // Softmax does not see what all keys share.
        let moves = !spec.name.ends_with("to_k.bias");
        assert!(!moves || after != before[i], "{name}: {} did not move", spec.name);
    }
}

#[test]
fn every_depth_and_number_of_channels_trains() {
    for bottleneck in [Bottleneck::Vq, Bottleneck::Kl] {
        for (levels, channels, attention) in
            [(1, 4, false), (1, 1, true), (2, 1, true), (2, 2, true), (3, 3, true), (4, 4, true)]
        {
            let name = format!("{bottleneck:?}, {levels} levels, {channels} channels");
            let config = settings(bottleneck, levels, channels, attention);
            let dims = [1, SIZE[0], SIZE[1], channels];
            shapes(&config, dims);
            step(&config, dims, &name);
        }
    }
}
