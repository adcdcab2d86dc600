//! Diffusions over the arms of a comparison, and what their samples came to.

use super::arms::ArmSpec;
use crate::config::{Config, DenoiserKind, Diffusion, Process};
use crate::error::{Error, Result};
use crate::metrics::generation::{Evaluation, Judged};
use crate::verdict::{ArmKind, SampleDistance, SampleDistances};
use serde::{Deserialize, Serialize};

/// What is diffused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// Codes, by the process of the settings.
    Discrete,
    /// The vectors of codes under Gaussian noise; what comes of them is rounded to codes.
    Hybrid,
    /// The latents of a KL-VAE under Gaussian noise.
    Continuous,
}

impl Route {
    /// The routes of an arm. Residual codes are a hybrid themselves: theirs are diffused as codes alone.
    pub fn of(kind: ArmKind) -> &'static [Route] {
        match kind {
            ArmKind::Vq => &[Route::Discrete, Route::Hybrid],
            ArmKind::Vae => &[Route::Continuous],
            ArmKind::Hybrid => &[Route::Discrete],
        }
    }

    /// The sampler of its samples. Of Gaussian noise `ddim`, which needs fewer steps than `ancestral` (ADR 17).
    pub fn sampler(self) -> &'static str {
        match self {
            Route::Discrete => "ancestral",
            Route::Hybrid | Route::Continuous => "ddim",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Route::Discrete => "discrete",
            Route::Hybrid => "hybrid",
            Route::Continuous => "continuous",
        }
    }
}

/// How samples are made; part of what decides a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Settings of the diffusions, TOML.
    pub config: String,
    /// Samples of each.
    pub samples: u32,
    /// Network evaluations of a sample; `None`: the sampler's own number.
    pub steps: Option<u32>,
    pub guidance: f32,
    /// Of each judging classifier.
    pub classifier_steps: u64,
}

impl Generation {
    /// The settings of one diffusion: of the images that `base`, the settings of the arms, is about.
    ///
    /// # Errors
    /// Settings that cannot be those of this route.
    pub fn settings(
        &self,
        base: &Config,
        arm: &ArmSpec,
        route: Route,
        seed: u64,
    ) -> Result<Config> {
        let mut config = Config::parse("--generate", &self.config, &[])?;
        let refused = |what: &str| Error::usage(what).at("--generate");
        if config.diffusion.process == Process::Gaussian {
            return Err(refused("these settings are of Gaussian diffusion alone")
                .why("codes are diffused by their diffusion.process; vectors and latents always by gaussian")
                .help("name a process of codes, for example masked"));
        }
        if base.data.embeddings.is_some() {
            return Err(refused("samples of a comparison follow classes alone")
                .why("data.embeddings is set in the settings of the arms")
                .help("leave the key out"));
        }
        if config.denoiser.kind == DenoiserKind::VqDiffusion {
            return Err(refused("all routes of a comparison have one denoiser")
                .why("denoiser.kind = \"vq-diffusion\" knows codes alone, and latents are diffused, too")
                .help("set denoiser.kind to adaptive or modern"));
        }
        let chain = config.diffusion.process != Process::Masked;
        if let Some(steps) = self.steps.filter(|&s| chain && s as usize > config.diffusion.steps) {
            let trained = config.diffusion.steps;
            return Err(refused("samples cannot have more steps than the chain has")
                .why(format!("--sampling-steps {steps}, diffusion.steps = {trained}"))
                .help("lower --sampling-steps, or raise diffusion.steps"));
        }
        config.data = base.data.clone();
        if route != Route::Discrete {
            // Most settings of a process of codes mean nothing to Gaussian noise.
            let eval_images = config.diffusion.eval_images;
            config.diffusion =
                Diffusion { process: Process::Gaussian, eval_images, ..Diffusion::default() };
        }
        let own =
            [format!("train.seed={seed}"), format!("name={}-s{seed}-{}", arm.slug(), route.name())];
        let name = format!("--generate, {} over {}", route.name(), arm.name);
        Config::parse(&name, &config.to_toml()?, &own)
    }
}

/// Of one diffusion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleOutcome {
    pub arm: String,
    pub seed: u64,
    pub route: Route,
    /// Device and driver that judged: features of another are not quite the same.
    pub device: String,
    /// What `vqforge eval` says, or what failed.
    pub evaluation: Judged<Evaluation>,
}

/// A sentence about each that failed, and one if they were not judged alike.
pub(super) fn failures(outcomes: &[SampleOutcome]) -> Vec<String> {
    let why = |o: &SampleOutcome| {
        let reason = o.evaluation.reason()?;
        Some(format!("{} diffusion over {}, seed {}: {reason}", o.route.name(), o.arm, o.seed))
    };
    let mut notes: Vec<String> = outcomes.iter().filter_map(why).collect();
    if let Some(first) = outcomes.first()
        && let Some(other) = outcomes.iter().find(|o| o.device != first.device)
    {
        notes.push(format!(
            "samples were judged on {} and on {}: the classifier whose features are compared is not the same \
             to the last bit",
            first.device, other.device
        ));
    }
    notes
}

/// The KIDs of the samples of one arm by one route, of every seed.
pub(super) fn distances(
    outcomes: &[SampleOutcome],
    arm: &ArmSpec,
    route: Route,
) -> SampleDistances {
    let own: Vec<&SampleOutcome> =
        outcomes.iter().filter(|o| o.arm == arm.name && o.route == route).collect();
    if own.is_empty() {
        return Err("no samples were made; --generate SETTINGS does".into());
    }
    let distance = |o: &&SampleOutcome| {
        let why = |why: &str| {
            format!("the {} diffusion over {}, seed {}: {why}", route.name(), o.arm, o.seed)
        };
        let evaluation = match &o.evaluation {
            Judged::Value(evaluation) => evaluation,
            Judged::NotJudged { not_judged } => return Err(why(not_judged)),
        };
        match &evaluation.kid.samples {
            Judged::Value(kid) => Ok(SampleDistance {
                seed: o.seed,
                kid: kid.mmd2,
                standard_error: kid.standard_error,
            }),
            Judged::NotJudged { not_judged } => Err(why(not_judged)),
        }
    };
    own.iter().map(distance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{vae_arms, vq_arms};

    fn generation(config: &str) -> Generation {
        Generation {
            config: config.into(),
            samples: 8,
            steps: None,
            guidance: 1.5,
            classifier_steps: 2,
        }
    }

    /// The process of the settings for codes, Gaussian noise for the others; images as the arms see them.
    #[test]
    fn settings_of_each_route() {
        let sets = ["data.split={ by = \"block-in-class\", size = 7, test = [1] }".to_string()];
        let base = Config::parse("base", "", &sets).unwrap();
        let g = generation(
            "[diffusion]\nprocess = \"uniform\"\nsteps = 50\neval_images = 9\n[denoiser]\nwidth = 64\n",
        );
        let arms = [vq_arms("ema,rvq2").unwrap(), vae_arms("1e-6").unwrap()].concat();
        for arm in &arms {
            for &route in Route::of(arm.kind) {
                let config = g.settings(&base, arm, route, 3).unwrap();
                assert_eq!((&config.data, config.train.seed), (&base.data, 3));
                assert_eq!((config.denoiser.width, config.diffusion.eval_images), (64, 9));
                let discrete = config.diffusion.process == Process::Uniform;
                assert_eq!(discrete, route == Route::Discrete, "{config:?}");
                assert_eq!(config.name, format!("{}-s3-{}", arm.slug(), route.name()));
            }
        }
    }

    #[test]
    fn settings_that_will_not_do() {
        let arm = &vq_arms("ema").unwrap()[0];
        for (config, part) in [
            ("[diffusion]\nprocess = \"gaussian\"\n", "of codes"),
            (
                "[denoiser]\nkind = \"vq-diffusion\"\n[diffusion]\nprocess = \"vq-diffusion\"\n",
                "adaptive or modern",
            ),
            ("[diffusion]\nprocess = \"uniform\"\nsteps = 5\n", "--sampling-steps 6"),
            ("[denoiser]\nwidth = 0\n", "denoiser.width"),
        ] {
            let error = Generation { steps: Some(6), ..generation(config) }
                .settings(&Config::default(), arm, Route::Discrete, 0)
                .unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn distances_or_why_not() {
        let arm = &vq_arms("ema").unwrap()[0];
        let none = distances(&[], arm, Route::Discrete).unwrap_err();
        assert!(none.contains("--generate"), "{none}");
        let failed = SampleOutcome {
            arm: "ema".into(),
            seed: 1,
            route: Route::Discrete,
            device: "cpu".into(),
            evaluation: Judged::not("it diverged"),
        };
        let why = distances(std::slice::from_ref(&failed), arm, Route::Discrete).unwrap_err();
        assert!(why.contains("ema, seed 1: it diverged"), "{why}");
        let moved = SampleOutcome { device: "gpu".into(), ..failed.clone() };
        let notes = failures(&[failed.clone(), moved]);
        assert_eq!(notes.len(), 3);
        assert!(
            notes[0].contains("it diverged") && notes[2].contains("cpu and on gpu"),
            "{notes:?}"
        );
        assert!(distances(&[failed], arm, Route::Hybrid).unwrap_err().contains("--generate"));
    }
}
