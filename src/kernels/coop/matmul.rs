//! Matrix product by cooperative matrices.

use super::super::{Const, Matmul, flag, int};
use super::product::{MatrixProduct, Sizes};

impl MatrixProduct for Matmul {
    fn sizes(&self) -> Option<Sizes> {
        let vectors = |n: usize| n.is_multiple_of(4);
        let whole = vectors(self.k) && vectors(self.n) && (!self.ta || vectors(self.m));
        let (batch, m, n) = (self.batch, self.m, self.n);
        whole.then_some(Sizes { batch, m, n, a_along_k: !self.ta, b_along_k: self.tb })
    }
    fn coop_wgsl(&self) -> (&'static str, &'static str) {
        ("coop/matmul", include_str!("../../../shaders/coop/matmul.wgsl"))
    }
    fn coop_consts(&self) -> Vec<Const> {
        let mut consts = vec![
            int("K", self.k),
            int("N", self.n),
            flag("A_ALONG_K", !self.ta),
            flag("B_ALONG_K", self.tb),
            flag("BATCHED_B", self.batched_b),
            flag("BIAS", self.bias),
            flag("ACT", self.act.is_some()),
            flag("ACCUM", self.accum),
        ];
        consts.extend(self.act.map(|act| int("OP", act as usize)));
        consts
    }
    fn coop_dims(&self, row_blocks: usize, blocks: usize) -> Vec<u32> {
        [self.m, row_blocks, blocks].map(|v| v as u32).to_vec()
    }
}
