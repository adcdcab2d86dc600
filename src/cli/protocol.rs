//! What `vqforge compare` is to do in a folder: a comparison that is begun, one that grows, or one that
//! is continued.

use super::compare::Args;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use vqforge::compare::{ArmSpec, Generation, Route, subjects, vae_arms, vq_arms};
use vqforge::config::Config;
use vqforge::data::atomic::write_atomically;
use vqforge::error::{Error, Result};
use vqforge::train::codes::fingerprint;
use vqforge::train::{Material, RunFolder};
use vqforge::verdict::{ArmKind, Rule};

pub const PROTOCOL: &str = "compare.json";
const VQ: &str = "ema,fsq,simvq,rvq2";
const VAE: &str = "kl=1e-6,1e-4,1e-2";
const SEEDS: u64 = 3;

/// Everything that decides the result, kept in the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// All settings, TOML.
    pub config: String,
    pub data: String,
    /// Of the images, their split and their subjects; `None` before they were opened.
    pub fingerprint: Option<String>,
    pub arms: Vec<ArmSpec>,
    pub seeds: u64,
    /// `None`: no samples are made.
    #[serde(default)]
    pub generation: Option<Generation>,
    pub rule: Rule,
    /// In dB.
    pub margin: f64,
}

impl Protocol {
    /// The settings of a run.
    pub fn settings(&self, arm: &ArmSpec, seed: u64) -> Result<Config> {
        let own = [format!("train.seed={seed}"), format!("name={}-s{seed}", arm.slug())];
        let sets: Vec<String> = arm.sets.iter().cloned().chain(own).collect();
        Config::parse(&arm.name, &self.config, &sets)
    }

    /// Mistakes are told before anything is trained. The last seed has the longest name.
    fn check(&self) -> Result<()> {
        for kind in [ArmKind::Vq, ArmKind::Vae] {
            if !self.arms.iter().any(|arm| arm.kind == kind) {
                return Err(Error::usage("nothing to compare")
                    .why("a verdict needs an arm with codes and a KL-VAE")
                    .help("for example --vq ema --vae kl=1e-6,1e-4,1e-2"));
            }
        }
        let last = self.seeds.saturating_sub(1);
        self.arms.iter().try_for_each(|arm| self.settings(arm, last).map(drop))?;
        let Some(generation) = &self.generation else {
            return match self.rule {
                Rule::Generation => Err(Error::usage("the generation rule needs samples")
                    .at("--rule generation")
                    .help(
                        "--generate SETTINGS trains diffusions over the arms and samples from them",
                    )),
                _ => Ok(()),
            };
        };
        let base = Config::parse(PROTOCOL, &self.config, &[])?;
        for arm in &self.arms {
            for &route in Route::of(arm.kind) {
                generation.settings(&base, arm, route, last)?;
            }
        }
        Ok(())
    }

    /// Is everything of `begun` in it, perhaps with further arms or seeds?
    fn extends(&self, begun: &Protocol) -> bool {
        self.config == begun.config
            && self.data == begun.data
            && self.seeds >= begun.seeds
            && (begun.generation.is_none() || self.generation == begun.generation)
            && begun.arms.iter().all(|arm| self.arms.contains(arm))
    }

    /// Remembers the data, or tells that they are not those that were remembered.
    ///
    /// # Errors
    /// Exit code 2: other images, another split, or images of other subjects.
    pub fn recognise(&mut self, data: &Material, base: &Config, folder: &Path) -> Result<()> {
        let people = subjects(&data.images, base);
        let split = &data.split;
        let all =
            format!("{} {:?} {people:?}", fingerprint(&data.images), (&split.train, &split.test));
        let now = blake3::hash(all.as_bytes()).to_hex().to_string();
        if self.fingerprint.as_ref().is_some_and(|begun| *begun != now) {
            return Err(Error::usage("the data are not those that the comparison was begun with")
                .at_path(folder)
                .why(format!("{} has changed, and all arms must see the same images", self.data))
                .help("put the data back as they were, or begin another comparison"));
        }
        self.fingerprint = Some(now);
        Ok(())
    }
}

impl Args {
    /// The folder and what is to be done in it: new, or as it was begun.
    pub fn protocol(&self) -> Result<(PathBuf, Protocol)> {
        let (folder, mut protocol) = match self.resume.as_deref() {
            Some(folder) if folder != Path::new("auto") => {
                self.nothing_else(folder)?;
                (folder.to_path_buf(), read_json(&folder.join(PROTOCOL))?)
            }
            auto => self.described(auto.is_some())?,
        };
        protocol.rule = self.rule.unwrap_or(protocol.rule);
        protocol.margin = self.margin.unwrap_or(protocol.margin);
        protocol.check()?;
        Ok((folder, protocol))
    }

    /// A comparison that is continued by its folder has all of this already.
    fn nothing_else(&self, folder: &Path) -> Result<()> {
        let given = [
            ("the settings", self.config.is_some()),
            ("--set", !self.sets.is_empty()),
            ("--data", self.data.is_some()),
            ("--vq", self.vq.is_some()),
            ("--vae", self.vae.is_some()),
            ("--seeds", self.seeds.is_some()),
            ("--generate", self.generating.generate.is_some()),
            ("--out", self.out.as_ref().is_some_and(|out| out != folder)),
        ];
        let given: Vec<_> = given.iter().filter(|(_, is)| *is).map(|(what, _)| *what).collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Error::usage("a comparison goes on as it was begun")
            .at(format!("--resume {}", folder.display()))
            .why(format!("{} would be ignored", given.join(", ")))
            .help(
                "leave that away; to add arms or seeds repeat the first command with them and with \
                 --resume auto",
            ))
    }

    /// What the arguments describe, in a folder of its own or, with `auto`, in one that is there.
    fn described(&self, auto: bool) -> Result<(PathBuf, Protocol)> {
        let path = self.config.as_deref().ok_or_else(|| {
            Error::usage("no settings were given")
                .help("name a TOML file, for example configs/radar_compare.toml")
        })?;
        let config = Config::load(Some(path), &self.sets)?;
        let data = self.data.clone().ok_or_else(|| {
            Error::usage("no data were given")
                .help("--data FILE.npz, a folder of PNG images, or --data synth:rotor to try")
        })?;
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| Path::new("runs").join(format!("compare-{}", config.name)));
        let vq = vq_arms(self.vq.as_deref().unwrap_or(VQ))?;
        let vae = vae_arms(self.vae.as_deref().unwrap_or(VAE))?;
        let mut protocol = Protocol {
            config: config.to_toml()?,
            data,
            fingerprint: None,
            arms: [vq, vae].concat(),
            seeds: self.seeds.unwrap_or(SEEDS),
            generation: self.generating.described()?,
            rule: Rule::Db,
            margin: 0.0,
        };
        let known = folder.join(PROTOCOL);
        if !known.exists() {
            RunFolder::vacant(Some(&folder), &config.name)?;
            return Ok((folder, protocol));
        }
        if !auto {
            return Err(Error::usage("there is a comparison already")
                .at_path(&folder)
                .help("continue it with --resume auto, or choose another --out"));
        }
        let begun: Protocol = read_json(&known)?;
        if !protocol.extends(&begun) {
            return Err(Error::usage("the comparison in this folder is another one")
                .at_path(&folder)
                .why("its settings or data differ, or it has arms, seeds or samples that are missing here")
                .help("continue it with --resume DIR alone, or choose another --out"));
        }
        (protocol.fingerprint, protocol.rule) = (begun.fingerprint, begun.rule);
        protocol.margin = begun.margin;
        Ok((folder, protocol))
    }
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failed("cannot write JSON").why(e))?;
    write_atomically(path, |w| w.write_all(text.as_bytes()))
}

pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::usage("there is no comparison here").at_path(path).why(e).help(
            "name the folder of an interrupted `vqforge compare`, or start one with a TOML file",
        )
    })?;
    serde_json::from_str(&text)
        .map_err(|e| Error::disk("the comparison's file is damaged").at_path(path).why(e))
}
