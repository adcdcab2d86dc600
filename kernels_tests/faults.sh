#!/bin/sh
# Plants the faults in Rust sources, in a copy of the tree with a build of its own, and runs the test
# that must notice each: minutes, so not part of every change. An interrupted run goes on where it
# was. The faults in shaders are:
# cargo test --release --test kernels faults -- --nocapture
set -eu
cd "$(dirname "$0")/.."
export CARGO_INCREMENTAL=1
cargo test --release --test kernels --no-run
# What the copy has in common with this tree is not built again: the dependencies.
target="${CARGO_TARGET_DIR:-target}"
copy="$target/planted-target/release"
if [ ! -d "$copy" ]; then
    mkdir -p "$copy.part"
    (cd "$target/release" && tar --exclude='*vqforge*' --exclude='kernels-*' --exclude='cli-*' \
        --exclude='allocation-*' --exclude='step-*' -cf - deps build .fingerprint) \
        | tar -xf - -C "$copy.part"
    mv "$copy.part" "$copy"
fi
exec cargo test --release --test kernels planted_in_sources -- --ignored --nocapture
