//! results.csv: the numbers of a run as a table.

use super::history::{EVAL, History};

/// A row for every step with a number, a column for every name: `step`, then those of training, then
/// those of evaluations. Missing and infinite values are empty cells (RFC 4180, lines end in `\n`).
pub fn csv(history: &History) -> String {
    let (eval, train): (Vec<&str>, Vec<&str>) =
        history.names().into_iter().partition(|n| n.starts_with(EVAL));
    let columns = [train, eval].concat();
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let head = std::iter::once("step").chain(columns.iter().copied()).map(quoted);
    let mut out = line(head.collect());
    for (step, row) in &history.steps {
        let cell = |name: &&str| match row.get(*name) {
            Some(value) if value.is_finite() => value.to_string(),
            _ => String::new(),
        };
        out += &line(std::iter::once(step.to_string()).chain(columns.iter().map(cell)).collect());
    }
    out
}

/// A cell: in quotes if it would be read as more than one.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_a_step_and_all_columns() {
        let text = r#"{"step":2,"eval":{"psnr":21.5}}
{"step":1,"loss":0.25,"a,\"b":1}
{"step":2,"loss":1e-7}"#;
        let want = "step,\"a,\"\"b\",loss,eval.psnr\n1,1,0.25,\n2,,0.0000001,21.5\n";
        assert_eq!(csv(&History::parse(text)), want);
        assert_eq!(csv(&History::default()), "step\n");
    }
}
