// A standard exponential E = -log(1 - v) with full relative precision near 0, where the rare
// tokens of a categorical draw are decided; v as in unit_interval.
#import minus_log
#import unit_interval

fn exponential(word: u32, more: vec4<u32>) -> f32 {
    let v = unit_interval(word, more);
    if v < 0.015625 {
        return minus_log_series(v);
    }
    return -log(1.0 - v);
}
