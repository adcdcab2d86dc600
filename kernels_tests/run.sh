#!/bin/sh
# Runs all tests. They want a Vulkan adapter: where there is none, a software one (Mesa's llvmpipe)
# is installed first, with spirv-val, on systems that have apt-get.
set -eu
cd "$(dirname "$0")/.."
cargo build --release
if ! target/release/vqforge devices 2>/dev/null | grep -qE ' (vulkan|metal|dx12) ' \
    || ! command -v spirv-val >/dev/null 2>&1; then
    if command -v apt-get >/dev/null 2>&1; then
        root=""
        [ "$(id -u)" -eq 0 ] || root="sudo"
        $root apt-get update -q
        $root env DEBIAN_FRONTEND=noninteractive apt-get install -qy mesa-vulkan-drivers libvulkan1 spirv-tools
    else
        echo "no Vulkan adapter or no spirv-val here: the tests that need them will say so" >&2
        echo "to install: the packages mesa-vulkan-drivers (lavapipe) and spirv-tools" >&2
    fi
fi
cargo test --release
