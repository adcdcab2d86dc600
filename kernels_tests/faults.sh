#!/bin/sh
# Plants the faults in Rust sources, in a copy of the tree with a build of its own, and runs the test
# that must notice each: minutes, so not part of every change. The faults in shaders are:
# cargo test --release --test kernels faults -- --nocapture
set -eu
cd "$(dirname "$0")/.."
exec cargo test --release --test kernels planted_in_sources -- --ignored --nocapture
