//! Whose image it is: what a resampling over people has to know.

use crate::config::{Config, SplitBy};
use crate::data::Dataset;

/// Arrays that tell subjects apart.
const NAMES: [&str; 4] = ["subject", "subjects", "person", "participant"];

/// The subject of every image: of the array called `subject`, whatever the split is made by, as people
/// differ more than their sessions do; else of the array that the split is made by, or the block
/// within the class. Without any of these all images are of one subject.
pub fn subjects(data: &Dataset, config: &Config) -> Vec<String> {
    let split = &config.data.split;
    let of = |values: &Vec<i64>| -> Option<Vec<String>> {
        (values.len() == data.n).then(|| values.iter().map(i64::to_string).collect())
    };
    let people = NAMES.iter().find_map(|name| data.arrays.get(*name)).and_then(of);
    let divided = || match (split.by, &split.name, &data.labels) {
        (SplitBy::Array, Some(name), _) => data.arrays.get(name).and_then(of),
        (SplitBy::BlockInClass, _, Some(labels)) => Some(blocks(labels, split.size.unwrap_or(1))),
        _ => None,
    };
    people.or_else(divided).unwrap_or_else(|| vec!["all".into(); data.n])
}

/// `size` images of a class in a row are a block.
fn blocks(labels: &[u32], size: usize) -> Vec<String> {
    let mut seen = std::collections::BTreeMap::<u32, usize>::new();
    let block = |label: &u32| {
        let count = seen.entry(*label).or_default();
        *count += 1;
        format!("block {}", (*count - 1) / size.max(1))
    };
    labels.iter().map(block).collect()
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
        // Held out by session, or by a mark of 0 and 1: subjects are known all the same.
        data.arrays.insert("session".into(), vec![0, 1, 0, 1, 0, 1]);
        let sets = ["data.split={ by = \"array\", name = \"session\", test = [1] }".to_string()];
        let session = Config::parse("test", "", &sets).unwrap();
        assert_eq!(subjects(&data, &session), ["0", "1", "0", "1", "0", "1"]);
        data.arrays.insert("subject".into(), vec![3, 3, 4, 4, 5, 5]);
        for config in [&plain, &blocks, &session] {
            assert_eq!(subjects(&data, config), ["3", "3", "4", "4", "5", "5"]);
        }
    }
}
