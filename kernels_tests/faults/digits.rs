//! Faults in the kernels of scalar and binary quantisers and of Gaussians.

use super::shaders::{Fault, fault};

pub(super) const DIGITS: &[Fault] = &[
    fault("rounded down", &"fsq", "let rounded = round(", "let rounded = floor("),
    fault("shift left out", &"fsq", "bounded_tanh(v + channel.z)", "bounded_tanh(v)"),
    fault(
        "channel 0 the highest digit",
        &"fsq",
        "index += basis * digit;",
        "index = index * levels + digit;",
    ),
    fault("zero is negative", &"fsq", "select(0u, 1u, v >= 0.0)", "select(0u, 1u, v > 0.0)"),
    fault("gradient of the tanh alone", &"fsq", "4.0 * channel.x * e", "4.0 * e"),
    fault("odd levels off centre", &"fsq_codes", "f32(levels / 2u)", "0.5 * f32(levels)"),
    fault("zero is negative", &"sign_code", "z[i] >= 0.0", "z[i] > 0.0"),
    fault("channel 0 the lowest bit", &"sign_codes", "(D - 1u - i % D)", "(i % D)"),
    fault("entropy without its second term", &"bit_entropy", " + a * e / (1.0 + e)", ""),
    fault(
        "series of the logarithm cut short",
        &"bit_entropy",
        "v * (1.0 + v * (0.5 +",
        "v * (1.0 + v * (0.0 +",
    ),
    fault("slope counted once", &"bit_entropy_grad", "dloss[0] * SLOPE)", "dloss[0])"),
    fault("last rows dropped", &"code_distribution", "tile += ROWS) {", "tile += 2u * ROWS) {"),
    fault("a bit too few", &"code_distribution", "bit < bits; bit++", "bit + 1u < bits; bit++"),
    fault(
        "chances exchanged",
        &"code_distribution_grad",
        "chance[bit].x * sums[bit].y - chance[bit].y * sums[bit].x",
        "chance[bit].y * sums[bit].y - chance[bit].x * sums[bit].x",
    ),
    fault("log of zero", &"distribution_entropy", "FLOOR: f32 = 1.2e-38", "FLOOR: f32 = 1.2e-30"),
    fault("entropy in bits", &"distribution_entropy", "p * log_p", "p * log2(p)"),
    fault("lanes draw the same noise", &"gaussian_noise", "step.sample_base + sample", "sample"),
    fault("a tail of 24 bits", &"gaussian_noise", "more = words(j | 0x80000000u, sample);", ""),
    fault("an angle of three quarters", &"gaussian_noise", "quarter >= 2u", "quarter > 2u"),
    fault("variance for deviation", &"sample_gaussian", "exp(0.5 * clamp", "exp(clamp"),
    fault(
        "gradient through the clamp",
        &"sample_gaussian",
        "logvar >= -30.0 && logvar <= 20.0",
        "true",
    ),
    fault(
        "not clamped",
        &"gaussian_kl",
        "clamp(moments[at + CHANNELS], -30.0, 20.0)",
        "moments[at + CHANNELS]",
    ),
    fault("gradient through the clamp", &"gaussian_kl_grad", "x >= -30.0 && x <= 20.0", "true"),
];
