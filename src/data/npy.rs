//! Elements of a checked `.npy` array: any integer, float or boolean type, either byte order.

use std::io::Read;

use half::f16;
use npyz::{NpyFile, TypeChar};
use rustfft::num_complex::Complex;

use super::Pixels;
use super::header::{Checked, Header, reserved};

/// Strings longer than this, or more of them, are not class names.
const MAX_STRING_BYTES: u64 = 1 << 20;

/// Pixels in file order. `u8` stays as it is and booleans become 0 or 255; everything else becomes
/// `f32` without any scaling.
pub fn read_pixels(header: &Header, reader: impl Read) -> Checked<Pixels> {
    let mut bytes = Counted { reader, left: header.data_bytes };
    let pixels = match (header.dtype.type_char(), header.dtype.num_bytes().unwrap_or(0)) {
        (TypeChar::Uint, 1) => {
            let mut data = reserved(header.len)?;
            bytes.read_to_end(&mut data).map_err(|e| e.to_string())?;
            Pixels::U8(data)
        }
        (TypeChar::Bool, 1) => {
            Pixels::U8(collect(header, &mut bytes, |b: bool| u8::from(b) * 255)?)
        }
        (TypeChar::Int, 1) => Pixels::F32(collect(header, &mut bytes, |v: i8| f32::from(v))?),
        (TypeChar::Int, 2) => Pixels::F32(collect(header, &mut bytes, |v: i16| f32::from(v))?),
        (TypeChar::Int, 4) => Pixels::F32(collect(header, &mut bytes, |v: i32| v as f32)?),
        (TypeChar::Int, 8) => Pixels::F32(collect(header, &mut bytes, |v: i64| v as f32)?),
        (TypeChar::Uint, 2) => Pixels::F32(collect(header, &mut bytes, |v: u16| f32::from(v))?),
        (TypeChar::Uint, 4) => Pixels::F32(collect(header, &mut bytes, |v: u32| v as f32)?),
        (TypeChar::Uint, 8) => Pixels::F32(collect(header, &mut bytes, |v: u64| v as f32)?),
        (TypeChar::Float, 2) => Pixels::F32(collect(header, &mut bytes, f16::to_f32)?),
        (TypeChar::Float, 4) => Pixels::F32(collect(header, &mut bytes, |v: f32| v)?),
        (TypeChar::Float, 8) => Pixels::F32(collect(header, &mut bytes, |v: f64| v as f32)?),
        (TypeChar::Complex, _) => {
            return Err(format!(
                "elements of type {} cannot be pixels: [data.signal] preset = \"...\" says how \
                 signals become images",
                header.dtype
            ));
        }
        _ => return Err(format!("elements of type {} cannot be pixels", header.dtype)),
    };
    bytes.finish()?;
    if pixels.len() != header.len {
        return Err("the data end early".into());
    }
    Ok(pixels)
}

/// Integers of any width, as `i64`.
pub fn read_ints(header: &Header, reader: impl Read) -> Checked<Vec<i64>> {
    let mut bytes = Counted { reader, left: header.data_bytes };
    let ints = match (header.dtype.type_char(), header.dtype.num_bytes().unwrap_or(0)) {
        (TypeChar::Int, 1) => collect(header, &mut bytes, |v: i8| i64::from(v))?,
        (TypeChar::Int, 2) => collect(header, &mut bytes, |v: i16| i64::from(v))?,
        (TypeChar::Int, 4) => collect(header, &mut bytes, |v: i32| i64::from(v))?,
        (TypeChar::Int, 8) => collect(header, &mut bytes, |v: i64| v)?,
        (TypeChar::Uint, 1) => collect(header, &mut bytes, |v: u8| i64::from(v))?,
        (TypeChar::Uint, 2) => collect(header, &mut bytes, |v: u16| i64::from(v))?,
        (TypeChar::Uint, 4) => collect(header, &mut bytes, |v: u32| i64::from(v))?,
        (TypeChar::Uint, 8) => collect(header, &mut bytes, |v: u64| i64::try_from(v))?
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|_| "an integer does not fit 64 signed bits")?,
        _ => return Err(format!("elements of type {} are not integers", header.dtype)),
    };
    bytes.finish()?;
    Ok(ints)
}

/// A short one-dimensional array of strings (NumPy `U` or `S`), for class names.
pub fn read_strings(header: &Header, reader: impl Read) -> Checked<Vec<String>> {
    let text = matches!(header.dtype.type_char(), TypeChar::UnicodeStr | TypeChar::ByteStr);
    if !text || header.shape.len() != 1 || header.data_bytes > MAX_STRING_BYTES {
        return Err(format!("an array of type {} is not a list of names", header.dtype));
    }
    let mut bytes = Counted { reader, left: header.data_bytes };
    let names = collect(header, &mut bytes, |s: String| s)?;
    bytes.finish()?;
    Ok(names)
}

/// Complex numbers of 8 or 16 bytes, as 32-bit floats, in file order.
pub fn read_complex(header: &Header, reader: impl Read) -> Checked<Vec<Complex<f32>>> {
    let mut bytes = Counted { reader, left: header.data_bytes };
    let numbers = match header.dtype.num_bytes() {
        Some(8) => collect(header, &mut bytes, |z: Complex<f32>| z)?,
        Some(16) => {
            let narrow = |z: Complex<f64>| Complex::new(z.re as f32, z.im as f32);
            collect(header, &mut bytes, narrow)?
        }
        _ => return Err(format!("elements of type {} are not complex", header.dtype)),
    };
    bytes.finish()?;
    Ok(numbers)
}

fn collect<T: npyz::Deserialize, U>(
    header: &Header,
    reader: &mut impl Read,
    convert: impl Fn(T) -> U,
) -> Checked<Vec<U>> {
    let values = NpyFile::with_header(header.npy.clone(), reader).data::<T>();
    let mut out = reserved(header.len)?;
    for value in values.map_err(|e| e.to_string())? {
        out.push(convert(value.map_err(|e| e.to_string())?));
    }
    Ok(out)
}

/// A reader that hands out exactly as many bytes as the header announced, in large pieces.
struct Counted<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.reader.read(&mut buffer[..most])?;
        self.left -= got as u64;
        Ok(got)
    }
}

impl<R: Read> Counted<R> {
    /// The data must end here: a zip reader verifies its checksum only when asked for more.
    fn finish(&mut self) -> Checked<()> {
        match self.reader.read(&mut [0; 1]) {
            Ok(0) if self.left == 0 => Ok(()),
            Ok(0) => Err("the data end early".into()),
            Ok(_) => Err("there are more bytes than the header announces".into()),
            Err(e) => Err(e.to_string()),
        }
    }
}
