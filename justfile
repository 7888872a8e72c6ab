# Short names for the commands of CONTRIBUTING.md. `just` lists them.

_default:
    @just --list --unsorted

# Everything that CI checks
check:
    scripts/test.sh

# Format and lints only
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy --all-targets --features kube -- -D warnings

# Tests whose names contain FILTER
test FILTER='':
    cargo nextest run --features kube {{ FILTER }}

# A release binary with every feature: target/release/layercast
build:
    cargo build --release --features kube

# Benchmarks inside the process
bench FILTER='':
    cargo bench -- {{ FILTER }}

# Whole commands against other tools
bench-peers *ARGS:
    scripts/bench-peers.sh {{ ARGS }}
