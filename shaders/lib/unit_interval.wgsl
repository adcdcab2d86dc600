// Uniform v in (0, 1) with full relative precision near 0: v = (1 + m/2^23) 2^-(1+z), m the low 23
// bits of `word`, z the zeros that lead its other 9 bits, continued in `more` when all 9 are zero.
fn unit_interval(word: u32, more: vec4<u32>) -> f32 {
    var zeros = countLeadingZeros(word);
    if zeros >= 9u {
        zeros = 9u + countLeadingZeros(more.x);
        if more.x == 0u {
            zeros += countLeadingZeros(more.y);
            if more.y == 0u {
                zeros += countLeadingZeros(more.z);
            }
        }
    }
    // 105 zeros at most, so v is a normal number; its bits are exact.
    return bitcast<f32>(((126u - zeros) << 23u) | (word & 0x7fffffu));
}
