//! Known failures of drivers. A listed case must fail, and in the stated way: a pass is an error as
//! much as another failure, and so is a row that no case answers to. Nothing is ever skipped.

/// One known failure. Every text is a part of what it is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The kernel's name, in full.
    pub kernel: &'static str,
    /// Part of `variant [case]`.
    pub case: &'static str,
    /// Part of the device's description.
    pub device: &'static str,
    /// Part of the failure's message.
    pub fails: &'static str,
    /// Why, and what would end it.
    pub reason: &'static str,
}

/// All known failures.
pub const TABLE: &[Expected] = &[];

/// The rows that concern one device.
pub struct Expectations {
    rows: Vec<(Expected, bool)>,
}

impl Expectations {
    pub fn on(device: &str) -> Self {
        Self::among(TABLE, device)
    }

    fn among(table: &[Expected], device: &str) -> Self {
        let here = table.iter().filter(|row| device.contains(row.device));
        Expectations { rows: here.map(|row| (*row, false)).collect() }
    }

    /// Turns the outcome of a case into what it means: a listed failure passes with a share of 0 of
    /// its bound.
    ///
    /// # Errors
    /// An unlisted failure, a listed case that passes or fails in another way.
    pub fn judge(
        &mut self,
        kernel: &str,
        case: &str,
        outcome: Result<f64, String>,
    ) -> Result<f64, String> {
        let listed = |row: &Expected| row.kernel == kernel && case.contains(row.case);
        let Some((row, met)) = self.rows.iter_mut().find(|(row, _)| listed(row)) else {
            return outcome;
        };
        *met = true;
        match outcome {
            Ok(_) => Err(format!("passes, but is listed to fail: {}", row.reason)),
            Err(e) if e.contains(row.fails) => Ok(0.0),
            Err(e) => Err(format!("{e} (listed to fail otherwise: {})", row.fails)),
        }
    }

    /// Rows that no case answered to.
    pub fn unmet(self) -> impl Iterator<Item = String> {
        let unmet = self.rows.into_iter().filter(|(_, met)| !met);
        unmet.map(|(row, _)| format!("no case of {} is called like {}", row.kernel, row.case))
    }
}

#[test]
fn a_listed_failure_must_happen_as_listed() {
    let table = [
        Expected {
            kernel: "k",
            case: "n=3",
            device: "llvmpipe",
            fails: "element 1",
            reason: "a driver's fault",
        },
        Expected {
            kernel: "k",
            case: "n=9",
            device: "llvmpipe",
            fails: "element 1",
            reason: "the same",
        },
    ];
    let wrong = || Err::<f64, _>("y: element 1: 2 instead of 3".to_string());
    let elsewhere = || Err::<f64, _>("y: element 7: 2 instead of 3".to_string());
    let mut here = Expectations::among(&table, "vulkan: llvmpipe (software)");
    assert_eq!(here.judge("k", "baseline [n=3]", wrong()), Ok(0.0));
    let passes = here.judge("k", "baseline [n=3]", Ok(0.5)).unwrap_err();
    assert!(passes.contains("passes, but is listed") && passes.contains("a driver's fault"));
    assert!(here.judge("k", "baseline [n=3]", elsewhere()).unwrap_err().contains("element 7"));
    assert_eq!(here.judge("k", "baseline [n=4]", wrong()), wrong(), "not listed");
    assert_eq!(here.judge("j", "baseline [n=3]", wrong()), wrong(), "another kernel");
    assert_eq!(here.judge("k", "baseline [n=4]", Ok(0.5)), Ok(0.5));
    let unmet: Vec<_> = here.unmet().collect();
    assert!(unmet.len() == 1 && unmet[0].contains("n=9"), "{unmet:?}");
    let mut other = Expectations::among(&table, "vulkan: SwiftShader");
    assert_eq!(other.judge("k", "baseline [n=3]", wrong()), wrong(), "another device");
    assert_eq!(other.unmet().count(), 0);
}

#[test]
fn every_row_says_why() {
    for row in TABLE {
        assert!(
            !row.device.is_empty() && !row.fails.is_empty() && row.reason.len() > 20,
            "{row:?}"
        );
    }
}
