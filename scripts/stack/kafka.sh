# Kafka: one node that is broker and controller (KRaft).

kafka_ports() { echo $((base_port)) $((base_port + 1)) $((base_port + 2)); }

kafka_env() {
    echo "FANAL_STACK_KAFKA=127.0.0.1:$base_port"
    # A proxy in front of the broker connects here.
    if [[ $kafka_proxied_as ]]; then echo "FANAL_STACK_KAFKA_PROXIED=127.0.0.1:$((base_port + 2))"; fi
}

kafka_ready() { grep -qm1 'Kafka Server started' "$dir/kafka/log"; }

kafka_run() {
    local java conf=$dir/kafka/conf/server.properties
    java=$(java_or_fail)
    kafka_properties >"$conf"
    local flags=(-Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true
        "-XX:ErrorFile=$dir/kafka/hs_err.log" -Dorg.slf4j.simpleLogger.showDateTime=true
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS" "${java_options[@]}" -cp "$jars/kafka/*")
    once kafka "$java" "${flags[@]}" kafka.tools.StorageTool format -t "$(kafka_cluster_id)" -c "$conf"
    exec "$java" "${flags[@]}" kafka.Kafka "$conf"
}

# 16 bytes in base64: 21 hexadecimal digits and an A are such a number.
kafka_cluster_id() { printf '%sA\n' "$(head -c 11 /dev/urandom | od -An -tx1 | tr -d ' \n' | cut -c -21)"; }

# The listener PROXIED names a proxy's port to clients: what comes in through the
# proxy goes on through the proxy.
kafka_properties() {
    local proxied='' advertised=''
    if [[ $kafka_proxied_as ]]; then
        proxied=",PROXIED://127.0.0.1:$((base_port + 2))"
        advertised=",PROXIED://127.0.0.1:$kafka_proxied_as"
    fi
    cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((base_port + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$base_port,CONTROLLER://127.0.0.1:$((base_port + 1))$proxied
advertised.listeners=PLAINTEXT://127.0.0.1:$base_port$advertised
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/kafka/data
num.network.threads=2
num.io.threads=4
# One node: nothing can be kept twice.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
min.insync.replicas=1
# Topics are made with stated settings, never by a name that was mistyped.
auto.create.topics.enable=false
# A consumer gets its partitions at once.
group.initial.rebalance.delay.ms=0
# 128 MiB by default, which a small heap does not have.
log.cleaner.dedupe.buffer.size=4194304
# A broker that was killed is let back in once its old session has ended.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
END
}
