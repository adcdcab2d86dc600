//! Pictures of what a run sees and makes.

pub mod colormap;
pub mod grid;
pub mod png;

pub use colormap::Colormap;
pub use grid::{Grid, Raster, reconstruction_grid};
pub use png::{encode, write_png};
