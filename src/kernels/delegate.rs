//! Forwarding of [`super::Kernel`]'s methods by kernels that wrap another one.

/// `delegate!(inner: name dims)`: these methods of [`super::Kernel`] are those of `self.inner`.
/// `forms` stands for the cpu form and the three naive ones.
macro_rules! delegate {
    ($to:tt: $($method:ident)*) => {
        $(delegate!(@$method $to);)*
    };
    (@name $to:tt) => {
        fn name(&self) -> &'static str {
            self.$to.name()
        }
    };
    (@shader $to:tt) => {
        fn shader(&self) -> &'static str {
            self.$to.shader()
        }
    };
    (@wgsl $to:tt) => {
        fn wgsl(&self) -> &str {
            self.$to.wgsl()
        }
    };
    (@consts $to:tt) => {
        fn consts(&self) -> Vec<$crate::kernels::Const> {
            self.$to.consts()
        }
    };
    (@dims $to:tt) => {
        fn dims(&self) -> Vec<u32> {
            self.$to.dims()
        }
    };
    (@lens $to:tt) => {
        fn lens(&self) -> Vec<usize> {
            self.$to.lens()
        }
    };
    (@half_ok $to:tt) => {
        fn half_ok(&self) -> u32 {
            self.$to.half_ok()
        }
    };
    (@grid $to:tt) => {
        fn grid(&self) -> [u32; 3] {
            self.$to.grid()
        }
    };
    (@cost $to:tt) => {
        fn cost(&self) -> $crate::kernels::Cost {
            self.$to.cost()
        }
    };
    (@rounds $to:tt) => {
        fn rounds(&self) -> usize {
            self.$to.rounds()
        }
    };
    (@needs $to:tt) => {
        fn needs(&self) -> $crate::kernels::Needs {
            self.$to.needs()
        }
    };
    (@variant $to:tt) => {
        fn variant(&self) -> String {
            self.$to.variant()
        }
    };
    (@variants $to:tt) => {
        fn variants(
            &self,
            caps: &$crate::kernels::Caps,
        ) -> Vec<std::sync::Arc<dyn $crate::kernels::Kernel>> {
            self.$to.variants(caps)
        }
    };
    (@forms $to:tt) => {
        fn cpu(&self, io: &mut $crate::kernels::Io<'_, f32>) {
            self.$to.cpu(io);
        }
        fn naive32(&self, io: &mut $crate::kernels::Io<'_, f32>) {
            self.$to.naive32(io);
        }
        fn naive64(&self, io: &mut $crate::kernels::Io<'_, f64>) {
            self.$to.naive64(io);
        }
        fn naive_bounded(&self, io: &mut $crate::kernels::Io<'_, $crate::kernels::Bounded>) {
            self.$to.naive_bounded(io);
        }
    };
}

pub(super) use delegate;
