// Bindings of the attention kernels, and how a token's head is read and written. BACKWARD: the
// gradients, of k and v with KEYS, else of q.
//
// A head's D floats are D4 vec4s. `at` is a word of a tensor, `token` the word of a head's first
// float, in f32 words; a source or sink names a tensor.
#import element

struct Dims { lq: u32, lk: u32, heads: u32, scale: f32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> q: array<Element>;
@group(0) @binding(1) var<storage, read> k: array<Element>;
@group(0) @binding(2) var<storage, read> v: array<Element>;
#if BACKWARD
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> delta: array<f32>;
#if KEYS
@group(0) @binding(6) var<storage, read_write> dk: array<Element>;
@group(0) @binding(7) var<storage, read_write> dv: array<Element>;
#else
@group(0) @binding(6) var<storage, read_write> dq: array<Element>;
#endif
#else
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
#endif

// Below every score; its exponential is zero.
const LOWEST: f32 = -3.0e38;

const Q: u32 = 0u;
const K: u32 = 1u;
const V: u32 = 2u;
#if BACKWARD
const DY: u32 = 3u;
#endif

fn load(source: u32, at: u32) -> Element {
    if source == Q { return q[at]; }
    if source == K { return k[at]; }
#if BACKWARD
    if source == DY { return dy[at]; }
#endif
    return v[at];
}

// vec4 `column` of a head, zero past its end.
fn load4(source: u32, token: u32, column: u32) -> vec4<f32> {
#if VEC4
    return load(source, token / 4u + column);
#else
    var value = vec4<f32>(0.0);
#unroll i in 0..4
    if 4u * column + $iu < D {
        value[$i] = load(source, token + 4u * column + $iu);
    }
#endunroll
    return value;
#endif
}

#if BACKWARD
#if KEYS
const DK: u32 = 0u;
const DV: u32 = 1u;
fn store(sink: u32, at: u32, value: Element) {
    if sink == DK { dk[at] = value; } else { dv[at] = value; }
}
#else
const DQ: u32 = 0u;
fn store(sink: u32, at: u32, value: Element) { dq[at] = value; }
#endif
#else
const Y: u32 = 0u;
fn store(sink: u32, at: u32, value: Element) { y[at] = value; }
#endif

// vec4 `column` of a head, which begins before its end.
fn store4(sink: u32, token: u32, column: u32, value: vec4<f32>) {
#if VEC4
    store(sink, token / 4u + column, value);
#else
#unroll i in 0..4
    if 4u * column + $iu < D {
        store(sink, token + 4u * column + $iu, value[$i]);
    }
#endunroll
#endif
}
