// What the nearest-code variants share in which an invocation owns whole rows. D4 is the number of
// vec4s that hold a row or code.
#import nearest_best

// Channels 4 x .. 4 x + 3 of a row or code, zero past the last.
fn quad_of_row(row: u32, x: u32) -> vec4<f32> {
#if VEC4
    return z[row * (D / 4u) + x];
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if 4u * x + $iu < D {
        v[$i] = z[row * D + 4u * x + $iu];
    }
#endunroll
    return v;
#endif
}
fn quad_of_code(code: u32, x: u32) -> vec4<f32> {
#if VEC4
    return codebook[code * (D / 4u) + x];
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if 4u * x + $iu < D {
        v[$i] = codebook[code * D + 4u * x + $iu];
    }
#endunroll
    return v;
#endif
}

fn finish(best: Best, row: u32) {
#if COSINE
    var z_square = 0.0;
    var e_square = 0.0;
    for (var x = 0u; x < D4; x++) {
        let of_row = quad_of_row(row, x);
        let of_code = quad_of_code(best.index, x);
        z_square += dot(of_row, of_row);
        e_square += dot(of_code, of_code);
    }
    let of_z = inverse_length(z_square);
    let of_e = inverse_length(e_square);
#else
    let of_z = 1.0;
#endif
    var sum = 0.0;
    for (var x = 0u; x < D4; x++) {
#if COSINE
        let difference = of_z * quad_of_row(row, x) - of_e * quad_of_code(best.index, x);
#else
        let difference = quad_of_row(row, x) - quad_of_code(best.index, x);
#endif
        sum += dot(difference, difference);
    }
    // The scores were taken with z as it is.
    write_row(row, best, sum, of_z);
}
