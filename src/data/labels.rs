//! Which integer array holds the class labels, and the classes in it.

use crate::error::{Error, Result};

/// Names taken for labels, in this order, whatever the case.
const LABEL_NAMES: [&str; 6] = ["labels", "label", "y", "target", "targets", "class"];
/// Names that say something else about an image and never become labels unasked.
const OTHER_NAMES: [&str; 12] = [
    "subject",
    "subjects",
    "person",
    "participant",
    "group",
    "recording",
    "segment",
    "file",
    "split",
    "fold",
    "id",
    "index",
];
/// Labels from 0 to this are class numbers as they stand; others are numbered in sorted order.
const MAX_CLASS: i64 = 65_535;

/// Which array of the file holds the labels: `data.labels` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LabelChoice {
    /// By name, else the first integer array.
    #[default]
    Auto,
    /// Train without labels.
    None,
    Named(String),
}

impl LabelChoice {
    /// `"auto"`, `"none"` or the name of an array.
    pub fn parse(text: &str) -> Self {
        match text {
            "auto" => LabelChoice::Auto,
            "none" => LabelChoice::None,
            name => LabelChoice::Named(name.into()),
        }
    }
}

/// Class numbers 0..C, one per image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub labels: Vec<u32>,
    /// Set where the values had to be renumbered: the values as text.
    pub renamed: Vec<String>,
    /// The values were 1..=C, and are 0..C now.
    pub from_one: bool,
    /// The array they came from.
    pub array: String,
}

/// Takes the label array out of `arrays`. `names`: how many class names the data have; labels from 1 to
/// as many are MATLAB's, which count from 1.
pub fn choose(
    arrays: &mut Vec<(String, Vec<i64>)>,
    choice: &LabelChoice,
    names: usize,
) -> Result<Option<Labels>> {
    let named = |wanted: &str| arrays.iter().position(|(n, _)| n.eq_ignore_ascii_case(wanted));
    let at = match choice {
        LabelChoice::None => None,
        LabelChoice::Named(name) => {
            let known: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
            Some(named(name).ok_or_else(|| {
                Error::data(format!("the data have no integer array '{name}' for the labels"))
                    .at("data.labels")
                    .why(format!("arrays with one integer per image: {known:?}"))
                    .help("name one of them, or use \"auto\" or \"none\"")
            })?)
        }
        LabelChoice::Auto => LABEL_NAMES.iter().find_map(|name| named(name)).or_else(|| {
            let other = |n: &str| OTHER_NAMES.iter().any(|o| n.eq_ignore_ascii_case(o));
            arrays.iter().position(|(n, _)| !other(n))
        }),
    };
    Ok(at.map(|at| {
        let (array, mut values) = arrays.remove(at);
        let range = (values.iter().min().copied(), values.iter().max().copied());
        let from_one = range == (Some(1), i64::try_from(names).ok());
        if from_one {
            values.iter_mut().for_each(|v| *v -= 1);
        }
        let (labels, renamed) = number(&values);
        Labels { labels, renamed, from_one, array }
    }))
}

/// Class numbers of arbitrary integers: unchanged if they can be class numbers already.
fn number(values: &[i64]) -> (Vec<u32>, Vec<String>) {
    if values.iter().all(|v| (0..=MAX_CLASS).contains(v)) {
        return (values.iter().map(|&v| v as u32).collect(), Vec::new());
    }
    let mut classes = values.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let position = |v: &i64| classes.partition_point(|c| c < v) as u32;
    (values.iter().map(position).collect(), classes.iter().map(i64::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrays(names: &[&str]) -> Vec<(String, Vec<i64>)> {
        names.iter().map(|n| (n.to_string(), vec![1, 0, 2])).collect()
    }

    #[test]
    fn choice_by_name_then_order() {
        let pick = |names: &[&str], choice| {
            choose(&mut arrays(names), &choice, 0).unwrap().map(|l| l.array)
        };
        assert_eq!(pick(&["subject", "Labels", "y"], LabelChoice::Auto), Some("Labels".into()));
        assert_eq!(pick(&["subject", "gesture"], LabelChoice::Auto), Some("gesture".into()));
        assert_eq!(pick(&["subject", "split"], LabelChoice::Auto), None);
        assert_eq!(pick(&["labels"], LabelChoice::None), None);
        assert_eq!(pick(&["labels", "aim"], LabelChoice::parse("aim")), Some("aim".into()));
        let error = choose(&mut arrays(&["labels"]), &LabelChoice::parse("aims"), 0).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("[\"labels\"]"), "{error}");
    }

    /// Labels count from 1 where only that fits the class names.
    #[test]
    fn labels_of_matlab() {
        let labels = |values: &[i64], names| {
            let mut arrays = vec![("labels".to_string(), values.to_vec())];
            let found = choose(&mut arrays, &LabelChoice::Auto, names).unwrap().unwrap();
            (found.labels, found.from_one)
        };
        assert_eq!(labels(&[1, 3, 2], 3), (vec![0, 2, 1], true));
        assert_eq!(labels(&[1, 3, 2], 4), (vec![1, 3, 2], false));
        assert_eq!(labels(&[1, 3, 2], 0), (vec![1, 3, 2], false));
        assert_eq!(labels(&[0, 3, 2], 3), (vec![0, 3, 2], false));
        assert_eq!(labels(&[2, 3], 3), (vec![2, 3], false));
        assert_eq!(labels(&[1, 1], 1), (vec![0, 0], true));
    }

    #[test]
    fn renumbering() {
        assert_eq!(number(&[3, 0, 7]), (vec![3, 0, 7], vec![]));
        let (labels, names) = number(&[-1, 70_000, -1, 5]);
        assert_eq!(labels, [0, 2, 0, 1]);
        assert_eq!(names, ["-1", "5", "70000"]);
    }
}
