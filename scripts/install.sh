#!/usr/bin/env bash
# Installs what the build and the tests need and the machine does not have.
#
# usage: scripts/install.sh PART…
#   build    a Rust toolchain (checked), a C compiler, make, pkg-config, the headers of
#            OpenSSL and zlib: the Kafka client is compiled from C and links these two
#   libchdb  the ClickHouse engine, below .cache/libchdb
#   sdk      the vendor SDKs that the tests drive: Python and JavaScript, below .cache/sdk
#   browser  Chromium for the browser driver (Debian package)
#   stack    the servers of scripts/stack.sh: jars below .cache/stack, Java 17, MariaDB
#   readers  other readers of the archive, below .cache/readers: DuckDB, PyArrow, PySpark, Java 17
#   clients  other clients of the event log, below .cache/clients: Confluent's Python client, Protobuf
#   tools    small programs that the tests call: curl, iproute2, util-linux (Debian packages)
#
# A part that is there is skipped, so running it again costs nothing. Nothing
# outside of .cache is written except by Debian packages, and those only as root.
set -euo pipefail

# One place for every version: a change here installs anew.
LIBCHDB=@chdb/lib-linux-x64-gnu@26.7.3-stable.1
PYTHON_SDK=kameleoon-client-python==3.22.2
CLIENTS=(confluent-kafka==2.16.1 grpcio-tools==1.85.1)
READERS=(duckdb==2.0.0 pyarrow==26.0.1 pyspark==4.3.0)
NODE_SDK=(@kameleoon/javascript-sdk@4.17.1 eventsource@4.1.1 puppeteer-core@24)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
# shellcheck source=scripts/stack/java.sh
. "$root/scripts/stack/java.sh"

say() { printf 'install: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# A part is there when the file that its last step wrote names these versions:
# an interrupted installation has none and starts again.
installed() { [[ -f $1/.installed && $(<"$1/.installed") == "$2" ]]; }
mark_installed() { printf '%s\n' "$2" >"$1/.installed"; }

npm_into() {
    local folder=$1
    shift
    command -v npm >/dev/null || fail "npm is missing: install Node.js 20 or newer (Debian: apt-get install nodejs npm)"
    mkdir -p "$folder"
    npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error "$@" >&2
}

debian() {
    local missing=("$@")
    command -v apt-get >/dev/null || fail "please install: ${missing[*]} (no apt-get here, so this script cannot)"
    [[ $(id -u) == 0 ]] || fail "please install as root: apt-get install --no-install-recommends ${missing[*]}"
    say "installing Debian packages ${missing[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need PROGRAM PACKAGE …: installs the packages of the programs that are missing, in one go.
need() {
    local packages=()
    while (($#)); do
        command -v "$1" >/dev/null || packages+=("$2")
        shift 2
    done
    if ((${#packages[@]})); then debian "${packages[@]}"; fi
}

# need_file FILE PACKAGE
need_file() { [[ -e $1 ]] || debian "$2"; }

part_build() {
    command -v cargo >/dev/null || fail "cargo is missing: install rustup, it then takes the version of rust-toolchain.toml"
    need cc gcc ld binutils make make pkg-config pkg-config
    [[ $(uname -s) == Linux ]] || return 0
    need_file /usr/include/stdlib.h libc6-dev
    need_file /usr/include/openssl/ssl.h libssl-dev
    need_file /usr/include/zlib.h zlib1g-dev
}

part_libchdb() {
    local folder=$cache/libchdb library=node_modules/@chdb/lib-linux-x64-gnu/libchdb.so
    if installed "$folder" "$LIBCHDB" && [[ -f $folder/$library ]]; then return; fi
    [[ $(uname -sm) == "Linux x86_64" ]] || fail "the embedded ClickHouse engine is packaged for Linux on x86-64 only"
    say "installing $LIBCHDB"
    npm_into "$folder" "$LIBCHDB"
    [[ -f $folder/$library ]] || fail "$folder/$library is missing after the installation; remove $folder and try again"
    mark_installed "$folder" "$LIBCHDB"
}

part_sdk() {
    local python=$cache/sdk/python node=$cache/sdk/node
    if ! installed "$python" "$PYTHON_SDK" || ! "$python/bin/python" -c 'import kameleoon' 2>/dev/null; then
        say "installing $PYTHON_SDK"
        command -v python3 >/dev/null || debian python3 python3-venv
        python3 -m venv --clear "$python" >&2 || { debian python3-venv && python3 -m venv --clear "$python" >&2; }
        "$python/bin/python" -m pip install --quiet --disable-pip-version-check "$PYTHON_SDK" >&2
        mark_installed "$python" "$PYTHON_SDK"
    fi
    if ! installed "$node" "${NODE_SDK[*]}" || [[ ! -d $node/node_modules/puppeteer-core ]]; then
        say "installing ${NODE_SDK[*]}"
        npm_into "$node" "${NODE_SDK[@]}"
        mark_installed "$node" "${NODE_SDK[*]}"
    fi
}

part_browser() { need chromium chromium; }

part_readers() {
    local folder=$cache/readers
    java_of_stack >/dev/null || debian "openjdk-$JAVA_VERSION-jre-headless"
    if installed "$folder" "${READERS[*]}" && "$folder/bin/python" -c 'import duckdb, pyarrow, pyspark' 2>/dev/null; then return; fi
    say "installing ${READERS[*]}"
    command -v python3 >/dev/null || debian python3 python3-venv
    python3 -m venv --clear "$folder" >&2 || { debian python3-venv && python3 -m venv --clear "$folder" >&2; }
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${READERS[@]}" >&2
    mark_installed "$folder" "${READERS[*]}"
}

part_clients() {
    local folder=$cache/clients
    if installed "$folder" "${CLIENTS[*]}" && "$folder/bin/python" -c 'import confluent_kafka, grpc_tools' 2>/dev/null; then return; fi
    say "installing ${CLIENTS[*]}"
    command -v python3 >/dev/null || debian python3 python3-venv
    python3 -m venv --clear "$folder" >&2 || { debian python3-venv && python3 -m venv --clear "$folder" >&2; }
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${CLIENTS[@]}" >&2
    mark_installed "$folder" "${CLIENTS[*]}"
}

part_tools() { need curl curl ip iproute2 unshare util-linux; }

# The core packages hold the programs without a system service, so nothing starts
# by itself and nothing is enabled.
part_stack() {
    need curl curl setsid util-linux mariadbd mariadb-server-core mariadb mariadb-client-core
    java_of_stack >/dev/null || debian "openjdk-$JAVA_VERSION-jre-headless"
    java_of_stack >/dev/null || fail "Java $JAVA_VERSION is missing after the installation; name its folder in FANAL_STACK_JAVA_HOME"
    local name
    for name in kafka hdfs cassandra; do jars "$name"; done
}

# Copies the jars of one POM below .cache/stack; the folder is complete or absent.
jars() {
    local folder=$cache/stack/$1 pom=$root/scripts/stack/$1.pom.xml version new
    version=$(cksum <"$pom")
    if installed "$folder" "$version"; then return; fi
    need mvn maven
    say "fetching the jars of $1"
    mkdir -p "$cache/stack"
    new=$(mktemp -d "$folder.XXXXXX")
    mvn -B -ntp -q -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$new" >&2 ||
        { rm -rf "$new" && fail "Maven could not fetch the jars of $1; its messages stand above"; }
    mark_installed "$new" "$version"
    chmod 755 "$new"
    rm -rf "$folder"
    mv -T "$new" "$folder"
}

(($#)) || fail "name the parts: build, libchdb, sdk, browser, stack, readers, clients, tools"
for part in "$@"; do
    case $part in
        build | libchdb | sdk | browser | stack | readers | clients | tools) "part_$part" ;;
        *) fail "unknown part $part; known are build, libchdb, sdk, browser, stack, readers, clients, tools" ;;
    esac
done
