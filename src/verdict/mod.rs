//! VQ-VAE, KL-VAE or a hybrid: the statistics of a comparison.
//!
//! Every arm of the comparison brings one score for each (seed, subject, image) of the same held-out
//! images. The differences of pairs are bootstrapped over seeds, subjects and images
//! ([`bootstrap`]); samples of diffusions over the arms have distances of their own
//! ([`SampleDistance`]). Four rules look at the intervals ([`Rule`]), and one of them decides:
//!
//! ```text
//! usage gate refused, or VQ no better than the mean image, or the interval contains 0 -> INCONCLUSIVE
//! lower bound of VQ - VAE > 0 and usage above the threshold                           -> CONTINUE_VQ
//! lower bound of hybrid - VAE > 0                                                     -> HYBRID
//! else                                                                                -> STAY_CONTINUOUS
//! ```

pub mod arm;
pub mod bootstrap;
mod cube;
pub mod decision;
pub mod judge;
pub mod rate;
mod samples;
mod text;

pub use arm::{Arm, ArmKind, Key, Table, UsageGate};
pub use bootstrap::{Interval, Resampling, paired_bootstrap};
pub use decision::{Decision, Rule, RuleOutcome, Verdict};
pub use judge::{Comparison, Settings, judge};
pub use rate::{Matched, rate_matched};
pub use samples::{SampleDistance, SampleDistances};
pub use text::percent;

#[cfg(test)]
mod tests;
