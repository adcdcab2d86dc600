//! Which axis of an image array is which, guessed from the sizes alone, and the copy to NHWC.

use std::fmt;

use super::header::Checked;
use super::permute::permute;

/// Axis order as found in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[n, h, w]`, one channel.
    Nhw,
    /// `[n, h, w, c]`.
    Nhwc,
    /// `[n, c, h, w]`.
    Nchw,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Nhw => "images x rows x columns",
            Layout::Nhwc => "images x rows x columns x channels",
            Layout::Nchw => "images x channels x rows x columns",
        })
    }
}

/// A layout, the sizes `[n, h, w, c]`, and a doubt worth telling the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    pub layout: Layout,
    pub nhwc: [usize; 4],
    pub doubt: Option<String>,
}

/// More channels than this are believed only if the other candidate has more.
const FEW_CHANNELS: usize = 4;

/// Reads a shape of rank 3 or 4. The axis with at most four entries is taken for the channels; if
/// both candidates qualify, or neither, the smaller one, and the last axis on a tie.
pub fn guess(shape: &[usize]) -> Checked<Guess> {
    if shape.contains(&0) {
        return Err(format!("the image array has shape {shape:?}: it is empty"));
    }
    match *shape {
        [n, h, w] => {
            let doubt = (w <= FEW_CHANNELS).then(|| {
                format!(
                    "shape {shape:?} is read as {n} images of {h} x {w}; \
                     for one colour image, add an axis: images[None]"
                )
            });
            Ok(Guess { layout: Layout::Nhw, nhwc: [n, h, w, 1], doubt })
        }
        [n, a, b, c] => {
            let last = c <= a;
            let (layout, nhwc) =
                if last { (Layout::Nhwc, [n, a, b, c]) } else { (Layout::Nchw, [n, b, c, a]) };
            let sure = (a <= FEW_CHANNELS) != (c <= FEW_CHANNELS);
            let doubt = (!sure).then(|| {
                format!("shape {shape:?} could be read two ways; taken as {layout} ({})", nhwc[3])
            });
            Ok(Guess { layout, nhwc, doubt })
        }
        _ => Err(format!("the image array has rank {}: 3 or 4 is expected", shape.len())),
    }
}

/// Which axis of a MATLAB array counts its images or recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedAxis {
    /// The first axis, or else the last.
    pub first: bool,
    /// The file says so; else it is only custom.
    pub sure: bool,
}

/// The axis as long as a vector of the file, of which there is one entry per image; else, of three axes,
/// the one beside the sides of a square; else the last, as MATLAB users count.
pub fn counted_axis(shape: &[usize], vectors: &[usize]) -> CountedAxis {
    let has = |d: Option<&usize>| d.is_some_and(|&d| d > 1 && vectors.contains(&d));
    let (first, last) = (has(shape.first()), has(shape.last()));
    let square = |a: usize, b: usize, n: usize| {
        shape.len() == 3 && shape[a] == shape[b] && shape[n] != shape[a]
    };
    let (square_first, square_last) = (square(0, 1, 2), square(1, 2, 0));
    CountedAxis {
        first: if first != last { first } else { square_last },
        sure: first != last || square_first || square_last,
    }
}

/// Copies an array in file order into NHWC.
///
/// `fortran`: the first axis of the file varies fastest. Where file order is NHWC already the
/// vector is returned untouched.
pub fn to_nhwc<T: Copy>(data: Vec<T>, guess: &Guess, fortran: bool) -> Vec<T> {
    let [n, h, w, c] = guess.nhwc;
    // Sizes in file order, and where n, h, w, c sit among them.
    let (mut dims, mut order) = match guess.layout {
        Layout::Nhw | Layout::Nhwc => ([n, h, w, c], [0, 1, 2, 3]),
        Layout::Nchw => ([n, c, h, w], [0, 2, 3, 1]),
    };
    if fortran {
        dims.reverse();
        order = order.map(|axis| 3 - axis);
    }
    permute(data, &dims, &order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses() {
        let layout = |s: &[usize]| guess(s).map(|g| (g.layout, g.nhwc, g.doubt.is_some()));
        assert_eq!(layout(&[9, 64, 48]), Ok((Layout::Nhw, [9, 64, 48, 1], false)));
        assert_eq!(layout(&[64, 64, 3]), Ok((Layout::Nhw, [64, 64, 3, 1], true)));
        assert_eq!(layout(&[9, 64, 48, 1]), Ok((Layout::Nhwc, [9, 64, 48, 1], false)));
        assert_eq!(layout(&[9, 3, 64, 48]), Ok((Layout::Nchw, [9, 64, 48, 3], false)));
        assert_eq!(layout(&[9, 1, 64, 1]), Ok((Layout::Nhwc, [9, 1, 64, 1], true)));
        assert_eq!(layout(&[9, 64, 64, 12]), Ok((Layout::Nhwc, [9, 64, 64, 12], true)));
        assert_eq!(layout(&[9, 12, 64, 64]), Ok((Layout::Nchw, [9, 64, 64, 12], true)));
        assert!(guess(&[9, 0, 64]).is_err());
        assert!(guess(&[9, 64]).is_err());
        assert!(guess(&[9, 8, 8, 8, 8]).is_err());
    }

    #[test]
    fn axes_that_count() {
        let axis = |shape: &[usize], vectors: &[usize]| {
            let CountedAxis { first, sure } = counted_axis(shape, vectors);
            (first, sure)
        };
        assert_eq!(axis(&[64, 48, 9], &[]), (false, false));
        assert_eq!(axis(&[64, 48, 9], &[9]), (false, true));
        assert_eq!(axis(&[9, 64, 48], &[9, 5]), (true, true));
        assert_eq!(axis(&[9, 64, 9], &[9]), (false, false));
        assert_eq!(axis(&[9, 64, 64], &[]), (true, true));
        assert_eq!(axis(&[64, 64, 9], &[]), (false, true));
        assert_eq!(axis(&[64, 64, 9], &[64]), (true, true));
        assert_eq!(axis(&[1000, 9], &[9]), (false, true));
        assert_eq!(axis(&[1, 64, 48], &[1]), (false, false));
    }

    /// Every layout and order of the same images gives the same NHWC bytes.
    #[test]
    fn all_orders_agree() {
        let [n, h, w, c] = [2, 5, 7, 3];
        let value = |i: usize, y: usize, x: usize, k: usize| (i * 97 + y * 17 + x * 3 + k) as u16;
        let mut want = Vec::new();
        for i in 0..n {
            for y in 0..h {
                for x in 0..w {
                    want.extend((0..c).map(|k| value(i, y, x, k)));
                }
            }
        }
        for (layout, dims) in [(Layout::Nhwc, [n, h, w, c]), (Layout::Nchw, [n, c, h, w])] {
            for fortran in [false, true] {
                let mut file = vec![0; n * h * w * c];
                for a in 0..dims[0] {
                    for b in 0..dims[1] {
                        for d in 0..dims[2] {
                            for e in 0..dims[3] {
                                let at = if fortran {
                                    a + dims[0] * (b + dims[1] * (d + dims[2] * e))
                                } else {
                                    ((a * dims[1] + b) * dims[2] + d) * dims[3] + e
                                };
                                file[at] = match layout {
                                    Layout::Nchw => value(a, d, e, b),
                                    _ => value(a, b, d, e),
                                };
                            }
                        }
                    }
                }
                let guess = Guess { layout, nhwc: [n, h, w, c], doubt: None };
                assert_eq!(to_nhwc(file, &guess, fortran), want, "{layout:?} {fortran}");
            }
        }
    }
}
