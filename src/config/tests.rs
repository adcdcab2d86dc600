//! Bad configurations with what is said about them, and the shipped ones.

use std::path::Path;

use super::*;
use crate::data::{Norm, SplitSpec, testing::Scratch};

/// What is wrong, as first line; line:column; part of the help.
const BAD_FILES: &[(&str, &str, &str, &str)] = &[
    // Unknown keys, with a suggestion where there is a near one.
    ("[train]\nlrr = 3\n", "unknown key 'train.lrr'", "2:1", "did you mean 'lr'?"),
    ("[train]\nlearning_rate = 3\n", "unknown key 'train.learning_rate'", "2:1", "remove it"),
    ("[trian]\nlr = 1\n", "unknown key 'trian'", "1:2", "did you mean 'train'?"),
    ("lr = 1\n", "unknown key 'lr'", "1:1", "did you mean 'train.lr'?"),
    (
        "[train]\ncommitment_cost = 1\n",
        "unknown key 'train.commitment_cost'",
        "2:1",
        "'model.commitment_cost'",
    ),
    (
        "[model]\nnum_vq_embedings = 64\n",
        "unknown key 'model.num_vq_embedings'",
        "2:1",
        "'num_vq_embeddings'",
    ),
    ("[data]\npath = 'x'\n", "unknown key 'data.path'", "2:1", "--data PATH"),
    (
        "[data]\nsplit = { by = 'array', nam = 'x' }\n",
        "unknown key 'data.split.nam'",
        "2:25",
        "'name'",
    ),
    // Wrong types and words.
    (
        "[train]\nlr = 'abc'\n",
        "train.lr: invalid type: string \"abc\", expected a number",
        "2:6",
        "configs/",
    ),
    (
        "[train]\nsteps = 1.5\n",
        "train.steps: invalid type: floating point `1.5`, expected a whole number, 0 or more",
        "2:9",
        "configs/",
    ),
    (
        "[train]\n\nsteps = -4\n",
        "train.steps: invalid value: integer `-4`, expected a whole number, 0 or more",
        "3:9",
        "configs/",
    ),
    (
        "[train]\nbetas = [0.9]\n",
        "train.betas: invalid length 1, expected an array of length 2",
        "2:9",
        "configs/",
    ),
    (
        "[model]\nblock_out_channels = [32, 'a']\n",
        "model.block_out_channels: invalid type: string \"a\", expected a whole number, 0 or more",
        "2:27",
        "configs/",
    ),
    ("train = 3\n", "train: invalid type: integer `3`, expected a section", "1:9", "configs/"),
    (
        "[quantiser]\nkind = \"emma\"\n",
        "quantiser.kind: \"emma\" is not one of \"ema\", \"gradient\", \"simvq\", \"fsq\", \"lfq\", \"bsq\"",
        "2:8",
        "did you mean \"ema\"?",
    ),
    (
        "[model]\nfamily = \"unet\"\n",
        "model.family: \"unet\" is not one of \"classic\", \"compact\", \"vqmodel\"",
        "2:10",
        "use one of them",
    ),
    (
        "[data]\nnorm = \"maxdb\"\n",
        "data.norm: \"maxdb\" is not one of \"none\", \"minmax\", \"max-db\", \"percentile\"",
        "2:8",
        "did you mean \"max-db\"?",
    ),
    // Not TOML.
    ("x = [1,\n", "unclosed array, expected `]`", "1:8", "configs/"),
    ("[train]\nsteps = 4\nsteps = 5\n", "duplicate key", "3:1", "configs/"),
    ("[train\n", "unclosed table, expected `]`", "1:7", "configs/"),
    // Values out of range; NaN lies in no range.
    ("[train]\nlr = nan\n", "train.lr: NaN is out of range", "2:1", "above 0, at most 1"),
    ("[train]\nlr = 0\n", "train.lr: 0 is out of range", "2:1", "above 0"),
    ("[train]\nclip = inf\n", "train.clip: inf is out of range", "2:1", "from 0 to 1000000"),
    ("[train]\nbetas = [0.9, 1.0]\n", "train.betas: 1 is out of range", "2:1", "from 0 to below 1"),
    ("[train]\nbatch = 0\n", "train.batch: 0 is out of range", "2:1", "from 1 to 65536"),
    (
        "[train]\nlanes = 3\n",
        "train.lanes: 3 lanes do not divide the batch of 32",
        "2:1",
        "train.batch",
    ),
    (
        "[train]\nsteps = 50\n",
        "train.warmup: 100 warm-up steps in a run of 50",
        "1:2",
        "train.warmup",
    ),
    ("[train]\nema_decay = 1.0\n", "train.ema_decay: 1 is out of range", "2:1", "below 1"),
    ("[train]\nlog_every = 0\n", "train.log_every: 0 is out of range", "2:1", "from 1"),
    (
        "[quantiser]\nema_decay = 1.0\n",
        "quantiser.ema_decay: 1 is out of range",
        "2:1",
        "above 0 and below 1",
    ),
    (
        "[quantiser]\nkmeans_samples = 10\n",
        "quantiser.kmeans_samples: 10 samples cannot seed 256 codes",
        "2:1",
        "64 times",
    ),
    (
        "[model]\nblock_out_channels = []\n",
        "model.block_out_channels: 0 resolutions",
        "2:1",
        "[32, 64, 64]",
    ),
    (
        "[model]\nnorm_num_groups = 5\n",
        "model.block_out_channels: 32 is not a multiple of norm_num_groups = 5",
        "1:2",
        "change one",
    ),
    (
        "[model]\nnum_vq_embeddings = 1\n",
        "model.num_vq_embeddings: 1 is out of range",
        "2:1",
        "from 2",
    ),
    (
        "[model]\nin_channels = 3\n",
        "model.out_channels: 1 differs from in_channels = 3",
        "1:2",
        "make both equal",
    ),
    (
        "[model]\ncommitment_cost = -0.25\n",
        "model.commitment_cost: -0.25 is out of range",
        "2:1",
        "from 0",
    ),
    (
        "[denoiser]\nheads = 3\n",
        "denoiser.heads: 3 heads do not divide the width 128",
        "2:1",
        "denoiser.width",
    ),
    (
        "[diffusion]\nimportance = true\n",
        "diffusion.importance: process = \"masked\" has continuous times, not steps to choose from",
        "2:1",
        "vq-diffusion",
    ),
    (
        "[diffusion]\nprocess = 'uniform'\nweighting = 'maskgit'\n",
        "diffusion.weighting: has a meaning with process = \"masked\" alone",
        "3:1",
        "masked",
    ),
    (
        "[diffusion]\nprocess = 'absorbing'\ndiscrete_steps = 9\n",
        "diffusion.discrete_steps: has a meaning with process = \"masked\" alone",
        "3:1",
        "masked",
    ),
    (
        "[denoiser]\nkind = \"modern\"\nheads = 64\n",
        "denoiser.heads: heads 2 wide cannot turn with row and column",
        "3:1",
        "denoiser.positions",
    ),
    (
        "[denoiser]\nkind = \"vq-diffusion\"\n",
        "denoiser.kind: \"vq-diffusion\" is told the step, of which continuous time has none",
        "2:1",
        "diffusion.process",
    ),
    (
        "[denoiser]\nconditioning = \"cross\"\n",
        "denoiser.conditioning: \"adaptive\" has no cross-attention",
        "2:1",
        "pooled",
    ),
    ("[data]\nembeddings = \"npz:\"\n", "data.embeddings: an empty name", "2:1", "npz:NAME"),
    ("[diffusion]\nt_min = 0.5\n", "diffusion.t_min: 0.5 is out of range", "2:1", "below 0.5"),
    ("[data]\nsize = [64]\n", "data.size: 1 numbers", "2:1", "[rows, columns]"),
    ("[data]\npercentiles = [99, 1]\n", "data.percentiles: 99 is not below 1", "2:1", "lower"),
    ("[data]\nclip_db = 0\n", "data.clip_db: 0 is out of range", "2:1", "above 0"),
    ("[data.synth]\nsize = 4\n", "data.synth.size: 4 is out of range", "2:1", "from 8"),
    (
        "[data.split]\nby = 'array'\n",
        "data.split.by: \"array\" needs data.split.name as well",
        "2:1",
        "whole table",
    ),
    (
        "[data.split]\nby = 'fraction'\ntest = [1]\n",
        "data.split.test: has no meaning with by = \"fraction\"",
        "3:1",
        "whole table",
    ),
    ("[data.split]\nfraction = 1.0\n", "data.split.fraction: 1 is out of range", "2:1", "below 1"),
    (
        "[data.split]\nby = 'array'\nname = 's'\ntest = []\n",
        "data.split.test: holds out nothing",
        "4:1",
        "at least one",
    ),
    ("[checkpoint]\nevery = -1\n", "checkpoint.every: -1 is out of range", "2:1", "from 0"),
    ("name = '../x'\n", "name: \"../x\" cannot name a folder", "1:1", "letters"),
    ("name = ''\n", "name: \"\" cannot name a folder", "1:1", "letters"),
];

const BAD_SETS: &[(&str, &str, &str)] = &[
    ("train.lrr=3", "unknown key 'train.lrr'", "did you mean 'lr'?"),
    ("trian.lr=3", "unknown key 'trian'", "did you mean 'train'?"),
    ("train.lr.x=3", "unknown key 'train.lr.x'", "--set train.lr=..."),
    ("train.lr=abc", "train.lr: invalid type: string \"abc\", expected a number", "configs/"),
    ("train.lr=-1", "train.lr: -1 is out of range", "above 0"),
    ("train.lr=nan", "train.lr: NaN is out of range", "above 0"),
    ("train.lr=[1", "train.lr: the value is not TOML", "--set train.lr=3e-4"),
    ("train.lr=1\n[model]", "train.lr: the value is not TOML", "--set train.lr=3e-4"),
    ("train.lr", "there is no '='", "--set train.lr=3e-4"),
    ("=3", "the key is not section.key", "--set train.lr=3e-4"),
    ("train..lr=3", "the key is not section.key", "--set train.lr=3e-4"),
    ("train=3", "train: invalid type: integer `3`, expected a section", "configs/"),
    (
        "quantiser.kind=emma",
        "quantiser.kind: \"emma\" is not one of \"ema\", \"gradient\", \"simvq\", \"fsq\", \"lfq\", \"bsq\"",
        "\"ema\"",
    ),
    (
        "data.split.by=array",
        "data.split.by: \"array\" needs data.split.name as well",
        "whole table",
    ),
    ("data.split={by=\"folder\",tset=[1]}", "unknown key 'data.split.tset'", "'test'"),
];

#[test]
fn bad_files() {
    for (text, what, place, help) in BAD_FILES {
        let error = match Config::parse("demo.toml", text, &[]) {
            Ok(_) => panic!("accepted:\n{text}"),
            Err(error) => error,
        };
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert_eq!(message.lines().next(), Some(*what), "{text}");
        assert!(message.contains(&format!("at: demo.toml:{place}\n")), "{message}\nlacks {place}");
        let (_, said) = message.split_once("help: ").unwrap_or_default();
        assert!(said.contains(help), "{message}\nlacks help {help:?}");
        let caret = message.lines().find(|l| l.trim_start_matches([' ', '|']).starts_with('^'));
        assert!(caret.is_some(), "{message}\nhas no caret");
    }
}

#[test]
fn bad_sets() {
    for (text, what, help) in BAD_SETS {
        let error = match Config::load(None, &[text.to_string()]) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => error,
        };
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert_eq!(message.lines().next(), Some(*what), "{text}");
        assert!(message.contains(&format!("at: --set {}", text.replace('\n', " "))), "{message}");
        assert!(message.contains(help), "{message}\nlacks {help:?}");
    }
    let twice = ["train.lr=1".to_string(), "train.lr=0.5".to_string()];
    assert!(Config::load(None, &twice).unwrap_err().to_string().contains("set twice"));
}

/// The caret stands under the right character, also behind wide ones and in the last line.
#[test]
fn caret() {
    let text = "# größe\nname = \"日本\" # x\n[train]\n  lrr = 3";
    let message = Config::parse("c.toml", text, &[]).unwrap_err().to_string();
    let want = "unknown key 'train.lrr'\n  at: c.toml:4:3\n        |\n      4 |   lrr = 3\n        \
                |   ^^^\n  help: did you mean 'lr'?";
    assert_eq!(message, want);
}

#[test]
fn unreadable_files() {
    let dir = Scratch::new("config");
    let missing = Config::load(Some(&dir.path("no.toml")), &[]).unwrap_err();
    assert_eq!(missing.exit_code(), 2);
    assert!(missing.to_string().contains("no.toml"));
    let latin = dir.file("latin.toml", b"name = '\xe4'");
    assert!(Config::load(Some(&latin), &[]).unwrap_err().to_string().contains("UTF-8"));
}

/// Defaults, then the file, then `--set`.
#[test]
fn precedence() {
    let file = "[train]\nlr = 1e-3\nsteps = 500\n[data.split]\nby = 'folder'\n";
    let sets: Vec<String> = [
        "train.lr = 5e-4",
        "data.synth.preset=human",
        "model.block_out_channels=[16, 32]",
        "data.split={by=\"block-in-class\",size=50,test=[7]}",
        "name=radar-1",
    ]
    .map(String::from)
    .to_vec();
    let config = Config::parse("f", file, &sets).unwrap();
    assert_eq!((config.train.lr, config.train.steps, config.train.batch), (5e-4, 500, 32));
    assert_eq!(config.data.synth.preset, SynthPreset::Human);
    assert_eq!(config.model.block_out_channels, [16, 32]);
    assert_eq!(config.name, "radar-1");
    let split = SplitSpec::BlockInClass { size: 50, test: vec![7] };
    assert_eq!(config.data.preparation().split, split);
    // A whole number is a fine real number.
    assert_eq!(Config::parse("f", "[train]\nlr = 1", &[]).unwrap().train.lr, 1.0);
}

#[test]
fn resolved_settings_read_back() {
    let check = |config: &Config| {
        let text = config.to_toml().unwrap();
        assert_eq!(&Config::parse("again", &text, &[]).unwrap(), config, "{text}");
        text
    };
    let text = check(&Config::load(None, &[]).unwrap());
    // Every key is written out, the split's according to its kind; what a run settles is not said yet.
    for key in diagnose::every_key() {
        let leaf = key.rsplit('.').next().unwrap();
        let open =
            ["data.split.name", "data.split.test", "data.split.size", "diffusion.importance"];
        if !open.contains(&key.as_str()) {
            assert!(text.contains(&format!("{leaf} = ")), "{key} is missing in\n{text}");
        }
    }
    let set =
        ["data.norm=max-db", "data.clip_db=35", "data.size=[32,48]", "train.seed=9007199254740993"];
    let config = Config::load(None, &set.map(String::from)).unwrap();
    check(&config);
    assert_eq!(config.train.seed, 9_007_199_254_740_993);
    let how = config.data.preparation();
    assert_eq!(how.size, Some((32, 48)));
    assert_eq!(how.norm, Norm::MaxDb { clip_db: 35.0, unit: crate::data::Unit::Db });
}

#[test]
fn latent_size() {
    let model = Model::default();
    assert_eq!(model.latent_size(64, 128).unwrap(), (16, 32));
    let error = model.latent_size(63, 50).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--set data.size=[64,52]"), "{error}");
}

/// The shipped files load, and say what their names promise.
#[test]
fn shipped() {
    let load = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
        Config::load(Some(&path), &[]).unwrap()
    };
    let radar = load("radar_vqvae.toml");
    assert_eq!(radar.model.latent_size(64, 64).unwrap(), (16, 16));
    assert_eq!((radar.model.num_vq_embeddings, radar.model.vq_embed_dim), (256, 8));
    assert_eq!((radar.train.batch, radar.train.lr, radar.train.steps), (32, 3e-4, 1000));
    assert_eq!(radar.train.betas, [0.9, 0.99]);
    assert_eq!((radar.train.weight_decay, radar.train.clip), (0.0, 1.0));
    assert_eq!(radar.train.schedule, RateSchedule::Constant);
    let split = SplitSpec::BlockInClass { size: 50, test: vec![7] };
    assert_eq!(radar.data.preparation().split, split);
    let classic = load("classic_vqvae.toml");
    assert_eq!(classic.model.latent_size(32, 32).unwrap(), (8, 8));
    assert_eq!((classic.model.num_vq_embeddings, classic.model.vq_embed_dim), (512, 64));
    assert_eq!((classic.train.betas, classic.train.weight_decay), ([0.9, 0.999], 0.0));
    let diffusion = load("radar_diffusion.toml");
    assert_eq!((diffusion.denoiser.layers, diffusion.denoiser.width), (4, 128));
    assert_eq!(diffusion.data.preparation().split, split);
    assert_eq!(load("demo_vqvae.toml").data.synth, load("demo_diffusion.toml").data.synth);
}
