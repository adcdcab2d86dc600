// Power of a pixel: 1 at x = 1, by 4.34 K dB for each unit of x. The limits keep it a normal number.
fn pixel_power(x: f32) -> f32 { return exp(2.0 * K * (clamp(x, -2.0, 2.0) - 1.0)); }
