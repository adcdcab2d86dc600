//! VQ-Diffusion's transformer against diffusers' Transformer2DModel: logits, loss, the gradient of the
//! context and of every parameter. [`crate::recorded`] says how close they must be.

use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, shared};
use crate::recorded::{Pass, Shares, rms};
use crate::rig::ok;
use serde_json::Value;
use std::path::Path;
use vqforge::config::FeedForward;
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::model::Scope;
use vqforge::model::denoiser::Grid;
use vqforge::model::denoiser::vq_diffusion::Transformer;
use vqforge::ops;
use vqforge::plan::{Kind, Options, ParamInit, ParamTable, Plan, Store};
use vqforge::tape::{Home, Tape};

const CONTEXT: &str = "context";

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("json")
}

fn model(config: &Value) -> Transformer {
    let number = |key: &str| config[key].as_u64().expect("a number") as usize;
    let width = number("num_attention_heads") * number("attention_head_dim");
    Transformer {
        grid: Grid {
            rows: number("sample_size"),
            cols: number("sample_size"),
            codes: number("num_vector_embeds") - 1,
            classes: 0,
            times: number("num_embeds_ada_norm"),
            context: None,
        },
        width,
        heads: number("num_attention_heads"),
        layers: number("num_layers"),
        hidden: 4 * width,
        feed_forward: match config["activation_fn"].as_str() {
            Some("geglu-approximate") => FeedForward::GegluApproximate,
            Some("gelu-approximate") => FeedForward::GeluApproximate,
            Some("geglu") => FeedForward::Geglu,
            other => panic!("activation {other:?}"),
        },
        attention_bias: config["attention_bias"].as_bool().expect("a switch"),
    }
}

/// A weight or its gradient as we have it: tables lie as in PyTorch, linear weights the other way round.
fn ours(file: &Fixture, name: &str) -> Vec<f32> {
    if name.ends_with("emb.weight") { file.f32(name) } else { file.weights(name) }
}

/// The recorded case `name` of a folder on one device.
fn check(device: Box<dyn Device>, folder: &Path, name: &str) {
    let label = format!("{name} on {}", device.kind());
    let file = |name: &str| Fixture::open(&folder.join(format!("{name}.safetensors")));
    let (io, grads) = (file(&format!("fixture_{name}")), file(&format!("fixture_{name}_grads")));
    let weights = file("diffusion_pytorch_model");
    let meta = &read(&folder.join("fixture_meta.json"))[name];
    let model = model(&read(&folder.join("config.json")));
    let shape = io.shape("encoder_hidden_states");
    let (batch, rows) = (shape[0], shape[0] * shape[1]);
    let times = io.index("t");
    let times: Vec<u32> = (0..batch).map(|b| times[b.min(times.len() - 1)]).collect();

    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    // The rows of a parameter, so that they have a gradient.
    let context = ok(s.param(CONTEXT, &[rows, shape[2]], ParamInit::Zeros, false));
    let own = ok(s.tape.constant_idx(&[rows], (0..rows as u32).collect()));
    let context = ok(ops::embedding(s.tape, own, context));
    let context = ok(s.tape.reshape(context, &shape));
    let time = ok(s.tape.constant_idx(&[batch], times));
    let index = |s: &mut Scope<'_>, data: Vec<u32>| ok(s.tape.constant_idx(&[data.len()], data));
    let (tokens, truth) = (index(&mut s, io.index("x_t")), index(&mut s, io.index("x_0")));
    let logits = ok(model.logits(&mut s, tokens, context, time));
    let tokens = io.index("x_t").len();
    let weight = ok(s.tape.constant(&[tokens], vec![1.0; tokens]));
    let (loss, _) = ok(ops::cross_entropy(s.tape, logits, truth, weight, 1.0 / tokens as f32));
    ok(tape.output("logits", logits));
    ok(tape.report("loss", loss));
    ok(tape.backward(&[(loss, 1.0)]));

    let mut store = ok(Store::new(device, table, 0));
    let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
    let specs = store.table().specs().to_vec();
    assert_eq!(specs.len(), weights.names().len() + 1, "every weight and the context");
    for (i, spec) in specs.iter().enumerate() {
        let data = match spec.name == CONTEXT {
            true => io.f32("encoder_hidden_states"),
            false => ours(&weights, &spec.name),
        };
        ok(store.write_param(Kind::Param, i, &data));
    }
    ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
    let mut pass = Pass { tape, store, plan };

    // 4 times the error of torch in f32.
    let torch = |tensor: &str| 4.0 * meta["torch_f32_err"][tensor].as_f64().expect("an error");
    let mut shares = Shares::default();
    let want = io.f32("logits");
    let derived = pass.relative_of_output("logits") * rms(&want);
    shares.compare("logits", &pass.output("logits"), &want, torch("logits"), derived);
    // The mean over tokens of differences of logits.
    let (got, want) = (pass.sum("loss"), io.f32("loss"));
    shares.compare("loss", &[got], &want, torch("loss"), derived);
    shares.report(&label, "forward");

    let mut shares = Shares::default();
    let relative = 4.0 * meta["grad_rel_err_f32"].as_f64().expect("an error");
    for (i, spec) in specs.iter().enumerate() {
        let derived = pass.relative(pass.value(|h| *h == Home::Grad(i)));
        let got = ok(pass.store.read_param(Kind::Grad, i));
        if spec.name == CONTEXT {
            let want = io.f32("gctx");
            shares.compare("gctx", &got, &want, torch("gctx"), derived * rms(&want));
            continue;
        }
        let want = ours(&grads, &spec.name);
        // Where cancellation makes the exact gradient zero, its terms are of the size of their siblings'. With
        // one vector of context attention weights are 1, whatever the queries are that follow `norm2`.
        let (block, part) = spec.name.rsplit_once(".to_").unwrap_or((&spec.name, ""));
        let sibling = match spec.name.split_once(".norm2.") {
            Some((block, _)) => Some(format!("{block}.attn2.to_v.weight")),
            None if "qkv".contains(part.get(..1).unwrap_or("-")) => {
                Some(format!("{block}.to_v.weight"))
            }
            None => None,
        };
        let siblings = sibling.map(|name| rms(&grads.f32(&name)));
        let size = rms(&want).max(siblings.unwrap_or(0.0));
        let largest = want.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let torch = relative * f64::from(largest);
        shares.compare(&spec.name, &got, &want, torch, derived * size);
    }
    shares.report(&label, "gradients");
}

/// Self- and cross-attention over texts and over one vector, one step for all samples or one each.
#[test]
fn as_in_diffusers() {
    for (folder, names) in
        [("vq_transformer", &["text", "class"][..]), ("vq_transformer_geglu", &["text"])]
    {
        let Some(folder) = shared(folder) else { continue };
        for name in names {
            for times in ["scalar_t", "per_sample_t"] {
                for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
                    check(device, &folder, &format!("{name}_{times}"));
                }
            }
        }
    }
}
