#!/usr/bin/env bash
# Tries the OCF agent: with Pacemaker's own ocf-tester (Debian: resource-agents) and with
# what may happen to a daemon, in namespaces of its own. It needs root.
#
#   packaging/ocf/test.sh PROGRAM
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")"
command -v ocf-tester >/dev/null || { echo "no ocf-tester here (Debian: apt install resource-agents)" >&2; exit 1; }
if [ "${ONEVOICE_INSIDE:-}" != yes ]; then
  [ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }
  export ONEVOICE_INSIDE=yes
  exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "./$(basename "$0")" "$program"
fi
fail() { echo "FAILED: $*; the log: $(tail -5 "$dir/log" 2>/dev/null)" >&2; exit 1; }

mount -t tmpfs tmpfs /mnt
dir=/mnt
ip link set lo up
ip link add ov0 type veth peer name ov1
ip address add 10.77.0.11/24 dev ov0
ip link set ov0 up && ip link set ov1 up
cp "$program" "$dir/onevoice"
"$dir/onevoice" keygen --out "$dir/key"
cat >"$dir/onevoice.toml" <<TOML
[cluster]
name = "ocf"
interface = "ov0"
key_file = "$dir/key"
peers = ["10.77.0.11"]
[node]
user = "root"
state_dir = "$dir/state"
stop_timeout = "1s"
[admin]
socket = "$dir/sock"
[[vip]]
address = "10.77.0.2/24"
[[service]]
name = "ssh"
listen = "10.77.0.2:22"
backend = "127.0.0.1:22"
TOML
export OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=test OCF_RESKEY_binary=$dir/onevoice OCF_RESKEY_config=$dir/onevoice.toml
export OCF_RESKEY_socket=$dir/sock OCF_RESKEY_logfile=$dir/log OCF_RESKEY_pidfile=$dir/pid
# does runs an action, which has to end with a code.
does() {
  local got=0
  ./onevoice "$2" 2>"$dir/said" || got=$?
  [ "$got" = "$1" ] || fail "$2 ended with $got, not $1: $(cat "$dir/said")"
}
control() { pgrep -s "$(cat "$dir/pid")" -f ' run '; }

echo "== ocf-tester"
ocf-tester -n test -o binary="$dir/onevoice" -o config="$dir/onevoice.toml" -o socket="$dir/sock" -o logfile="$dir/log" -o pidfile="$dir/pid" "$PWD/onevoice"

echo "== start, a crash, a hang, stop"
does 7 monitor
does 0 stop
does 0 start
does 0 start
does 0 monitor
for _ in $(seq 100); do
  OCF_CHECK_LEVEL=10 ./onevoice monitor 2>/dev/null && break
  sleep 0.1
done
OCF_CHECK_LEVEL=10 does 0 monitor
kill -KILL "$(control)"
does 7 monitor
does 0 start
does 0 monitor
# Another kill, and a stop at once: the workers are alone then.
kill -KILL "$(control)"
does 0 stop
pgrep onevoice >/dev/null && fail "processes are left: $(pgrep -a onevoice)"
does 0 start
kill -STOP "$(control)"
does 1 monitor
kill -CONT "$(control)"
does 0 monitor
does 0 stop
does 7 monitor
[ ! -e "$dir/pid" ] || fail "the pid file is left"
ip rule | grep -q "lookup [0-9]" && fail "a rule was left: $(ip rule)"

echo "== what is wrong is told"
OCF_RESKEY_binary=/nonexistent does 5 validate-all
echo "[nonsense]" >>"$dir/onevoice.toml"
does 6 validate-all
does 6 start
grep -q nonsense "$dir/said" || fail "it does not say what is wrong: $(cat "$dir/said")"
does 3 dance
echo "== all of it held"
