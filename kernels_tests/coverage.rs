//! What becomes of every case recorded from PyTorch: computed by `op_fixtures`, or by a test that
//! [`ELSEWHERE`] names, or [`NOT_COVERED`] says why not. Whole models have a list of their own,
//! [`MODELS`].

use crate::fixtures::{self, Fixture, cases};
use crate::op_fixtures::record;
use serde_json::Value;
use std::collections::BTreeSet;

/// Recorded cases that nothing computes, and why.
const NOT_COVERED: &[(&str, &[&str], &str)] = &[
    ("conv2d", &["k3d2p2"], "no model here dilates"),
    ("conv2d", &["groups2", "depthwise"], "no model here has grouped convolutions"),
    ("conv2d", &["rect53s21"], "one stride for both axes"),
    (
        "conv_transpose2d",
        &["groups2", "d2"],
        "no model here has grouped or dilated transposed convolutions",
    ),
    ("linear", &["bmm"], "batched products have no operation: attention has kernels of its own"),
    ("activation", &["sigmoid", "tanh", "exp", "softplus"], "not an activation of any model here"),
    (
        "elementwise_reduce",
        &["bcast_mul", "bcast_div", "bcast_logaddexp", "cat", "permute", "gather", "pad_const"],
        "not needed by any model: layouts are fixed and padding is part of the convolution",
    ),
    (
        "elementwise_reduce",
        &["mean_dim", "sum", "big_sum", "var_dim_unbiased"],
        "reductions are parts of norms and losses, whose cases run",
    ),
    ("cross_entropy", &["label_smoothing_0.1"], "not a loss of this project"),
    ("attention", &["masked"], "no model here masks"),
    (
        "resample",
        &[
            "nearest_x3",
            "avg_pool_k2s2",
            "max_pool_k2s2",
            "avg_pool_k3s2p1",
            "max_pool_k3s2p1",
            "avg_pool_k3s1p1_nopadcount",
            "max_pool_k3s1p1_nopadcount",
        ],
        "encoders stride and decoders double",
    ),
    ("optim", &["sgd", "sgd_mom_wd"], "AdamW is the optimiser of this project"),
    ("quantisers", &["metrics"], "image metrics have unit tests beside their code"),
];

/// Families (or cases of them) that other files than `op_fixtures` compute: family, cases (none: all that are not
/// listed above), source, name of the test.
const ELSEWHERE: &[(&str, &[&str], &str, &str)] = &[
    ("group_norm", &[], NORMS, "group_norm_as_in_torch"),
    ("layer_norm", &[], NORMS, "layer_norm_as_in_torch"),
    ("attention", &[], NORMS, "attention_as_in_torch"),
    ("softmax", &[], NORMS, "softmax_as_in_torch"),
    ("cross_entropy", &["nc", "ncl", "sum", "ignore_index"], NORMS, "cross_entropy_as_in_torch"),
    ("resample", &[], NORMS, "resampling_as_in_torch"),
    ("vq_ema_lucidrains", &[], CODES, "moving_average_codebook_as_in_torch"),
    ("vq_nearest", &[], CODES, "vector_quantisation_as_in_torch"),
    (
        "quantisers",
        &["fsq_3_3", "fsq_7_5_5_5_5", "fsq_8_5_5_5", "fsq_8_6_5"],
        DIGITS,
        "finite_scalars_as_in_torch",
    ),
    ("quantisers", &["lfq_4", "lfq_6"], DIGITS, "binary_codes_as_in_torch"),
    ("quantisers", &["simvq_ste", "simvq_rot"], QUANTISERS, "simvq_as_in_torch"),
    ("quantisers", &["rvq"], QUANTISERS, "residual_levels_as_in_torch"),
    ("optim", &["adam", "adamw"], OPTIMISER, "pytorch_adam_and_adamw"),
    ("optim", &["clip"], OPTIMISER, "pytorch_clipping"),
];
const NORMS: &str = include_str!("norm_fixtures.rs");
const DIGITS: &str = include_str!("digit_fixtures.rs");
const CODES: &str = include_str!("vq_fixtures.rs");
const QUANTISERS: &str = include_str!("quantisers/recorded.rs");
const OPTIMISER: &str = include_str!("optimiser.rs");

/// Records of whole models: folder, files, source, name of the test that compares everything in them.
const MODELS: &[(&str, &[&str], &str, &str)] = &[
    (
        "vqmodel_1ch",
        &["fixture_io", "fixture_grads", "fixture_decode_indices"],
        VQMODEL,
        "one_channel_on_the_cpu",
    ),
    ("vqmodel_1ch", &["fixture_nonlegacy"], VQMODEL, "beta_on_the_encoder_term"),
    (
        "autoencoder_kl",
        &["fixture_io", "fixture_grads", "fixture_sampled"],
        KL,
        "as_in_diffusers_on_the_cpu",
    ),
    ("autoencoder_kl", &["gaussian"], DIGITS, "gaussians_as_in_diffusers"),
];
const VQMODEL: &str = include_str!("vqmodel.rs");
const KL: &str = include_str!("autoencoder_kl.rs");
/// What the two read in common.
const RECORDED: &str = include_str!("recorded.rs");

/// A file of chains of kernels may leave out what `op_fixtures` computes and what nothing does.
pub fn left_out(family: &str, case: &Value) -> bool {
    let listed = |(f, cases, _): &(&str, &[&str], &str)| {
        *f == family && cases.iter().any(|c| case["name"] == *c)
    };
    NOT_COVERED.iter().any(listed) || record(family, case).is_some()
}

/// Every recorded case is computed by `op_fixtures` or by a test that exists, or is listed.
#[test]
fn every_recorded_case_is_accounted_for() {
    let folder = fixtures::folder().join("ops");
    let names = |folder: &std::path::Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let paths = entries.map(|e| e.expect("an entry").path());
        let json = paths.filter(|p| p.extension().is_some_and(|e| e == "json"));
        json.map(|p| p.file_stem().expect("a name").to_string_lossy().into()).collect()
    };
    let families = names(&folder);
    if let Some(all) = fixtures::shared("ops") {
        assert_eq!(families, names(&all), "families");
    }
    for (family, cases_of, source, test) in ELSEWHERE {
        assert!(families.contains(*family), "{family}");
        assert!(source.contains(&format!("fn {test}()")), "{family} {cases_of:?}: no {test}");
    }
    for family in &families {
        let mut listed: BTreeSet<&str> = NOT_COVERED
            .iter()
            .filter(|(f, ..)| f == family)
            .flat_map(|(_, cases, _)| cases.iter().copied())
            .collect();
        for case in cases(family) {
            let name = case["name"].as_str().expect("a name");
            let computed = record(family, &case).is_some();
            let elsewhere = ELSEWHERE
                .iter()
                .any(|(f, cases, ..)| f == family && (cases.is_empty() || cases.contains(&name)));
            match (computed || elsewhere, listed.remove(name)) {
                (true, false) | (false, true) => {}
                // A whole family elsewhere leaves out what is listed.
                (true, true) if !computed => {}
                (true, true) => panic!("{family}/{name} is computed and listed as not covered"),
                (false, false) => panic!("{family}/{name} is neither computed nor listed"),
            }
        }
        assert!(listed.is_empty(), "{family} has no cases {listed:?}");
    }
}

/// Every file beside a model's weights belongs to a test that exists and names it, and every tensor in
/// it that is not a gradient by the name of its parameter.
#[test]
fn every_recorded_model_is_accounted_for() {
    let entries = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|e| e.expect("an entry").path()).collect()
    };
    let stem = |path: &std::path::Path| path.file_stem().expect("a name").to_string_lossy().into();
    let mut count = 0;
    for folder in entries(&fixtures::folder()).iter().filter(|f| f.join("config.json").exists()) {
        let model: String = stem(folder);
        for path in entries(folder) {
            let file: String = stem(&path);
            let weights = file == "diffusion_pytorch_model";
            if weights || path.extension().is_none_or(|e| e != "safetensors") {
                continue;
            }
            let listed =
                MODELS.iter().find(|(m, files, ..)| *m == model && files.contains(&&*file));
            let (.., source, test) = listed.unwrap_or_else(|| panic!("{model}/{file}: not listed"));
            assert!(source.contains(&format!("fn {test}()")), "{model}/{file}: no {test}");
            let named = |name: &str| [source, RECORDED].iter().any(|s| s.contains(name));
            assert!(named(&file), "{model}/{file} is not read");
            for tensor in Fixture::open(&path).names() {
                let name = tensor.rsplit('.').next().unwrap_or(&tensor);
                let gradient = matches!(name, "weight" | "bias");
                assert!(gradient || named(&format!("\"{name}\"")), "{model}/{file}: {tensor}");
            }
            count += 1;
        }
    }
    assert_eq!(count, MODELS.iter().map(|(_, files, ..)| files.len()).sum::<usize>());
}
