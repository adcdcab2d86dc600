// The output y [.., N] of a product: bias, activation or epilogue, and the columns past the last one.
#if Y_VEC4
alias Columns = vec4<f32>;
#else
alias Columns = f32;
#endif
#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<Columns>;
#endif
#if !EPILOGUE
#if BIAS
@group(0) @binding(3) var<storage, read_write> y: array<Columns>;
#else
@group(0) @binding(2) var<storage, read_write> y: array<Columns>;
#endif
#endif

#if ACT
alias Element = Columns;
#import activation
#endif

fn write(at: u32, n: u32, sum: Columns) {
    var v = sum;
#if BIAS
    v += bias[n];
#endif
#if ACT
    v = f(v);
#endif
#if ACCUM
    y[at] += v;
#else
#if EPILOGUE
    epilogue(at, v);  // declared by src/kernels/epilogue.rs
#else
    y[at] = v;
#endif
#endif
}

// Columns n .. n + 3 of the row that starts at `row`.
fn put(row: u32, n: u32, v: vec4<f32>) {
#if Y_VEC4
    if n < N {
        write((row + n) / 4u, n / 4u, v);
    }
#else
#unroll i in 0..4
    if n + $iu < N {
        write(row + n + $iu, n + $iu, v[$i]);
    }
#endunroll
#endif
}
