//! What is measured: kernels at the sizes that models give them, and small ones for slow devices.

mod codes;
mod conv;
mod elementwise;
mod norms;
mod products;

pub use codes::{nearest_code, per_code_sums, split_nearest_code};

use crate::kernels::{Case, Cost, Fill, Kernel, StepScalars};

/// One kernel at one size.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    /// Quick runs time only these; other runs begin with them.
    pub small: bool,
    /// What is timed.
    pub timed: Case,
    /// The same kernel on less work, which its naive form can check in a fraction of a second.
    pub check: Case,
    /// Work that any implementation must do, whatever intermediate results this one moves.
    pub cost: Cost,
}

impl Row {
    /// `detail` follows the kernel's name. The fills serve both sizes.
    fn new(
        detail: &str,
        timed: impl Kernel + 'static,
        check: impl Kernel + 'static,
        fills: Vec<Fill>,
    ) -> Self {
        let name = format!("{} {detail}", timed.name());
        let cost = timed.cost();
        let case = Case::new(&name, timed, fills.clone());
        Row { timed: case, check: Case::new(&name, check, fills), small: false, name, cost }
    }

    pub(super) fn small(mut self, small: bool) -> Self {
        self.small = small;
        self
    }

    /// Integer outputs may differ where a tie is near; the value beside them may not.
    fn near_ties(mut self) -> Self {
        self.check = self.check.near_ties();
        self
    }

    fn with_step(mut self, step: StepScalars) -> Self {
        self.timed = self.timed.with_step(step);
        self.check = self.check.with_step(step);
        self
    }

    fn needs(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }
}

/// `inputs` and then as many outputs, which must be written in full.
fn fills(inputs: impl IntoIterator<Item = Fill>, outputs: usize) -> Vec<Fill> {
    inputs.into_iter().chain(vec![Fill::Poison; outputs]).collect()
}

/// Every row, families together.
pub fn all() -> Vec<Row> {
    let mut rows = vec![];
    rows.extend(products::rows());
    rows.extend(conv::rows());
    rows.extend(norms::rows());
    rows.extend(codes::rows());
    rows.extend(elementwise::rows());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shader;
    use std::collections::BTreeSet;

    /// Names are the keys by which two records are compared.
    #[test]
    fn names_are_unique_and_plain() {
        let rows = all();
        let names: BTreeSet<&str> = rows.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names.len(), rows.len());
        for row in &rows {
            assert!(!row.name.contains([',', '"', '\n']), "{}: not for a CSV file", row.name);
            assert!(row.name.starts_with(row.timed.kernel.name()), "{}", row.name);
        }
    }

    #[test]
    fn cases_fit_their_kernels() {
        for row in all() {
            for case in [&row.timed, &row.check] {
                assert_eq!(case.kernel.lens().len(), case.fills.len(), "{}", row.name);
                for (fill, len) in case.fills.iter().zip(case.kernel.lens()) {
                    assert!(len > 0, "{}", row.name);
                    if let Fill::F32(values) = fill {
                        assert_eq!(values.len(), len, "{}", row.name);
                    }
                }
                shader::source(&*case.kernel).unwrap_or_else(|e| panic!("{}: {e}", row.name));
            }
            let (timed, check) = (row.timed.kernel.cost(), row.check.kernel.cost());
            assert!(check.flops <= timed.flops && check.bytes <= timed.bytes, "{}", row.name);
            // A bound costs about ten times an f32 multiply-add in its simplest form.
            assert!(check.flops < 170_000_000, "{}: {} flops to check", row.name, check.flops);
            // What is required is no more than what this implementation moves.
            assert!(row.cost.flops <= timed.flops && row.cost.bytes <= timed.bytes, "{}", row.name);
            assert!(row.cost.bytes > 0, "{}", row.name);
            if row.small {
                assert!(timed.flops <= 80_000_000, "{} is not small", row.name);
            }
        }
    }

    /// Every kernel that a training step spends its time in has a row for slow devices too.
    #[test]
    fn every_family_has_a_small_row() {
        let rows = all();
        let small = |r: &&Row| r.small;
        let names: BTreeSet<&str> = rows.iter().map(|r| r.timed.kernel.name()).collect();
        let quick: BTreeSet<&str> =
            rows.iter().filter(small).map(|r| r.timed.kernel.name()).collect();
        assert_eq!(names, quick);
        for hot in ["matmul", "conv2d", "conv2d_wgrad", "attention", "nearest_code", "adamw"] {
            assert!(names.contains(hot), "{hot}");
        }
    }
}
