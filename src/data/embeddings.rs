//! Precomputed embeddings, one for each image: vectors, or sequences of vectors, of any origin.

use std::path::Path;

use super::arrays::{Array, Named, Node, Values, read_file};
use super::npz;
use super::open::{Kind, sniff};
use crate::error::{Error, Result};

/// In front of the name of an array that lies in the data's own archive.
pub const IN_DATA: &str = "npz:";

/// [n, tokens, width], finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    pub n: usize,
    /// Vectors of an image; 1 where the array had two axes.
    pub tokens: usize,
    pub width: usize,
    values: Vec<f32>,
    source: String,
}

const HELP: &str = "save an array of shape [n, width] or [n, tokens, width]: \
     np.save(\"embeddings.npy\", x.astype(np.float32))";

impl Embeddings {
    /// As `data.embeddings` says: a file, or `npz:NAME` for an array of `data` itself.
    ///
    /// # Errors
    /// As [`open`](Self::open); data that are no archive.
    pub fn of_data(setting: &str, data: &Path) -> Result<Self> {
        let Some(name) = setting.strip_prefix(IN_DATA) else {
            return Self::open(Path::new(setting), None);
        };
        if !data.is_file() || sniff(data)? != Kind::Npz {
            return Err(Error::usage("the data are no archive that could hold embeddings")
                .at(format!("data.embeddings = \"{setting}\""))
                .why(format!("the data are {}", data.display()))
                .help("name a file: --set data.embeddings=FILE.npy"));
        }
        Self::open(data, Some(name))
    }

    /// The array `name` of a file, or the only one that can hold embeddings.
    ///
    /// # Errors
    /// Exit code 4: no such array, another shape or type of elements, a number that is not finite.
    pub fn open(path: &Path, name: Option<&str>) -> Result<Self> {
        let bad = |what: &str, why: String| Error::data(what).at_path(path).why(why).help(HELP);
        std::fs::metadata(path)
            .map_err(|e| bad("the embeddings cannot be opened", e.to_string()))?;
        let (named, skipped) = match (name, sniff(path)?) {
            (Some(name), Kind::Npz) => npz::read_arrays_where(path, |n| n == name)?,
            _ => read_file(path)?,
        };
        let fits = |named: &Named| match (&named.node, name) {
            (_, Some(name)) => named.name == name,
            (Node::Array(array), None) => shape(array).is_ok(),
            _ => false,
        };
        let mut found = named.into_iter().filter(fits);
        let (first, more) = (found.next(), found.next());
        let (Some(Named { name: found, node }), None) = (first, more) else {
            let which = name.map_or("one array of embeddings".into(), |n| format!("array '{n}'"));
            return Err(bad(&format!("the file has not exactly {which}"), skipped.join("; ")));
        };
        let Node::Array(array) = node else {
            return Err(bad(&format!("'{found}' is no array of numbers"), String::new()));
        };
        let [n, tokens, width] =
            shape(&array).map_err(|why| bad(&format!("'{found}' cannot hold embeddings"), why))?;
        let values = match array.values {
            Values::F32(values) => values,
            Values::U8(values) => values.into_iter().map(f32::from).collect(),
            _ => return Err(bad(&format!("'{found}' is not of real numbers"), array.dtype)),
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let (row, column) = (at / (tokens * width), at % (tokens * width));
            let what = format!("an embedding is {}", values[at]);
            let why = format!("row {row}, number {column} of it: all must be finite");
            return Err(bad(&what, why));
        }
        Ok(Embeddings { n, tokens, width, values, source: path.display().to_string() })
    }

    /// Embeddings made in memory; `None` if the numbers do not fill the shape.
    pub fn from_values([n, tokens, width]: [usize; 3], values: Vec<f32>) -> Option<Self> {
        let fits = n * tokens * width == values.len() && !values.is_empty();
        fits.then(|| Embeddings { n, tokens, width, values, source: "memory".into() })
    }

    /// One vector an image: the mean of its vectors.
    pub fn pooled(self) -> Self {
        let Embeddings { n, tokens, width, values, source } = self;
        let mean = |image: &[f32]| -> Vec<f32> {
            let of = |j: usize| image.iter().skip(j).step_by(width).map(|&v| f64::from(v));
            (0..width).map(|j| (of(j).sum::<f64>() / tokens as f64) as f32).collect()
        };
        let values = values.chunks_exact(tokens * width).flat_map(mean).collect();
        Embeddings { n, tokens: 1, width, values, source }
    }

    /// # Errors
    /// There are not as many as images (exit 4).
    pub fn for_images(self, images: usize) -> Result<Self> {
        if self.n == images {
            return Ok(self);
        }
        Err(Error::data(format!("there are {} embeddings for {images} images", self.n))
            .at(&self.source)
            .help("row i belongs to image i of the data: give one for each, in their order"))
    }

    /// # Errors
    /// Another shape than a run was trained with (exit 4).
    pub fn shaped(self, tokens: usize, width: usize) -> Result<Self> {
        if (self.tokens, self.width) == (tokens, width) {
            return Ok(self);
        }
        Err(Error::data(format!("embeddings of {} x {} numbers", self.tokens, self.width))
            .at(&self.source)
            .why(format!("the run was trained with {tokens} x {width}"))
            .help("make them as those of the training data were made"))
    }

    /// Of one image, tokens * width numbers.
    pub fn row(&self, image: usize) -> &[f32] {
        &self.values[image * self.tokens * self.width..][..self.tokens * self.width]
    }
}

/// [n, tokens, width] of an array of real numbers.
fn shape(array: &Array) -> std::result::Result<[usize; 3], String> {
    let shape = match array.shape[..] {
        [n, width] => [n, 1, width],
        [n, tokens, width] => [n, tokens, width],
        _ => return Err(format!("its shape is {:?}", array.shape)),
    };
    if shape.contains(&0) {
        return Err(format!("its shape {:?} holds nothing", array.shape));
    }
    // Truth values are read as pixels are, as 0 and 255.
    if array.is_complex() || array.dtype == "|b1" {
        return Err(format!("its elements are of type {}, not numbers", array.dtype));
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::data::tests::{npy, npz};
    use half::f16;

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn vectors_and_sequences() {
        let dir = Scratch::new("embeddings");
        let values = [1.0, -2.0, 3.5, 4.0, 0.25, 6.0];
        let flat = dir.file("flat.npy", &npy("<f4", false, &[3, 2], &floats(&values)));
        let flat = Embeddings::open(&flat, None).unwrap();
        assert_eq!((flat.n, flat.tokens, flat.width), (3, 1, 2));
        assert_eq!((flat.row(0), flat.row(2)), (&[1.0, -2.0][..], &[0.25, 6.0][..]));

        let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let sequence = dir.file("sequence.npy", &npy("<f2", false, &[1, 3, 2], &halves));
        let sequence = Embeddings::open(&sequence, None).unwrap();
        assert_eq!((sequence.tokens, sequence.row(0)), (3, &values[..]));
        let pooled = sequence.clone().pooled();
        assert_eq!((pooled.tokens, pooled.row(0)), (1, &[4.75 / 3.0, 8.0 / 3.0][..]));
        assert!(sequence.clone().shaped(3, 2).is_ok() && sequence.for_images(1).is_ok());
        // In Fortran order, the first axis fastest.
        let turned = dir.file("turned.npy", &npy("<f4", true, &[3, 2], &floats(&values)));
        assert_eq!(Embeddings::open(&turned, None).unwrap().row(0), [1.0, 4.0]);

        let images = ("images.npy", npy("|u1", false, &[3, 4, 4], &[0; 48]));
        let text = ("text.npy", npy("<f4", false, &[3, 2], &floats(&values)));
        let both = dir.file("both.npz", &npz(&[images, text]));
        assert_eq!(Embeddings::of_data("npz:text", &both).unwrap().row(1), [3.5, 4.0]);
        assert_eq!(Embeddings::open(&both, None).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn files_that_hold_none() {
        let dir = Scratch::new("no-embeddings");
        let file = |name: &str, bytes: &[u8]| dir.file(name, bytes);
        let refused = |result: Result<Embeddings>, code: i32, part: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}\nlacks {part}");
        };
        let open = |path: &Path| Embeddings::open(path, None);
        let nan = npy("<f4", false, &[2, 2], &floats(&[1.0, 2.0, 3.0, f32::NAN]));
        refused(open(&file("nan.npy", &nan)), 4, "row 1, number 1");
        let wide = npy("<f8", false, &[1, 1], &1e300f64.to_le_bytes());
        refused(open(&file("wide.npy", &wide)), 4, "an embedding is inf");
        let vector = npy("<f4", false, &[4], &floats(&[0.0; 4]));
        refused(open(&file("vector.npy", &vector)), 4, "not exactly one");
        let empty = npy("<f4", false, &[4, 0], &[]);
        refused(open(&file("empty.npy", &empty)), 4, "not exactly one");
        let yes = npy("|b1", false, &[2, 2], &[1; 4]);
        refused(open(&file("yes.npy", &yes)), 4, "not exactly one");
        refused(open(&file("cut.npy", &nan[..nan.len() - 4])), 4, "needs 16 bytes");
        refused(open(&dir.path("missing.npy")), 4, "cannot be opened");
        let images = file("data.npz", &npz(&[("x.npy", npy("<f4", false, &[2], &[0; 8]))]));
        refused(Embeddings::of_data("npz:y", &images), 4, "array 'y'");
        refused(Embeddings::of_data("npz:x", &images), 4, "its shape is [2]");
        refused(Embeddings::of_data("npz:x", &dir.path("synth:rotor")), 2, "no archive");

        let two = Embeddings::from_values([2, 1, 3], vec![0.0; 6]).unwrap();
        refused(two.clone().for_images(3), 4, "2 embeddings for 3 images");
        refused(two.shaped(1, 4), 4, "trained with 1 x 4");
        assert_eq!(Embeddings::from_values([2, 1, 3], vec![0.0; 5]), None);
    }
}
