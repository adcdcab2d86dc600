//! The text encoder against transformers: tokens of awkward texts, and the hidden states.

use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, folder};
use crate::rig::ok;
use vqforge::device::Device;
use vqforge::interop::text::TextEncoder;

fn check(device: Box<dyn Device>) {
    let kind = device.kind();
    let folder = folder().join("vq_diffusion_pipeline");
    let text = std::fs::read_to_string(folder.join("text.json")).expect("a record");
    let meta: serde_json::Value = serde_json::from_str(&text).expect("json");
    let mut encoder = ok(TextEncoder::open(&folder, device));
    let mut texts = vec![];
    for one in meta["texts"].as_array().expect("a list") {
        let text = one["text"].as_str().expect("a text");
        let ids = one["ids"].as_array().expect("a list").iter();
        let ids: Vec<u32> = ids.map(|id| id.as_u64().expect("a number") as u32).collect();
        assert_eq!(ok(encoder.tokens(text)), ids, "{text:?}");
        texts.push(text.to_string());
    }
    let want = Fixture::open(&folder.join("text.safetensors")).f32("hidden");
    let got = ok(encoder.hidden(&texts));
    assert_eq!(got.len(), want.len());
    let error = got.iter().zip(&want).fold(0.0f32, |a, (g, w)| a.max((g - w).abs()));
    let torch = meta["torch_f32_err"].as_f64().expect("a number");
    println!("{kind}: {error:.1e}, torch {torch:.1e}");
    // 4 times the error of torch in f32, beside a value of up to 3.6.
    assert!(f64::from(error) <= 4.0 * torch, "{error}");
    for token in ok(encoder.embed(&texts[..1])).chunks_exact(encoder.shape()[1]) {
        let norm: f32 = token.iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
    }
}

#[test]
fn as_in_transformers() {
    for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
        check(device);
    }
}
