#!/usr/bin/env bash
# Runs definitions of bench/definitions and writes bench/record/<date>/<definition>/.
#   bench/run.sh [NAME]     one definition, or all of them
# Settings: BENCH_RUNS (runs of each measurement, 5), BENCH_SECONDS (of each load run, 10), BENCH_EVENTS (of the day,
# 1000000), BENCH_DAY_OPTIONS (options of fanal-bench day, --no-bad-nonces), BENCH_ONLY (words that name parts of a definition; all by default), FANAL and FANAL_BENCH (programs to use
# instead of building them).
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/lib.sh

names=("${1:-}")
if [[ -z "${names[0]}" ]]; then
    mapfile -t names < <(find bench/definitions -name '*.sh' -printf '%f\n' | sort | sed 's/\.sh$//')
fi
for name in "${names[@]}"; do
    if [[ ! -f "bench/definitions/$name.sh" ]]; then
        say "there is no bench/definitions/$name.sh; known: $(find bench/definitions -name '*.sh' -printf '%f ' | sed 's/\.sh//g')"
        exit 2
    fi
done

install_missing curl jq nginx taskset
build_programs
for name in "${names[@]}"; do
    RECORD="bench/record/$(date -u +%F)/$name"
    WORK="$(mktemp -d)"
    export RECORD WORK
    mkdir -p "$RECORD"
    : >"$RECORD/runs.jsonl"
    say "$name → $RECORD"
    trap clean_up EXIT
    # shellcheck source=/dev/null
    source "bench/definitions/$name.sh"
    clean_up
    trap - EXIT
    {
        echo "commit: $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
        echo "runs: $BENCH_RUNS, seconds: $BENCH_SECONDS, events: $BENCH_EVENTS, parts: ${BENCH_ONLY:-all}"
        echo "nginx: $(nginx -v 2>&1)"
        rustc --version
    } >"$RECORD/versions.txt"
    "$FANAL_BENCH" summary --dir "$RECORD"
done
