# The collector beside its rivals: what one beacon costs, with acks=all on a real broker. Sourced by bench/run.sh.
# Parts (BENCH_ONLY): get-1024, get-64, post, tls-new, tls-resume, http2, idle, half, cores, profile.
# Further settings: BENCH_FANAL_SETTINGS (file with TOML that is added to Fanal's), BENCH_NICE (priority of all that
# the bench starts, such as -10 on a machine that others use), NAIVE and ECHO (built rivals instead of building them).
# Server on core 0; generator and broker on core 1; the programs take turns, each started afresh; every acknowledged
# beacon of Fanal is counted in the topics.

SITE=benchsite0
IDLE_CONNECTIONS=10000
# Opening takes a part of this; memory is read at the end.
IDLE_SECONDS=20
PROFILE_HZ=199
PROFILE_SECONDS=8
declare -A PROVED=()
# shellcheck source=/dev/null
source bench/collector/programs.sh
# shellcheck source=/dev/null
source bench/collector/measure.sh

# turns CASE "PROGRAM…" OPTION…: BENCH_RUNS runs of each program, one after the other.
turns() {
    local case="$1" programs="$2" program
    shift 2
    for _ in $(seq "$BENCH_RUNS"); do
        for program in $programs; do measure "$case" "$program" "$@"; done
    done
}

# run_part NAME FUNCTION: if it is wanted, with a fresh broker and data folder; its records go with it.
run_part() {
    part "$1" || return 0
    SERVER_CORES=0 LOAD_CORES=1 LOAD_CORE=1 TLS='' NGINX_BODIES=''
    start_broker
    prepare_fanal
    "$2"
    stop_broker
}

get_1024() {
    build_rivals
    turns "GET, 1024 connections" "fanal nginx nginx-kcat nginx-rsyslog echo" --method get --connections 1024
}

get_64() {
    build_rivals
    turns "GET, 64 connections" "fanal naive nginx" --method get --connections 64
}

post() {
    NGINX_BODIES=yes
    turns "POST of 10 lines, 1024 connections" "fanal nginx-kcat" --method post --lines-per-request 10 --connections 1024
}

tls_new() {
    TLS=new
    turns "TLS 1.3, new connections" "fanal nginx" --method get --connections 64 --new-connections
}

tls_resume() {
    TLS=resume
    turns "TLS 1.3, resumed connections" "fanal nginx" --method get --connections 64 --new-connections --resume
}

http2() {
    TLS=http2
    turns "HTTP/2 over TLS, 32 × 8 streams" "fanal nginx" --method get --connections 32 --http2 --streams 8
}

# Memory with all connections open, after one beacon on each.
idle() {
    local program
    for _ in $(seq "$BENCH_RUNS"); do
        for program in fanal nginx; do measure_idle "10,000 idle connections" "$program"; done
    done
}

# Latency at half of what Fanal's process has just done at full speed; others at the same rate, for what the machine adds.
half() {
    local program
    build_rivals
    for _ in $(seq "$BENCH_RUNS"); do
        for program in fanal nginx echo; do measure_half "GET at half of the saturation rate" "$program"; done
    done
}

# One core and two. Generator and broker need more than what two busy cores leave, so that the server gets a part of
# each core's time: twice the cores are then twice the time, and nobody else is what holds it back.
CORE_PERCENT=25
cores() {
    LOAD_CORES="0-$(($(nproc) - 1))"
    for _ in $(seq "$BENCH_RUNS"); do
        SERVER_CORES=0 CPU_PERCENT=$CORE_PERCENT
        measure "GET, one server core" fanal --method get --connections 1024
        SERVER_CORES=0-1 CPU_PERCENT=$((2 * CORE_PERCENT))
        measure "GET, two server cores" fanal --method get --connections 1024
    done
    CPU_PERCENT=
}

# Where the time goes, as a flame graph and a list; and what a beacon allocates on its worker.
profile() {
    local pid
    begin fanal
    next_seed
    load "$WARM_SECONDS" --method get --connections 1024 >/dev/null
    pid="${PIDS[0]}"
    perf record -q -F "$PROFILE_HZ" -g --call-graph dwarf,16384 -p "$pid" -o "$WORK/perf.data" -- sleep "$PROFILE_SECONDS" &
    next_seed
    load $((PROFILE_SECONDS + 1)) --method get --connections 1024 >/dev/null
    wait "$!" || fail "perf cannot look at the program; kernel.perf_event_paranoid must allow it"
    perf report -i "$WORK/perf.data" --no-children --no-inline --stdio -g none --percent-limit 0.5 2>/dev/null |
        grep -v '^#' | grep -v '^$' >"$RECORD/profile.txt"
    perf script -i "$WORK/perf.data" --no-inline 2>/dev/null | "$INFERNO/inferno-collapse-perf" 2>/dev/null |
        "$INFERNO/inferno-flamegraph" --title "fanal, GET, 1024 connections" >"$RECORD/flamegraph.svg"
    end_program
    cargo run --release -q -p fanal-ingest --example count_allocations >"$RECORD/allocations.txt"
    say "allocations per beacon: $(sed -n 's/^allocations per beacon: //p' "$RECORD/allocations.txt")"
}

install_inferno() {
    INFERNO="$(dirname "$TARGET")/tools/bin"
    [[ -x "$INFERNO/inferno-flamegraph" ]] ||
        cargo install -q --root "$(dirname "$TARGET")/tools" inferno >&2 || fail "cannot install inferno"
}

# A broker outlives the folder that its stop needs: it ends first, also where the bench fails.
end_all() {
    [[ ! -d "$WORK/stack" ]] || stop_broker
    clean_up
    [[ -z "${CPU_GROUP:-}" ]] || rmdir "$CPU_GROUP" 2>/dev/null || true
}

trap end_all EXIT
go_first $$
ulimit -n "$(ulimit -Hn)"
install_missing kcat openssl
compgen -G '/usr/lib/*/rsyslog/omkafka.so' >/dev/null || install_missing rsyslog rsyslog-kafka
make_certificate
run_part get-1024 get_1024
run_part get-64 get_64
run_part post post
run_part tls-new tls_new
run_part tls-resume tls_resume
run_part http2 http2
run_part idle idle
run_part half half
run_part cores cores
if part profile; then install_missing perf; install_inferno; fi
run_part profile profile
"$FANAL_BENCH" goals --dir "$RECORD" --goals bench/collector/goals.tsv
