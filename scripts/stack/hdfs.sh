# HDFS: a NameNode and two DataNodes, so that each block is there twice.

namenode_ports() { echo $((base_port + 10)) $((base_port + 11)); }
datanode1_ports() { echo $((base_port + 12)) $((base_port + 13)) $((base_port + 14)); }
datanode2_ports() { echo $((base_port + 15)) $((base_port + 16)) $((base_port + 17)); }

namenode_env() {
    echo "FANAL_STACK_HDFS=hdfs://127.0.0.1:$((base_port + 10))"
    echo "FANAL_STACK_HDFS_HTTP=127.0.0.1:$((base_port + 11))"
    # Who starts the NameNode may do everything in it.
    echo "FANAL_STACK_HDFS_USER=$(id -un)"
}
datanode1_env() { :; }
datanode2_env() { :; }

# It answers, and knows each DataNode that is at work.
namenode_ready() {
    local name at_work=0 state info
    for name in datanode1 datanode2; do
        if running "$name" && ! paused "$name"; then at_work=$((at_work + 1)); fi
    done
    state=$(namenode_bean FSNamesystemState) && info=$(namenode_bean NameNodeInfo) || return 1
    ((at_work == 0)) && [[ $state == *NumLiveDataNodes* ]] && return
    [[ $info =~ \"Safemode\"\ :\ \"\" && $state =~ \"NumLiveDataNodes\"\ :\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= at_work))
}

namenode_bean() {
    curl -sf --noproxy '*' --max-time 2 "http://127.0.0.1:$((base_port + 11))/jmx?qry=Hadoop:service=NameNode,name=$1"
}

datanode1_ready() { datanode_ready datanode1; }
datanode2_ready() { datanode_ready datanode2; }
datanode_ready() { grep -qm1 'successfully registered with NN' "$dir/$1/log"; }

namenode_run() {
    local class=org.apache.hadoop.hdfs.server.namenode.NameNode
    hdfs_conf namenode "$base_port" # its DataNode ports are not used
    hdfs_java namenode
    once namenode "${hdfs_java[@]}" $class -format -force -nonInteractive
    exec "${hdfs_java[@]}" $class
}

datanode1_run() { datanode_run datanode1 $((base_port + 12)); }
datanode2_run() { datanode_run datanode2 $((base_port + 15)); }

# A DataNode formats its folder itself, when it first registers. It belongs to that
# NameNode's data from then on: remove both folders or none.
datanode_run() {
    hdfs_conf "$1" "$2"
    hdfs_java "$1"
    once "$1" true
    exec "${hdfs_java[@]}" org.apache.hadoop.hdfs.server.datanode.DataNode
}

hdfs_java() {
    hdfs_java=("$(java_or_fail)" -Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true
        "-XX:ErrorFile=$dir/$1/hs_err.log" --add-opens=java.base/java.lang=ALL-UNNAMED
        --add-opens=java.base/java.util=ALL-UNNAMED "${java_options[@]}" -cp "$dir/$1/conf:$jars/hdfs/*")
}

# hdfs_conf NAME DATANODE_PORT
hdfs_conf() {
    local conf=$dir/$1/conf
    # The jars lack these folders, and both servers look for them.
    mkdir -p "$conf/webapps/hdfs" "$conf/webapps/datanode"
    cat >"$conf/log4j.properties" <<'END'
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
log4j.logger.org.apache.hadoop.hdfs.StateChange=WARN
log4j.logger.BlockStateChange=WARN
log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=WARN
log4j.logger.org.apache.hadoop.hdfs.server.datanode.DataNode.clienttrace=WARN
END
    hdfs_xml "$conf/core-site.xml" \
        "fs.defaultFS=hdfs://127.0.0.1:$((base_port + 10))" \
        "hadoop.tmp.dir=$dir/$1/tmp"
    # Addresses: the defaults listen everywhere. Times: a dead DataNode is avoided
    # after 3 s and given up after 20 s. Blocks are small so that tests see borders.
    hdfs_xml "$conf/hdfs-site.xml" \
        dfs.replication=2 \
        dfs.namenode.file.close.num-committed-allowed=1 \
        "dfs.namenode.name.dir=file://$dir/namenode/data" \
        "dfs.datanode.data.dir=file://$dir/$1/data" \
        "dfs.namenode.rpc-address=127.0.0.1:$((base_port + 10))" \
        "dfs.namenode.http-address=127.0.0.1:$((base_port + 11))" \
        "dfs.datanode.address=127.0.0.1:$2" \
        "dfs.datanode.http.address=127.0.0.1:$(($2 + 1))" \
        "dfs.datanode.ipc.address=127.0.0.1:$(($2 + 2))" \
        dfs.datanode.hostname=127.0.0.1 \
        dfs.namenode.datanode.registration.ip-hostname-check=false \
        dfs.client.block.write.replace-datanode-on-failure.enable=false \
        dfs.namenode.safemode.extension=0 \
        dfs.namenode.safemode.min.datanodes=1 \
        dfs.heartbeat.interval=1 \
        dfs.namenode.heartbeat.recheck-interval=5000 \
        dfs.namenode.stale.datanode.interval=3000 \
        dfs.namenode.avoid.read.stale.datanode=true \
        dfs.namenode.avoid.write.stale.datanode=true \
        dfs.namenode.write.stale.datanode.ratio=1.0f \
        dfs.blocksize=16777216 \
        dfs.namenode.fs-limits.min-block-size=4096 \
        dfs.namenode.resource.du.reserved=1048576 \
        fs.getspaceused.classname=org.apache.hadoop.fs.DFCachingGetSpaceUsed
}

hdfs_xml() {
    local file=$1 pair
    shift
    {
        echo '<configuration>'
        for pair in "$@"; do
            echo "<property><name>${pair%%=*}</name><value>${pair#*=}</value></property>"
        done
        echo '</configuration>'
    } >"$file"
}
