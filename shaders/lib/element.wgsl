// The element of a channels-last tensor: vec4 where the kernel says VEC4, else a scalar.
#if VEC4
alias Element = vec4<f32>;
const LANES: u32 = 4u;
fn total(v: Element) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn greatest(v: Element) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn first_lane(v: Element) -> f32 { return v.x; }
fn component(v: Element, i: u32) -> f32 { return v[i]; }
#else
alias Element = f32;
const LANES: u32 = 1u;
fn total(v: Element) -> f32 { return v; }
fn greatest(v: Element) -> f32 { return v; }
fn first_lane(v: Element) -> f32 { return v; }
fn component(v: Element, i: u32) -> f32 { return v; }
#endif
