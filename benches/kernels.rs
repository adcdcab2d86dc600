//! Rates of the matrix kernels on the shapes of a small autoencoder:
//! `cargo bench --bench kernels -- [device] [filter]`, best of several launches.

use std::sync::Arc;
use std::time::Instant;
use vqforge::device::{self, Device, Launch, Range};
use vqforge::error::Result;
use vqforge::kernels::unary::Activation;
use vqforge::kernels::{
    ColSum, Conv2d, Conv2dDgrad, Conv2dWgrad, ConvShape, Fill, Kernel, Matmul, StepScalars,
    SumPartials,
};

fn conv(n: usize, size: usize, cin: usize, cout: usize, k: usize, stride: usize) -> ConvShape {
    let pad = [k / 2; 4];
    ConvShape { n, h: size, w: size, cin, cout, kh: k, kw: k, stride, pad }
}

fn kernels() -> Vec<(String, Arc<dyn Kernel>)> {
    let mut all: Vec<(String, Arc<dyn Kernel>)> = vec![];
    for (m, k, n) in [(512, 512, 512), (1024, 1024, 1024), (2048, 128, 512)] {
        for (ta, tb) in [(false, false), (false, true), (true, false)] {
            let name = format!("matmul {m}x{k}x{n} ta={} tb={}", u8::from(ta), u8::from(tb));
            all.push((name, Arc::new(Matmul { ta, tb, ..Matmul::new(m, k, n) })));
        }
    }
    let act = Some(Activation::Silu);
    let fused = Matmul { bias: true, act, ..Matmul::new(2048, 128, 512) };
    all.push(("matmul 2048x128x512 bias silu".into(), Arc::new(fused)));
    let linear = ConvShape { h: 1, w: 1, ..conv(4096, 1, 256, 256, 1, 1) };
    let shapes = [
        conv(32, 32, 64, 64, 3, 1),
        conv(32, 16, 64, 64, 3, 1),
        conv(32, 64, 64, 32, 3, 1),
        conv(32, 64, 32, 64, 3, 2),
        conv(32, 64, 1, 32, 3, 1),
        conv(32, 64, 32, 1, 3, 1),
        conv(32, 16, 128, 128, 1, 1),
        linear,
    ];
    for s in shapes {
        let name =
            format!("{}x{} {}->{} k{} s{} batch {}", s.h, s.w, s.cin, s.cout, s.kh, s.stride, s.n);
        all.push((format!("conv2d {name}"), Arc::new(Conv2d { shape: s, bias: true })));
        all.push((format!("dgrad  {name}"), Arc::new(Conv2dDgrad { shape: s, accum: false })));
        let wgrad = Conv2dWgrad::new(s);
        let sum = SumPartials { splits: wgrad.splits, n: s.w_len(), accum: false };
        all.push((format!("wgrad  {name} splits {}", wgrad.splits), Arc::new(wgrad)));
        all.push((format!("sum_partials {name}"), Arc::new(sum)));
    }
    all.push(("col_sum 32768x64".into(), Arc::new(ColSum::new(32_768, 64))));
    all
}

fn best_seconds(device: &mut dyn Device, kernel: Arc<dyn Kernel>) -> Result<f64> {
    device.clear();
    let mut binds = vec![];
    for (i, len) in kernel.lens().into_iter().enumerate() {
        let buffer = device.create_buffer(len, "bench")?;
        device.write(buffer, 0, &Fill::Uniform(-1.0, 1.0).bits(len, i as u64))?;
        binds.push(Range { buffer, offset: 0, len });
    }
    let list = device.prepare(&[Launch { kernel, binds }], &mut |_, _| {})?;
    let (mut best, mut spent, mut runs) = (f64::INFINITY, 0.0, 0);
    // The first launch compiles, and grows the scratch buffers.
    while runs < 4 || (spent < 0.3 && runs < 40) {
        let start = Instant::now();
        device.run(&[list], &StepScalars::default())?;
        device.finish()?;
        let seconds = start.elapsed().as_secs_f64();
        if runs > 0 {
            best = f64::min(best, seconds);
        }
        spent += seconds;
        runs += 1;
    }
    Ok(best)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let name = args.first().map_or("cpu", String::as_str);
    let filter = args.get(1).map_or("", String::as_str);
    let mut device = device::open(name, 0)?;
    println!("{}", device.describe());
    println!("{:52} {:>9} {:>9} {:>7}", "", "ms", "GFLOP/s", "GB/s");
    for (name, kernel) in kernels() {
        if name.contains(filter) {
            let cost = kernel.cost();
            let seconds = best_seconds(&mut *device, kernel)?;
            println!(
                "{name:52} {:9.3} {:9.1} {:7.1}",
                1e3 * seconds,
                cost.flops as f64 / seconds / 1e9,
                cost.bytes as f64 / seconds / 1e9
            );
        }
    }
    Ok(())
}
