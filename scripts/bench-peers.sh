#!/usr/bin/env bash
# layercast against what people use today, in one run on this machine: bundles made with a seed, Debian's docker-registry,
# skopeo (and crane, regctl, oras where they are on PATH), cold and warm, one mirror and four, in turn.
#
#   scripts/bench-peers.sh                              everything, five times (about half an hour; the first run makes bundles)
#   scripts/bench-peers.sh --quick                      a smoke test: small bundles, once
#   scripts/bench-peers.sh --case first-cold,oci        some of it; --list names the cases
#   scripts/bench-peers.sh --json results.json          the figures as JSON (default: in the work folder)
#
# LAYERCAST names another program to measure; without it the release build is made first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case " $* " in
*" --help "* | *" -h "* | *" --list "*) exec python3 scripts/bench_peers.py "$@" ;;
esac

missing=""
for program in skopeo docker-registry xz zstd tar python3; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
if [ -n "$missing" ]; then
    printf 'missing:%s\non Debian: apt-get install skopeo docker-registry xz-utils zstd tar python3\n' "$missing" >&2
    exit 1
fi

if [ -z "${LAYERCAST:-}" ]; then
    cargo build --release --locked
    LAYERCAST=${CARGO_TARGET_DIR:-target}/release/layercast
fi
exec python3 scripts/bench_peers.py --layercast "$LAYERCAST" "$@"
