//! Sets that can be compared: as many images of each class in the reference, in the floor and among the
//! samples. Otherwise a distance would tell how often the classes are, and a biased one how many images.

use crate::rng::{Rng, Stream};

/// The draw of the halves: subsets of the same stream are counted from 0.
const HALVES: u64 = u64::MAX;

/// Places of the images of each set, ordered by class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EqualSets {
    /// One half of the held-out images: what all else is compared with.
    pub reference: Vec<u32>,
    /// The other half.
    pub floor: Vec<u32>,
    pub samples: Vec<u32>,
    /// The class, or `None` without classes, and how many images each set has of it.
    pub classes: Vec<(Option<u32>, usize)>,
    /// Classes that cannot be compared: the class, its held-out images, its samples.
    pub left_out: Vec<(u32, usize, usize)>,
}

/// Halves of the held-out images, and samples to go with them. Labels are those of all images of a set;
/// with one set unlabelled, classes are not looked at. `counts`: held-out images, samples.
pub fn equal_sets(
    held_out: Option<&[u32]>,
    samples: Option<&[u32]>,
    counts: [usize; 2],
    seed: u64,
) -> EqualSets {
    let order = Rng::new(seed, Stream::Bootstrap, HALVES).permutation(counts[0]);
    let mut sets = EqualSets::default();
    let (Some(held_out), Some(labels)) = (held_out, samples) else {
        sets.add(None, &order, &(0..counts[1] as u32).collect::<Vec<_>>());
        return sets;
    };
    let classes = held_out.iter().chain(labels).max().map_or(0, |&most| most + 1);
    for class in 0..classes {
        let of = |label: &u32| *label == class;
        let real: Vec<u32> = order.iter().copied().filter(|&i| of(&held_out[i as usize])).collect();
        let made: Vec<u32> =
            (0..labels.len() as u32).filter(|&i| of(&labels[i as usize])).collect();
        sets.add(Some(class), &real, &made);
    }
    sets
}

impl EqualSets {
    fn add(&mut self, class: Option<u32>, held_out: &[u32], samples: &[u32]) {
        let n = (held_out.len() / 2).min(samples.len());
        self.reference.extend_from_slice(&held_out[..n]);
        self.floor.extend_from_slice(&held_out[n..2 * n]);
        self.samples.extend_from_slice(&samples[..n]);
        match (n, class) {
            (0, Some(class)) if held_out.len() + samples.len() > 0 => {
                self.left_out.push((class, held_out.len(), samples.len()));
            }
            (0, _) => {}
            _ => self.classes.push((class, n)),
        }
    }

    /// Images in each set.
    pub fn size(&self) -> usize {
        self.reference.len()
    }

    /// The classes with the images of each in `reference` and in another of the sets.
    pub fn by_class<'a>(&'a self, other: &'a [u32]) -> Vec<(Option<u32>, Vec<u32>, Vec<u32>)> {
        let mut from = 0;
        let part = |&(class, n): &(Option<u32>, usize)| {
            let range = from..from + n;
            from += n;
            (class, self.reference[range.clone()].to_vec(), other[range].to_vec())
        };
        self.classes.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_as_frequent_in_all() {
        let held_out = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3];
        let samples = [0, 1, 2, 4, 0, 1, 2, 4, 0, 1, 2];
        let sets = equal_sets(Some(&held_out), Some(&samples), [11, 11], 5);
        assert_eq!(sets.classes, [(Some(0), 2), (Some(1), 1), (Some(2), 1)]);
        assert_eq!(sets.left_out, [(3, 1, 0), (4, 0, 2)]);
        assert_eq!(sets.size(), 4);
        let labels = |rows: &[u32], of: &[u32]| rows.iter().map(|&i| of[i as usize]).collect();
        for (rows, of) in
            [(&sets.reference, &held_out), (&sets.floor, &held_out), (&sets.samples, &samples)]
        {
            let labels: Vec<u32> = labels(rows, of);
            assert_eq!(labels, [0, 0, 1, 2]);
        }
        assert_eq!(sets.samples, [0, 4, 1, 2]);
        let mut real = [sets.reference.clone(), sets.floor.clone()].concat();
        real.sort_unstable();
        real.dedup();
        assert_eq!(real.len(), 8, "an image in both halves");
        let by_class = sets.by_class(&sets.samples);
        assert_eq!(by_class[1], (Some(1), vec![sets.reference[2]], vec![1]));
        assert_ne!(sets, equal_sets(Some(&held_out), Some(&samples), [11, 11], 6), "no seed");
    }

    #[test]
    fn without_classes() {
        let sets = equal_sets(None, Some(&[0, 1, 2]), [9, 3], 0);
        assert_eq!((sets.size(), sets.classes.clone()), (3, vec![(None, 3)]));
        assert_eq!(sets.samples, [0, 1, 2]);
        assert_eq!(equal_sets(None, None, [9, 30], 0).size(), 4);
        assert_eq!(equal_sets(None, None, [1, 30], 0), EqualSets::default());
    }
}
