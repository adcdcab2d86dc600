// Mean and 1 / sqrt(variance + EPS) of every lane of an element of a row, from `stats` [n, GROUPS].
struct Stat { mean: Element, rstd: Element }

fn stat_of(sample: u32, channel: u32) -> Stat {
#if WHOLE
    let one = stats[sample * GROUPS + channel / (WIDTH / LANES)];
    return Stat(Element(one.x), Element(one.y));
#else
    // An element reaches over several groups.
    var stat: Stat;
#unroll j in 0..4
    let stat$j = stats[sample * GROUPS + (channel * 4u + $ju) / WIDTH];
    stat.mean[$j] = stat$j.x;
    stat.rstd[$j] = stat$j.y;
#endunroll
    return stat;
#endif
}
