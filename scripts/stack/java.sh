# Finds the Java of the stack's servers.

# The newest that Cassandra 5.0 runs on.
JAVA_VERSION=17

# Prints the path of `java`; fails where there is none of the version.
java_of_stack() {
    local candidate
    for candidate in ${FANAL_STACK_JAVA_HOME:+"$FANAL_STACK_JAVA_HOME/bin/java"} \
        ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java)" /usr/lib/jvm/*/bin/java; do
        if [[ -x $candidate && $("$candidate" -version 2>&1) == *\"$JAVA_VERSION[.\"]* ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}
