//! Pictures, tables and pages of what a run sees, measures and makes.

mod base64;
mod canvas;
pub mod chart;
mod class_folders;
mod codebook;
pub mod codes;
pub mod colormap;
mod crc32c;
mod csv;
pub mod curves;
mod escape;
mod folder;
mod font;
pub mod grid;
pub mod history;
pub mod html;
mod labels;
pub mod png;
mod run;
pub mod scale;
pub mod svg;
pub mod tensorboard;
#[cfg(test)]
mod tests;

pub use canvas::sheet;
pub use chart::{AxisSpec, Chart, Interval, Mark, Note, Rule, Series};
pub use class_folders::ClassFolders;
pub use colormap::Colormap;
pub use csv::csv;
pub use escape::escape;
pub use grid::{Grid, Raster, reconstruction_grid};
pub use history::{EVAL, History};
pub use html::{Better, Block, Picture, Report, Section, Tile, Tone};
pub use png::{encode, write_png};
pub use run::{run_report, write_results};
pub use scale::{Axis, Scale, number, precise};
pub use tensorboard::EventWriter;
