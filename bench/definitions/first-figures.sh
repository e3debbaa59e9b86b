# First figures: what one beacon costs on its way, part by part. Sourced by bench/run.sh.
# Parts (BENCH_ONLY): micro, collector, import, memory.
# Server on core 0, generator on core 1; the programs take turns; every answer is checked.

SERVER_CORE=0
LOAD_CORE=1
SEED=1000
DAY=2026-10-01

# load URL SITE PID CONNECTIONS METHOD LINES RATE SECONDS: one run, JSON on stdout; each run has a seed of its own.
load() {
    taskset -c "$LOAD_CORE" "$FANAL_BENCH" load --json --url "http://$1" --site "$2" --cpu-pid "$3" \
        --connections "$4" --method "$5" --lines-per-request "$6" --rate "$7" --duration "$8s" --seed "$SEED"
}

# only_204 JSON: no answer but 204, no connection lost.
only_204() {
    jq -e '(.by_status | keys) == ["204"] and .broken == 0 and .timeouts == 0 and .connect_errors == 0' <<<"$1" >/dev/null ||
        fail "wrong answers: $(jq -c '{by_status, broken, timeouts, connect_errors}' <<<"$1")"
}

# emit_load BENCH PROGRAM JSON
emit_load() {
    local detail
    detail="$(jq -c '{requests_acked, lines_acked, requests_per_s, lines_per_s, latency_us, server_cpu_s, generator_cpu_s,
        cpu_us_per_request, processes: [.processes[] | {name, cpu_s, rss_bytes, peak_rss_bytes}]}' <<<"$3")"
    emit "$1" "$2" "CPU µs/beacon" "$(jq .cpu_us_per_line <<<"$3")" "$detail"
    # The front process alone: in one process tree the rest is archive, visits and the database.
    emit "$1 front process" "$2" "CPU µs/beacon" "$(jq '.processes[0].cpu_s * 1e6 / .lines_acked' <<<"$3")"
    emit "$1 throughput" "$2" "beacons/s" "$(jq .lines_per_s <<<"$3")"
    emit "$1 p99" "$2" "µs" "$(jq .latency_us.p99 <<<"$3")"
}

collector_run() { # BENCH CONNECTIONS METHOD LINES
    local out site
    SEED=$((SEED + 1))
    site="bench0$SEED"
    make_site "$site"
    out="$(load "$FANAL_HTTP" "$site" "$FANAL_PID" "$2" "$3" "$4" max "$BENCH_SECONDS")"
    only_204 "$out"
    emit_load "$1" fanal "$out"
    # Answered means there: no line lost, none twice.
    settle "SELECT count() FROM fanal.events WHERE site_code = '$site'" "$(jq .lines_acked <<<"$out")"

    SEED=$((SEED + 1))
    : >"$NGINX_LOG"
    out="$(load "$NGINX_HTTP" "$site" "$(cat "$WORK/nginx/nginx.pid")" "$2" "$3" "$4" max "$BENCH_SECONDS")"
    only_204 "$out"
    # The master only waits; the worker is the front process.
    out="$(jq -c '.processes |= sort_by(-.cpu_s)' <<<"$out")"
    emit_load "$1" nginx "$out"
}

collector() {
    start_fanal collector "$SERVER_CORE"
    start_nginx "$SERVER_CORE"
    for _ in $(seq "$BENCH_RUNS"); do
        for connections in 64 1024; do
            collector_run "GET, $connections connections" "$connections" get 1
            collector_run "POST of 10 lines, $connections connections" "$connections" post 10
        done
    done
    stop "$NGINX_PID"
    stop "$FANAL_PID"
}

# import_day RUN: log files to visits, then the same days rebuilt; both compared with the truth, row by row.
import_day() {
    local day="$WORK/day" out total sites first last
    if [[ ! -f "$day/truth.json" ]]; then
        # shellcheck disable=SC2086
        "$FANAL_BENCH" day --out "$day" --events "$BENCH_EVENTS" --sites 4 --nodes 2 --seed 1 --date "$DAY" ${BENCH_DAY_OPTIONS:---no-bad-nonces} >&2
    fi
    first="$(jq -r .first_date "$day/truth.json")"
    last="$(jq -r .last_date "$day/truth.json")"
    sites="$(jq -r '.sites | keys | map("'"'"'" + . + "'"'"'") | join(",")' "$day/truth.json")"
    start_fanal "import-$1"
    for site in $(jq -r '.sites | keys[]' "$day/truth.json"); do make_site "$site"; done

    # The wait for the database is inside the measurement: visits are done when they can be read.
    export -f ask settle fail say
    export FANAL FANAL_DATA FANAL_CLICKHOUSE SETTLE_SECONDS
    cat >"$WORK/import.sh" <<'STEPS'
set -euo pipefail
day="$1" sites="$2"
for file in "$day"/*.log; do
    node="$(basename "$file" | cut -d- -f1-2)"
    "$FANAL" import --data-dir "$FANAL_DATA" --node "$node" "$file"
done
settle "SELECT count() FROM fanal.events WHERE site_code IN ($sites)" "$(jq .events_distinct "$day/truth.json")"
settle "SELECT count() FROM fanal.visits WHERE site_code IN ($sites)" "$(jq .visits "$day/truth.json")"
STEPS
    out="$("$FANAL_BENCH" cpu --json --tree --pid "$FANAL_PID" -- bash "$WORK/import.sh" "$day" "$sites")" ||
        fail "the import failed"
    settle_truth "$day"
    total="$(jq '.command_cpu_s + .processes_cpu_s' <<<"$out")"
    emit "log of $BENCH_EVENTS events to visits" fanal "CPU s" "$total" "$(processes_of "$out")"
    emit "log of $BENCH_EVENTS events to visits, time" fanal s "$(jq .elapsed_s <<<"$out")"

    out="$("$FANAL_BENCH" cpu --json --tree --pid "$FANAL_PID" -- \
        "$FANAL" rebuild --data-dir "$FANAL_DATA" --all --from "$first" --to "$last")" || fail "the rebuild failed"
    settle_truth "$day"
    total="$(jq '.command_cpu_s + .processes_cpu_s' <<<"$out")"
    emit "rebuild of $BENCH_EVENTS events" fanal "CPU s" "$total" "$(processes_of "$out")"
    emit "rebuild of $BENCH_EVENTS events, time" fanal s "$(jq .elapsed_s <<<"$out")"
    stop "$FANAL_PID"
    rm -rf "$FANAL_DATA"
}

# memory: 10,000 beacons a second (1,000 requests of 10 lines) for 30 s.
memory() {
    local out name rss peak
    start_fanal memory
    SEED=$((SEED + 1))
    make_site "bench0$SEED"
    out="$(load "$FANAL_HTTP" "bench0$SEED" "$FANAL_PID" 64 post 10 1000 30)"
    only_204 "$out"
    while IFS=$'\t' read -r name rss peak; do
        emit "memory at 10,000 beacons/s, $name" fanal "MB RSS" "$(jq -n "$rss / 1e6")"
        emit "memory at 10,000 beacons/s, $name, peak" fanal "MB RSS" "$(jq -n "$peak / 1e6")"
    done < <(jq -r '.processes[] | [.name, .rss_bytes, .peak_rss_bytes] | @tsv' <<<"$out")
    emit "CPU at 10,000 beacons/s" fanal "CPU µs/beacon" "$(jq .cpu_us_per_line <<<"$out")" "$(processes_of "$out")"
    settle "SELECT count() FROM fanal.events WHERE site_code = 'bench0$SEED'" "$(jq .lines_acked <<<"$out")"
    stop "$FANAL_PID"
}

# micro: programs that live in the crates they measure; each prints one JSON object with its rate.
micro() {
    local out
    cargo build --release -q -p fanal-parser --example bench_lines
    cargo build --release -q -p fanal-etl --example bench_visits
    for _ in $(seq "$BENCH_RUNS"); do
        out="$(taskset -c "$SERVER_CORE" "$TARGET/examples/bench_lines" | tail -1)"
        emit "line parser" fanal MB/s "$(jq -e .mb_per_s <<<"$out")" "$out"
        out="$(taskset -c "$SERVER_CORE" "$TARGET/examples/bench_visits" | tail -1)"
        emit "visit builder" fanal events/s "$(jq -e .events_per_s <<<"$out")" "$out"
    done
}

if part micro; then micro; fi
if part collector; then collector; fi
if part import; then for run in $(seq 3); do import_day "$run"; done; fi
if part memory; then memory; fi
