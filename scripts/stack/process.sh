# Processes of the stack: one pid file each, `PID STARTED`, where STARTED is the
# kernel's start time and the boot. A pid that another process has got since does
# not match, so nothing foreign is ever signalled.
#
# Each server leads a session and a process group of its own: Ctrl-C in the
# terminal does not reach it, and a signal to the group reaches its helpers.

# Time for SIGTERM, in tenths of a second.
STOP_LIMIT_DS=200
# Time that a group may take to be gone after SIGKILL, in tenths of a second.
GONE_LIMIT_DS=100
# Time that another start or stop on the same folder is waited for.
GATE_LIMIT_S=60

boot=$(</proc/sys/kernel/random/boot_id)

# start_of PID: its start time; fails when there is no such process, or only its
# exit code. A first thread that has ended while others hold the ports is alive.
start_of() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    read -ra stat <<<"${stat##*) }"
    [[ ${stat[0]} != [ZX] ]] || ((stat[17] > 1)) || return 1
    printf '%s/%s\n' "${stat[19]}" "$boot"
}

# pid_of NAME: prints the pid; fails when the process does not run.
pid_of() {
    local pid started
    { read -r pid started <"$dir/$1/pid"; } 2>/dev/null || return 1
    [[ $(start_of "$pid") == "$started" ]] || return 1
    printf '%s\n' "$pid"
}

running() { pid_of "$1" >/dev/null; }

# Whether a stop is under way, or was when it was interrupted.
stopping() { [[ -e $dir/$1/stopping ]] && running "$1"; }

# Whether somebody has stopped the process for a while.
paused() {
    local pid stat
    pid=$(pid_of "$1") && { stat=$(<"/proc/$pid/stat"); } 2>/dev/null && [[ ${stat##*) } == [Tt]* ]]
}

# One start, stop or kill at a time on a folder. Launched processes inherit the
# lock and let it go once their pid file is there: whoever gets it next sees all
# that was started, even if the starting script was interrupted in between.
enter_gate() {
    mkdir -p "$dir"
    exec 8>"$dir/gate"
    flock -w "$GATE_LIMIT_S" 8 || fail "another start or stop holds $dir/gate; see: fuser $dir/gate"
}

leave_gate() { exec 8>&-; }

# launch NAME: starts it in the background; its pid is in $!.
launch() {
    mkdir -p "$dir/$1"
    setsid "$stack" run "$1" --dir "$dir" </dev/null >>"$dir/$1/log" 2>&1 &
}

# The body of a launched process, until the server takes its place.
become() {
    local name=$1 folder=$dir/$1
    mkdir -p "$folder/conf"
    if [[ -s $folder/log ]]; then mv -f "$folder/log" "$folder/log.1"; fi
    exec >"$folder/log" 2>&1
    rm -f "$folder/stopping"
    printf '%s %s\n' "$$" "$(start_of $$)" >"$folder/pid.new"
    mv -f "$folder/pid.new" "$folder/pid"
    leave_gate
    "${name}_run"
    fail "${name} did not take over"
}

# once NAME COMMAND…: makes the data folder. What a run cut short has left is
# thrown away: it holds nothing that anybody was told of.
once() {
    local folder=$dir/$1
    shift
    if [[ -f $folder/formatted ]]; then return; fi
    rm -rf "$folder/data"
    mkdir -p "$folder/data"
    "$@"
    : >"$folder/formatted"
}

# send SIGNAL NAME: to the whole group; fails when it does not run.
send() {
    local pid
    pid=$(pid_of "$2") && kill "-$1" -- "-$pid" 2>/dev/null
}

# gone TENTHS NAME…: waits until none of them runs.
gone() {
    local left=$1 name
    shift
    for name in "$@"; do
        while running "$name"; do
            ((left-- > 0)) || return 1
            sleep 0.1
        done
    done
}

# terminate NAME…: SIGTERM, time to end, and SIGKILL for the rest.
terminate() {
    local name
    for name in "$@"; do
        running "$name" || continue
        : >"$dir/$name/stopping"
        send TERM "$name" && send CONT "$name" || true
    done
    gone "$STOP_LIMIT_DS" "$@" || say "SIGTERM was not enough for all; ending the rest"
    end "$@"
}

# end NAME…: SIGKILL, and they are gone.
end() {
    local name
    for name in "$@"; do
        running "$name" || continue
        : >"$dir/$name/stopping"
        send KILL "$name" || true
    done
    gone "$GONE_LIMIT_DS" "$@" || fail "processes do not go away after SIGKILL: $*; their pid files are below $dir"
    for name in "$@"; do rm -f "$dir/$name/pid" "$dir/$name/stopping"; done
}
