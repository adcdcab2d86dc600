// rho(d) of a difference and rho'(d): PENALTY in the order of Penalty in src/kernels/pixel_loss.rs.
#if PENALTY == 0
fn penalty(d: f32) -> f32 { return d * d; }
fn penalty_slope(d: f32) -> f32 { return 2.0 * d; }
#endif
#if PENALTY == 1
fn penalty(d: f32) -> f32 { return abs(d); }
fn penalty_slope(d: f32) -> f32 { return sign(d); }
#endif
#if PENALTY == 2
fn penalty(d: f32) -> f32 {
    let size = abs(d);
    return select(size - 0.5 * BETA, 0.5 * d * d / BETA, size < BETA);
}
fn penalty_slope(d: f32) -> f32 { return select(sign(d), d / BETA, abs(d) < BETA); }
#endif
