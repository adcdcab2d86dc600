//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011). A draw is a pure function of (seed, stream, index, counter), so the same
//! numbers come out at any thread count, on any device and after any resume.

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds of Philox4x32; the WGSL twin is `shaders/lib/philox.wgsl`.
pub fn philox4x32(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (h0, l0) = mul_hi_lo(M0, c[0]);
        let (h1, l1) = mul_hi_lo(M1, c[2]);
        c = [h1 ^ c[1] ^ key[0], l1, h0 ^ c[3] ^ key[1], l0];
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    c
}

fn mul_hi_lo(a: u32, b: u32) -> (u32, u32) {
    let p = u64::from(a) * u64::from(b);
    ((p >> 32) as u32, p as u32)
}

/// What a sequence of draws is for. Streams never overlap: the stream is a word of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    Init = 1,
    Shuffle = 2,
    KMeans = 3,
    Revival = 4,
    DiffusionTime = 5,
    TokenMask = 6,
    ClassDrop = 7,
    Sample = 8,
    Synth = 9,
    Bootstrap = 10,
    Test = 11,
    Unmask = 12,
    Codebook = 13,
    GaussianNoise = 14,
    LevelDrop = 15,
    Augment = 16,
    Turn = 17,
    ImportantTime = 18,
    LatentNoise = 19,
}

/// A sequential reader of one (seed, stream, index) sequence, for use on the host.
#[derive(Debug, Clone)]
pub struct Rng {
    key: [u32; 2],
    /// [draw block, stream, index low, index high]
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Rng {
    pub fn new(seed: u64, stream: Stream, index: u64) -> Self {
        Rng {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, stream as u32, index as u32, (index >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let hi = u64::from(self.next_u32() >> 5);
        let lo = u64::from(self.next_u32() >> 6);
        ((hi << 26) | lo) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [lo, hi).
    pub fn range(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform integer in 0..n without modulo bias (Lemire's multiply-and-reject). `n > 0`.
    pub fn below(&mut self, n: u32) -> u32 {
        let threshold = n.wrapping_neg() % n;
        loop {
            let (hi, lo) = mul_hi_lo(self.next_u32(), n);
            if lo >= threshold {
                return hi;
            }
        }
    }

    /// Standard normal (Box-Muller; one of the pair is dropped to stay stateless).
    pub fn normal(&mut self) -> f64 {
        let r = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        r * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// Standard exponential.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// Fisher-Yates permutation of 0..n.
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut p: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            p.swap(i, self.below(i as u32 + 1) as usize);
        }
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known-answer values of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_and_moments() {
        let mut a = Rng::new(7, Stream::Init, 0);
        let mut b = Rng::new(7, Stream::Shuffle, 0);
        assert_ne!(a.next_u32(), b.next_u32());
        let n = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = a.normal();
            sum += x;
            squares += x * x;
        }
        // Five standard errors of the mean and of the variance of n normals.
        let n = f64::from(n);
        assert!((sum / n).abs() < 5.0 / n.sqrt());
        assert!((squares / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    }

    #[test]
    fn permutation_is_one() {
        let mut p = Rng::new(1, Stream::Shuffle, 3).permutation(47);
        p.sort_unstable();
        assert_eq!(p, (0..47).collect::<Vec<_>>());
    }
}
