//! Names of the states that scale the loss in mixed precision.

/// State [1]: the factor of the loss, hence of all gradients, in mixed precision.
pub const LOSS_SCALE: &str = "loss_scale";
/// State [1]: steps applied since the factor last changed.
pub const GOOD_STEPS: &str = "good_steps";
