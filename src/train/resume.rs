//! What may change when a run is continued: shapes may not, rates may and are said.

use super::Snapshot;
use crate::config::diff::changes;
use crate::config::{Config, Family, Process, QuantiserKind, RateSchedule};
use crate::error::{Error, Result};

/// Keys that decide the shapes of a model, by the kind of run they concern.
const SHAPES: &[(&str, &[&str])] =
    &[("vqvae", AUTOENCODER), ("klvae", AUTOENCODER), ("diffusion", DENOISER)];

const DENOISER: &[&str] = &[
    "denoiser.kind",
    "denoiser.layers",
    "denoiser.width",
    "denoiser.heads",
    "denoiser.mlp_ratio",
    "denoiser.feed_forward",
    "denoiser.positions",
    "denoiser.mlp",
    "denoiser.qk_norm",
    "denoiser.conditioning",
];

const AUTOENCODER: &[&str] = &[
    "model.family",
    "model.bottleneck",
    "model.in_channels",
    "model.out_channels",
    "model.block_out_channels",
    "model.layers_per_block",
    "model.latent_channels",
    "model.num_vq_embeddings",
    "model.vq_embed_dim",
    "model.norm_num_groups",
    "model.mid_block_add_attention",
    "quantiser.kind",
    "quantiser.distance",
    "quantiser.residual_levels",
    "quantiser.num_codebooks",
    "quantiser.fsq_levels",
];

/// Keys that change no number of the run, only what is written and when.
const RHYTHM: &[&str] = &[
    "name",
    "checkpoint.every",
    "checkpoint.keep",
    "train.log_every",
    "train.eval_every",
    "train.sample_every",
];

/// Settles what settings of old and new leave out: a run goes on as it was, and one whose settings are older
/// than a key goes on without what it does.
pub fn settle(kind: &str, old: &mut Config, new: &mut Config) {
    if kind != "diffusion" {
        return;
    }
    let known = old.diffusion.importance.get_or_insert(false);
    new.diffusion.importance.get_or_insert(*known);
}

/// Lines to tell before a run goes on under `new` settings: every key that differs from `old`.
///
/// # Errors
/// A change with which the checkpoint does not fit (exit 2).
pub fn differences(kind: &str, old: &Config, new: &Config) -> Result<Vec<String>> {
    let mut lines = vec![];
    for change in changes(old, new)? {
        if let Some(why) = unfit(kind, &change.key, old, new) {
            return Err(Error::usage(format!(
                "{} cannot change when a run is continued",
                change.key
            ))
            .at(change)
            .why(why)
            .help("leave the key as it was, or start another run without --resume"));
        }
        // A cosine reaches down to zero at the end of the run, wherever that is.
        let later_end = change.key == "train.steps" && new.train.schedule == RateSchedule::Constant;
        lines.push(match later_end || RHYTHM.contains(&&*change.key) {
            true => format!("changed: {change}"),
            false => format!("warning: changed: {change} (the rest of the run will differ)"),
        });
    }
    Ok(lines)
}

/// Why a run cannot go on with another value of `key`: the checkpoint holds tensors of other shapes, or
/// does not hold all of them. `None` if it can.
fn unfit(kind: &str, key: &str, old: &Config, new: &Config) -> Option<String> {
    let shapes = SHAPES.iter().find(|(of, _)| *of == kind).map_or(&[][..], |(_, keys)| keys);
    if shapes.contains(&key) {
        let part = if key == "quantiser.kind" { "codebook" } else { "model" };
        return Some(format!("the checkpoint holds a {part} of other shapes"));
    }
    if kind == "diffusion" {
        let chain = [old, new].iter().any(|c| c.diffusion.process != Process::Masked);
        return match key {
            "diffusion.process" => Some("the checkpoint learned to undo another corruption".into()),
            "denoiser.norm" | "denoiser.rotary_base" => {
                Some("the checkpoint learned with another one".into())
            }
            "data.embeddings" => {
                let with =
                    |c: &Config| if c.data.embeddings.is_some() { "with" } else { "without" };
                (with(old) != with(new))
                    .then(|| format!("the checkpoint was trained {} embeddings", with(old)))
            }
            "diffusion.steps" if chain => Some("the checkpoint tells other steps apart".into()),
            "diffusion.importance" if new.diffusion.importance == Some(true) => {
                Some("the checkpoint does not say how large the losses of the steps were".into())
            }
            _ => None,
        };
    }
    let switched = |what: &str, weight: fn(&Config) -> f64| {
        let has = if weight(old) > 0.0 { "a" } else { "no" };
        ((weight(old) > 0.0) != (weight(new) > 0.0))
            .then(|| format!("the checkpoint holds {has} {what}"))
    };
    let q = &old.quantiser;
    match key {
        // The other families have no residual stack of these.
        "model.num_residual_layers" | "model.num_residual_hiddens" => {
            let classic = old.model.family == Family::Classic;
            classic.then(|| "the checkpoint holds a model of other shapes".into())
        }
        "loss.adversarial.weight" => switched("discriminator", |c| c.loss.adversarial.weight),
        "loss.adversarial.layers" | "loss.adversarial.width" => {
            let both = [old, new].iter().all(|c| c.loss.adversarial.weight > 0.0);
            both.then(|| "the checkpoint holds a discriminator of other shapes".into())
        }
        "loss.perceptual.weight" => switched("perceptual network", |c| c.loss.perceptual.weight),
        "quantiser.revive_every" => {
            let uncounted = q.kind == QuantiserKind::Gradient && q.revive_every == 0;
            uncounted.then(|| "the checkpoint does not say how often its codes were chosen".into())
        }
        _ => None,
    }
}

/// Lines about facts other than settings, such as the hash of the data, that `snapshot` knows and
/// that are different `now`.
pub fn facts(snapshot: &Snapshot, now: &[(&str, &str, &str)]) -> Vec<String> {
    let differs = |(key, value, what): &(&str, &str, &str)| {
        let known = snapshot.meta.get(*key)?;
        (known != value).then(|| format!("warning: {what} (the rest of the run will differ)"))
    };
    now.iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnose::every_key;

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        Config::load(None, &sets).unwrap()
    }

    #[test]
    fn shapes_are_refused_and_rates_are_said() {
        let old = config(&[]);
        assert!(differences("vqvae", &old, &old).unwrap().is_empty());
        let error =
            differences("vqvae", &old, &config(&["model.num_vq_embeddings=64"])).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("model.num_vq_embeddings 256 -> 64"), "{text}");
        // The autoencoder's shapes mean nothing to a diffusion run, and the reverse.
        assert!(differences("diffusion", &old, &config(&["quantiser.kind=gradient"])).is_ok());
        assert!(differences("diffusion", &old, &config(&["denoiser.layers=2"])).is_err());
        assert!(differences("diffusion", &old, &config(&["diffusion.process=uniform"])).is_err());
        assert!(differences("diffusion", &old, &config(&["diffusion.steps=50"])).is_ok());
        let chain = config(&["diffusion.process=uniform"]);
        let other = config(&["diffusion.process=uniform", "diffusion.steps=50"]);
        assert!(differences("diffusion", &chain, &other).is_err());
        let lines =
            differences("vqvae", &old, &config(&["train.lr=1e-4", "checkpoint.every=5"])).unwrap();
        assert!(lines[0].starts_with("changed: checkpoint.every 60.0 -> 5"), "{lines:?}");
        assert!(lines[1].starts_with("warning: changed: train.lr 0.0003 -> 0.0001"), "{lines:?}");
    }

    /// A run whose settings do not say whether its steps are drawn by importance is older than the key.
    #[test]
    fn steps_are_drawn_as_they_were() {
        let process = "diffusion.process=vq-diffusion";
        let [on, off] = ["true", "false"].map(|v| format!("diffusion.importance={v}"));
        let settled = |old: &[&str], new: &[&str]| {
            let (mut old, mut new) = (config(old), config(new));
            settle("diffusion", &mut old, &mut new);
            let said = differences("diffusion", &old, &new);
            (new.diffusion.importance, said.map(|lines| lines.len()).map_err(|e| e.to_string()))
        };
        assert!(config(&[process]).diffusion.samples_by_importance());
        assert_eq!(settled(&[process], &[process]), (Some(false), Ok(0)));
        assert_eq!(settled(&[process, &on], &[process]), (Some(true), Ok(0)));
        assert_eq!(settled(&[process, &off], &[process]), (Some(false), Ok(0)));
        // The history that is no longer read stays in the checkpoint.
        assert_eq!(settled(&[process, &on], &[process, &off]), (Some(false), Ok(1)));
        let (_, refused) = settled(&[process], &[process, &on]);
        assert!(refused.unwrap_err().contains("how large the losses"));
        assert_eq!(settled(&[], &[]), (Some(false), Ok(0)));
        let (mut old, mut new) = (config(&[]), config(&[]));
        settle("vqvae", &mut old, &mut new);
        assert_eq!(new.diffusion.importance, None);
    }

    /// What comes with other tensors is refused, and only where it does.
    #[test]
    fn parts_come_and_go_with_their_settings() {
        let gradient = "quantiser.kind=gradient";
        let adversarial = "loss.adversarial.weight=1";
        let (layers, perceptual) = ("loss.adversarial.layers=2", "loss.perceptual.weight=0.1");
        for (before, after, refused) in [
            (vec!["model.family=classic"], "model.num_residual_layers=1", true),
            (vec!["model.family=classic"], "model.num_residual_hiddens=8", true),
            (vec![], "model.num_residual_layers=1", false),
            (vec![], adversarial, true),
            (vec![], perceptual, true),
            (vec![], layers, false),
            (vec![adversarial], layers, true),
            (vec![adversarial], "loss.adversarial.width=8", true),
            (vec![adversarial], "loss.adversarial.start=7", false),
            (vec![gradient, "quantiser.revive_every=0"], "quantiser.revive_every=25", true),
            (vec![gradient], "quantiser.revive_every=0", false),
            (vec!["quantiser.revive_every=0"], "quantiser.revive_every=25", false),
        ] {
            let key = after.split('=').next().unwrap();
            let others = before.iter().filter(|set| !set.starts_with(key)).copied();
            let with: Vec<&str> = others.chain([after]).collect();
            let (old, new) = (config(&before), config(&with));
            let found = differences("vqvae", &old, &new);
            assert_eq!(found.is_err(), refused, "{before:?}, {after}: {found:?}");
            if let Err(error) = found {
                assert_eq!(error.exit_code(), 2);
                assert!(error.to_string().contains("the checkpoint"), "{error}");
            }
            // Neither a loss nor a book of the autoencoder is in a diffusion.
            assert!(differences("diffusion", &old, &new).is_ok(), "{after}");
        }
        let (on, off) = (config(&[adversarial, perceptual]), config(&[]));
        let error = differences("vqvae", &on, &off).unwrap_err().to_string();
        assert!(error.contains("the checkpoint holds a discriminator"), "{error}");
    }

    #[test]
    fn a_longer_run_changes_the_rates_only_under_a_cosine() {
        for (schedule, start) in [("cosine", "warning: "), ("constant", "changed: ")] {
            let schedule = format!("train.schedule={schedule}");
            let old = config(&[&schedule]);
            let new = config(&[&schedule, "train.steps=20000"]);
            let lines = differences("vqvae", &old, &new).unwrap();
            assert!(lines.len() == 1 && lines[0].starts_with(start), "{lines:?}");
        }
    }

    /// A key that is renamed must not silently drop out of the lists.
    #[test]
    fn the_listed_keys_exist() {
        let known = every_key();
        let shapes = SHAPES.iter().flat_map(|(_, keys)| keys.iter());
        for key in shapes.chain(RHYTHM) {
            assert!(known.iter().any(|k| k == key), "{key}");
        }
    }
}
