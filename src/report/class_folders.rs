//! Images as PNG files in one folder a class: `root/<class>/00000.png`, as
//! [`Dataset::open`](crate::data::Dataset::open) reads them.

use super::grid::Raster;
use super::png::write_png;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bytes of a folder's name at most; file systems allow 255.
const LONGEST: usize = 100;
/// What Windows keeps for devices, and what [`Dataset::open`](crate::data::Dataset::open) takes for the
/// parts of a data set.
const TAKEN: [&str; 8] = ["con", "prn", "aux", "nul", "clock$", "train", "test", "val"];
/// Digits of a file's number at least.
const DIGITS: usize = 5;

/// Folders that images are written into one by one.
#[derive(Debug)]
pub struct ClassFolders {
    folders: Vec<PathBuf>,
    written: Vec<usize>,
    digits: usize,
}

impl ClassFolders {
    /// For `images` images at most of classes of these names, below `root`.
    ///
    /// # Errors
    /// Exit code 5: a folder that exists and holds something: what it holds and what is written would
    /// look like one set of images.
    pub fn new(root: &Path, names: &[String], images: usize) -> Result<Self> {
        let folders: Vec<PathBuf> = safe_names(names).iter().map(|name| root.join(name)).collect();
        for folder in &folders {
            if std::fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_some()) {
                return Err(Error::disk("a class folder is not empty")
                    .at_path(folder)
                    .help("choose another --out, or remove the folder"));
            }
        }
        let digits = images.saturating_sub(1).to_string().len().max(DIGITS);
        Ok(ClassFolders { written: vec![0; folders.len()], folders, digits })
    }

    /// Writes one image, gray or RGB, under the next number of its class.
    ///
    /// # Errors
    /// A class without a name; exit code 5: the file cannot be written.
    pub fn write(&mut self, class: usize, image: &Raster) -> Result<()> {
        let Some((folder, written)) = self.folders.get(class).zip(self.written.get_mut(class))
        else {
            return Err(Error::failed(format!("class {class} has no folder")));
        };
        if *written == 0 {
            std::fs::create_dir_all(folder)
                .map_err(|e| Error::disk("cannot create the folder").at_path(folder).why(e))?;
        }
        let path = folder.join(format!("{:0width$}.png", *written, width = self.digits));
        *written += 1;
        write_png(&path, image)
    }
}

/// Names of folders for classes: letters, digits, spaces and `-_.` stay, all else becomes `_`; hidden,
/// reserved and overlong names are changed, and names that are the same but for their case are numbered.
fn safe_names(names: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut out = vec![];
    for name in names {
        let plain = safe(name);
        let numbered = (2..).map(|i| format!("{plain}_{i}"));
        let free = std::iter::once(plain.clone())
            .chain(numbered)
            .find(|name| seen.insert(name.to_lowercase()));
        out.push(free.unwrap_or(plain));
    }
    out
}

fn safe(name: &str) -> String {
    let stays = |c: char| c.is_alphanumeric() || " -_.".contains(c);
    let mut out = String::new();
    for c in name.trim().chars().map(|c| if stays(c) { c } else { '_' }) {
        if out.len() + c.len_utf8() > LONGEST {
            break;
        }
        out.push(c);
    }
    // Hidden files are not read; Windows drops dots and spaces at the end.
    let out = out.trim_start_matches('.').trim_end_matches(['.', ' ']).trim_start();
    let stem = out.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let digit = |n: &str| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit());
    let port = ["com", "lpt"].iter().any(|kind| stem.strip_prefix(kind).is_some_and(digit));
    match out {
        "" => "class".into(),
        _ if port || TAKEN.contains(&stem.as_str()) => format!("{out}_"),
        _ => out.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::data::{Dataset, Pixels};

    #[test]
    fn names_are_safe_and_distinct() {
        let names = [
            "walk",
            "Walk",
            "a/b",
            "a:b",
            "..",
            ".hidden",
            "CON",
            "com1.x",
            "train",
            "test",
            "",
            " x. ",
            "../../etc",
            "Gang über Straße",
            "walk_2",
        ];
        let got = safe_names(&names.map(String::from));
        let want = [
            "walk",
            "Walk_2",
            "a_b",
            "a_b_2",
            "class",
            "hidden",
            "CON_",
            "com1.x_",
            "train_",
            "test_",
            "class_2",
            "x",
            "_.._etc",
            "Gang über Straße",
            "walk_2_2",
        ];
        assert_eq!(got, want);
        let long = safe(&"ä".repeat(200));
        assert_eq!(long.len(), LONGEST);
        for name in got.iter().chain([&long]) {
            let path = Path::new(name);
            assert_eq!(path.components().count(), 1, "{name}");
            assert!(!name.starts_with('.'), "{name}");
        }
    }

    /// What is written is read back as the same images of the same classes, gray and in colour, whatever
    /// else lies beside; and a second run does not mix with the first.
    #[test]
    fn read_back_as_a_data_set() {
        for channels in [1, 3] {
            let dir = Scratch::new("class-folders");
            let names = ["train", "b/c", "test"].map(String::from);
            let mut folders = ClassFolders::new(&dir.path("."), &names, 7).unwrap();
            let image = |i: usize| {
                let pixels = (0..6 * 5 * channels).map(|v| (v + 40 * i) as u8).collect();
                Raster { width: 6, height: 5, channels, pixels }
            };
            for i in 0..7 {
                folders.write(i % 3, &image(i)).unwrap();
            }
            let sheet = Raster { width: 1, height: 1, channels: 1, pixels: vec![0] };
            write_png(&dir.path("grid.png"), &sheet).unwrap();
            dir.file("samples.npz", b"something else");
            let data = Dataset::open(dir.path(".")).unwrap();
            assert_eq!(data.class_names, ["b_c", "test_", "train_"]);
            assert_eq!(data.labels, Some(vec![0, 0, 1, 1, 2, 2, 2]));
            let want: Vec<u8> =
                [1, 4, 2, 5, 0, 3, 6].into_iter().flat_map(|i| image(i).pixels).collect();
            assert_eq!(data.pixels, Pixels::U8(want));
            let again = ClassFolders::new(&dir.path("."), &names, 7).unwrap_err();
            assert_eq!(again.exit_code(), 5);
            assert!(folders.write(3, &image(0)).is_err());
        }
    }
}
