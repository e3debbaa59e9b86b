#!/usr/bin/env bash
# Runs every test and ends with one plain line, `N passed, N failed`, summed
# over all test programs, so that a person and a machine read the same result.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'test: %s\n' "$*" >&2
    exit 1
}

stack=target/test-stack
mkdir -p target
exec 9>"$stack.lock"
flock -n 9 || fail "another run of the tests is under way in this checkout; wait for its end"

log=$(mktemp)
# Also after a failure and after Ctrl-C; the servers watch for kill -9 themselves.
trap 'rm -f "$log"; scripts/stack.sh stop --now --dir "$stack" 9>&- 2>/dev/null' EXIT
trap 'exit 130' INT TERM HUP

# What failed tests of earlier runs kept for a look.
rm -rf "${CARGO_TARGET_DIR:-target}/release/tests-data"

# Built in one go with the tests' features: the tests start `fanal` and
# `fanal-bench` as a user does, so the programs must be there and be current.
cargo build --release --workspace --bins --tests --examples

# Servers for everything that speaks to servers, new and empty, for this run alone.
scripts/stack.sh stop --now --dir "$stack" 9>&-
rm -rf "$stack"
scripts/stack.sh start --dir "$stack" --base-port free --owner $$ 9>&-
variables=$(scripts/stack.sh env --dir "$stack")
while IFS= read -r line; do export "${line?}"; done <<<"$variables"

# One test of a program at a time: real servers and a few processors are shared by
# all of them, and what a test waits for should not wait for its neighbours.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-1}

status=0
cargo test --release --workspace --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

awk '/^test result:/ { for (i = 2; i <= NF; i++) { if ($i == "passed;") passed += $(i - 1); if ($i == "failed;") failed += $(i - 1) } }
     END { printf "%d passed, %d failed\n", passed, failed; exit !(passed > 0) }' "$log"
exit "$status"
