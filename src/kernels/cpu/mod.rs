//! What the CPU forms of the kernels share.
//!
//! Matrix products and convolutions:
//! * [`tile`]: two micro-kernels that keep a tile of the output in registers. Their right operand is
//!   a packed panel; the left operand is read where it lies.
//! * [`panels`]: packing of the right operand.
//! * [`product`]: tiles over rows, columns and summands, blocked for the caches.
//! * [`correlate`]: a convolution, or one phase of its data gradient, as such a product.
//! * [`weight_gradient`]: the weight gradient of a convolution.
//! * [`window`]: copies of the source under a window.
//! * [`scratch`]: buffers that are reused from call to call.
//!
//! Everything else: [`math`] (exp and sigmoid that vectorise), [`attention`], [`nearest`],
//! [`blocks`] and [`reduce`].
//!
//! The instruction set is chosen at run time by `pulp`; every loop around a micro-kernel is inlined
//! into the dispatched function. Work is split over threads by output rows, and every element sums
//! in one fixed order, so that the bits do not depend on the thread count.

pub mod attention;
pub mod blocks;
pub mod correlate;
pub mod math;
pub mod nearest;
pub mod panels;
pub mod product;
pub mod reduce;
pub mod scratch;
pub mod tile;
pub mod weight_gradient;
pub mod window;
