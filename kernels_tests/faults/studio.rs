//! Faults in the kernels for vectors and for the losses of autoencoders.

use super::shaders::{Fault, each, fault};

pub(super) const STUDIO: &[Fault] = &[
    fault(
        "columns from the first on",
        &"columns",
        "let column = i % WIDE - AT;",
        "let column = i % WIDE - 0u * AT;",
    ),
    fault("columns without their offset", &"columns", "* WIDE + AT + i", "* WIDE + 0u * AT + i"),
    fault(
        "unit rows backward without y (y . dy)",
        &"normalise_rows",
        " - scale * along * x[i])",
        " - 0.0 * along * x[i])",
    ),
    fault("codebook of a bad step", &"normalise_rows", "if ctl[1] > 0.0 {", "if ctl[1] >= 0.0 {"),
    fault(
        "gradient of short rows projected",
        &"normalise_rows",
        "var along = 0.0;",
        "var along = sums.y / FLOOR;",
    ),
    each(
        "last neighbour left out",
        &["normalise_rows", "rotation_trick"],
        "if lane % ROW_LANES < half {",
        "if lane % ROW_LANES + 1u < half {",
    ),
    fault("reflection without rotation", &"rotation_trick", " + 2.0 * sums.z * unit)", ")"),
    fault(
        "rotation without scaling",
        &"rotation_trick",
        "= lambda * (",
        "= (1.0 + 0.0 * lambda) * (",
    ),
    fault("short rows turned", &"rotation_trick", "let turns = long &&", "let turns ="),
    fault("weights forgotten", &"pixel_loss", "weight[i] * penalty", "penalty"),
    fault("squared below half of beta", &"pixel_loss", "size < BETA", "size < 0.5 * BETA"),
    fault(
        "a slope that does not end",
        &"pixel_loss_grad",
        "select(sign(d), d / BETA",
        "select(d / BETA, d / BETA",
    ),
    fault(
        "mean over one row too many",
        &"frame_rms",
        "sum / f32(dims.h)",
        "sum / f32(dims.h + 1u)",
    ),
    fault("the scale once", &"frame_rms_grad", "dims.scale * dims.scale *", "dims.scale *"),
    fault("amplitude for power", &"power_pool", "exp(2.0 * K", "exp(K"),
    fault(
        "gradient of pixels beyond the limit",
        &"power_pool_bwd",
        "abs(x[i]) < 2.0",
        "abs(x[i]) < 3.0",
    ),
    fault(
        "energy of what was made",
        &"spectral_distance",
        "energy += t[i] * t[i]",
        "energy += y[i] * y[i]",
    ),
    fault("ratio turned round", &"spectral_distance_bwd", "sign(d) /", "-sign(d) /"),
];
