# MariaDB: a server of its own, beside whatever system service there is.

mariadb_ports() { echo $((base_port + 30)); }

mariadb_env() {
    local password=''
    { password=$(<"$dir/mariadb/password"); } 2>/dev/null || return 0
    echo "FANAL_STACK_MARIADB=mysql://fanal:$password@127.0.0.1:$((base_port + 30))/fanal"
    echo "FANAL_STACK_MARIADB_ADDRESS=127.0.0.1:$((base_port + 30))"
    echo "FANAL_STACK_MARIADB_PASSWORD_FILE=$dir/mariadb/password"
}

mariadb_ready() { grep -qm1 'ready for connections' "$dir/mariadb/log"; }

mariadb_run() {
    local folder=$dir/mariadb server user=()
    # /usr/sbin is not on everybody's PATH.
    server=$(PATH=$PATH:/usr/sbin:/usr/libexec command -v mariadbd) ||
        fail "mariadbd is missing; install it with: scripts/install.sh stack"
    # The server refuses to run as root unless told so.
    if [[ $(id -u) == 0 ]]; then user=(--user=root); fi
    umask 077
    if [[ ! -s $folder/password ]]; then
        head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/password.new"
        mv -f "$folder/password.new" "$folder/password"
    fi
    once mariadb mariadb-install-db --no-defaults --datadir="$folder/data" --skip-test-db --skip-name-resolve \
        --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" "${user[@]}"
    mariadb_users >"$folder/conf/init.sql"
    # The socket's path is relative to the data folder: its length is limited.
    exec "$server" --no-defaults --datadir="$folder/data" --socket=mariadb.sock --pid-file="$folder/data/server.pid" \
        --bind-address=127.0.0.1 --port=$((base_port + 30)) --skip-name-resolve --skip-log-bin \
        --character-set-server=utf8mb4 --innodb-buffer-pool-size=64M --innodb-log-file-size=32M \
        --innodb-use-native-aio=0 --performance-schema=off --init-file="$folder/conf/init.sql" "${user[@]}"
}

# Run at each start, before the first client: the server's password is always
# the one of the file. Tests may make databases named fanal_….
mariadb_users() {
    local password
    password=$(<"$dir/mariadb/password")
    cat <<END
CREATE DATABASE IF NOT EXISTS fanal CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE USER IF NOT EXISTS 'fanal'@'127.0.0.1';
ALTER USER 'fanal'@'127.0.0.1' IDENTIFIED BY '$password';
GRANT ALL ON fanal.* TO 'fanal'@'127.0.0.1';
GRANT ALL ON \`fanal\\_%\`.* TO 'fanal'@'127.0.0.1';
END
}
