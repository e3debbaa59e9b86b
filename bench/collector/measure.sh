# One run of a program, and the proof that the topic holds what was acknowledged; sourced by
# bench/definitions/collector.sh, not run.
# What must stay true: no figure of Fanal without the count of its topics; a shipper's work after the load is its own.

# Time for a shipper to bring the rest of its log.
SHIP_SECONDS=60
WARM_SECONDS=1
# What the warm-up left to ship, or to send again, is done after this.
CALM_SECONDS=2
PROOF_SECONDS=3
TWICE="records beyond those sent"
# Above this share of its core's time the generator, or the broker beside it, may be what held the program back.
SATURATED=0.95
SEED="$(date +%s)"

# load SECONDS OPTION…: one run of the generator, JSON on stdout. Each run has a seed of its own: set SEED before.
load() {
    local options=(--json --url "$URL" --site "$SITE" --duration "$1s" --seed "$SEED")
    [[ -z "$TLS" ]] || options+=(--insecure)
    taskset -c "$LOAD_CORES" "$FANAL_BENCH" load "${options[@]}" "${@:2}"
}

next_seed() { SEED=$((SEED + 1)); }

# ends: `TOPIC PARTITION OFFSET` of each partition of TOPICS.
ends() {
    local topic at got asked=()
    for topic in "${TOPICS[@]}"; do
        for ((at = 0; at < BEACON_PARTITIONS; at++)); do
            [[ $at -ge $SIDE_PARTITIONS && "$topic" == *.* ]] || asked+=(-t "$topic:$at:-1")
        done
    done
    # A topic that was made a moment ago may have no leader yet.
    for _ in $(seq 50); do
        if got="$(kcat -b "$BROKER" -Q "${asked[@]}" 2>/dev/null)" && [[ $(wc -l <<<"$got") -eq $((${#asked[@]} / 2)) ]]; then
            sed -E 's/^(\S+) \[([0-9]+)\] offset ([0-9]+)$/\1 \2 \3/' <<<"$got" | sort
            return
        fi
        sleep 0.2
    done
    fail "the broker does not tell the ends of ${TOPICS[*]}"
}

# records_in ENDS
records_in() { awk '{ n += $3 } END { print n + 0 }' <<<"$1"; }

# cpu_now: CPU seconds of all processes of the program.
cpu_now() {
    local options=() pid
    for pid in "${PIDS[@]}"; do options+=(--pid "$pid"); done
    "$FANAL_BENCH" cpu --json --tree "${options[@]}"
}

# core_time: busy and all ticks of LOAD_CORE.
core_time() {
    awk -v core="cpu$LOAD_CORE" '$1 == core { for (i = 2; i <= 9; i++) all += $i; print all - $5 - $6, all }' /proc/stat
}

# arrive ENDS COUNT: waits until that many records came after ENDS; prints how many did.
arrive() {
    local before got end=$((SECONDS + SHIP_SECONDS))
    before="$(records_in "$1")"
    while [[ $SECONDS -lt $end ]]; do
        got=$(($(records_in "$(ends)") - before))
        [[ $got -ge $2 ]] && break
        sleep 0.2
    done
    echo "$got"
}

# only_204 JSON: no answer but 204, no connection lost.
only_204() {
    jq -e '(.by_status | keys) == ["204"] and .broken == 0 and .timeouts == 0 and .connect_errors == 0' <<<"$1" >/dev/null ||
        fail "wrong answers: $(jq -c '{by_status, broken, timeouts, connect_errors}' <<<"$1")"
}

# counted CASE PROGRAM JSON ENDS: the topics hold every acknowledged line; more than was sent are lines that stand there
# twice, which a producer that got no confirmation in time may do: a figure of its own.
counted() {
    local acked sent got
    acked="$(jq .lines_acked <<<"$3")"
    sent="$(jq '.requests_sent * .lines_per_request' <<<"$3")"
    got="$(arrive "$4" "$acked")"
    [[ $got -ge $acked ]] ||
        fail "wrong answer of $2: $acked lines acknowledged, $sent sent, only $got records in ${TOPICS[*]}"
    emit "$1" "$2" "$TWICE" $((got > sent ? got - sent : 0)) "{\"acked\": $acked, \"sent\": $sent, \"records\": $got}"
}

# proof CASE OPTION…: a run of its own in which the acknowledged nonces are written down and looked up in the topic.
proof() {
    local case="$1" before out topic partition offset twice
    shift
    next_seed
    before="$(ends)"
    rm -f "$WORK/acked"
    out="$(load "$PROOF_SECONDS" --acked "$WORK/acked" "$@")"
    only_204 "$out"
    counted "$case" fanal "$out" "$before"
    while read -r topic partition offset; do
        kcat -b "$BROKER" -C -e -q -t "$topic" -p "$partition" -o "$offset" -f '%s\n'
    done <<<"$before" | grep -aoE 'nonce=[0-9A-F]{16}' | cut -d = -f 2 | sort >"$WORK/there"
    cut -f 2 "$WORK/acked" | sort >"$WORK/acked.nonces"
    [[ -s "$WORK/acked.nonces" ]] || fail "nothing was acknowledged"
    [[ -z "$(comm -23 "$WORK/acked.nonces" "$WORK/there" | head -1)" ]] ||
        fail "wrong answer: $(comm -23 "$WORK/acked.nonces" "$WORK/there" | wc -l) acknowledged lines are not in the topic"
    twice="$(uniq -d "$WORK/there" | wc -l)"
    emit "$case" fanal "$TWICE" "$twice" "{\"nonces_acked\": $(wc -l <"$WORK/acked.nonces")}"
    say "proof: $(wc -l <"$WORK/acked.nonces") acknowledged nonces are all in the topic, $twice of them twice"
    rm -f "$WORK/acked" "$WORK/acked.nonces" "$WORK/there"
}

# measure CASE PROGRAM OPTION…: starts the program, warms it up, measures, ends it.
measure() {
    local case="$1" program="$2" before out options=() pid core0 core1 cpu0 extra=0 busy got=null
    shift 2
    begin "$program"
    next_seed
    load "$WARM_SECONDS" "$@" >/dev/null
    [[ ${#TOPICS[@]} -eq 0 ]] || sleep "$CALM_SECONDS"
    if [[ "$program" == fanal && -z "${PROVED[$case]:-}" ]]; then
        proof "$case" "$@"
        PROVED[$case]=yes
    fi
    before="$([[ ${#TOPICS[@]} -eq 0 ]] || ends)"
    next_seed
    for pid in "${PIDS[@]}"; do options+=(--cpu-pid "$pid"); done
    core0="$(core_time)"
    out="$(load "$BENCH_SECONDS" "${options[@]}" "$@")"
    core1="$(core_time)"
    if [[ -n "$SHIPS" ]]; then
        cpu0="$(cpu_now)"
        # A line of the log is a request, however many lines that had.
        got="$(arrive "$before" "$(jq .requests_acked <<<"$out")")"
        [[ $got -ge $(jq .requests_acked <<<"$out") ]] || say "note: $program has shipped only $got of $(jq .requests_acked <<<"$out") requests"
        extra="$(jq -n --argjson a "$cpu0" --argjson b "$(cpu_now)" '([$b[].cpu_s] | add) - ([$a[].cpu_s] | add)')"
    elif [[ ${#TOPICS[@]} -gt 0 ]]; then
        counted "$case" "$program" "$out" "$before"
    fi
    only_204 "$out"
    busy="$(awk '{ printf "%.3f", ($3 - $1) / ($4 - $2 + 0.001) }' <<<"$core0 $core1")"
    emit_run "$case" "$program" "$out" "$extra" "$busy" "$got"
    end_program
}

# measure_idle CASE PROGRAM: memory while IDLE_CONNECTIONS are open.
measure_idle() {
    local options=() pid out before
    begin "$2"
    next_seed
    before="$([[ ${#TOPICS[@]} -eq 0 ]] || ends)"
    for pid in "${PIDS[@]}"; do options+=(--cpu-pid "$pid"); done
    out="$(load "$IDLE_SECONDS" "${options[@]}" --method get --idle "$IDLE_CONNECTIONS")"
    only_204 "$out"
    [[ ${#TOPICS[@]} -eq 0 ]] || counted "$1" "$2" "$out" "$before"
    jq -e ".idle_kept == $IDLE_CONNECTIONS" <<<"$out" >/dev/null ||
        fail "only $(jq .idle_kept <<<"$out") of $IDLE_CONNECTIONS idle connections were kept by $2"
    emit "$1" "$2" "RSS MB" "$(jq '[.processes[].rss_bytes] | add / 1e6' <<<"$out")" "$(processes_of "$out")"
    # The largest but Fanal's database, which is a process of its own.
    emit "$1" "$2" "RSS MB of the front process" \
        "$(jq '[.processes[] | select(.name | contains("clickhouse") | not) | .rss_bytes] | max / 1e6' <<<"$out")"
    end_program
}

# measure_half CASE PROGRAM: latency at half the rate that Fanal's process has just had; the others get the same rate, and
# show what generator and machine add by themselves.
measure_half() {
    local out before
    begin "$2"
    next_seed
    load "$WARM_SECONDS" --method get --connections 1024 >/dev/null
    next_seed
    if [[ "$2" == fanal ]]; then
        out="$(load "$BENCH_SECONDS" --method get --connections 1024)"
        HALF_RATE="$(jq '.requests_per_s / 2 | floor' <<<"$out")"
    fi
    before="$([[ ${#TOPICS[@]} -eq 0 ]] || ends)"
    next_seed
    out="$(load "$BENCH_SECONDS" --method get --connections 1024 --rate "$HALF_RATE")"
    only_204 "$out"
    [[ ${#TOPICS[@]} -eq 0 ]] || counted "$1" "$2" "$out" "$before"
    emit "$1" "$2" "p99 µs" "$(jq .schedule_latency_us.p99 <<<"$out")" \
        "$(jq -c --argjson rate "$HALF_RATE" '{rate: $rate, schedule_latency_us, latency_us, slots_missed}' <<<"$out")"
    emit "$1" "$2" "p50 µs" "$(jq .schedule_latency_us.p50 <<<"$out")"
    emit "$1" "$2" "p99.9 µs" "$(jq .schedule_latency_us.p999 <<<"$out")"
    emit "$1" "$2" "requests/s" "$(jq .requests_per_s <<<"$out")"
    end_program
}

# emit_run CASE PROGRAM JSON EXTRA_CPU_S CORE_BUSY SHIPPED
emit_run() {
    local detail
    detail="$(jq -c --argjson extra "$4" --argjson busy "$5" --argjson shipped "$6" '{requests_acked, lines_acked,
        connections, latency_us, server_cpu_s, shipped_after_cpu_s: $extra, records_shipped: $shipped, generator_cpu_s,
        load_core_busy: $busy, handshakes, handshakes_resumed, processes: [.processes[] | {name, cpu_s, rss_bytes, peak_rss_bytes}]}' <<<"$3")"
    emit "$1" "$2" "CPU µs/request" "$(jq --argjson extra "$4" '(.server_cpu_s + $extra) * 1e6 / .requests_acked' <<<"$3")" "$detail"
    emit "$1" "$2" "requests/s" "$(jq .requests_per_s <<<"$3")"
    emit "$1" "$2" "p50 µs" "$(jq .latency_us.p50 <<<"$3")"
    emit "$1" "$2" "p99 µs" "$(jq .latency_us.p99 <<<"$3")"
    emit "$1" "$2" "p99.9 µs" "$(jq .latency_us.p999 <<<"$3")"
    emit "$1" "$2" "RSS MB" "$(jq '[.processes[].rss_bytes] | add / 1e6' <<<"$3")"
    emit "$1" "$2" "busy share of the generator's core" "$5"
    emit "$1" "$2" "generator's share of its core" "$(jq '.generator_cpu_s / .elapsed_s' <<<"$3")"
    if jq -en --argjson busy "$5" "\$busy >= $SATURATED" >/dev/null; then
        say "note: core $LOAD_CORE was saturated ($5; generator, broker and whoever else): requests/s of $2 is a lower bound"
    fi
}
