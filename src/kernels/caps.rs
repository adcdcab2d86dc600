//! What a device can run beyond WebGPU's default limits, and what a variant of a kernel needs of it.

/// Capabilities of a device: they filter the variants of a kernel, measurement chooses among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// Smallest and largest size a subgroup may have; None without subgroup operations.
    pub subgroups: Option<(u32, u32)>,
    /// The adapter is a CPU.
    pub software: bool,
    /// `enable f16`: half-precision storage and arithmetic.
    pub f16: bool,
    /// Sides n of the n x n x n products of f16 with f32 sums that cooperative matrices offer.
    pub coop_matrix: Vec<u32>,
    /// Whether products may round their factors to f16 (`--precision mixed`).
    pub half_products: bool,
    /// Offer cooperative-matrix kernels also with the matrices written out in plain WGSL: far slower,
    /// for tests on devices without any.
    pub emulate_coop: bool,
    /// Workgroup memory in bytes, and invocations of a workgroup.
    pub workgroup_bytes: u32,
    pub invocations: u32,
}

impl Default for Caps {
    /// WebGPU's guaranteed minimum: what every baseline variant keeps to.
    fn default() -> Self {
        Caps {
            subgroups: None,
            software: false,
            f16: false,
            coop_matrix: vec![],
            half_products: false,
            emulate_coop: false,
            workgroup_bytes: 16 << 10,
            invocations: 256,
        }
    }
}

impl Caps {
    /// Everything a variant can ask for: what cross-compilation is tested with.
    pub fn all() -> Self {
        Caps {
            subgroups: Some((32, 32)),
            software: false,
            f16: true,
            coop_matrix: vec![8, 16],
            half_products: true,
            emulate_coop: false,
            workgroup_bytes: 32 << 10,
            invocations: 1024,
        }
    }

    /// Invocations of a subgroup, where subgroups are the lanes of a CPU's vector registers, all of
    /// one size: so many invocations are one subgroup of it. Sizes alone do not tell: there are GPUs
    /// with subgroups of 4 (Mali) and of 8 up to 32 (Intel).
    pub(super) fn software_lanes(&self) -> Option<usize> {
        match self.subgroups {
            Some((n @ (4 | 8), most)) if self.software && n == most => Some(n as usize),
            _ => None,
        }
    }

    pub fn allow(&self, needs: Needs) -> bool {
        (!needs.subgroups || self.subgroups.is_some())
            && (!needs.f16 || self.f16)
            && (needs.coop_matrix == 0 || self.coop_matrix.contains(&needs.coop_matrix))
    }
}

/// Device features without which a shader does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Needs {
    pub subgroups: bool,
    pub f16: bool,
    /// Side of the cooperative matrices; 0 for none.
    pub coop_matrix: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_is_what_says_so() {
        let lanes = |sizes, software| {
            Caps { subgroups: Some(sizes), software, ..Caps::default() }.software_lanes()
        };
        assert_eq!(lanes((8, 8), true), Some(8));
        assert_eq!(lanes((4, 4), true), Some(4));
        // Mali, Intel, and what wgpu says of Metal.
        for sizes in [(4, 4), (8, 8), (8, 32), (4, 64)] {
            assert_eq!(lanes(sizes, false), None, "{sizes:?}");
        }
        assert_eq!(lanes((4, 8), true), None);
    }

    #[test]
    fn filter() {
        let needs = [
            Needs { subgroups: true, ..Needs::default() },
            Needs { f16: true, ..Needs::default() },
            Needs { coop_matrix: 16, ..Needs::default() },
        ];
        assert!(Caps::default().allow(Needs::default()));
        for need in needs {
            assert!(!Caps::default().allow(need) && Caps::all().allow(need), "{need:?}");
        }
    }
}
