# Cassandra: one node.

cassandra_ports() { echo $((base_port + 20)) $((base_port + 21)) $((base_port + 22)); }

cassandra_env() { echo "FANAL_STACK_CASSANDRA=127.0.0.1:$((base_port + 20))"; }

cassandra_ready() { grep -qm1 'Starting listening for CQL clients' "$dir/cassandra/log"; }

cassandra_run() {
    local java folder=$dir/cassandra opens=() exports=() name
    java=$(java_or_fail)
    cassandra_yaml >"$folder/conf/cassandra.yaml"
    cassandra_logback >"$folder/conf/logback.xml"
    for name in java.base/{jdk.internal.misc,jdk.internal.ref,java.lang.ref,sun.nio.ch} java.sql/java.sql \
        java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.{registry,server,transport.tcp}; do
        exports+=("--add-exports=$name=ALL-UNNAMED")
    done
    for name in java.base/java.{lang,lang.module,lang.reflect,net,nio,io,util,util.concurrent,util.concurrent.atomic} \
        java.base/jdk.internal.{loader,ref,reflect,math,module,util.jar} java.base/sun.nio.ch \
        jdk.management/com.sun.management.internal; do
        opens+=("--add-opens=$name=ALL-UNNAMED")
    done
    once cassandra true
    # One node has nobody to wait for: ring delay, gossip rounds and the farewell are
    # left out. No JMX: it would listen on one more port, at random.
    exec "$java" -Xms256m -Xmx512m -Xss512k -XX:MaxDirectMemorySize=256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        "-XX:ErrorFile=$folder/hs_err.log" "${exports[@]}" "${opens[@]}" "-javaagent:$(echo "$jars"/cassandra/jamm-*.jar)" \
        "-Dcassandra.config=file://$folder/conf/cassandra.yaml" "-Dlogback.configurationFile=$folder/conf/logback.xml" \
        "-Dcassandra.storagedir=$folder/data" "-Dcassandra.logdir=$folder" -Dcassandra-foreground=yes \
        -Dcassandra.ring_delay_ms=100 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
        -Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.shutdown_announce_in_ms=0 -Dcassandra.allow_unsafe_join=true \
        -Djdk.attach.allowAttachSelf=true -Djava.net.preferIPv4Stack=true "${java_options[@]}" \
        -cp "$folder/conf:$jars/cassandra/*" org.apache.cassandra.service.CassandraDaemon
}

# The commit log is written out before a write is acknowledged: what a client was
# told outlives SIGKILL. Sizes are those of a small machine.
cassandra_yaml() {
    local data=$dir/cassandra/data
    cat <<END
cluster_name: fanal-stack
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
native_transport_port: $((base_port + 20))
storage_port: $((base_port + 21))
ssl_storage_port: $((base_port + 22))
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:$((base_port + 21))"
data_file_directories: ["$data/data"]
commitlog_directory: "$data/commitlog"
hints_directory: "$data/hints"
saved_caches_directory: "$data/saved_caches"
cdc_raw_directory: "$data/cdc_raw"
commitlog_sync: batch
commitlog_segment_size: 8MiB
commitlog_total_space: 64MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
concurrent_compactors: 1
auto_snapshot: false
END
}

cassandra_logback() {
    cat <<'END'
<configuration>
  <appender name="stderr" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%d{ISO8601} %level %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="stderr"/></root>
</configuration>
END
}
