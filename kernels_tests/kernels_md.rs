//! `docs/KERNELS.md` is generated from the registry and the shaders; `VQFORGE_BLESS=1` rewrites it.

use crate::device;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use vqforge::kernels::{Caps, Case, Entry, Tier, registry};
use vqforge::shader::{self, Access, Element, Layout};

const HEAD: &str = "\
# Kernels

Generated from the registry and the shaders by `kernels_tests/kernels_md.rs`; do not edit.

Every kernel has three forms: WGSL for GPUs, a CPU form, and a naive one, which over `f64` is the
oracle and over `Bounded` derives how far an honest f32 evaluation may be from it. Cases come in
three tiers, and every case is run in the WGSL and the CPU form:

* exact: inputs are small integers, sums are exact in any order, and a form must equal the naive one
  bit for bit;
* bound: inputs are random floats, and every element must be within the derived bound; integers must
  be equal;
* near ties: as bound, but an index may differ where its score is within rounding of the best; the
  distance that goes with it is held to the bound.

The details of a kernel are those of its largest case. Work and bytes are what `cost()` says: the
operations of the formula, and the bytes that must cross the memory bus once. Names of variants are
those that a device of every capability would be offered beside the baseline.
";

fn tier(cases: &[Case], tier: Tier) -> usize {
    cases.iter().filter(|c| c.tier == tier).count()
}

/// The comment at the head of a shader.
fn what(case: &Case) -> String {
    let lines = case.kernel.wgsl().lines().map_while(|l| l.strip_prefix("//"));
    let text = lines.map(str::trim).collect::<Vec<_>>().join("\n");
    assert!(!text.is_empty(), "{}: its shader does not say what it computes", case.kernel.name());
    text
}

fn layout(case: &Case) -> Layout {
    shader::build(&*case.kernel).unwrap_or_else(|e| panic!("{e}")).layout
}

fn variants(cases: &[Case]) -> BTreeSet<String> {
    let caps = Caps::all();
    cases.iter().flat_map(|c| c.kernel.variants(&caps)).map(|k| k.variant()).collect()
}

fn source(case: &Case) -> String {
    shader::source(&*case.kernel).unwrap_or_else(|e| panic!("{e}"))
}

fn section(out: &mut String, entry: &Entry, cases: &[Case]) -> std::fmt::Result {
    let sample = cases
        .iter()
        .rev()
        .max_by_key(|c| (c.kernel.cost().flops, c.kernel.cost().bytes))
        .unwrap_or_else(|| panic!("{} has no cases", entry.name));
    let layout = layout(sample);
    writeln!(out, "\n## {}\n\n```text\n{}\n```\n", entry.name, what(sample))?;
    writeln!(out, "| binding | name | type | access | words |\n|---|---|---|---|---|")?;
    for (i, (b, words)) in layout.storage.iter().zip(sample.kernel.lens()).enumerate() {
        let scalar = match b.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::U32 => "u32",
        };
        let of = match b.stride / 4 {
            1 => scalar.to_string(),
            n => format!("vec{n}<{scalar}>"),
        };
        let access = match b.access {
            Access::Read => "read",
            Access::ReadWrite => "read_write",
        };
        writeln!(out, "| {i} | `{}` | {of} | {access} | {words} |", b.name)?;
    }
    let [x, y, z] = layout.workgroup;
    let [gx, gy, gz] = sample.kernel.grid();
    let cost = sample.kernel.cost();
    writeln!(out, "\n* sample: `{:?}`", sample.kernel)?;
    writeln!(out, "* grid {gx} x {gy} x {gz} of workgroups of {} invocations", x * y * z)?;
    writeln!(out, "* {} bytes of workgroup memory", layout.shared_bytes)?;
    let uniforms = [(layout.dims_bytes > 0, "`dims`"), (layout.uses_step, "`step`")];
    let uniforms: Vec<_> = uniforms.iter().filter(|(has, _)| *has).map(|(_, n)| *n).collect();
    if !uniforms.is_empty() {
        writeln!(out, "* uniforms: {}", uniforms.join(", "))?;
    }
    writeln!(out, "* {} floating-point operations, {} bytes", cost.flops, cost.bytes)?;
    let names = variants(cases);
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|n| format!("`{n}`")).collect();
        writeln!(out, "* variants: {}", names.join(", "))?;
    }
    Ok(())
}

fn document() -> Result<String, std::fmt::Error> {
    let mut out = String::from(HEAD);
    out.push_str("\n| kernel | exact | bound | near ties | pipelines | variants |\n");
    out.push_str("|---|---|---|---|---|---|\n");
    let mut sections = String::new();
    for entry in registry() {
        let cases = (entry.cases)();
        let pipelines: BTreeSet<_> = cases.iter().map(source).collect();
        writeln!(
            out,
            "| [{0}](#{0}) | {1} | {2} | {3} | {4} | {5} |",
            entry.name,
            tier(&cases, Tier::Exact),
            tier(&cases, Tier::Bound),
            tier(&cases, Tier::NearTies),
            pipelines.len(),
            variants(&cases).len()
        )?;
        section(&mut sections, &entry, &cases)?;
    }
    Ok(out + &sections)
}

#[test]
fn kernels_md_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/KERNELS.md");
    let text = document().expect("a string grows");
    if device::blessing() {
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        return;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = text.lines().zip(kept.lines()).enumerate().find(|(_, (a, b))| a != b);
    if let Some((i, (now, kept))) = differs {
        panic!("docs/KERNELS.md:{}: VQFORGE_BLESS=1 accepts it\n- {kept}\n+ {now}", i + 1);
    }
    assert_eq!(text.len(), kept.len(), "docs/KERNELS.md: VQFORGE_BLESS=1 accepts the other length");
}
