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
    fault("ten draws are enough", &"draw_steps", "> WARM", ">= WARM"),
    fault("the first step by its own losses", &"draw_steps", "max(t, 1u)", "t"),
    fault("not divided by its chance", &"draw_steps", "total / weight(drawn, known)", "1.0"),
    fault("the cross-entropy is not", &"draw_steps", " || i == AUXILIARY_WORD", ""),
    fault("lanes draw the same steps", &"draw_steps", "step.sample_base + b", "b"),
    fault("one step too late", &"draw_steps", "drawn = t;", "drawn = min(t + 1u, STEPS - 1u);"),
    fault(
        "every lane is the first",
        &"sample_losses",
        "step.sample_base - step.step * BATCH",
        "0u",
    ),
    fault("times forgotten", &"sample_losses", "f32(time[own])", "0.0"),
    fault("the mean, not its square", &"loss_history", "NEW * loss * loss", "NEW * loss"),
    fault(
        "last sample first",
        &"loss_history",
        "for (var b = 0u; b < BATCH; b++) {",
        "for (var c = 0u; c < BATCH; c++) { let b = BATCH - 1u - c;",
    ),
    fault("draws not counted", &"loss_history", "n += 1.0;", ""),
    fault("learned of a step not taken", &"loss_history", "|| !(ctl[1] > 0.0)", ""),
    fault("always the truth", &"corrupt_tokens", "u < alpha)", "u < 2.0)"),
    fault("no codes by chance", &"corrupt_tokens", "f32(K) * beta", "0.0 * beta"),
    fault("lanes draw the same", &"corrupt_tokens", "step.sample_base + b", "b"),
];
