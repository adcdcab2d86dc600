use super::diffusers::{Autoencoder, CONFIG, Hints, WEIGHTS, expressible};
use crate::config::{Bottleneck, Config, Model, Quantiser, QuantiserKind};
use crate::data::testing::Scratch;
use crate::device::CpuDevice;
use crate::model::quantiser::CODEBOOK_PARAM;
use crate::model::{Scope, autoencoder};
use crate::plan::{Kind, ParamTable, Store};
use crate::tape::Tape;
use crate::train::Snapshot;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders that diffusers 0.31.0 wrote, one of each class.
const VQ: &str = "vqmodel_1ch";
const KL: &str = "autoencoder_kl";

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels_tests/fixtures").join(name)
}

/// The tensors of a recorded folder: type, shape and bytes by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A recorded folder with its tensors and its configuration changed.
fn changed(
    dir: &Scratch,
    name: &str,
    tensors: impl FnOnce(&mut Tensors),
    config: impl FnOnce(&mut serde_json::Value),
) -> PathBuf {
    let bytes = std::fs::read(recorded(name).join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |(name, view): (&str, TensorView<'_>)| {
        (name.to_string(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    let mut all: Tensors = file.iter().map(own).collect();
    tensors(&mut all);
    let views = all.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    dir.file(WEIGHTS, &safetensors::serialize(views, None).unwrap());
    let text = std::fs::read_to_string(recorded(name).join(CONFIG)).unwrap();
    let mut json = serde_json::from_str(&text).unwrap();
    config(&mut json);
    dir.file(CONFIG, json.to_string().as_bytes());
    dir.path("")
}

/// What diffusers wrote, read and written again, is the same two files.
#[test]
fn round_trip_is_byte_identical() {
    for (name, bottleneck) in [(VQ, Bottleneck::Vq), (KL, Bottleneck::Kl)] {
        let dir = Scratch::new("diffusers");
        let model = Autoencoder::read(&recorded(name)).unwrap();
        assert_eq!(model.model.bottleneck, bottleneck);
        model.write(&dir.path("out")).unwrap();
        for file in [CONFIG, WEIGHTS] {
            let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes[..600]).into_owned();
            let (want, got) = (bytes(&recorded(name)), bytes(&dir.path("out")));
            assert!(want == got, "{name}/{file}:\n{}\n{}", text(want), text(got));
        }
        assert_eq!(Autoencoder::read(&dir.path("out")).unwrap(), model);
    }
}

/// What only pipelines use comes back; what is absent is diffusers' default of the class.
#[test]
fn hints_are_kept() {
    let dir = Scratch::new("diffusers-hints");
    let folder = changed(
        &dir,
        KL,
        |_| {},
        |json| {
            for (key, value) in [
                ("sample_size", serde_json::json!(512)),
                ("scaling_factor", 0.13025.into()),
                ("shift_factor", 0.0609.into()),
                ("latents_mean", serde_json::json!([0.25, -0.7571, 3, 1e-3])),
                ("latents_std", serde_json::json!([2.8184, 1.4541, 2.3275, 2.6558])),
                ("force_upcast", false.into()),
            ] {
                json[key] = value;
            }
        },
    );
    let model = Autoencoder::read(&folder).unwrap();
    let want = Hints {
        sample_size: 512,
        scaling_factor: 0.13025,
        shift_factor: Some(0.0609),
        latents_mean: Some(vec![0.25, -0.7571, 3.0, 1e-3]),
        latents_std: Some(vec![2.8184, 1.4541, 2.3275, 2.6558]),
        force_upcast: false,
    };
    assert_eq!(model.hints, want);
    model.write(&dir.path("out")).unwrap();
    assert_eq!(Autoencoder::read(&dir.path("out")).unwrap(), model);

    for (name, bottleneck) in [(VQ, Bottleneck::Vq), (KL, Bottleneck::Kl)] {
        let dir = Scratch::new("diffusers-defaults");
        let folder = changed(
            &dir,
            name,
            |_| {},
            |json| {
                // As folders of 2022 have them.
                let kept = |key: &String| {
                    !key.contains("factor")
                        && !key.starts_with("use_")
                        && !key.starts_with("latents")
                        && !["sample_size", "force_upcast", "mid_block_add_attention"]
                            .contains(&key.as_str())
                };
                json.as_object_mut().unwrap().retain(|key, _| kept(key));
            },
        );
        let model = Autoencoder::read(&folder).unwrap();
        assert_eq!(model.hints, Hints::of(bottleneck));
        assert_eq!(model, Autoencoder::read(&recorded(name)).unwrap());
    }
}

/// Layouts: an element of each kind where it must be.
#[test]
fn dimensions_are_reordered() {
    let model = Autoencoder::read(&recorded(VQ)).unwrap();
    let bytes = std::fs::read(recorded(VQ).join(WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let theirs = |name: &str, at: usize| {
        let data = file.tensor(name).unwrap().data();
        f32::from_le_bytes(data[4 * at..][..4].try_into().unwrap())
    };
    // [out, in, kh, kw] = [32, 16, 3, 3], element (o, i, y, x) = (5, 11, 2, 1).
    let name = "encoder.down_blocks.1.resnets.0.conv1.weight";
    let ours = &model.tensors[name];
    assert_eq!(ours.shape, [3, 3, 16, 32]);
    assert_eq!(
        ours.data[((2 * 3 + 1) * 16 + 11) * 32 + 5],
        theirs(name, ((5 * 16 + 11) * 3 + 2) * 3 + 1)
    );
    // [out, in] = [32, 32], element (o, i) = (3, 30).
    let name = "decoder.mid_block.attentions.0.to_v.weight";
    assert_eq!(model.tensors[name].data[30 * 32 + 3], theirs(name, 3 * 32 + 30));
    let name = CODEBOOK_PARAM;
    assert_eq!(model.tensors[name].shape, [64, 4]);
    assert_eq!(model.tensors[name].data[7 * 4 + 2], theirs(name, 7 * 4 + 2));
}

#[test]
fn old_attention_names_are_read() {
    let dir = Scratch::new("diffusers-old");
    let rename = |tensors: &mut Tensors| {
        let pairs =
            [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        for (now, before) in pairs {
            for name in tensors.keys().cloned().collect::<Vec<_>>() {
                let old = name.replace(&format!(".{now}."), &format!(".{before}."));
                let mut tensor = tensors.remove(&name).unwrap();
                // One of the four as a convolution.
                if old != name && before == "value" && old.ends_with("weight") {
                    tensor.1.extend([1, 1]);
                }
                tensors.insert(old, tensor);
            }
        }
    };
    let folder = changed(&dir, VQ, rename, |_| {});
    let read = |folder: &Path| Autoencoder::read(folder).unwrap();
    assert_eq!(read(&folder), read(&recorded(VQ)));
}

#[test]
fn what_does_not_fit_is_refused() {
    type Edit = fn(&mut Tensors);
    let tensors: [(&str, Edit); 5] = [
        ("missing tensors: 1 (quant_conv.bias)", |t| drop(t.remove("quant_conv.bias"))),
        ("unknown tensors: 1 (extra)", |t| {
            t.insert("extra".into(), (Dtype::F32, vec![1], vec![0; 4]));
        }),
        ("quant_conv.weight is [4, 1, 4, 1], the model wants [4, 4, 1, 1]", |t| {
            t.get_mut("quant_conv.weight").unwrap().1 = vec![4, 1, 4, 1];
        }),
        ("quant_conv.bias is I32, not F32", |t| {
            t.get_mut("quant_conv.bias").unwrap().0 = Dtype::I32;
        }),
        ("there twice", |t| {
            let tensor = t["encoder.mid_block.attentions.0.to_q.weight"].clone();
            t.insert("encoder.mid_block.attentions.0.query.weight".into(), tensor);
        }),
    ];
    let refused = |folder: &Path, words: &str| {
        let error = Autoencoder::read(folder).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!(error.exit_code(), 4, "{error}");
    };
    for (words, edit) in tensors {
        let dir = Scratch::new("diffusers-tensors");
        refused(&changed(&dir, VQ, edit, |_| {}), words);
    }
    for (name, key, value, words) in [
        (VQ, "act_fn", serde_json::json!("mish"), "act_fn \"mish\""),
        (VQ, "norm_type", "spatial".into(), "norm_type \"spatial\""),
        (VQ, "_class_name", "AutoencoderTiny".into(), "_class_name \"AutoencoderTiny\""),
        (VQ, "_class_name", "AutoencoderKL".into(), "unknown tensors: 1 (quantize"),
        (VQ, "lookup_from_codebook", true.into(), "lookup_from_codebook"),
        (VQ, "block_out_channels", serde_json::json!([16]), "2 down_block_types for 1"),
        (VQ, "norm_num_groups", 5.into(), "block_out_channels: 16 is not a multiple"),
        (VQ, "layers_per_block", 2.into(), "missing tensors: 32"),
        (VQ, "num_vq_embeddings", 65.into(), "[64, 4], the model wants [65, 4]"),
        (KL, "_class_name", "VQModel".into(), "missing tensors: 1 (quantize"),
        (KL, "use_quant_conv", false.into(), "use_quant_conv \"false\""),
        (KL, "use_post_quant_conv", false.into(), "use_post_quant_conv \"false\""),
        (
            KL,
            "latent_channels",
            3.into(),
            "encoder.conv_out.weight is [8, 32, 3, 3], the model wants [6",
        ),
        (KL, "latents_mean", "none".into(), "no configuration of a VQModel or AutoencoderKL"),
    ] {
        let dir = Scratch::new("diffusers-config");
        refused(&changed(&dir, name, |_| {}, |json| json[key] = value), words);
    }
    let dir = Scratch::new("diffusers-damaged");
    let folder = changed(&dir, VQ, |_| {}, |_| {});
    let whole = std::fs::read(folder.join(WEIGHTS)).unwrap();
    std::fs::write(folder.join(WEIGHTS), &whole[..whole.len() - 1]).unwrap();
    refused(&folder, "damaged");
    std::fs::write(folder.join(WEIGHTS), u64::MAX.to_le_bytes()).unwrap();
    refused(&folder, "no safetensors file");
    std::fs::remove_file(folder.join(WEIGHTS)).unwrap();
    refused(&folder, "cannot be read");
}

fn config(model: &Model, kind: QuantiserKind) -> Config {
    let quantiser = Quantiser { kind, ..Quantiser::default() };
    Config { model: model.clone(), quantiser, ..Config::default() }
}

fn store(model: &Model, kind: QuantiserKind) -> Store {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = s.tape.input("x", &[1, 2, 2, model.in_channels]).unwrap();
    autoencoder::training(&mut s, &config(model, kind), x).unwrap();
    Store::new(Box::new(CpuDevice::new(1).unwrap()), table, 0).unwrap()
}

/// Into a store and out of its checkpoint, with a codebook as a parameter, as a moving average, and with
/// none; the averaged weights where the run is judged by them.
#[test]
fn through_a_checkpoint() {
    let [vq, kl] = [VQ, KL].map(|name| Autoencoder::read(&recorded(name)).unwrap());
    for (recorded, quantiser) in
        [(&vq, QuantiserKind::Gradient), (&vq, QuantiserKind::Ema), (&kl, QuantiserKind::Ema)]
    {
        let mut store = store(&recorded.model, quantiser);
        recorded.load_into(&mut store).unwrap();
        for (decay, current) in [(0.0, Kind::Param), (0.9, Kind::Ema)] {
            let mut config = config(&recorded.model, quantiser);
            config.train.ema_decay = decay;
            let mut snapshot = Snapshot::capture(&mut store).unwrap();
            for other in [Kind::Param, Kind::Ema].into_iter().filter(|k| *k != current) {
                snapshot.tensors.retain(|name, _| !name.starts_with(other.name()));
            }
            snapshot.meta.insert("config".into(), config.to_toml().unwrap());
            assert_eq!(&Autoencoder::from_snapshot(&snapshot).unwrap(), recorded);
        }
    }
    let mut wider = vq.model.clone();
    wider.latent_channels = 8;
    let error = vq.load_into(&mut store(&wider, QuantiserKind::Ema)).unwrap_err();
    assert!(error.to_string().contains("the model wants"), "{error}");
    let error = kl.load_into(&mut store(&vq.model, QuantiserKind::Gradient)).unwrap_err();
    assert!(error.to_string().contains("missing tensors"), "{error}");
    let compact = Autoencoder { model: Config::default().model, ..vq };
    assert_eq!(compact.write(Path::new("unused")).unwrap_err().exit_code(), 2);
}

/// A store of another quantiser is refused before anything is written.
#[test]
fn a_refused_store_is_untouched() {
    let vq = Autoencoder::read(&recorded(VQ)).unwrap();
    for (state, len) in [("codebook", 63 * 4), ("codebook.1", 64 * 4), ("ema_n.1", 64)] {
        let mut store = store(&vq.model, QuantiserKind::Ema);
        store.state(state, len).unwrap();
        let before = Snapshot::capture(&mut store).unwrap();
        let error = vq.load_into(&mut store).unwrap_err();
        assert!(error.to_string().contains(state), "{error}");
        assert_eq!(Snapshot::capture(&mut store).unwrap(), before, "{state}");
    }
}

/// What VQModel would run differently is named, and not exported.
#[test]
fn inexpressible_quantisers() {
    let vq = Autoencoder::read(&recorded(VQ)).unwrap();
    let set = |text: &str| {
        let base = config(&vq.model, QuantiserKind::Ema).to_toml().unwrap();
        Config::parse("c", &base, &[text.into()]).unwrap()
    };
    expressible(&set("train.lr=1e-3")).unwrap();
    for (text, part) in [
        ("quantiser.residual_levels=2", "2 codes a place"),
        ("quantiser.num_codebooks=2", "2 codes a place"),
        ("quantiser.distance=cosine", "quantiser.distance = cosine"),
        ("quantiser.kind=simvq", "quantiser.kind = simvq"),
        ("quantiser.kind=bsq", "quantiser.kind = bsq"),
        ("model.family=compact", "model.family = compact"),
    ] {
        let error = expressible(&set(text)).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert_eq!(error.exit_code(), 2);
        let mut snapshot = Snapshot::default();
        snapshot.meta.insert("config".into(), set(text).to_toml().unwrap());
        assert!(Autoencoder::from_snapshot(&snapshot).unwrap_err().to_string().contains(part));
    }
}
