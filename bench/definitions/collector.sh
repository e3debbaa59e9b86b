# The collector beside its rivals: what one beacon costs, with acks=all on a real broker. Sourced by bench/run.sh.
# Parts (BENCH_ONLY): get-1024, get-64.
# Server on core 0; generator and broker on core 1; the programs take turns, each started afresh; every acknowledged
# beacon of Fanal is counted in the topics.

SERVER_CORES=0
LOAD_CORES=1
LOAD_CORE=1
SITE=benchsite0
TLS=''
NGINX_BODIES=''
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

# with_broker FUNCTION: a fresh broker and data folder for one part; its records go with it.
with_broker() {
    start_broker
    prepare_fanal
    "$1"
    stop_broker
}

get_1024() { turns "GET, 1024 connections" "fanal nginx nginx-kcat nginx-rsyslog" --method get --connections 1024; }
get_64() { turns "GET, 64 connections" "fanal nginx" --method get --connections 64; }

ulimit -n "$(ulimit -Hn)"
install_missing kcat openssl rsyslogd
make_certificate
if part get-1024; then with_broker get_1024; fi
if part get-64; then with_broker get_64; fi
