//! What the backward pass computes again has the bits of what it would have kept, and less is kept.

use crate::engine::{self, BATCH, Named, Run, Tiny};
use crate::rig::ok;
use std::collections::BTreeMap;
use vqforge::config::{Config, QuantiserKind};
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::plan::{Options, ParamTable, slot_bytes};
use vqforge::rng::{Rng, Stream};
use vqforge::shader::Element;
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Home, Precision, Recompute, Tape};
use vqforge::train::autoencoder;

const MODELS: [Tiny; 6] =
    [Tiny::VqVae, Tiny::Classic, Tiny::VqModel, Tiny::Denoiser, Tiny::Modern, Tiny::VqDiffusion];
const AGAIN: [Recompute; 2] = [Recompute::Matmuls, Recompute::Inputs];

/// Everything that two steps change.
fn after(
    tiny: Tiny,
    precision: Precision,
    policy: Recompute,
    device: Box<dyn Device>,
    options: Options,
) -> Named {
    let micro = BATCH / options.lanes.max(1);
    let recorded = tiny.record_with(precision, policy, micro);
    let mut run = Run::of(tiny, recorded, device, true, options);
    run.advance();
    run.advance();
    run.bits()
}

/// Gradients, weights and codes after two steps, poisoned slots and lanes included.
#[test]
fn same_bits_on_the_cpu() {
    for tiny in MODELS {
        let run = |policy, options| after(tiny, Precision::F32, policy, engine::cpu(0), options);
        let want = run(Recompute::None, Options::default());
        for policy in AGAIN {
            let what = format!("{tiny:?} {policy:?}");
            engine::assert_same(&what, &run(policy, Options::default()), &want);
        }
        let poisoned = Options { poison: true, ..Options::default() };
        let what = format!("{tiny:?} poisoned");
        engine::assert_same(&what, &run(Recompute::Inputs, poisoned), &want);
        let lanes = || Options { lanes: 3, ..Options::default() };
        let what = format!("{tiny:?} in lanes");
        let (got, want) = (run(Recompute::Inputs, lanes()), run(Recompute::None, lanes()));
        engine::assert_same(&what, &got, &want);
    }
}

/// In mixed precision a copy is stored as its original would have been. A joined launch does not round
/// what it hands on inside, and other launches are joined where values are dropped: only without
/// joining are the bits the same.
#[test]
fn same_bits_in_mixed_precision() {
    for tiny in MODELS {
        let run = |policy| {
            let options = Options { fuse: false, ..Options::default() };
            after(tiny, Precision::Mixed, policy, engine::cpu(0), options)
        };
        let want = run(Recompute::None);
        for policy in AGAIN {
            engine::assert_same(&format!("{tiny:?} {policy:?}"), &run(policy), &want);
        }
    }
}

#[test]
fn same_bits_on_the_gpu() {
    for tiny in [Tiny::VqVae, Tiny::Denoiser] {
        let run = |policy| {
            let device = engine::gpu()?;
            Some(after(tiny, Precision::F32, policy, device, Options::default()))
        };
        let Some(want) = run(Recompute::None) else { return };
        for policy in AGAIN {
            let got = run(policy).expect("there was a device");
            engine::assert_same(&format!("{tiny:?} {policy:?}"), &got, &want);
        }
    }
}

/// Every gradient of a parameter, by the naive forms in f64.
fn interpreted(tiny: Tiny, policy: Recompute) -> BTreeMap<usize, Vec<u64>> {
    let (tape, _) = tiny.record_with(Precision::F32, policy, 2);
    let mut run = Interpreter::new(&tape);
    let (inputs, states) = (tiny.samples(0, 2), tiny.states());
    for (id, value) in tape.values() {
        match &value.home {
            Home::Param(i) => {
                let mut rng = Rng::new(*i as u64, Stream::Test, 2);
                let draw = |_| rng.range(-0.5, 0.5);
                run.set(id, &(0..value.shape.elements()).map(draw).collect::<Vec<_>>());
            }
            Home::Input(name) => {
                let words = &inputs.iter().find(|(n, _)| n == name).expect("an input").1;
                match value.element {
                    Element::U32 => run.set_idx(id, words),
                    _ => {
                        let float = |w: &u32| f64::from(f32::from_bits(*w));
                        run.set(id, &words.iter().map(float).collect::<Vec<_>>());
                    }
                }
            }
            Home::State(name) => {
                let Some((_, floats)) = states.iter().find(|(n, _)| n == name) else { continue };
                run.set(id, &floats.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
            }
            _ => {}
        }
    }
    run.run(&StepScalars::default());
    let gradient = |(id, value): (_, &vqforge::tape::Value)| match value.home {
        Home::Grad(i) => Some((i, run.get(id).iter().map(|g: &f64| g.to_bits()).collect())),
        _ => None,
    };
    tape.values().filter_map(gradient).collect()
}

#[test]
fn same_gradients_in_f64() {
    for tiny in MODELS {
        let want = interpreted(tiny, Recompute::None);
        assert!(want.values().flatten().any(|&g| f64::from_bits(g) != 0.0), "{tiny:?}");
        for policy in AGAIN {
            assert!(interpreted(tiny, policy) == want, "{tiny:?} {policy:?}");
        }
    }
}

/// The VQModel with blocks of (128, 256, 512, 512) and 8192 codes of 3, batch 1; f32.
fn large(side: usize, policy: Recompute) -> Tape {
    let sets = [
        "model.family=vqmodel",
        "model.block_out_channels=[128,256,512,512]",
        "model.layers_per_block=2",
        "model.norm_num_groups=32",
        "model.latent_channels=3",
        "model.vq_embed_dim=3",
        "model.num_vq_embeddings=8192",
        "model.mid_block_add_attention=true",
    ];
    let mut config = ok(Config::load(None, &sets.map(String::from)));
    config.quantiser.kind = QuantiserKind::Gradient;
    config.train.recompute = policy;
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(autoencoder::record(&mut tape, &mut table, &config, [1, side, side, 1]));
    tape
}

/// Each region is left with what enters it, and with its products where these are kept.
#[test]
fn less_memory() {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let names: Vec<String> =
        large(16, Recompute::None).regions().iter().map(|r| r.name.clone()).collect();
    for name in ["encoder.mid_block.attentions.0", "decoder.up_blocks.3.resnets.2"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    for side in [128, 256] {
        let [none, matmuls, inputs] = [Recompute::None, Recompute::Matmuls, Recompute::Inputs]
            .map(|policy| large(side, policy))
            .map(|tape| (mib(ok(slot_bytes(&tape))), tape.nodes().len()));
        println!(
            "{side} x {side}: (MiB, launches) none {none:?}, matmuls {matmuls:?}, inputs {inputs:?}"
        );
        assert!(inputs.0 < matmuls.0 && matmuls.0 < none.0);
        assert!(inputs.1 > matmuls.1 && matmuls.1 > none.1);
        assert!(inputs.0 < 0.6 * none.0);
    }
}
