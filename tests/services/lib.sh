# Starts the real services that the tests talk to, and ends them; sourced by `tests/run` and by the scripts beside it.
#
# Everything a service writes lives in one temporary folder, every port is free and bound to loopback, and every process
# is ended by the pid this shell started. A developer's own MariaDB or Kafka on this machine is never touched.
# shellcheck shell=bash

services_home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
services_cache=${OTTLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ottla}/services
services_kafka_home=$services_cache/kafka-$(sed -n 's:.*<kafka.version>\(.*\)</.*:\1:p' "$services_home/pom.xml")
services_minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
services_minio=$services_cache/bin/minio-$services_minio_version
services_node=$services_cache/kinesis
services_python=$services_cache/python # A folder for each list of tests/services/python.
services_spark_jars=$services_cache/spark-jars
PATH=$PATH:/usr/sbin:/sbin # Debian puts mariadbd where only root looks.

services_dir=                # The temporary folder of this run; empty while nothing runs.
declare -A services_pid=()   # By service name: the process to end.
declare -A services_taken=() # Ports given out by this shell.

services_say() {
    printf 'services: %s\n' "$*" >&2
}

# Starts all services, side by side, waits until each answers, and exports the OTTLA_TEST_... variables.
# The caller must call services_stop when it exits, also when this fails.
services_start() {
    local kafka_port sasl_plaintext_port sasl_ssl_port mariadb_port postgres_port s3_port console_port
    local kinesis_port kinesis_tls_port kinesalite_port
    services_free_port kafka_port
    services_free_port sasl_plaintext_port
    services_free_port sasl_ssl_port
    services_free_port mariadb_port
    services_free_port postgres_port
    services_free_port s3_port
    services_free_port console_port
    services_free_port kinesis_port
    services_free_port kinesis_tls_port
    services_free_port kinesalite_port

    services_dir=$(mktemp -d "${TMPDIR:-/tmp}/ottla-services.XXXXXX") || return
    chmod 711 "$services_dir" # PostgreSQL refuses to run as root; as its own user it must reach its folder inside.

    export OTTLA_TEST_KAFKA=127.0.0.1:$kafka_port
    export OTTLA_TEST_KAFKA_SASL_PLAINTEXT=127.0.0.1:$sasl_plaintext_port
    export OTTLA_TEST_KAFKA_SASL_SSL=127.0.0.1:$sasl_ssl_port
    export OTTLA_TEST_KAFKA_CA=$services_dir/kafka/ca.pem
    export OTTLA_TEST_KAFKA_USER=alice
    export OTTLA_TEST_KAFKA_PASSWORD=alice-secret
    export OTTLA_TEST_KAFKA_HOME=$services_kafka_home
    export OTTLA_TEST_MARIADB=mysql://127.0.0.1:$mariadb_port/pinterest
    export OTTLA_TEST_POSTGRES=postgres://127.0.0.1:$postgres_port/pinterest
    export OTTLA_TEST_DB_USER=ottla
    export OTTLA_TEST_DB_PASSWORD=ottla-secret
    export OTTLA_TEST_S3=http://127.0.0.1:$s3_port
    # New in every run, and found nowhere else: a test that greps the logs for them cannot be fooled.
    OTTLA_TEST_S3_KEY=KEY$(services_random 8) || return
    OTTLA_TEST_S3_SECRET=$(services_random 20) || return
    export OTTLA_TEST_S3_KEY OTTLA_TEST_S3_SECRET
    export OTTLA_TEST_MINIO_BIN=$services_minio
    export OTTLA_TEST_KINESIS=http://127.0.0.1:$kinesis_port
    export OTTLA_TEST_KINESALITE=http://127.0.0.1:$kinesalite_port
    export OTTLA_TEST_PYTHON=$services_python/readers/bin/python
    export OTTLA_TEST_SPARK=$services_python/spark/bin/python
    export OTTLA_TEST_SPARK_JARS=$services_spark_jars
    if [[ -x $services_python/airflow/bin/airflow ]]; then
        export OTTLA_TEST_AIRFLOW=$services_python/airflow/bin/airflow
    fi

    services_launch kafka "$kafka_port" "$sasl_plaintext_port" "$sasl_ssl_port"
    services_launch mariadb "$mariadb_port"
    services_launch postgres "$postgres_port"
    services_launch minio "$s3_port" "$console_port"
    services_launch kinesis "$kinesis_port" "$kinesis_tls_port"
    services_launch kinesalite "$kinesalite_port"

    services_await mariadb services_mariadb_answers "$mariadb_port" || return
    services_await postgres services_postgres_answers "$postgres_port" || return
    services_await minio services_minio_answers "$s3_port" || return
    services_await kinesis services_listens "$kinesis_port" || return
    services_await kinesalite services_listens "$kinesalite_port" || return
    services_await kafka services_kafka_answers "$kafka_port" || return
}

# Ends every process that services_start began, and removes its folder. May be called again, or with nothing running.
services_stop() {
    local name deadline
    for name in "${!services_pid[@]}"; do
        # PostgreSQL takes TERM as "when the last client has left"; its QUIT is "now".
        if [[ $name == postgres ]]; then
            kill -QUIT "${services_pid[$name]}" 2>/dev/null || true
        else
            kill -TERM "${services_pid[$name]}" 2>/dev/null || true
        fi
    done
    deadline=$((SECONDS + 10))
    for name in "${!services_pid[@]}"; do
        while kill -0 "${services_pid[$name]}" 2>/dev/null && ((SECONDS < deadline)); do
            sleep 0.05
        done
        kill -KILL "${services_pid[$name]}" 2>/dev/null || true
        wait "${services_pid[$name]}" 2>/dev/null || true
    done
    services_pid=()
    if [[ -n $services_dir ]]; then
        rm -rf -- "$services_dir"
        services_dir=
    fi
}

# Prints what the tests need to find the services, to be pasted or sourced in another shell.
services_exports() {
    local name
    for name in "${!OTTLA_TEST_@}"; do
        printf 'export %s=%q\n' "$name" "${!name}"
    done
}

# --- The services. Each of these functions prepares a folder and becomes the daemon.

services_run_kafka() {
    services_exec "$services_home/kafka" "$1" "$services_dir/kafka" --sasl "$2" "$3"
}

services_run_mariadb() {
    local data=$services_dir/mariadb user
    user=$(id -un) || exit
    mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal --skip-test-db \
        --user="$user" || exit
    printf '%s\n' \
        "CREATE DATABASE pinterest;" \
        "CREATE USER '$OTTLA_TEST_DB_USER'@'%' IDENTIFIED BY '$OTTLA_TEST_DB_PASSWORD';" \
        "GRANT ALL PRIVILEGES ON *.* TO '$OTTLA_TEST_DB_USER'@'%';" >"$services_dir/mariadb.sql" || exit
    # The binlog is on, with whole rows, as a source of changes needs it.
    services_exec mariadbd --no-defaults --user="$user" --datadir="$data" --init-file="$services_dir/mariadb.sql" \
        --bind-address=127.0.0.1 --port="$1" --socket="$services_dir/mariadb.sock" --pid-file="$data/pid" \
        --skip-name-resolve --character-set-server=utf8mb4 --innodb-buffer-pool-size=64M --performance-schema=OFF \
        --log-bin=bin --server-id=1 --binlog-format=ROW --binlog-row-image=FULL --binlog-row-metadata=FULL
}

services_run_postgres() {
    local data=$services_dir/postgres bin as_user=()
    bin=$(services_postgres_bin) || exit
    mkdir "$data" || exit
    printf '%s\n' "$OTTLA_TEST_DB_PASSWORD" >"$data.password" || exit
    if ((EUID == 0)); then
        as_user=(--reuid=postgres --regid=postgres --init-groups)
        chown postgres:postgres "$data" "$data.password" || exit
    fi
    setpriv "${as_user[@]}" "$bin/initdb" --pgdata="$data" --username="$OTTLA_TEST_DB_USER" --pwfile="$data.password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync || exit
    services_exec "${as_user[@]}" "$bin/postgres" -D "$data" -p "$1" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c wal_level=logical -c fsync=off -c shared_buffers=32MB
}

services_run_minio() {
    mkdir "$services_dir/minio" || exit
    export MINIO_ROOT_USER=$OTTLA_TEST_S3_KEY MINIO_ROOT_PASSWORD=$OTTLA_TEST_S3_SECRET
    export MINIO_BROWSER=off MINIO_UPDATE=off
    services_exec "$services_minio" server --quiet --address "127.0.0.1:$1" --console-address "127.0.0.1:$2" \
        "$services_dir/minio"
}

# Waits are cut short: a test of shards splits and merges them often.
services_run_kinesis() {
    local slow
    for slow in CREATE_STREAM DELETE_STREAM SPLIT_SHARD MERGE_SHARDS UPDATE_SHARD_COUNT REGISTER_STREAM_CONSUMER \
        DEREGISTER_STREAM_CONSUMER; do
        export "${slow}_DURATION=50ms"
    done
    export KINESIS_MOCK_PLAIN_PORT=$1 KINESIS_MOCK_TLS_PORT=$2 SHARD_LIMIT=1000 LOG_LEVEL=WARN AWS_REGION=us-east-1
    cd "$services_node/node_modules/kinesis-local" || exit # It reads server.json where it stands.
    services_exec node --require "$services_home/node/loopback.js" main.js
}

services_run_kinesalite() {
    services_exec node --require "$services_home/node/loopback.js" "$services_node/node_modules/kinesalite/cli.js" \
        --port "$1" --createStreamMs 50 --deleteStreamMs 50 --updateStreamMs 50 --shardLimit 1000
}

# --- Whether each of them answers a client. Asked again and again until it does.

services_kafka_answers() {
    services_listens "$1" && grep -q 'Kafka Server started' "$services_dir/kafka.log"
}

services_mariadb_answers() {
    MYSQL_PWD=$OTTLA_TEST_DB_PASSWORD mariadb --no-defaults --protocol=tcp --host=127.0.0.1 --port="$1" \
        --user="$OTTLA_TEST_DB_USER" --execute='SELECT 1' pinterest >/dev/null
}

services_postgres_answers() {
    local psql=(psql --no-psqlrc --quiet --no-password --host=127.0.0.1 --port="$1" --username="$OTTLA_TEST_DB_USER")
    PGPASSWORD=$OTTLA_TEST_DB_PASSWORD "${psql[@]}" --dbname=postgres --command='CREATE DATABASE pinterest' >/dev/null
}

services_minio_answers() {
    local status
    services_listens "$1" || return
    exec {http}<>"/dev/tcp/127.0.0.1/$1" || return
    printf 'GET /minio/health/ready HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&"$http"
    IFS= read -r -t 5 status <&"$http" || true
    exec {http}>&-
    [[ $status == *' 200 '* ]]
}

# --- Helpers.

# services_launch NAME ARGUMENT...: runs services_run_NAME beside this shell, its output in NAME.log.
services_launch() {
    local name=$1
    shift
    (
        trap - EXIT INT TERM HUP
        "services_run_$name" "$@"
    ) >"$services_dir/$name.log" 2>&1 </dev/null &
    services_pid[$name]=$!
}

# services_exec [SETPRIV OPTION]... COMMAND...: becomes COMMAND, which is told to end should this shell be killed.
services_exec() {
    exec setpriv --pdeathsig TERM "$@"
}

# services_await NAME CHECK ARGUMENT...: waits until CHECK succeeds, but not for a process that has ended.
services_await() {
    local name=$1 deadline=$((SECONDS + 90)) trouble
    shift
    until "$@" 2>/dev/null; do
        if ! kill -0 "${services_pid[$name]}" 2>/dev/null; then
            trouble="$name ended while it was starting"
        elif ((SECONDS >= deadline)); then
            trouble="$name did not answer within 90 seconds"
        else
            sleep 0.1
            continue
        fi
        services_say "$trouble; the end of its log:"
        tail -n 20 "$services_dir/$name.log" >&2
        return 1
    done
}

# services_free_port VARIABLE: chooses a port on which nobody listens.
# It lies below the range that the kernel gives to outgoing connections: while a broker is down for a restart, a client
# that retries could otherwise be given the broker's own port.
services_free_port() {
    local candidate
    while :; do
        candidate=$((10000 + SRANDOM % 20000))
        if [[ -z ${services_taken[$candidate]-} ]] && ! services_listens "$candidate"; then
            services_taken[$candidate]=yes
            printf -v "$1" '%s' "$candidate"
            return
        fi
    done
}

services_listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

services_random() {
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

# Debian keeps the server's programs out of PATH, in a folder named after the version; the newest is taken.
services_postgres_bin() {
    local newest
    newest=$(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V | tail -n 1)
    [[ -n $newest ]] && dirname "$newest"
}
