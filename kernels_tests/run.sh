#!/bin/sh
# Runs all tests, then those of the kernels on a second Vulkan driver. They want an adapter: where
# there is none, a software one (Mesa's llvmpipe) is installed first, with spirv-val, on systems that
# have apt-get.
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
        echo "no Vulkan adapter or no spirv-val here: the tests that need them will say so," >&2
        echo "and fail if CI=true" >&2
        echo "to install: the packages mesa-vulkan-drivers (lavapipe) and spirv-tools" >&2
    fi
fi
cargo test --release

# SwiftShader differs from llvmpipe where drivers do: subgroups of 4, no f16, bindings of 1 GiB.
# Debian ships it in chromium-common; the library alone is taken out of the package and kept.
swiftshader="${XDG_CACHE_HOME:-$HOME/.cache}/vqforge-tests/swiftshader"
fetch_swiftshader() {
    [ ! -f "$swiftshader/vk_swiftshader_icd.json" ] || return 0
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
    # An image may come without package lists.
    apt-cache show chromium-common >/dev/null 2>&1 || apt-get update -q || return 1
    work=$(mktemp -d)
    fetched=0
    (
        cd "$work" && apt-get -q download chromium-common \
            && dpkg-deb -x chromium-common_*.deb . \
            && mkdir -p "$swiftshader" \
            && mv usr/lib/chromium/libvk_swiftshader.so "$swiftshader" \
            && mv usr/lib/chromium/vk_swiftshader_icd.json "$swiftshader"
    ) || fetched=1
    rm -r "$work"
    return $fetched
}
if fetch_swiftshader; then
    icd="$swiftshader/vk_swiftshader_icd.json"
    # Its compiler takes minutes and gigabytes over the unrolled tiles of products and convolutions, so
    # neither registry::wgsl nor what else multiplies matrices runs here.
    VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd" VQFORGE_TEST_DEVICE=swiftshader \
        cargo test --release --test kernels -- quantiser:: large::beyond large::elements \
        large::sums adjoint::lookup adjoint::pooling adjoint::reductions adjoint::upsampling
else
    echo "SKIPPED on SwiftShader: cannot fetch it from Debian's package chromium-common" >&2
    # On Debian it can be fetched: then this is a fault, and half of the test is missing.
    if [ "${CI:-}" = true ] && grep -qs '^ID=debian' /etc/os-release; then exit 1; fi
fi
