// What the attention variants for one subgroup share: WG invocations, each with RUNS rows of its own
// ("rows" are queries or keys), whose vectors stay in its registers. The other side passes by WG
// tokens at a time: an invocation loads one token's vec4s, and broadcasts hand them round. No
// workgroup memory, no barriers, and a row's maximum and sum never leave its invocation.
//
// A head's D floats are D4 vec4s, zero past the end. The kernel declares `load(source, at)`, one
// Element of the tensor it numbers `source`.
#import element

const LOWEST: f32 = -3.0e38;

// vec4 `column` of the token whose first word is `token`.
fn load4(source: u32, token: u32, column: u32) -> vec4<f32> {
#if VEC4
    return load(source, token / 4u + column);
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if 4u * column + $iu < D {
        v[$i] = load(source, token + 4u * column + $iu);
    }
#endunroll
    return v;
#endif
}
