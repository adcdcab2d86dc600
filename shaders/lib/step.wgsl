// The scalars that change from step to step: StepScalars in src/kernels/io.rs.
struct Step {
    step: u32,
    seed_lo: u32,
    seed_hi: u32,
    sample_base: u32,
    lr: f32,
    bias1: f32,
    bias2: f32,
    ema_decay: f32,
    inv_lanes: f32,
    ring_row: u32,
    temperature: f32,
    guidance: f32,
    top_p: f32,
    top_k: u32,
    purity: f32,
}
@group(0) @binding(9) var<uniform> step: Step;
