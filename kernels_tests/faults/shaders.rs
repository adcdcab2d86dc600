//! Faults in the text of shaders, run in this process.

use super::diffusion::DIFFUSION;
use super::digits::DIGITS;
use super::studio::STUDIO;
use super::variants::VARIANTS;
use super::{Mutant, Table, cases_of, inlined, outcome, with_kernel};
use crate::device::{self, left_out};
use std::sync::Arc;
use vqforge::device::Device;
use vqforge::kernels::{Caps, Case};
use vqforge::shader;

/// `text` stands in the shader of each kernel, in the variants so called (fragments included), and
/// becomes `fault` wherever it does.
pub(super) struct Fault {
    pub name: &'static str,
    pub kernels: &'static [&'static str],
    /// How the names of the variants begin that it is planted in.
    pub variant: &'static str,
    pub text: &'static str,
    fault: &'static str,
}

const BASELINE: &str = "baseline";

/// In the baseline of one kernel.
pub(super) const fn fault(
    name: &'static str,
    kernel: &'static &'static str,
    text: &'static str,
    fault: &'static str,
) -> Fault {
    each(name, std::slice::from_ref(kernel), text, fault)
}

/// In the baselines of several.
pub(super) const fn each(
    name: &'static str,
    kernels: &'static [&'static str],
    text: &'static str,
    fault: &'static str,
) -> Fault {
    Fault { name, kernels, variant: BASELINE, text, fault }
}

/// In variants.
pub(super) const fn in_variant(
    variant: &'static str,
    name: &'static str,
    kernels: &'static [&'static str],
    text: &'static str,
    fault: &'static str,
) -> Fault {
    Fault { name, kernels, variant, text, fault }
}

/// With [`DIFFUSION`], [`DIGITS`] and [`STUDIO`] at least one for every kernel. [`super::sweeps`] plants more in all of them, and
/// variants have their own: [`VARIANTS`].
const FAULTS: &[Fault] = &[
    fault(
        "pad off by one",
        &"conv2d",
        "i32(oy * STRIDE) - i32(TOP),",
        "i32(oy * STRIDE) - i32(TOP) + 1,",
    ),
    fault(
        "pad off by one",
        &"conv2d_dgrad",
        "% QW) + LEFT) / STRIDE)",
        "% QW) + LEFT + 1u) / STRIDE)",
    ),
    fault("pad off by one", &"conv2d_wgrad", "* STRIDE) - i32(TOP),", "* STRIDE) - i32(TOP) - 1,"),
    fault(
        "stride-2 phases swapped",
        &"conv2d_dgrad",
        "let ky = phase.x + t / taps.y * STRIDE;\n        let kx = phase.y +",
        "let ky = phase.y + t / taps.y * STRIDE;\n        let kx = phase.x +",
    ),
    fault(
        "a tap too few at the edge of a phase",
        &"conv2d_dgrad",
        "- phase.x + STRIDE - 1u) / STRIDE",
        "- phase.x) / STRIDE",
    ),
    each(
        "last tile of the sum dropped",
        &["conv2d", "matmul"],
        "kb < k_end; kb += BK",
        "kb + BK <= k_end; kb += BK",
    ),
    fault(
        "last tile of codes dropped",
        &"nearest_code",
        "first_code < dims.k; first_code += TILE",
        "first_code + TILE <= dims.k; first_code += TILE",
    ),
    fault(
        "last tile of keys dropped",
        &"attention",
        "first < dims.lk; first += TILE",
        "first + TILE <= dims.lk; first += TILE",
    ),
    fault(
        "tie to the highest index",
        &"nearest_code",
        "let better = score < best.value;",
        "let better = score <= best.value;",
    ),
    fault(
        "tie to the highest index, between invocations",
        &"nearest_code",
        "b.index < a.index)",
        "b.index > a.index)",
    ),
    fault(
        "norm of the code left out",
        &"nearest_code",
        "norm$v[$c] - 2.0 *",
        "0.0 * norm$v[$c] - 2.0 *",
    ),
    fault("a code longer than any may be", &"nearest_code", "&& norm$v[$c] < FAR {", "{"),
    fault(
        "group norm backward without mean(g)",
        &"group_norm_bwd",
        "- known.mean_g - xhat",
        "- xhat",
    ),
    fault(
        "group norm backward without mean(g xhat)",
        &"group_norm_bwd",
        " - xhat * known.mean_g_xhat)",
        ")",
    ),
    fault("missing bias correction of m", &"adamw", "(step.bias1 * m1)", "m1"),
    fault("missing bias correction of v", &"adamw", "sqrt(step.bias2 * v1)", "sqrt(v1)"),
    fault(
        "decay coupled to the gradient",
        &"adamw",
        "let gradient = step.inv_lanes * ctl[2] * g[i];",
        "let gradient = step.inv_lanes * ctl[2] * g[i] + WEIGHT_DECAY * p[i];",
    ),
    fault("a bad gradient is applied", &"adamw", "|| ctl[1] == 0.0", "|| ctl[1] < 0.0"),
    fault("lanes are summed, not averaged", &"adamw", "step.inv_lanes * ctl[2]", "ctl[2]"),
    fault(
        "derivative of SiLU without its second term",
        &"unary",
        "return s * (Element(1.0) + v * (Element(1.0) - s));",
        "return s;",
    ),
    each("bias left out", &["matmul", "conv2d"], "v += bias[n];", "v += 0.0 * bias[n];"),
    fault("written instead of added", &"matmul", "y[at] += v;", "y[at] = v;"),
    fault("one w for the whole batch", &"matmul", "return batch;", "return 0u;"),
    fault("written instead of added", &"conv2d_dgrad", "dx[at / 4u] += v;", "dx[at / 4u] = v;"),
    fault(
        "last pixel of a chunk left out",
        &"conv2d_wgrad",
        "end = min(first + dims.chunk, dims.pixels);",
        "end = min(first + dims.chunk, dims.pixels) - 1u;",
    ),
    fault("second chunk left out", &"sum_partials", "var s = 1u;", "var s = 2u;"),
    fault("second row of invocations left out", &"col_sum", "var i = 1u;", "var i = 2u;"),
    fault(
        "variance of a sample",
        &"group_norm_stats",
        "sum / (count * f32(SLOTS));",
        "sum / (count * f32(SLOTS) - 1.0);",
    ),
    fault(
        "beta left out",
        &"group_norm",
        "* stat.rstd) + beta[channel];",
        "* stat.rstd) + 0.0 * beta[channel];",
    ),
    fault(
        "channels of another group",
        &"group_norm",
        "channel / (WIDTH / LANES)];",
        "channel % GROUPS];",
    ),
    fault(
        "groups beyond the invocations left out",
        &"group_norm_stats",
        "GROUPS; g += WG",
        "GROUPS; g += STRIP",
    ),
    fault("x for xhat", &"group_norm_bwd_sums", "with_xhat += g * xhat;", "with_xhat += g * x[i];"),
    fault(
        "dbeta is dgamma",
        &"norm_param_grad",
        "offset += sums[(2u * s + 1u) * CV + channel];",
        "offset += sums[2u * s * CV + channel];",
    ),
    fault(
        "last step of the tree left out",
        &"norm_param_grad",
        "half >= COLUMNS;",
        "half > COLUMNS;",
    ),
    fault(
        "scale instead of 1 + scale",
        &"layer_norm",
        "(Element(1.0) + m[modulation + i])",
        "m[modulation + i]",
    ),
    fault(
        "layer norm backward without mean(g)",
        &"layer_norm_bwd",
        "upstream(row, i) - Element(mean_g)",
        "upstream(row, i)",
    ),
    fault(
        "layer norm backward without mean(g xhat)",
        &"layer_norm_bwd",
        " - xhat * mean_g_xhat)",
        ")",
    ),
    fault("a mean where there is none", &"layer_norm", "let mean = 0.0;", "let mean = 1.0;"),
    fault("mean(g) of the wrong norm", &"layer_norm_bwd", "let mean_g = 0.0;", "let mean_g = 1.0;"),
    fault(
        "gates of the first sample",
        &"gate",
        "i / CV / dims.rows_per_sample",
        "0u * dims.rows_per_sample",
    ),
    fault(
        "a gate for rows, not channels",
        &"gate",
        "gate[sample * CV + i % CV]",
        "gate[sample * CV]",
    ),
    fault("residual left out", &"gate", "v = x[i] + v;", "v = 0.0 * x[i] + v;"),
    fault("last row of a sample left out", &"gate_grad", "row < end;", "row + 1u < end;"),
    fault("angles of the wrong head channel", &"rotary", "place * DV + i % DV", "place * DV"),
    fault("place not of the sample", &"rotary", "i / (HEADS * DV) % LENGTH", "i / DV % LENGTH"),
    fault("one pair turns the other way", &"rotary", "pairs.yxwz", "pairs.yxzw"),
    fault(
        "statistics of the wrong row",
        &"layer_norm_bwd_params",
        "let stat = stats[row];",
        "let stat = stats[split];",
    ),
    fault("mass not rescaled", &"attention", "mass = mass * shrink +", "mass = mass +"),
    fault(
        "log of the mass left out",
        &"attention",
        "highest[$r] + log(total_mass[$r]);",
        "highest[$r];",
    ),
    fault("scores not scaled", &"attention", "s.r$r * dims.scale, columns", "s.r$r, columns"),
    fault("a key of the future", &"attention", "dims.lk - dims.lq + 1u", "dims.lk - dims.lq + 2u"),
    fault("delta left out", &"attention_bwd_kv", "(dp.r$r - column_delta)", "dp.r$r"),
    fault("dk not scaled", &"attention_bwd_kv", "key$chunk.r$r * dims.scale;", "key$chunk.r$r;"),
    fault("delta left out", &"attention_bwd_q", "(dp.r$r - vec4<f32>(row_delta[$r]))", "dp.r$r"),
    fault("first element left out", &"attention_delta", "var j = 0u; j < DV", "var j = 1u; j < DV"),
    fault(
        "every invocation has its own maximum",
        &"softmax_rows",
        "highest = workgroup_max(highest, lane);",
        "",
    ),
    fault(
        "log of the mass left out",
        &"softmax_ce",
        "(highest - logit) + log_mass",
        "(highest - logit)",
    ),
    fault("weight left out", &"softmax_ce", "value = weight[row] * (", "value = ("),
    fault(
        "onehot left out",
        &"softmax_ce_bwd",
        "(exp(logits[i] - Element(lse[row])) - onehot)",
        "(exp(logits[i] - Element(lse[row])) - 0.0 * onehot)",
    ),
    fault("pixel off by one", &"upsample2x", "column / 2u)", "(column + 1u) / 2u)"),
    fault("one pixel twice", &"upsample2x_bwd", "dy[lower + CV]", "dy[lower]"),
    fault("tie to a higher index", &"argmin_rows", "value[$c] < least {", "value[$c] <= least {"),
    fault(
        "last code of a workgroup left out",
        &"code_sums",
        "if code < PER * CODES {",
        "if code + 1u < PER * CODES {",
    ),
    fault(
        "counts not added to",
        &"code_sums",
        "counts[code$s] += f32(count$s);",
        "counts[code$s] = f32(count$s);",
    ),
    fault("past the table is not zero", &"gather", "y[i] = Element(0.0);", "y[i] = Element(1.0);"),
    fault("a row too many", &"gather", "let row = idx[i / D];", "let row = idx[i / D] + 1u;"),
    fault("counts not weighted", &"ema_counts", "(1.0 - DECAY) * counts[i]", "counts[i]"),
    fault("smoothing left out", &"ema_codebook", "(ema_n[i / D] + EPS)", "ema_n[i / D]"),
    fault("codebook of a bad step", &"ema_codebook", "|| !(ctl[1] > 0.0)", "|| ctl[1] < 0.0"),
    fault("difference turned round", &"binary", "(a[i] - second)", "(second - a[i])"),
    fault("b repeats by the wrong index", &"binary", "b[i % B_LEN]", "b[i / B_LEN]"),
    fault("factor left out", &"scale_by", "FACTOR * s[0] * x[i]", "s[0] * x[i] + 0.0 * FACTOR"),
    fault("written instead of added", &"copy", "y[i] += x[i];", "y[i] = x[i];"),
    fault("complement of the pattern", &"fill", "y[i] = dims.bits;", "y[i] = ~dims.bits;"),
    fault("last chunk left out", &"finish_sums", "s < dims.splits$i;", "s + 1u < dims.splits$i;"),
    fault("a result off by one", &"fused", "    y0[i] = s", "    y0[i] = 1.0 + s"),
    each(
        "the neighbour's place",
        &["conv2d_epilogue", "matmul_epilogue"],
        "epilogue(at, v);",
        "epilogue(at + 1u, v);",
    ),
    fault("a round too many", &"fma_probe", "round < dims.rounds;", "round <= dims.rounds;"),
    fault(
        "an infinity counts",
        &"sum_all",
        "select(0.0, x[i] * x[i], finite)",
        "select(x[i] * x[i], x[i] * x[i], finite)",
    ),
    fault(
        "a chunk reads on",
        &"sum_all",
        "min((w + 1u) * dims.chunk, dims.n)",
        "min((w + 1u) * dims.chunk + 1u, dims.n)",
    ),
    fault("last step of the tree left out", &"sum_finish", "half > 0u;", "half > 1u;"),
    fault("gradient turned round", &"mse_grad", "(a[i] - b[i])", "(b[i] - a[i])"),
    fault("mean over one position too many", &"mean_pool", "sum / f32(HW)", "sum / f32(HW + 1u)"),
    fault(
        "gradient of the wrong image",
        &"mean_pool_bwd",
        "i / (HW * C_LEN) * C_LEN",
        "i / HW * C_LEN",
    ),
    fault("norm of absolute values", &"grad_norm", "g[i] * g[i]", "abs(g[i])"),
    fault(
        "small gradients are enlarged",
        &"grad_ctl",
        "min(1.0, CLIP / (norm + 1e-6))",
        "CLIP / (norm + 1e-6)",
    ),
    fault("skipped steps not counted", &"grad_ctl", "ctl[3] += 1.0;", ""),
    fault(
        "ring does not wrap",
        &"ring_write",
        "(step.ring_row % dims.rows)",
        "min(step.ring_row, dims.rows - 1u)",
    ),
    fault("nine rounds", &"philox", "round < 10u", "round < 9u"),
    fault("lanes draw the same masks", &"mask_tokens", "step.sample_base + b", "b"),
    fault(
        "temperature of the wrong side",
        &"draw_tokens",
        "(l - largest) / step.temperature",
        "(l - largest) * step.temperature",
    ),
    fault(
        "guidance on the wrong branch",
        &"draw_tokens",
        "return u + step.guidance",
        "return (l_c - lse_c) + step.guidance",
    ),
    fault("what is sure gets less sure", &"draw_tokens", "step.purity /", "step.purity *"),
    fault(
        "purity of the least likely token",
        &"draw_tokens",
        "= 1.0 / sum;",
        "= exp(-largest) / sum;",
    ),
];

/// Where a fault was noticed: `(case, message)`. Cases whose shader does not hold the text after
/// preprocessing (another switch) are passed over; a fault in none of them is an error.
fn hunt(
    device: &mut dyn Device,
    caps: &Caps,
    f: &Fault,
    kernel: &str,
) -> Result<(String, String), String> {
    let (mut found, mut survived) = (false, 0);
    for case in planted_cases(f, kernel, caps) {
        let text = inlined(&*case.kernel);
        if !text.contains(f.text) {
            continue;
        }
        found = true;
        let changed = text.replace(f.text, f.fault);
        let control = Mutant { wgsl: Some(text), ..Mutant::of(&case.kernel) };
        let mutant = Mutant { wgsl: Some(changed), ..Mutant::of(&case.kernel) };
        let source = |m: &Mutant| shader::source(m).unwrap_or_else(|e| panic!("{}: {e}", f.name));
        if source(&mutant) == source(&control) {
            continue;
        }
        if let Err(e) = shader::build(&mutant) {
            return Err(format!("it does not compile: {e}"));
        }
        match outcome(device, &with_kernel(&case, Arc::new(mutant))) {
            Ok(_) => survived += 1,
            Err(message) => {
                let fair = outcome(device, &with_kernel(&case, Arc::new(control)));
                fair.map_err(|e| format!("{} fails without the fault: {e}", case.name))?;
                return Ok((format!("{} [{}]", case.kernel.variant(), case.name), message));
            }
        }
    }
    match found {
        true => Err(format!("nothing noticed it in {survived} cases")),
        false => Err("its text is not in the shader".into()),
    }
}

/// The cases of `kernel` that a fault is planted in.
pub(super) fn planted_cases(f: &Fault, kernel: &str, caps: &Caps) -> impl Iterator<Item = Case> {
    let cases = cases_of(kernel, caps).into_iter();
    cases.filter(|case| case.kernel.variant().starts_with(f.variant))
}

pub(super) fn all() -> impl Iterator<Item = &'static Fault> {
    FAULTS.iter().chain(DIFFUSION).chain(DIGITS).chain(STUDIO).chain(VARIANTS)
}

#[test]
fn planted_in_shaders() {
    let Some(mut device) = device::gpu() else { return };
    // Cooperative matrices as every device with halves and subgroups can run them.
    let own = device.caps().clone();
    let caps = Caps { half_products: true, emulate_coop: true, coop_matrix: vec![], ..own };
    let (mut table, mut escaped) = (Table::default(), vec![]);
    for f in all() {
        for kernel in f.kernels {
            // The variants of one device are not those of another.
            if f.variant != BASELINE && planted_cases(f, kernel, &caps).next().is_none() {
                left_out(format_args!("{} in {kernel}: no {} here", f.name, f.variant));
                continue;
            }
            match hunt(&mut **device, &caps, f, kernel) {
                Ok((case, _)) => {
                    let by = format!("registry::wgsl_form_equals_naive, {case}");
                    table.row(f.name, &format!("{kernel}, {}", f.variant), &by);
                }
                Err(e) => escaped.push(format!("{} in {kernel}, {}: {e}", f.name, f.variant)),
            }
        }
    }
    println!("{}", table.0);
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}
