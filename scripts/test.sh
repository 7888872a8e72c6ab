#!/usr/bin/env bash
# Every check of layercast, in the order in which they fail fastest: format, lints, tests, documentation's examples,
# licences and origins of dependencies.
#
# Programs that the tests talk to are installed where apt-get can do it (as root or by sudo). Elsewhere they are named,
# and the tests that need them fail: a green run means that everything was tried.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Program and the Debian package it comes in.
NEEDED="
docker-registry docker-registry
skopeo          skopeo
zstd            zstd
xz              xz-utils
python3         python3
openssl         openssl
htpasswd        apache2-utils
containerd      containerd
ctr             containerd
shellcheck      shellcheck
promtool        prometheus
systemd-analyze systemd
kubectl         kubernetes-client
chromium        chromium
zsh             zsh
fish            fish
man             man-db
npm             npm
"

AXE_VERSION=4.14.1

ci=${CI:-false}
step_name=""
step_start=0

heading() {
    finish_step
    step_name=$1
    step_start=$SECONDS
    printf '\n== %s\n' "$step_name"
}

finish_step() {
    if [ -n "$step_name" ]; then
        printf -- '-- %s: %d s\n' "$step_name" "$((SECONDS - step_start))"
    fi
    step_name=""
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# The words of NEEDED in column $1 whose programs are missing.
missing() {
    while read -r program package; do
        if [ -n "$program" ] && ! command -v "$program" >/dev/null 2>&1; then
            [ "$1" = program ] && printf '%s ' "$program" || printf '%s ' "$package"
        fi
    done <<<"$NEEDED"
}

install_missing() {
    local packages as_root=()
    packages=$(missing package)
    [ -n "$packages" ] || return 0
    printf 'missing: %s\n' "$(missing program)"
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        printf 'no apt-get here; install these yourself, under the names your system has for them: %s\n' "$packages"
    elif [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        printf 'neither root nor sudo; install these yourself: apt-get install %s\n' "$packages"
    else
        # The lists may be as old as the image; a broken mirror of one package is told below.
        # shellcheck disable=SC2086 # a list of words
        "${as_root[@]}" apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive \
                "${as_root[@]}" apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
            printf 'apt-get failed\n'
    fi
    packages=$(missing package)
    [ -n "$packages" ] || return 0
    if [ "$ci" = true ]; then
        fail "still missing: ${packages% }; with CI=true nothing is left out"
    fi
    printf 'still missing: %s: the tests that need them will fail\n' "${packages% }"
}

status=0
trap 'status=$?; [ $status = 0 ] || printf "\nFAILED in: %s\n" "${step_name:-the end}" >&2' EXIT

heading "programs"
command -v cargo >/dev/null 2>&1 || fail "cargo is missing: install Rust from https://rustup.rs"
install_missing
if ! cargo nextest --version >/dev/null 2>&1; then
    cargo install --locked cargo-nextest
fi
if ! cargo machete --version >/dev/null 2>&1; then
    cargo install --locked cargo-machete
fi

# The rules of accessibility that pages are held against. Their test fails without them.
axe=target/browser
if [ ! -e "$axe/node_modules/axe-core/axe.min.js" ]; then
    npm install --prefix "$axe" --no-save --no-audit --no-fund --silent "axe-core@$AXE_VERSION" ||
        printf 'axe-core could not be installed: the test of the pages will fail\n'
fi

heading "format"
cargo fmt --check

heading "scripts"
shellcheck scripts/*.sh .ci/run

heading "spelling"
if command -v typos >/dev/null 2>&1; then
    typos
else
    printf 'left out: typos is not installed (cargo install --locked typos-cli)\n'
fi

heading "lints"
cargo clippy --all-targets --all-features -- -D warnings
# The build without `kube` is one that people use.
cargo clippy --all-targets -- -D warnings

heading "fuzz targets"
# A workspace of its own, with the versions of this one.
cp Cargo.lock fuzz/Cargo.lock
cargo check --manifest-path fuzz/Cargo.toml --target-dir target

heading "dependencies that nobody uses"
cargo machete

heading "tests"
if [ "$ci" = true ]; then
    cargo nextest run --all-features --profile ci
else
    cargo nextest run --all-features
fi

heading "examples in the documentation"
cargo test --doc

heading "licences and origins"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check bans licenses sources
else
    printf 'left out: cargo-deny is not installed (cargo install --locked cargo-deny)\n'
fi

finish_step
printf '\nall of it passed in %d s\n' "$SECONDS"
