#!/usr/bin/env bash
# Real servers on loopback, for development and tests: Kafka, HDFS, Cassandra,
# MariaDB and the ClickHouse engine, all data in one folder.
#
# usage: scripts/stack.sh COMMAND [OPTION…] [NAME…]
#   start    starts what does not run yet and waits until it is ready
#   stop     ends what start has started: SIGTERM, and SIGKILL after 20 s (--now: at once)
#   status   one line per process; fails unless all are ready
#   env      FANAL_STACK_… lines with the addresses of what has been started
#   config   the configuration that runs `fanal` on them
#   kill     SIGKILL; start brings it back on the data that it kept
#   pause    SIGSTOP: the process keeps its connections and never answers
#   resume   SIGCONT
#
# NAME is kafka, hdfs (namenode, datanode1, datanode2), cassandra, mariadb or
# clickhouse; all of them without a name. kill, pause and resume want names.
#
#   --dir DIR               where everything lies (default target/stack)
#   --base-port P           first of 50 ports (default 19000; `free` looks for some);
#                           kept in DIR for later starts
#   --kafka-proxied-as PORT one more Kafka listener that tells its clients to come to this
#                           port: a proxy's, that connects to FANAL_STACK_KAFKA_PROXIED
#   --owner PID             stop everything, at once, when this process has ended
#   --limit SECONDS         how long start waits for readiness (default 180)
set -euo pipefail

DEFAULT_BASE_PORT=19000
PORTS_OF_A_STACK=50
# Where `free` looks: below the ports that the kernel gives to outgoing
# connections, and apart from those that the tests give to `fanal dev`.
FREE_FROM=12000
FREE_TO=18950
PROCESSES=(kafka namenode datanode1 datanode2 cassandra mariadb clickhouse)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stack=$root/scripts/stack.sh
jars=$root/.cache/stack
read -ra java_options <<<"${FANAL_STACK_JAVA_OPTIONS:-}"

say() { printf 'stack: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

for part in java process ports kafka hdfs cassandra mariadb clickhouse; do
    # shellcheck disable=SC1090
    . "$root/scripts/stack/$part.sh"
done

java_or_fail() {
    [[ -d $jars/kafka && -d $jars/hdfs && -d $jars/cassandra ]] ||
        fail "the servers' jars are missing below $jars; fetch them with: scripts/install.sh stack"
    java_of_stack || fail "Java $JAVA_VERSION is missing; install it with: scripts/install.sh stack"
}

# Settings of the folder, for later starts.
load_settings() {
    base_port='' kafka_proxied_as=''
    local key value
    [[ -f $dir/settings ]] || return 0
    while IFS='=' read -r key value; do
        case $key in
            base_port) base_port=$value ;;
            kafka_proxied_as) kafka_proxied_as=$value ;;
        esac
    done <"$dir/settings"
}

save_settings() {
    local name port=${asked_port:-${base_port:-$DEFAULT_BASE_PORT}} proxied=${asked_proxied:-$kafka_proxied_as}
    if [[ $port == free && $base_port ]]; then port=$base_port; fi
    if [[ $port == free ]]; then port=$(free_ports); fi
    if [[ $port != "$base_port" ]]; then
        for name in "${PROCESSES[@]}"; do
            if running "$name"; then fail "$dir runs on --base-port $base_port; stop it before another one"; fi
        done
    fi
    if [[ $proxied != "$kafka_proxied_as" ]] && running kafka; then
        fail "Kafka in $dir runs with another --kafka-proxied-as; stop it first"
    fi
    base_port=$port kafka_proxied_as=$proxied
    printf 'base_port=%s\nkafka_proxied_as=%s\n' "$port" "$proxied" >"$dir/settings.new"
    mv -f "$dir/settings.new" "$dir/settings"
}

command_start() {
    local name failed=() waiting=() ending=()
    enter_gate
    # What an interrupted stop began is finished first.
    for name in "${names[@]}"; do
        if stopping "$name"; then ending+=("$name"); fi
    done
    terminate "${ending[@]}"
    load_settings
    save_settings
    trap interrupted INT TERM
    for name in "${names[@]}"; do
        running "$name" || ports_are_free "$name"
    done
    if [[ $owner ]]; then
        end owner
        FANAL_STACK_OWNER=$owner FANAL_STACK_OWNER_STARTED=$owner_started launch owner
    fi
    for name in "${names[@]}"; do
        running "$name" || launch "$name"
        waiting+=("$name")
    done
    leave_gate
    until_ready
    print_state "${names[@]}"
    ((${#failed[@]} == 0)) || explain "${failed[@]}"
}

interrupted() {
    say "interrupted; what was started goes on, scripts/stack.sh stop --dir $dir ends it"
    exit 130
}

# Moves what can no longer become ready from `waiting` to `failed`.
until_ready() {
    local end=$((SECONDS + limit)) name still
    # The gate is free once each of them has its pid file or is gone.
    enter_gate
    leave_gate
    while ((${#waiting[@]})); do
        still=()
        for name in "${waiting[@]}"; do
            if ! running "$name" || ((SECONDS > end)); then
                failed+=("$name")
            elif ! is_ready "$name"; then
                still+=("$name")
            fi
        done
        waiting=("${still[@]}")
        if ((${#waiting[@]})); then sleep 0.2; fi
    done
}

explain() {
    local name
    for name in "$@"; do
        if running "$name"; then
            say "$name is not ready after $limit s and was left running; the end of $dir/$name/log:"
        else
            say "$name has ended; the end of $dir/$name/log:"
        fi
        tail -n 15 "$dir/$name/log" 2>/dev/null | sed 's/^/    /' >&2
    done
    exit 1
}

is_ready() { running "$1" && ! paused "$1" && ! stopping "$1" && "$1_ready" 2>/dev/null; }

print_state() {
    local name pid state
    printf '%-10s %-8s %-8s %-9s %s\n' NAME STATE PID MEMORY ADDRESS
    for name in "$@"; do
        state=stopped pid=$(pid_of "$name") || pid=-
        if stopping "$name"; then
            state=stopping
        elif paused "$name"; then
            state=paused
        elif is_ready "$name"; then
            state=ready
        elif [[ $pid != - ]]; then
            state=starting
        fi
        printf '%-10s %-8s %-8s %-9s %s\n' "$name" "$state" "$pid" "$(memory_of "$pid")" "127.0.0.1:$("${name}_ports" | cut -d ' ' -f 1)"
    done
}

memory_of() {
    awk '/^VmRSS/ { printf "%d MB", $2 / 1024; there = 1 } END { if (!there) print "-" }' "/proc/$1/status" 2>/dev/null || echo -
}

command_status() {
    local name
    load_settings
    [[ $base_port ]] || fail "nothing was started in $dir yet"
    print_state "${names[@]}"
    for name in "${names[@]}"; do is_ready "$name" || exit 1; done
}

command_env() {
    local name
    load_settings
    [[ $base_port ]] || fail "nothing was started in $dir yet"
    echo "FANAL_STACK_DIR=$dir"
    for name in "${names[@]}"; do
        if [[ -d $dir/$name ]]; then "${name}_env"; fi
    done
}

command_config() {
    local line text key
    text=$(<"$root/scripts/stack/fanal.toml.in")
    while IFS= read -r line; do
        key=${line%%=*}
        text=${text//"@$key@"/"${line#*=}"}
    done < <(command_env)
    [[ $text != *@FANAL_STACK_* ]] || fail "not every server was started in $dir; run scripts/stack.sh start --dir $dir first"
    printf '%s\n' "$text"
}

command_stop() {
    local name all=0
    [[ -d $dir ]] || return 0
    enter_gate
    if [[ ${names[*]} == "${PROCESSES[*]}" ]]; then
        all=1
        # Unless it is the one that stops.
        [[ $(pid_of owner) == "$$" ]] || end owner
    fi
    if [[ $now ]]; then end "${names[@]}"; else terminate "${names[@]}"; fi
    leave_gate
    if ((all)); then say "all stopped; data stays in $dir"; else say "stopped: ${names[*]}"; fi
}

command_kill() {
    local name
    enter_gate
    for name in "${names[@]}"; do running "$name" || fail "$name does not run in $dir"; done
    end "${names[@]}"
    leave_gate
}

command_pause() { send_each STOP; }
command_resume() { send_each CONT; }
send_each() {
    local name
    for name in "${names[@]}"; do send "$1" "$name" || fail "$name does not run in $dir"; done
}

# The watcher of --owner.
owner_run() {
    while [[ $(start_of "$FANAL_STACK_OWNER") == "$FANAL_STACK_OWNER_STARTED" ]]; do sleep 1; done
    names=("${PROCESSES[@]}") now=yes
    command_stop
    rm -f "$dir/owner/pid"
    exit 0
}
owner_ports() { :; }

# Checks of what was asked, with the remedy in the text.
number() { [[ $2 =~ ^[0-9]{1,5}$ ]] || fail "$1 wants a number, not '$2'"; }
folder() {
    [[ $1 =~ ^[A-Za-z0-9/._+@,=-]+$ ]] || fail "--dir '$1' has characters that a server's configuration cannot hold; choose a plain name"
    realpath -m "$1"
}

dir=$root/target/stack asked_port='' asked_proxied='' owner='' limit=180 now='' names=()
if (($# == 0)); then
    awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$stack"
    exit 2
fi
command=$1
shift
while (($#)); do
    option=$1
    shift
    case $option in
        --dir | --base-port | --kafka-proxied-as | --owner | --limit)
            (($#)) || fail "$option wants a value"
            value=$1
            shift
            ;;&
        --dir) dir=$(folder "$value") ;;
        --base-port)
            [[ $value == free ]] || number "$option" "$value"
            asked_port=$value
            ;;
        --kafka-proxied-as) number "$option" "$value" && asked_proxied=$value ;;
        --owner) number "$option" "$value" && owner=$value ;;
        --limit) number "$option" "$value" && limit=$value ;;
        --now) now=yes ;;
        hdfs) names+=(namenode datanode1 datanode2) ;;
        kafka | namenode | datanode1 | datanode2 | cassandra | mariadb | clickhouse) names+=("$option") ;;
        owner) [[ $command == run ]] && names+=(owner) ;;
        *) fail "unknown option or name '$option'; run scripts/stack.sh without arguments for the list" ;;
    esac
done
if [[ $owner ]]; then owner_started=$(start_of "$owner") || fail "there is no process $owner to own the stack"; fi
if ((${#names[@]} == 0)); then
    [[ $command != @(kill|pause|resume|run) ]] || fail "$command wants names, such as: scripts/stack.sh $command kafka"
    names=("${PROCESSES[@]}")
fi
case $command in
    start | stop | status | env | config | kill | pause | resume) "command_$command" ;;
    # How start runs a process; nothing for people.
    run) load_settings && become "${names[0]}" ;;
    *) fail "unknown command '$command'; run scripts/stack.sh without arguments for the list" ;;
esac
