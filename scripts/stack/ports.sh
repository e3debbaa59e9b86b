# Ports of loopback: which are taken, and by whom it does not matter.

# How long a block of ports counts as taken after it was given, in seconds.
GIVEN_S=120

# Ports that somebody listens on, as the kernel writes them: four hexadecimal digits.
taken_ports() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { n = split($2, part, ":"); print part[n] }'; }

is_taken() {
    local hex
    printf -v hex '%04X' "$2"
    [[ $1 == *" $hex "* ]]
}

# ports_are_free NAME
ports_are_free() {
    local port taken
    taken=" $(taken_ports | tr '\n' ' ')"
    for port in $("$1_ports"); do
        if is_taken "$taken" "$port"; then
            fail "port $port is taken by another program, and $1 needs it; choose another --base-port, or --base-port free"
        fi
    done
}

# The first port of a whole free block. What was given to somebody a moment ago
# counts as taken: its servers may not listen yet.
free_ports() {
    local blocks=$(((FREE_TO - FREE_FROM) / PORTS_OF_A_STACK)) first taken given i offset port
    mkdir -p "$root/target"
    exec 7>>"$root/target/.stack-ports"
    flock -w "$GATE_LIMIT_S" 7 || fail "somebody holds $root/target/.stack-ports; see: fuser $root/target/.stack-ports"
    given=" $(awk -v since=$((EPOCHSECONDS - GIVEN_S)) '$2 > since { printf "%s ", $1 }' "$root/target/.stack-ports")"
    taken=" $(taken_ports | tr '\n' ' ')"
    first=$((RANDOM % blocks))
    for ((i = 0; i < blocks; i++)); do
        port=$((FREE_FROM + (first + i) % blocks * PORTS_OF_A_STACK))
        [[ $given != *" $port "* ]] || continue
        for ((offset = 0; offset < PORTS_OF_A_STACK; offset++)); do
            if is_taken "$taken" $((port + offset)); then continue 2; fi
        done
        echo "$port $EPOCHSECONDS" >&7
        echo "$port"
        return
    done
    fail "no $PORTS_OF_A_STACK free ports in a row between $FREE_FROM and $FREE_TO; name a --base-port"
}
