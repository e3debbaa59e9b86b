# ClickHouse: the real engine behind the HTTP interface that `fanal` has.

clickhouse_ports() { echo $((base_port + 40)); }

clickhouse_env() { echo "FANAL_STACK_CLICKHOUSE=http://127.0.0.1:$((base_port + 40))"; }

clickhouse_ready() {
    [[ $(curl -sf --noproxy '*' --max-time 2 "http://127.0.0.1:$((base_port + 40))/ping") == Ok. ]]
}

clickhouse_run() {
    local program=${FANAL_BIN:-${CARGO_TARGET_DIR:-$root/target}/release/fanal}
    # A folder name in CARGO_TARGET_DIR counts from the checkout, as for cargo.
    cd "$root"
    [[ -x $program ]] || fail "$program is missing; build it with: cargo build --release -p fanal"
    once clickhouse true
    exec "$program" clickhouse-server --listen 127.0.0.1:$((base_port + 40)) --data-dir "$dir/clickhouse/data" --log-format json
}
