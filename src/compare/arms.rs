//! The arms of a comparison by their short names, as changes of the settings that all share.

use crate::error::{Error, Result};
use crate::verdict::ArmKind;
use serde::{Deserialize, Serialize};

/// One arm: what it is called and what is set for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmSpec {
    pub name: String,
    pub kind: ArmKind,
    /// `section.key=value`, over the shared settings.
    pub sets: Vec<String>,
}

/// Arms with codes that have no number in their name.
const VQ: [(&str, &[&str]); 9] = [
    // What the first VQ-VAE did, without anything against collapse.
    ("plain", &["quantiser.kind=gradient", "quantiser.kmeans_iters=0", "quantiser.revive_every=0"]),
    ("gradient", &["quantiser.kind=gradient"]),
    ("ema", &["quantiser.kind=ema"]),
    ("cosine", &["quantiser.kind=ema", "quantiser.distance=cosine"]),
    ("rotation", &["quantiser.kind=ema", "quantiser.estimator=rotation"]),
    ("simvq", &["quantiser.kind=simvq"]),
    ("fsq", &["quantiser.kind=fsq"]),
    ("lfq", &["quantiser.kind=lfq"]),
    ("bsq", &["quantiser.kind=bsq"]),
];

impl ArmSpec {
    /// The name in paths: letters, digits, dots and dashes.
    pub fn slug(&self) -> String {
        self.name.replace('=', "")
    }
}

/// `ema,fsq,rvq2`: `rvqN` is a residual VQ of N levels, `mvqN` one of N codebooks side by side.
///
/// # Errors
/// An unknown name or one that is there twice, with the known ones.
pub fn vq_arms(list: &str) -> Result<Vec<ArmSpec>> {
    let arms = names(list).map(vq_arm).collect::<Result<Vec<_>>>()?;
    distinct(&arms)?;
    Ok(arms)
}

fn vq_arm(name: &str) -> Result<ArmSpec> {
    let own = |sets: &[&str]| {
        let set = ["model.bottleneck=vq"].iter().chain(sets);
        set.map(ToString::to_string).collect::<Vec<_>>()
    };
    if let Some((_, sets)) = VQ.iter().find(|(known, _)| *known == name) {
        return Ok(ArmSpec { name: name.into(), kind: ArmKind::Vq, sets: own(sets) });
    }
    let numbered = |prefix: &str| {
        let number = name.strip_prefix(prefix)?.parse::<usize>().ok()?;
        (2..=16).contains(&number).then_some(number)
    };
    let (kind, key, number) = match (numbered("rvq"), numbered("mvq")) {
        (Some(n), _) => (ArmKind::Hybrid, "quantiser.residual_levels", n),
        (_, Some(n)) => (ArmKind::Vq, "quantiser.num_codebooks", n),
        _ => {
            let known: Vec<_> = VQ.iter().map(|(name, _)| *name).collect();
            return Err(Error::usage(format!("no quantiser is called {name:?}"))
                .at("--vq")
                .help(format!("use some of: {}, rvq2 to rvq16, mvq2 to mvq16", known.join(", "))));
        }
    };
    let sets = own(&["quantiser.kind=ema", &format!("{key}={number}")]);
    Ok(ArmSpec { name: name.into(), kind, sets })
}

/// `kl=1e-6,1e-4,1e-2`: a KL-VAE for each weight of the divergence.
///
/// # Errors
/// Something that is no weight, or one that is there twice.
pub fn vae_arms(list: &str) -> Result<Vec<ArmSpec>> {
    let arms = names(list)
        .map(|text| {
            let number = text.strip_prefix("kl=").unwrap_or(text);
            let weight = number.parse::<f64>().ok().filter(|w| (0.0..=100.0).contains(w));
            let weight = weight.ok_or_else(|| {
                Error::usage(format!("{text:?} is no weight of the divergence"))
                    .at("--vae")
                    .help("write kl=1e-6,1e-4,1e-2: numbers from 0 to 100")
            })?;
            // One weight has one name, however it is written; the sum turns -0 into 0.
            let number = format!("{:e}", weight + 0.0);
            let sets = vec!["model.bottleneck=kl".into(), format!("kl.weight={number}")];
            Ok(ArmSpec { name: format!("kl={number}"), kind: ArmKind::Vae, sets })
        })
        .collect::<Result<Vec<_>>>()?;
    distinct(&arms)?;
    Ok(arms)
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn distinct(arms: &[ArmSpec]) -> Result<()> {
    for (i, arm) in arms.iter().enumerate() {
        if arms[..i].contains(arm) {
            return Err(Error::usage(format!("{} is there twice", arm.name))
                .help("name every arm once; --seeds says how often each is trained"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_arm_is_a_valid_change_of_the_defaults() {
        let all: Vec<_> = VQ.iter().map(|(name, _)| *name).chain(["rvq2", "mvq2"]).collect();
        let arms = vq_arms(&all.join(",")).unwrap();
        assert_eq!(arms.len(), all.len());
        let vaes = vae_arms("kl=1e-6, 0.0001, kl=1e+0, 25, -0, 1.5E-3").unwrap();
        let names: Vec<_> = vaes.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["kl=1e-6", "kl=1e-4", "kl=1e0", "kl=2.5e1", "kl=0e0", "kl=1.5e-3"]);
        for arm in arms.iter().chain(&vaes) {
            let name = format!("name={}", arm.slug());
            Config::parse("arm", "", &[&arm.sets[..], &[name]].concat()).unwrap();
            assert!(arm.slug().chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)));
        }
        let kinds: Vec<_> = vq_arms("ema,rvq3,mvq4").unwrap().iter().map(|a| a.kind).collect();
        assert_eq!(kinds, [ArmKind::Vq, ArmKind::Hybrid, ArmKind::Vq]);
    }

    #[test]
    fn mistakes_are_told() {
        for bad in ["emma", "rvq1", "rvq", "mvq99", "ema,ema"] {
            assert_eq!(vq_arms(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        for bad in ["kl=x", "-1", "kl=1e-6,kl=1e-6", "kl=1e-6,0.000001", "0,-0", "nan"] {
            assert_eq!(vae_arms(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        assert_eq!(vq_arms("").unwrap(), []);
    }
}
