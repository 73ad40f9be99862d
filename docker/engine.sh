#!/bin/bash
# Makes sure that a Docker engine answers, and says nothing when one does already.
#
#   docker/engine.sh          exit 0: `docker` works now; exit 1: it cannot, and one line on stderr says why
#
# Where no engine answers, the machine is a Debian and we are root, it installs docker.io and starts dockerd. A daemon
# that was killed leaves pid files that keep the next one from starting; they are removed, but only when nothing answers.
#
#   BACKSTAY_ENGINE_DIR       keep the daemon's socket, pid file, data and log under this directory instead of the
#                             system's places (run it in its own network namespace: two daemons in one delete each
#                             other's bridge)
#   BACKSTAY_ENGINE_WAIT      seconds that a starting daemon gets to answer (60)
#   BACKSTAY_OS_RELEASE       the file that names this system (/etc/os-release)
set -u -o pipefail

if [ -n "${BACKSTAY_ENGINE_DIR:-}" ]; then
    run=$BACKSTAY_ENGINE_DIR exec_root=$BACKSTAY_ENGINE_DIR/exec log=$BACKSTAY_ENGINE_DIR/dockerd.log
    export DOCKER_HOST=unix://$run/docker.sock
else
    run=/var/run exec_root=/var/run/docker log=/var/log/dockerd.log
fi
wait_limit=${BACKSTAY_ENGINE_WAIT:-60}

answers() { timeout 5 docker version >/dev/null 2>&1; }

die() {
    echo "docker/engine.sh: $*" >&2
    exit 1
}

# Polls by the clock: the daemon's socket accepts before the API serves, so one try may take its whole five seconds.
# $1: seconds, $2: a pid that must stay alive (optional).
wait_for_answer() {
    local end=$((SECONDS + $1))
    while ! answers; do
        [ "$SECONDS" -lt "$end" ] || return 1
        [ -z "${2:-}" ] || alive "$2" || return 1
        sleep 0.1
    done
}

# A zombie counts as dead, though its pid exists and dockerd would refuse to start because of it.
alive() {
    local state
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)
    [ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

# The pid in file $1, if it belongs to a living dockerd or containerd; a reused pid is a stranger's.
recorded_daemon() {
    local pid comm
    pid=$(cat "$1" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    comm=$(cat "/proc/$pid/comm" 2>/dev/null) || return 1
    case $comm in dockerd | containerd) alive "$pid" && echo "$pid" ;; *) return 1 ;; esac
}

end_daemon() {
    local pid=$1 end=$((SECONDS + 15))
    kill -TERM "$pid" 2>/dev/null
    while alive "$pid"; do
        [ "$SECONDS" -lt "$end" ] || kill -KILL "$pid" 2>/dev/null
        [ "$SECONDS" -lt $((end + 5)) ] || die "process $pid does not end; end it by hand and try again"
        sleep 0.1
    done
}

# Shims and their containers are left alone: the new daemon adopts them.
clear_stale_state() {
    local file pid
    for file in "$run/docker.pid" "$exec_root/containerd/containerd.pid"; do
        if pid=$(recorded_daemon "$file"); then end_daemon "$pid"; fi
        rm -f "$file"
    done
    rm -f "$exec_root"/containerd/containerd.sock*
}

install_engine() {
    export DEBIAN_FRONTEND=noninteractive
    echo "docker/engine.sh: installing docker.io" >&2
    { apt-get update -q && apt-get install -q -y --no-install-recommends docker.io; } >"$log.apt" 2>&1 ||
        die "installing docker.io failed; its output is in $log.apt: $(grep -m 1 '^E:' "$log.apt")"
}

start_engine() {
    local flags=()
    if [ -n "${BACKSTAY_ENGINE_DIR:-}" ]; then
        flags=(--host "$DOCKER_HOST" --pidfile "$run/docker.pid" --exec-root "$exec_root" --data-root "$run/data")
    elif [ -d /run/systemd/system ]; then
        # systemd restarts what it started, so it must be the one that starts it.
        systemctl reset-failed docker >/dev/null 2>&1
        systemctl start docker >/dev/null 2>&1
        wait_for_answer "$wait_limit" || die "systemd could not start docker; see: journalctl -u docker"
        return
    fi
    # No --storage-driver: on an overlay file system dockerd must be free to fall back.
    setsid dockerd "${flags[@]}" >>"$log" 2>&1 </dev/null 9>&- &
    wait_for_answer "$wait_limit" "$!" || die "dockerd does not answer; the end of $log: $(tail -n 1 "$log")"
}

warn_if_slow() {
    [ "$(docker info --format '{{.Driver}}' 2>/dev/null)" != vfs ] ||
        echo "docker/engine.sh: the storage driver is vfs, which copies whole images; put the data root on a real file system" >&2
}

answers && exit 0
if [ -z "${BACKSTAY_ENGINE_DIR:-}" ] && [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != unix:///var/run/docker.sock ]; then
    die "DOCKER_HOST is $DOCKER_HOST, but no engine answers there; start it, or unset DOCKER_HOST"
fi
# shellcheck source=/dev/null
[ "$( (. "${BACKSTAY_OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo "${ID:-}"))" = debian ] ||
    die "no Docker engine answers, and only on Debian can one be installed here; install and start Docker, then try again"
[ "$(id -u)" = 0 ] ||
    die "no Docker engine answers, and only root can start one; start Docker (or let this user reach its socket), then try again"

mkdir -p "$run" || die "cannot create $run"
exec 9>"$run/backstay-engine.lock" || die "cannot write to $run"
flock -w 300 9 || die "another docker/engine.sh has been starting the engine for five minutes; end it and try again"
answers && exit 0 # somebody else started it while we waited
command -v docker >/dev/null && command -v dockerd >/dev/null || install_engine
if pid=$(recorded_daemon "$run/docker.pid"); then
    # It may be starting: one that adopts old containers needs 10 s for each that ignores SIGTERM.
    wait_for_answer "$wait_limit" "$pid" && exit 0
fi
clear_stale_state
start_engine
warn_if_slow
