//! From the outcomes of all arms to verdicts.

use super::arms::ArmSpec;
use super::outcome::Outcome;
use crate::error::{Error, Result};
use crate::metrics::{Gate, PSNR_CAP, Usage, mse, psnr};
use crate::train::Material;
use crate::verdict::{Arm, ArmKind, Comparison, Settings, Table, UsageGate, Verdict, judge};
use serde::Serialize;

/// Share of the codes that must be in use for CONTINUE_VQ.
const IN_USE: f64 = 0.8;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assembled {
    /// The arm with codes that decides: of those in use the one of the best mean PSNR.
    pub deciding: String,
    pub verdict: Verdict,
    /// The verdict of every arm with codes, had it been the only one.
    pub verdicts: Vec<(String, Verdict)>,
    /// Mean PSNR of the mean training image, in dB.
    pub floor: f64,
    /// What to keep in mind.
    pub notes: Vec<String>,
}

/// Judges every arm with codes against the KL-VAEs. `subjects` of all images of the data.
///
/// # Errors
/// No arm of either kind; outcomes that do not belong together.
pub fn assemble(
    arms: &[ArmSpec],
    outcomes: &[Outcome],
    data: &Material,
    subjects: &[String],
    settings: &Settings,
) -> Result<Assembled> {
    let test = &data.split.test;
    let mut made = vec![];
    for spec in arms {
        let own: Vec<&Outcome> = outcomes.iter().filter(|o| o.arm == spec.name).collect();
        made.push(arm(spec, &own, test, subjects)?);
    }
    let seeds: std::collections::BTreeSet<u64> = outcomes.iter().map(|o| o.seed).collect();
    let floor = floor(data, subjects, &seeds)?;
    let (vq, others): (Vec<Arm>, Vec<Arm>) =
        made.into_iter().partition(|arm| arm.kind == ArmKind::Vq);
    if vq.is_empty() || !others.iter().any(|arm| arm.kind == ArmKind::Vae) {
        return Err(Error::usage("nothing to compare")
            .why("a verdict needs an arm with codes and a KL-VAE")
            .help("for example --vq ema --vae kl=1e-6,1e-4,1e-2"));
    }
    let mut verdicts = vec![];
    for one in &vq {
        let arms = std::iter::once(one).chain(&others).cloned().collect();
        let comparison = Comparison { arms, floor: floor.clone() };
        verdicts.push((one.name.clone(), judge(&comparison, settings)?));
    }
    let in_use = |arm: &Arm| arm.usage.is_some_and(|u| u.gate == Gate::Passed);
    let rank = |arm: &Arm| (in_use(arm), arm.psnr.mean());
    let best = vq.iter().zip(&verdicts).max_by(|(a, _), (b, _)| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let Some((_, (deciding, verdict))) = best else {
        return Err(Error::failed("no arm decides"));
    };
    let mut notes = vec![];
    if vq.len() > 1 {
        notes.push(format!(
            "{deciding} decides, as the best of {} arms with codes on these same images: a fresh set \
             would show it a little less good",
            vq.len()
        ));
    }
    notes.push("sample quality is not judged: no diffusion runs were given".into());
    Ok(Assembled {
        deciding: deciding.clone(),
        verdict: verdict.clone(),
        verdicts: verdicts.clone(),
        floor: floor.mean(),
        notes,
    })
}

fn arm(spec: &ArmSpec, own: &[&Outcome], test: &[u32], subjects: &[String]) -> Result<Arm> {
    let mut table = Table::new();
    for outcome in own {
        for (row, scores) in test.iter().zip(&outcome.scores) {
            let subject = &subjects[*row as usize];
            table.insert(outcome.seed, subject, u64::from(*row), scores.psnr_capped())?;
        }
    }
    // The least used head of the least used seed stands for all.
    let worst = own.iter().flat_map(|o| &o.usage).min_by(|a, b| {
        let refused = |u: &Usage| u.gate(IN_USE) != Gate::Refused;
        refused(a).cmp(&refused(b)).then(a.unique_share.total_cmp(&b.unique_share))
    });
    Ok(Arm {
        name: spec.name.clone(),
        kind: spec.kind,
        rate: own.iter().map(|o| o.bits).sum::<f64>() / own.len().max(1) as f64,
        usage: worst.map(|usage| UsageGate::of(usage, IN_USE)),
        psnr: table,
    })
}

/// PSNR of the mean training image as the reconstruction of every held-out one.
fn floor(
    data: &Material,
    subjects: &[String],
    seeds: &std::collections::BTreeSet<u64>,
) -> Result<Table> {
    let images = &data.images;
    let mut mean = vec![0.0f64; images.image_len()];
    let mut image = vec![0.0f32; images.image_len()];
    for &row in &data.split.train {
        images.image(row as usize, &mut image);
        mean.iter_mut().zip(&image).for_each(|(m, v)| *m += f64::from(*v));
    }
    let n = data.split.train.len().max(1) as f64;
    let mean: Vec<f32> = mean.iter().map(|m| (m / n) as f32).collect();
    let mut table = Table::new();
    for &row in &data.split.test {
        images.image(row as usize, &mut image);
        let score = psnr(mse(&image, &mean)).min(PSNR_CAP);
        for &seed in seeds {
            table.insert(seed, &subjects[row as usize], u64::from(row), score)?;
        }
    }
    Ok(table)
}
