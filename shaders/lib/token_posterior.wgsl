// What a step of a corruption says of one token: see src/kernels/posterior_loss.rs for the formulas.
#import noise

fn is_masked(x: u32) -> bool { return x == K; }

// A code that is seen and cannot have been another one: nothing to learn of the step.
fn is_certain(n: Noise, x: u32) -> bool { return !is_masked(x) && n.beta_t == 0.0; }

// q(x_t | x_0 = k), up to a factor where x_t is the mask.
fn marginal(n: Noise, x: u32, k: u32) -> f32 {
    let seen = n.beta_t + select(0.0, n.alpha_t, k == x);
    return select(seen, 1.0, is_masked(x));
}

// q(x_t | x_s = k), over the same factor.
fn back(n: Noise, x: u32, k: u32) -> f32 {
    let seen = n.replace + select(0.0, n.keep, k == x);
    return select(seen, n.reveal, is_masked(x));
}

// q(x_s = k | x_0) of the truth.
fn earlier(n: Noise, truth: u32, k: u32) -> f32 {
    return n.beta_s + select(0.0, n.alpha_s, k == truth);
}

fn row_weight(x: u32) -> f32 { return select(VISIBLE, MASKED, is_masked(x)); }
