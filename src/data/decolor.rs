//! Coloured pictures of spectrograms back to one channel.
//!
//! Much data is passed around as PNG files coloured with a map of MATLAB or matplotlib. A map is a
//! curve through the RGB cube: each pixel is given the level of the nearest point of the curve. The
//! distance to it says how far the picture is from that map.

use std::str::FromStr;

use rayon::prelude::*;

use super::{Dataset, Pixels};
use crate::error::{Error, Result};

/// Colour maps that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    Jet,
    Viridis,
    Parula,
    Turbo,
}

/// The mean distance, in 8-bit steps of RGB, above which pictures are not of a map. Exact pictures
/// are within 4 (rounding, and 33 support points a map); pixels averaged with a neighbour some
/// levels away leave the curve by a few steps more. Gray pictures and other maps are 30 and more
/// away on average.
const MAX_MEAN_DISTANCE: f64 = 12.0;

impl FromStr for Colours {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "jet" => Ok(Colours::Jet),
            "viridis" => Ok(Colours::Viridis),
            "parula" => Ok(Colours::Parula),
            "turbo" => Ok(Colours::Turbo),
            _ => Err(Error::usage(format!("no colour map is called {name:?}"))
                .help("use jet, viridis, parula or turbo")),
        }
    }
}

impl Colours {
    /// The colour of each of 256 levels.
    pub fn table(self) -> Vec<[u8; 3]> {
        let points = match self {
            Colours::Jet => return (0..256).map(|i| jet(f64::from(i) / 255.0)).collect(),
            Colours::Viridis => &VIRIDIS,
            Colours::Parula => &PARULA,
            Colours::Turbo => &TURBO,
        };
        (0..256).map(|i| between(points, f64::from(i) / 255.0 * 32.0)).collect()
    }

    /// Replaces RGB images by their levels, and notes the mean distance to the map.
    ///
    /// # Errors
    /// Exit code 4: images without three channels, and images of something else.
    pub fn undo(self, data: &mut Dataset) -> Result<()> {
        let name = format!("{self:?}").to_lowercase();
        if data.channels != 3 {
            return Err(Error::data(format!("the images have {} channel(s)", data.channels))
                .at(&data.source)
                .why(format!("a {name} picture has three"))
                .help("leave --decolormap out"));
        }
        let pixels = rgb(data);
        let levels = |table: &[[u8; 3]]| {
            let nearest = |p: &[u8]| nearest(table, [p[0], p[1], p[2]]);
            let found: Vec<(u8, f32)> = pixels.par_chunks_exact(3).map(nearest).collect();
            let sum = found.iter().map(|&(_, d)| f64::from(d)).sum::<f64>();
            let mean = sum / found.len() as f64;
            (found, mean)
        };
        let (mut found, mut mean) = levels(&self.table());
        if self == Colours::Jet {
            // Of the two maps of this name the one that fits better.
            let other = levels(&jet_of_matplotlib());
            if other.1 < mean {
                (found, mean) = other;
            }
        }
        if mean > MAX_MEAN_DISTANCE {
            return Err(Error::data(format!("the images are not coloured with {name}"))
                .at(&data.source)
                .why(format!(
                    "the mean distance to the map is {mean:.1} of 255, above {MAX_MEAN_DISTANCE}"
                ))
                .help("try another map, or --gray for gray pictures"));
        }
        data.notes.push(format!("{name} undone, mean distance to the map {mean:.2} of 255"));
        data.replace_pixels(found.into_iter().map(|(level, _)| level).collect(), 1);
        Ok(())
    }
}

/// Luminance of RGB images by the weights of ITU-R BT.601, which MATLAB's rgb2gray uses too.
pub fn to_gray(data: &mut Dataset) {
    let luma = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(f64::from);
        (0.299 * r + 0.587 * g + 0.114 * b).round() as u8
    };
    let gray = rgb(data).chunks_exact(3).map(luma).collect();
    data.notes.push("RGB turned into luminance (BT.601)".into());
    data.replace_pixels(gray, 1);
}

fn rgb(data: &Dataset) -> Vec<u8> {
    match &data.pixels {
        Pixels::U8(v) => v.clone(),
        Pixels::F32(v) => v.iter().map(|&v| super::write::to_u8(v)).collect(),
    }
}

/// The level whose colour is nearest, the lowest of equal ones, and the distance.
fn nearest(table: &[[u8; 3]], colour: [u8; 3]) -> (u8, f32) {
    let mut best = (0, i32::MAX);
    for (level, candidate) in table.iter().enumerate() {
        let square = |i: usize| (i32::from(candidate[i]) - i32::from(colour[i])).pow(2);
        let distance = square(0) + square(1) + square(2);
        if distance < best.1 {
            best = (level, distance);
        }
    }
    (best.0 as u8, (best.1 as f32).sqrt())
}

/// MATLAB's map of 256 colours: trapezia of slope 4 around 3/4, 1/2 and 1/4.
fn jet(t: f64) -> [u8; 3] {
    let ramp = |centre: f64| (1.5 - 4.0 * (t - centre).abs()).clamp(0.0, 1.0);
    [ramp(0.75), ramp(0.5), ramp(0.25)].map(|v| (255.0 * v).round() as u8)
}

/// matplotlib's map of the same name: straight lines between these (place, value).
fn jet_of_matplotlib() -> Vec<[u8; 3]> {
    const RED: [(f64, f64); 5] = [(0.0, 0.0), (0.35, 0.0), (0.66, 1.0), (0.89, 1.0), (1.0, 0.5)];
    const GREEN: [(f64, f64); 6] =
        [(0.0, 0.0), (0.125, 0.0), (0.375, 1.0), (0.64, 1.0), (0.91, 0.0), (1.0, 0.0)];
    const BLUE: [(f64, f64); 5] = [(0.0, 0.5), (0.11, 1.0), (0.34, 1.0), (0.65, 0.0), (1.0, 0.0)];
    let at = |line: &[(f64, f64)], t: f64| {
        let part = line.windows(2).find(|p| t <= p[1].0).unwrap_or(&line[line.len() - 2..]);
        let ((x0, y0), (x1, y1)) = (part[0], part[1]);
        (255.0 * (y0 + (t - x0) / (x1 - x0) * (y1 - y0))).round() as u8
    };
    let level = |i: i32| f64::from(i) / 255.0;
    (0..256).map(|i| [at(&RED, level(i)), at(&GREEN, level(i)), at(&BLUE, level(i))]).collect()
}

fn between(points: &[u32; 33], at: f64) -> [u8; 3] {
    let i = (at as usize).min(31);
    let share = at - i as f64;
    let channel = |shift: u32| {
        let part = |p: u32| f64::from((p >> shift) & 0xff);
        (part(points[i]) * (1.0 - share) + part(points[i + 1]) * share).round() as u8
    };
    [channel(16), channel(8), channel(0)]
}

// Support points 0/32 .. 32/32 of the maps as they are drawn, 0xRRGGBB.
const VIRIDIS: [u32; 33] = [
    0x440154, 0x470d60, 0x48186a, 0x482374, 0x472d7b, 0x453681, 0x424086, 0x3f4989, 0x3b528b,
    0x375a8d, 0x33638d, 0x2f6a8e, 0x2c728e, 0x297a8e, 0x26818e, 0x23898e, 0x21908c, 0x1f988b,
    0x1f9f88, 0x21a685, 0x28ae80, 0x31b57b, 0x3ebc74, 0x4cc26c, 0x5dc963, 0x6ece58, 0x82d34c,
    0x96d83f, 0xabdc32, 0xc0df24, 0xd5e21a, 0xeae51a, 0xfde725,
];
const TURBO: [u32; 33] = [
    0x30123b, 0x392a73, 0x4040a1, 0x4456c7, 0x466be3, 0x467ff6, 0x4293ff, 0x37a7fa, 0x29bbec,
    0x1dcdd8, 0x18dcc3, 0x1ee8b0, 0x31f299, 0x4cf97e, 0x6bfd64, 0x8aff4d, 0xa3fd3c, 0xb8f735,
    0xcced34, 0xdee037, 0xedd03a, 0xf8c03a, 0xfdae35, 0xfe982c, 0xfb8022, 0xf56817, 0xec520f,
    0xe04009, 0xd23105, 0xc02302, 0xac1701, 0x950d01, 0x7a0403,
];
const PARULA: [u32; 33] = [
    0x3e26a8, 0x422ebf, 0x4536d5, 0x4741e5, 0x484cef, 0x4757f7, 0x4562fc, 0x3f6efe, 0x347afd,
    0x2e85f8, 0x2c90f0, 0x269ae9, 0x21a3e3, 0x1aacdd, 0x0cb3d3, 0x01b9c6, 0x12beb9, 0x28c2ab,
    0x34c79c, 0x44ca8a, 0x5ccc76, 0x77cc60, 0x94ca4a, 0xafc637, 0xc8c129, 0xdebc2a, 0xf1ba37,
    0xfebe3c, 0xfeca33, 0xf9d62d, 0xf5e327, 0xf6ef20, 0xf9fb15,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(colours: Colours, levels: &[u8]) -> Dataset {
        let table = colours.table();
        let pixels = levels.iter().flat_map(|&l| table[l as usize]).collect();
        Dataset::from_u8(pixels, [1, 1, levels.len(), 3], None, vec![], "memory").unwrap()
    }

    /// Colours that matplotlib 3 draws, by level: the tables here are its maps, not only invertible ones.
    #[test]
    fn colours_of_matplotlib() {
        const LEVELS: [u8; 9] = [0, 32, 64, 100, 128, 160, 200, 230, 255];
        let maps: [(Colours, [[u8; 3]; 9]); 3] = [
            (
                Colours::Viridis,
                [
                    [68, 1, 84],
                    [71, 45, 123],
                    [59, 82, 139],
                    [42, 118, 142],
                    [33, 145, 140],
                    [40, 174, 128],
                    [112, 207, 87],
                    [189, 223, 38],
                    [253, 231, 37],
                ],
            ),
            (
                Colours::Turbo,
                [
                    [48, 18, 59],
                    [70, 107, 227],
                    [40, 188, 235],
                    [63, 246, 138],
                    [164, 252, 60],
                    [238, 207, 58],
                    [244, 102, 23],
                    [195, 37, 3],
                    [122, 4, 3],
                ],
            ),
            (
                Colours::Jet,
                [
                    [0, 0, 128],
                    [0, 0, 255],
                    [0, 128, 255],
                    [35, 255, 212],
                    [125, 255, 122],
                    [228, 255, 19],
                    [255, 119, 0],
                    [241, 8, 0],
                    [128, 0, 0],
                ],
            ),
        ];
        for (colours, drawn) in maps {
            let mut data =
                Dataset::from_u8(drawn.concat(), [1, 1, 9, 3], None, vec![], "memory").unwrap();
            colours.undo(&mut data).unwrap();
            let Pixels::U8(got) = &data.pixels else { panic!("{:?}", data.pixels) };
            for (got, want) in got.iter().zip(LEVELS) {
                // Between support points a level may be taken for its neighbour. From 0.11 (level 28) to
                // 0.125 jet is one blue, and of equal colours the lowest is taken.
                let most = if (colours, want) == (Colours::Jet, 32) { 4 } else { 1 };
                assert!(got.abs_diff(want) <= most, "{colours:?}: level {want} became {got}");
            }
        }
    }

    /// Every level of every map comes back, and each map is refused for the pictures of the others.
    #[test]
    fn levels_come_back() {
        let all = [Colours::Jet, Colours::Viridis, Colours::Parula, Colours::Turbo];
        let levels: Vec<u8> = (0..=255).collect();
        for colours in all {
            let mut data = picture(colours, &levels);
            colours.undo(&mut data).unwrap();
            let Pixels::U8(got) = &data.pixels else { panic!("{:?}", data.pixels) };
            for (got, want) in got.iter().zip(&levels) {
                // Slow stretches of a rounded map repeat a colour: of equal ones the lowest is taken.
                let off = want.abs_diff(*got);
                assert!(off <= 1, "{colours:?}: level {want} became {got}");
            }
            assert!(data.notes[0].contains("0.00"), "{:?}", data.notes);
            for other in all.into_iter().filter(|&o| o != colours) {
                let refused = other.undo(&mut picture(colours, &levels)).unwrap_err();
                assert_eq!(refused.exit_code(), 4, "{colours:?} taken for {other:?}");
            }
        }
        let gray = levels.iter().flat_map(|&l| [l; 3]).collect::<Vec<_>>();
        let gray = Dataset::from_u8(gray, [1, 1, 256, 3], None, vec![], "memory").unwrap();
        for colours in all {
            assert!(colours.undo(&mut gray.clone()).is_err(), "gray taken for {colours:?}");
        }
        let mut data = gray;
        to_gray(&mut data);
        assert_eq!((data.channels, data.pixels), (1, Pixels::U8(levels)));
    }
}
