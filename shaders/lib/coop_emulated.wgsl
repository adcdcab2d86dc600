// The matrix operations of `coop` in plain WGSL, to run their callers' index arithmetic on devices
// without: element e of a sum belongs to the invocation whose rank in the subgroup is e modulo the
// subgroup's invocations; a factor stays where it lies until it is multiplied.
struct Factor { at: u32, row: u32, column: u32 }
alias Left = Factor;
alias Right = Factor;
struct Sum { own: array<f32, OWN> }

fn left_rows(at: u32, stride: u32) -> Left { return Factor(at, stride, 1u); }
fn left_columns(at: u32, stride: u32) -> Left { return Factor(at, 1u, stride); }
fn right_rows(at: u32, stride: u32) -> Right { return Factor(at, stride, 1u); }
fn right_columns(at: u32, stride: u32) -> Right { return Factor(at, 1u, stride); }
fn no_sum() -> Sum { return Sum(); }

fn load_sum(at: u32, stride: u32) -> Sum {
    let width = subgroupAdd(1u);
    var sum: Sum;
    var i = 0u;
    for (var e = subgroupExclusiveAdd(1u); e < T * T; e += width) {
        sum.own[i] = tiles[at + e / T * stride + e % T];
        i++;
    }
    return sum;
}

fn store_sum(sum: Sum, at: u32, stride: u32) {
    let width = subgroupAdd(1u);
    var own = sum.own;
    var i = 0u;
    for (var e = subgroupExclusiveAdd(1u); e < T * T; e += width) {
        tiles[at + e / T * stride + e % T] = own[i];
        i++;
    }
}

fn add_product(sum: Sum, left: Left, right: Right) -> Sum {
    let width = subgroupAdd(1u);
    var result = sum;
    var i = 0u;
    for (var e = subgroupExclusiveAdd(1u); e < T * T; e += width) {
        let row = left.at + e / T * left.row;
        let column = right.at + e % T * right.column;
        for (var k = 0u; k < T; k++) {
            result.own[i] +=
                f32(factors[row + k * left.column]) * f32(factors[column + k * right.row]);
        }
        i++;
    }
    return result;
}
