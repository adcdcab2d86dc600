//! Colours for single-channel images.
//!
//! The perceptual map is built here rather than copied: lightness grows in equal steps while the
//! hue turns from violet over teal to yellow, in Oklch (B. Ottosson, "A perceptual color space for
//! image processing", 2020), with the chroma that fits into sRGB at every step. Equal differences
//! of value look equally large, and the map stays readable in gray and to colour-blind eyes.

use std::sync::OnceLock;

/// How a value in [0, 1] becomes a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colormap {
    #[default]
    Gray,
    /// Dark violet, teal, yellow.
    Perceptual,
}

impl Colormap {
    /// sRGB, 8 bits a channel. Values outside [0, 1] are clipped, NaN counts as 0.
    pub fn rgb(self, value: f32) -> [u8; 3] {
        let level = crate::data::write::to_u8(value);
        match self {
            Colormap::Gray => [level; 3],
            Colormap::Perceptual => table()[level as usize],
        }
    }
}

fn table() -> &'static [[u8; 3]; 256] {
    static TABLE: OnceLock<[[u8; 3]; 256]> = OnceLock::new();
    TABLE.get_or_init(|| std::array::from_fn(|i| colour(i as f64 / 255.0)))
}

/// Lightness and hue (degrees) at both ends, and the chroma aimed at.
const LIGHTNESS: (f64, f64) = (0.22, 0.93);
const HUE: (f64, f64) = (310.0, 100.0);
const CHROMA: f64 = 0.15;

fn colour(t: f64) -> [u8; 3] {
    let lightness = LIGHTNESS.0 + t * (LIGHTNESS.1 - LIGHTNESS.0);
    let hue = (HUE.0 + t * (HUE.1 - HUE.0)).to_radians();
    let linear = |chroma: f64| oklab_to_linear([lightness, chroma * hue.cos(), chroma * hue.sin()]);
    let inside = |chroma: f64| linear(chroma).iter().all(|c| (0.0..=1.0).contains(c));
    // The gamut is star-shaped around gray: halving finds its edge.
    let (mut low, mut high) = (0.0, CHROMA);
    if !inside(high) {
        for _ in 0..30 {
            let middle = (low + high) / 2.0;
            if inside(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        high = low;
    }
    linear(high).map(|c| (255.0 * srgb_gamma(c)).round() as u8)
}

/// Oklab to linear sRGB: the inverse of the two matrices of the definition, around a cube.
fn oklab_to_linear([l, a, b]: [f64; 3]) -> [f64; 3] {
    let long = (l + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let medium = (l - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (l - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ]
}

/// IEC 61966-2-1.
fn srgb_gamma(c: f64) -> f64 {
    if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Luminance (Rec. 709) of an 8-bit sRGB colour.
    fn luminance(rgb: [u8; 3]) -> f64 {
        let linear = |v: u8| {
            let c = f64::from(v) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2])
    }

    #[test]
    fn conversion_anchors() {
        // White and black of Oklab are those of sRGB, to the printed digits of the matrices.
        for (l, want) in [(1.0, 1.0), (0.0, 0.0)] {
            assert!(oklab_to_linear([l, 0.0, 0.0]).iter().all(|c| (c - want).abs() < 1e-6));
        }
    }

    #[test]
    fn perceptual_is_monotonic_and_colourful() {
        let table = table();
        // Luminance may fall by what rounding three channels to 8 bits can take away.
        for (i, pair) in table.windows(2).enumerate() {
            let (a, b) = (luminance(pair[0]), luminance(pair[1]));
            assert!(b > a - 1.0 / 255.0 / 2.0, "{i}: {pair:?}");
        }
        for i in 8..256 {
            assert!(luminance(table[i]) > luminance(table[i - 8]), "{i}");
        }
        let [r, g, b] = table[0];
        assert!(b > r && r > g, "violet: {:?}", table[0]);
        let [r, g, b] = table[128];
        assert!(g > r && b > r, "teal: {:?}", table[128]);
        let [r, g, b] = table[255];
        assert!(r > b && g > b, "yellow: {:?}", table[255]);
    }

    #[test]
    fn clipping() {
        assert_eq!(Colormap::Gray.rgb(0.5), [128; 3]);
        assert_eq!(Colormap::Gray.rgb(-3.0), [0; 3]);
        assert_eq!(Colormap::Gray.rgb(f32::NAN), [0; 3]);
        assert_eq!(Colormap::Perceptual.rgb(7.0), Colormap::Perceptual.rgb(1.0));
    }
}
