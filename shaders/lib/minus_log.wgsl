// -log(1 - v) near v = 0 by its series, for |v| < 1/64: WGSL has no log1p, and its log has an absolute
// error near 1. What is left out is below 2^-26 of the sum.
fn minus_log_series(v: f32) -> f32 {
    return v * (1.0 + v * (0.5 + v * (0.33333334 + v * 0.25)));
}
