// What a sample's step is: Noise in src/kernels/posterior_loss.rs, word by word.
struct Noise {
    alpha_s: f32,
    beta_s: f32,
    alpha_t: f32,
    beta_t: f32,
    keep: f32,
    replace: f32,
    reveal: f32,
    bound: f32,
    auxiliary: f32,
    first: f32,
}
const NOISE_WORDS: u32 = 10u;
// Of them the factors of the loss.
const BOUND_WORD: u32 = 7u;
const AUXILIARY_WORD: u32 = 8u;

// The kernel declares `noise: array<f32>`, the words of Noise sample by sample.
fn noise_of(sample: u32) -> Noise {
    let at = sample * NOISE_WORDS;
    return Noise(
        noise[at], noise[at + 1u], noise[at + 2u], noise[at + 3u], noise[at + 4u],
        noise[at + 5u], noise[at + 6u], noise[at + 7u], noise[at + 8u], noise[at + 9u],
    );
}
