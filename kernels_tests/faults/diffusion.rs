//! Faults in the kernels of discrete diffusion.

use super::shaders::{Fault, fault};

pub(super) const DIFFUSION: &[Fault] = &[
    fault("the posterior of one step for all", &"posterior_loss", "n.beta_s * total", "n.beta_s"),
    fault(
        "masks weigh as codes do",
        &"posterior_loss",
        "select(VISIBLE, MASKED",
        "select(MASKED, VISIBLE",
    ),
    fault("a seen code counts", &"posterior_loss", "n.beta_t == 0.0", "n.beta_t < 0.0"),
    fault("no bound on the logarithm", &"posterior_loss", "- lse, LEAST)", "- lse, 9.0 * LEAST)"),
    fault("auxiliary term left out", &"posterior_loss", " + n.auxiliary * entropy", ""),
    fault("keeping left out", &"posterior_loss", "select(0.0, n.keep, k == x)", "0.0"),
    fault("sum over codes left out", &"posterior_loss_bwd", " + n.beta_s * ratio", ""),
    fault("mass of the truth left out", &"posterior_loss_bwd", "p * mass - w", "-w"),
    fault("first step as any other", &"posterior_loss_bwd", "mass = 1.0;", ""),
    fault("always the truth", &"corrupt_tokens", "u < alpha)", "u < 2.0)"),
    fault("no codes by chance", &"corrupt_tokens", "f32(K) * beta", "0.0 * beta"),
    fault("lanes draw the same", &"corrupt_tokens", "step.sample_base + b", "b"),
];
