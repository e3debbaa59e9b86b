# The programs that the collector bench compares; sourced by bench/definitions/collector.sh, not run.
# What must stay true: each is started afresh for each run, on SERVER_CORES, and all of its processes are in PIDS;
# TOPICS names what it writes to, or is empty; only what was started here is ended, by its id.

# Partitions of every topic of the bench: as Fanal makes them.
BEACON_PARTITIONS=12
SIDE_PARTITIONS=3
CERTIFICATE_DAYS=30

# begin PROGRAM: sets URL, PIDS and TOPICS.
begin() {
    PROGRAM_DIR="$(mktemp -d "$WORK/$1.XXXX")"
    PIDS=() TOPICS=() SHIPS=
    NGINX_FORMAT="$FORMAT_LINE" NGINX_LOCATION='return 204;' NGINX_LISTEN='' NGINX_SERVERS=''
    "begin_${1//-/_}"
}

# end_program: ends what begin has started, the last first.
end_program() {
    local at
    for ((at = ${#PIDS[@]} - 1; at >= 0; at--)); do stop "${PIDS[at]}"; done
    PIDS=()
    rm -rf "$PROGRAM_DIR"
    [[ -z "${CPU_GROUP:-}" ]] || rmdir "$CPU_GROUP" 2>/dev/null || true
    CPU_GROUP=
}

# spawn CORES LOG COMMAND…: a process of the program.
spawn() {
    taskset -c "$1" "${@:3}" >>"$2" 2>&1 &
    PIDS+=("$!")
    STARTED+=("$!")
}

# answers URL: waits until the program answers.
answers() {
    for _ in $(seq $((READY_SECONDS * 10))); do
        [[ "$(curl -sk -o /dev/null -w '%{http_code}' "$1")" == 20? ]] && return
        kill -0 "${PIDS[0]}" 2>/dev/null || break
        sleep 0.1
    done
    fail "$1 does not answer: $(tail -n 5 "$PROGRAM_DIR"/*.log)"
}

# limit_cpu PERCENT PID: so much of one core's time for a process and its threads, from 10 ms to 10 ms.
CPU_PERIOD_US=10000
limit_cpu() {
    local v1=/sys/fs/cgroup/cpu v2=/sys/fs/cgroup quota=$(($1 * CPU_PERIOD_US / 100))
    if [[ -d "$v1" ]]; then
        CPU_GROUP="$v1/fanal-bench-$$"
        mkdir -p "$CPU_GROUP" && echo "$CPU_PERIOD_US" >"$CPU_GROUP/cpu.cfs_period_us" &&
            echo "$quota" >"$CPU_GROUP/cpu.cfs_quota_us" && echo "$2" >"$CPU_GROUP/cgroup.procs"
    else
        CPU_GROUP="$v2/fanal-bench-$$"
        { [[ "$(<"$v2/cgroup.subtree_control")" == *cpu* ]] || echo +cpu >"$v2/cgroup.subtree_control"; } &&
            mkdir -p "$CPU_GROUP" && echo "$quota $CPU_PERIOD_US" >"$CPU_GROUP/cpu.max" &&
            echo "$2" >"$CPU_GROUP/cgroup.procs"
    fi || fail "cannot limit CPU time in $CPU_GROUP: run as root on a machine with control groups, or leave the part out"
}

# url_of ADDRESS: as the case wants it.
url_of() { if [[ -n "$TLS" ]]; then URL="https://$1"; else URL="http://$1"; fi; }

# go_first PID: BENCH_NICE for a process, for what it will start, and for its session, by which kernels with autogroups
# share out time: there a process's own priority only counts within its session.
go_first() {
    [[ -n "${BENCH_NICE:-}" ]] || return 0
    renice -n "$BENCH_NICE" -p "$1" >/dev/null || fail "BENCH_NICE=$BENCH_NICE is not allowed; leave it out, or run as root"
    [[ ! -e "/proc/$1/autogroup" ]] || echo "$BENCH_NICE" >"/proc/$1/autogroup" || true
}

# make_certificate: ECDSA P-256, for all programs the same.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$CERTIFICATE_DAYS" -subj /CN=localhost \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$WORK/server.key" -out "$WORK/server.pem" 2>/dev/null ||
        fail "openssl cannot make a certificate"
    chmod 600 "$WORK/server.key"
}

# start_broker: a fresh broker on LOAD_CORE; sets BROKER. Ends with this script, however that ends.
start_broker() {
    taskset -c "$LOAD_CORE" scripts/stack.sh start --dir "$WORK/stack" --base-port free --owner $$ kafka >&2
    BROKER="$(scripts/stack.sh env --dir "$WORK/stack" kafka | sed -n 's/^FANAL_STACK_KAFKA=//p')"
    [[ -n "$BROKER" ]] || fail "the broker did not start; see scripts/stack.sh"
    # It leads a session of its own.
    go_first "$(cut -d ' ' -f 1 "$WORK/stack/kafka/pid")"
}

stop_broker() {
    scripts/stack.sh stop --now --dir "$WORK/stack" >&2
    # The killed broker's last files may still be on their way out.
    for _ in $(seq 50); do rm -rf "$WORK/stack" 2>/dev/null && return; sleep 0.1; done
    fail "cannot remove $WORK/stack"
}

# prepare_fanal: data folder, catalogue with the bench's site, and the rivals' topic, made with Fanal's settings.
prepare_fanal() {
    local admin log="$WORK/prepare.log" pid
    rm -rf "$WORK/data" && mkdir -p "$WORK/data"
    free_port; admin="127.0.0.1:$PORT"
    fanal_settings rival >"$WORK/prepare.toml"
    printf '[admin]\nlisten = "%s"\n' "$admin" >>"$WORK/prepare.toml"
    "$FANAL" run --config "$WORK/prepare.toml" >"$log" 2>&1 &
    pid=$!
    STARTED+=("$pid")
    for _ in $(seq $((READY_SECONDS * 10))); do
        curl -sf -o /dev/null "http://$admin/health/ready" && break
        kill -0 "$pid" 2>/dev/null || fail "fanal ended: $(tail -n 5 "$log")"
        sleep 0.1
    done
    curl -sf -X PUT -H "Authorization: Bearer $(cat "$WORK/data/admin.token")" -H 'Content-Type: application/json' \
        -d '{"name": "bench"}' "http://$admin/api/v1/sites/$SITE" >/dev/null || fail "cannot make a site: $(tail -n 5 "$log")"
    stop "$pid"
}

# fanal_settings PREFIX
fanal_settings() {
    free_port
    cat <<END
data_dir = "$WORK/data"
[event_log]
kind = "kafka"
[event_log.kafka]
brokers = ["$BROKER"]
topic_prefix = "$1"
partitions = $BEACON_PARTITIONS
dead_partitions = $SIDE_PARTITIONS
overflow_partitions = $SIDE_PARTITIONS
replication = 1
min_insync_replicas = 1
[clickhouse]
listen = "127.0.0.1:$PORT"
END
}

begin_fanal() {
    local http https
    free_port; http="127.0.0.1:$PORT"
    free_port; https="127.0.0.1:$PORT"
    {
        fanal_settings beacons
        cat <<END
[http]
workers = $((${SERVER_CORES#*-} - ${SERVER_CORES%-*} + 1))
[ingest]
listen = "$http"
listen_tls = "$https"
node = "bench"
address_key_file = "$WORK/data/address.key"
[ingest.tls]
certificate = "$WORK/server.pem"
key = "$WORK/server.key"
END
        # Keys of later versions, where the operator of the bench wants some.
        [[ -z "${BENCH_FANAL_SETTINGS:-}" ]] || cat "$BENCH_FANAL_SETTINGS"
    } >"$PROGRAM_DIR/fanal.toml"
    spawn "$SERVER_CORES" "$PROGRAM_DIR/fanal.log" "$FANAL" run --config "$PROGRAM_DIR/fanal.toml"
    TOPICS=(beacons beacons.dead beacons.overflow)
    [[ -z "${CPU_PERCENT:-}" ]] || limit_cpu "$CPU_PERCENT" "${PIDS[0]}"
    answers "http://$http/health/ready"
    if [[ -n "$TLS" ]]; then url_of "$https"; else url_of "$http"; fi
}

# What one line of the log holds; the last column is empty where nginx reads no body.
FORMAT_LINE='$msec\t$remote_addr\t$request_method\t$request_uri\t$status\t$http_user_agent\t$http_referer\t$http_cookie\t$request_body'

begin_nginx() {
    free_port
    local address="127.0.0.1:$PORT" tls=''
    if [[ -n "$TLS" ]]; then
        NGINX_LISTEN=' ssl'
        if [[ "$TLS" == http2 ]]; then NGINX_LISTEN=' ssl http2'; fi
        tls="ssl_certificate $WORK/server.pem; ssl_certificate_key $WORK/server.key; ssl_protocols TLSv1.3;"
        if [[ "$TLS" == resume ]]; then tls+=' ssl_session_tickets on; ssl_session_timeout 1h;'; else tls+=' ssl_session_tickets off;'; fi
    fi
    if [[ -n "$NGINX_BODIES" ]]; then
        # nginx reads a body only where it hands it on.
        NGINX_LOCATION='client_body_buffer_size 256k; client_body_in_single_buffer on; proxy_pass http://answer;
            proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass_request_body off; proxy_set_header Content-Length "";'
        NGINX_SERVERS="upstream answer { server unix:$PROGRAM_DIR/answer.sock; keepalive 1024; keepalive_requests 1000000000; }
        server { listen unix:$PROGRAM_DIR/answer.sock backlog=4096; access_log off; return 204; }"
    fi
    : >"$PROGRAM_DIR/access.tsv"
    cat >"$PROGRAM_DIR/nginx.conf" <<CONF
daemon off;
$([[ $EUID -ne 0 ]] || echo "user $(id -un) $(id -gn);")
worker_processes 1;
worker_rlimit_nofile 20000;
pid $PROGRAM_DIR/nginx.pid;
events { worker_connections 19000; }
http {
    log_format fanal '$NGINX_FORMAT';
    access_log $PROGRAM_DIR/access.tsv fanal buffer=64k flush=1s;
    client_body_temp_path $PROGRAM_DIR/body; proxy_temp_path $PROGRAM_DIR/proxy; fastcgi_temp_path $PROGRAM_DIR/fastcgi;
    uwsgi_temp_path $PROGRAM_DIR/uwsgi; scgi_temp_path $PROGRAM_DIR/scgi;
    keepalive_requests 1000000000;
    $NGINX_SERVERS
    server { listen $address$NGINX_LISTEN backlog=4096; $tls location / { $NGINX_LOCATION } }
}
CONF
    spawn "$SERVER_CORES" "$PROGRAM_DIR/nginx.log" nginx -c "$PROGRAM_DIR/nginx.conf" -e "$PROGRAM_DIR/error.log"
    url_of "$address"
    answers "$URL/"
}

# nginx, and its log line by line into the same broker.
begin_nginx_kcat() {
    begin_nginx
    mkfifo "$PROGRAM_DIR/pipe"
    taskset -c "$SERVER_CORES" tail -n 0 -F "$PROGRAM_DIR/access.tsv" >"$PROGRAM_DIR/pipe" 2>>"$PROGRAM_DIR/tail.log" &
    PIDS+=("$!"); STARTED+=("$!")
    taskset -c "$SERVER_CORES" kcat -P -b "$BROKER" -t rival -z lz4 -X acks=all -X queue.buffering.max.messages=1000000 \
        <"$PROGRAM_DIR/pipe" >>"$PROGRAM_DIR/kcat.log" 2>&1 &
    PIDS+=("$!"); STARTED+=("$!")
    TOPICS=(rival) SHIPS=yes
}

begin_nginx_rsyslog() {
    begin_nginx
    mkdir "$PROGRAM_DIR/state"
    cat >"$PROGRAM_DIR/rsyslog.conf" <<CONF
global(workDirectory="$PROGRAM_DIR/state" maxMessageSize="256k")
module(load="imfile")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
input(type="imfile" file="$PROGRAM_DIR/access.tsv" tag="beacon" ruleset="ship")
ruleset(name="ship" queue.type="FixedArray" queue.size="100000" queue.dequeueBatchSize="2048" queue.workerThreads="1") {
    action(type="omkafka" broker=["$BROKER"] topic="rival" template="line" partitions.auto="on"
        confParam=["acks=all", "compression.codec=lz4", "queue.buffering.max.messages=1000000"])
}
CONF
    spawn "$SERVER_CORES" "$PROGRAM_DIR/rsyslog.log" rsyslogd -n -f "$PROGRAM_DIR/rsyslog.conf" -i "$PROGRAM_DIR/rsyslog.pid"
    TOPICS=(rival) SHIPS=yes
}

# build_rivals: they are a workspace of its own, so that nobody else waits for them.
build_rivals() {
    [[ -z "${NAIVE:-}" || -z "${ECHO:-}" ]] || return 0
    CARGO_TARGET_DIR="$(dirname "$TARGET")/rivals" cargo build --release -q --manifest-path bench/rivals/naive/Cargo.toml >&2 ||
        fail "the rivals do not build"
    NAIVE="$(dirname "$TARGET")/rivals/release/naive"
    ECHO="$(dirname "$TARGET")/rivals/release/echo"
}

# The floor: an answer and nothing else.
begin_echo() {
    free_port
    local address="127.0.0.1:$PORT"
    spawn "$SERVER_CORES" "$PROGRAM_DIR/echo.log" "$ECHO" "$address"
    url_of "$address"
    answers "$URL/"
}

begin_naive() {
    free_port
    local address="127.0.0.1:$PORT"
    spawn "$SERVER_CORES" "$PROGRAM_DIR/naive.log" "$NAIVE" "$address" "$BROKER" rival
    TOPICS=(rival)
    url_of "$address"
    answers "$URL/"
}
