#!/usr/bin/env bash
# Runs every test and ends with one plain line, `N passed, N failed`, summed
# over all test programs, so that a person and a machine read the same result.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What failed tests of earlier runs kept for a look.
rm -rf "${CARGO_TARGET_DIR:-target}/release/tests-data"

# Built in one go with the tests' features: the tests start `fanal` and
# `fanal-bench` as a user does, so the programs must be there and be current.
cargo build --release --workspace --bins --tests --examples

status=0
cargo test --release --workspace --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i == "passed;") passed += $(i - 1); if ($i == "failed;") failed += $(i - 1) } }
     END { printf "%d passed, %d failed\n", passed, failed; exit !(passed > 0) }' "$log"
exit "$status"
