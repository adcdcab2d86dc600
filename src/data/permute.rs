//! Arrays with their axes in another order.

/// Row-major data of `shape`, with axis `order[i]` of it as axis i of the result.
///
/// Where only axes of length 1 move the data stay as they are.
pub fn permute<T: Copy>(data: Vec<T>, shape: &[usize], order: &[usize]) -> Vec<T> {
    let mut axes: Vec<usize> = order.iter().copied().filter(|&axis| shape[axis] != 1).collect();
    if axes.is_sorted() || data.is_empty() {
        return data;
    }
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    // The innermost axis is a plain loop; the others count like an odometer.
    let inner = axes.pop().map_or((1, 1), |axis| (shape[axis], stride(axis)));
    let outer: Vec<(usize, usize)> = axes.iter().map(|&axis| (shape[axis], stride(axis))).collect();
    let mut index = vec![0; outer.len()];
    let mut out = Vec::with_capacity(data.len());
    while out.len() < data.len() {
        let base: usize = index.iter().zip(&outer).map(|(i, (_, stride))| i * stride).sum();
        out.extend((0..inner.0).map(|i| data[base + i * inner.1]));
        for (i, (len, _)) in index.iter_mut().zip(&outer).rev() {
            *i += 1;
            if *i < *len {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// What [`permute`] needs to bring an array of `shape` from Fortran order, the first axis fastest, to
/// C order, the last one fastest: read from the last axis to the first, such data are row-major.
pub fn from_fortran(shape: &[usize]) -> (Vec<usize>, Vec<usize>) {
    (shape.iter().rev().copied().collect(), (0..shape.len()).rev().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition, for every order of four axes, one of them of length 1.
    #[test]
    fn all_orders() {
        let shape = [3, 1, 4, 2];
        let data: Vec<usize> = (0..24).map(|i| i * i).collect();
        let flat = |at: [usize; 4]| ((at[0] + at[1]) * 4 + at[2]) * 2 + at[3];
        for code in 0..256 {
            let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6];
            if (0..4).any(|axis| !order.contains(&axis)) {
                continue;
            }
            let got = permute(data.clone(), &shape, &order);
            let to = order.map(|axis| shape[axis]);
            for (i, got) in got.into_iter().enumerate() {
                let place = [i / (to[1] * to[2] * to[3]), i / (to[2] * to[3]) % to[1]];
                let place = [place[0], place[1], i / to[3] % to[2], i % to[3]];
                let mut from = [0; 4];
                (0..4).for_each(|k| from[order[k]] = place[k]);
                assert_eq!(got, data[flat(from)], "{order:?} {i}");
            }
        }
        let (shape, order) = from_fortran(&[2, 3]);
        assert_eq!(permute(vec![1, 4, 2, 5, 3, 6], &shape, &order), [1, 2, 3, 4, 5, 6]);
        assert!(permute(Vec::<u8>::new(), &[0, 3], &[1, 0]).is_empty());
    }
}
