//! Convolution, forward, by cooperative matrices.

use super::super::{Const, Conv2d, flag};
use super::product::{MatrixProduct, Sizes};

impl MatrixProduct for Conv2d {
    fn sizes(&self) -> Option<Sizes> {
        let s = &self.shape;
        let whole = s.cin.is_multiple_of(4) && s.cout.is_multiple_of(4);
        let (m, n) = (s.pixels(), s.cout);
        whole.then_some(Sizes { batch: 1, m, n, a_along_k: true, b_along_k: false })
    }
    fn coop_wgsl(&self) -> (&'static str, &'static str) {
        ("coop/conv2d", include_str!("../../../shaders/coop/conv2d.wgsl"))
    }
    fn coop_consts(&self) -> Vec<Const> {
        let mut consts = self.shape.consts();
        let flags = [flag("A_ALONG_K", true), flag("B_ALONG_K", false), flag("BIAS", self.bias)];
        consts.extend(flags);
        consts
    }
    fn coop_dims(&self, _row_blocks: usize, blocks: usize) -> Vec<u32> {
        vec![self.shape.pixels() as u32, blocks as u32]
    }
}
