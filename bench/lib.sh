# Functions for definitions; sourced by bench/run.sh, not run.
# What must stay true: only processes that were started here are ended, by their ids; a wrong answer fails the bench.

BENCH_RUNS="${BENCH_RUNS:-5}"
BENCH_SECONDS="${BENCH_SECONDS:-10}"
BENCH_EVENTS="${BENCH_EVENTS:-1000000}"
# How long the program may take to be ready, and to bring what it took in into the database.
READY_SECONDS=120
SETTLE_SECONDS=600
STARTED=()

say() { printf 'bench: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# part NAME: true where this part of a definition is wanted.
part() { [[ -z "${BENCH_ONLY:-}" || " $BENCH_ONLY " == *" $1 "* ]]; }

# install_missing PROGRAM…: Debian packages for what is not there; nothing is started by it.
install_missing() {
    local missing=()
    for program in "$@"; do
        if command -v "$program" >/dev/null || [[ -x "/usr/sbin/$program" ]]; then continue; fi
        case "$program" in
            taskset) missing+=(util-linux) ;;
            perf) missing+=(linux-perf) ;;
            *) missing+=("$program") ;;
        esac
    done
    [[ ${#missing[@]} -eq 0 ]] && return
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        fail "cannot install ${missing[*]}; install them by hand and run again"
}

build_programs() {
    PATH="$PATH:/usr/sbin"
    TARGET="${CARGO_TARGET_DIR:-target}/release"
    if [[ -z "${FANAL_BENCH:-}" ]]; then
        cargo build --release -q -p fanal-bench
        FANAL_BENCH="$TARGET/fanal-bench"
    fi
    if [[ -z "${FANAL:-}" ]]; then
        # As packages have it.
        cargo build --profile dist -q -p fanal
        FANAL="$(dirname "$TARGET")/dist/fanal"
    fi
    FANAL_BENCH="$(realpath "$FANAL_BENCH")"
    FANAL="$(realpath "$FANAL")"
}

# emit BENCH PROGRAM UNIT VALUE [DETAIL]: one measurement.
emit() {
    jq -cn --arg bench "$1" --arg program "$2" --arg unit "$3" --argjson value "$4" --argjson detail "${5:-null}" \
        '{bench: $bench, program: $program, unit: $unit, value: $value, detail: $detail}' >>"$RECORD/runs.jsonl"
    say "$1 $2: $4 $3"
}

# stop PID: ends a process that was started here, and waits for it.
stop() {
    local pid="$1" rest=()
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    for other in "${STARTED[@]}"; do [[ "$other" == "$pid" ]] || rest+=("$other"); done
    STARTED=("${rest[@]}")
}

clean_up() {
    for pid in "${STARTED[@]}"; do stop "$pid"; done
    [[ -n "${WORK:-}" ]] && rm -rf "$WORK"
}

# free_port: a port of 127.0.0.1 on which nobody listens; none is given twice.
NEXT_PORT="${BENCH_PORT_BASE:-28080}"
free_port() {
    while (exec 3<>"/dev/tcp/127.0.0.1/$NEXT_PORT") 2>/dev/null; do NEXT_PORT=$((NEXT_PORT + 1)); done
    PORT="$NEXT_PORT"
    NEXT_PORT=$((NEXT_PORT + 1))
}

# start_fanal NAME [CORES]: a fresh `fanal dev`; sets FANAL_PID, FANAL_HTTP, FANAL_ADMIN, FANAL_CLICKHOUSE, FANAL_DATA.
start_fanal() {
    FANAL_DATA="$WORK/fanal-$1"
    local log="$WORK/fanal-$1.log" https sse
    free_port; FANAL_HTTP="127.0.0.1:$PORT"
    free_port; https="127.0.0.1:$PORT"
    free_port; sse="127.0.0.1:$PORT"
    free_port; FANAL_ADMIN="127.0.0.1:$PORT"
    free_port; FANAL_CLICKHOUSE="127.0.0.1:$PORT"
    taskset -c "${2:-0-$(($(nproc) - 1))}" "$FANAL" dev --data-dir "$FANAL_DATA" --http "$FANAL_HTTP" --https "$https" \
        --sse "$sse" --admin "$FANAL_ADMIN" --clickhouse "$FANAL_CLICKHOUSE" >"$log" 2>"$log.err" &
    FANAL_PID=$!
    STARTED+=("$FANAL_PID")
    for _ in $(seq $((READY_SECONDS * 10))); do
        grep -qx ready "$log" && return
        kill -0 "$FANAL_PID" 2>/dev/null || fail "fanal dev ended: $(tail -5 "$log.err")"
        sleep 0.1
    done
    fail "fanal dev was not ready within $READY_SECONDS s: $(tail -5 "$log.err")"
}

# make_site CODE
make_site() {
    curl -sf -X PUT -H "Authorization: Bearer $(cat "$FANAL_DATA/admin.token")" -H 'Content-Type: application/json' \
        -d "{\"name\": \"$1\"}" "http://$FANAL_ADMIN/api/v1/sites/$1" >/dev/null ||
        fail "cannot create the site $1 on http://$FANAL_ADMIN"
}

# ask SQL: one value from ClickHouse.
ask() { curl -sf --data-binary "$1" "http://$FANAL_CLICKHOUSE/" || echo "no answer"; }

# settle SQL VALUE: waits until the query gives the value; fails the bench where it never does.
settle() {
    local got=""
    for _ in $(seq $((SETTLE_SECONDS * 2))); do
        got="$(ask "$1")"
        [[ "$got" == "$2" ]] && return
        sleep 0.5
    done
    fail "wrong answer: '$1' gives '$got', '$2' is true"
}

# settle_truth FOLDER: waits until the database holds exactly the generated day; else shows what differs and fails.
settle_truth() {
    for _ in $(seq 30); do
        "$FANAL_BENCH" truth --clickhouse "http://$FANAL_CLICKHOUSE" --dir "$1" >"$WORK/truth.txt" 2>&1 && return
        sleep 2
    done
    cat "$WORK/truth.txt" >&2
    fail "the visits in the database are not the true ones"
}

# start_nginx [CORES]: the rival collector, `return 204` and an access log; sets NGINX_PID, NGINX_HTTP, NGINX_LOG.
start_nginx() {
    local dir="$WORK/nginx"
    mkdir -p "$dir"
    free_port; NGINX_HTTP="127.0.0.1:$PORT"; NGINX_LOG="$dir/access.log"
    cat >"$dir/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
error_log $dir/error.log;
events { worker_connections 8192; }
http {
    log_format fanal '\$msec\t\$remote_addr\t\$request_method\t\$request_uri\t\$status\t\$http_user_agent\t\$http_referer\t\$http_cookie\t\$request_body';
    access_log $NGINX_LOG fanal buffer=64k;
    client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
    keepalive_requests 1000000000;
    server { listen $NGINX_HTTP; location / { return 204; } }
}
CONF
    taskset -c "${1:-0}" nginx -c "$dir/nginx.conf" -e "$dir/error.log" &
    NGINX_PID=$!
    STARTED+=("$NGINX_PID")
    for _ in $(seq 100); do
        curl -s -o /dev/null "http://$NGINX_HTTP/" && return
        sleep 0.1
    done
    fail "nginx did not start: $(tail -3 "$dir/error.log")"
}

# processes_of JSON: name, CPU seconds, RSS and peak RSS of each process of a load or cpu run.
processes_of() { jq -c '[.processes[] | {name, cpu_s, rss_bytes, peak_rss_bytes}]' <<<"$1"; }
