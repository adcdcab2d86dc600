// A standard exponential E = -log(1 - v) with full relative precision near 0, where the rare
// tokens of a categorical draw are decided; v as in unit_interval.
#import unit_interval

fn exponential(word: u32, more: vec4<u32>) -> f32 {
    let v = unit_interval(word, more);
    if v < 0.015625 {
        // WGSL has no log1p, and its log has an absolute error near 1.
        return v * (1.0 + v * (0.5 + v * (0.33333334 + v * 0.25)));
    }
    return -log(1.0 - v);
}
