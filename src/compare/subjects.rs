//! Whose image it is: what a resampling over people has to know.

use crate::config::{Config, SplitBy};
use crate::data::Dataset;

/// Arrays that tell subjects apart, if the split does not name one.
const NAMES: [&str; 4] = ["subject", "subjects", "person", "participant"];

/// The subject of every image: of the array that the split is made by, or the block within the class,
/// or the array called `subject`; without any of these all images are of one subject.
pub fn subjects(data: &Dataset, config: &Config) -> Vec<String> {
    let split = &config.data.split;
    let named = match (split.by, &split.name) {
        (SplitBy::Array, Some(name)) => data.arrays.get(name),
        _ => None,
    };
    if let (SplitBy::BlockInClass, Some(labels)) = (split.by, &data.labels) {
        let size = split.size.unwrap_or(1).max(1);
        let mut seen = std::collections::BTreeMap::<u32, usize>::new();
        let block = |label: &u32| {
            let count = seen.entry(*label).or_default();
            *count += 1;
            format!("block {}", (*count - 1) / size)
        };
        return labels.iter().map(block).collect();
    }
    let array = named.or_else(|| NAMES.iter().find_map(|name| data.arrays.get(*name)));
    match array {
        Some(values) if values.len() == data.n => values.iter().map(i64::to_string).collect(),
        _ => vec!["all".into(); data.n],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let shape = [6, 1, 1, 1];
        let labels = Some(vec![0, 1, 0, 0, 1, 0]);
        Dataset::from_u8(vec![0; 6], shape, labels, vec![], "test").unwrap()
    }

    #[test]
    fn by_array_by_block_and_not_at_all() {
        let mut data = data();
        let plain = Config::default();
        assert_eq!(subjects(&data, &plain), ["all"; 6]);
        let sets = ["data.split={ by = \"block-in-class\", size = 2, test = [1] }".to_string()];
        let blocks = Config::parse("test", "", &sets).unwrap();
        // Class 0 is images 0, 2, 3, 5; class 1 is 1, 4.
        let want = ["block 0", "block 0", "block 0", "block 1", "block 0", "block 1"];
        assert_eq!(subjects(&data, &blocks), want);
        data.arrays.insert("subject".into(), vec![3, 3, 4, 4, 5, 5]);
        assert_eq!(subjects(&data, &plain)[2..4], ["4", "4"]);
    }
}
