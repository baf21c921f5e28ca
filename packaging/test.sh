#!/usr/bin/env bash
# Installs, runs, upgrades, removes and purges a package in a throw-away copy of this
# system: an overlay that nothing of comes back from. It needs root.
#
#   packaging/test.sh PACKAGE.deb
set -euo pipefail
package=$(realpath "$1")

if [ "${ONEVOICE_INSIDE:-}" != yes ]; then
  [ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }
  export ONEVOICE_INSIDE=yes
  exec unshare --mount --net --pid --fork --kill-child --propagation private "$0" "$package"
fi

step() { printf '== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# The copy lies in memory, beside a device and a proc of its own.
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t proc proc /mnt/root/proc
mount --bind /dev /mnt/root/dev
mount --bind /sys /mnt/root/sys
mount -t tmpfs tmpfs /mnt/root/tmp
mount -t tmpfs tmpfs /mnt/root/run
# Whatever this system has of it itself is not in the copy.
rm -rf /mnt/root/var/lib/onevoice /mnt/root/etc/onevoice
cp "$package" /mnt/root/tmp/onevoice.deb
export DEBIAN_FRONTEND=noninteractive
inside() { chroot /mnt/root "$@"; }

step "install"
inside dpkg -i /tmp/onevoice.deb >/dev/null
inside onevoice version
for file in /usr/lib/systemd/system/onevoice.service /usr/share/man/man1/onevoice-run.1 /usr/share/bash-completion/completions/onevoice /usr/share/doc/onevoice/page.md; do
  [ -f "/mnt/root$file" ] || fail "no $file"
done
[ "$(inside stat -c %U /etc/onevoice)" = onevoice ] || fail "/etc/onevoice is not the daemon's"
inside getent passwd onevoice >/dev/null || fail "no user onevoice"

step "start as its user, with the unit's capabilities"
ip link set lo up
ip link add ov0 type veth peer name ov1
ip address add 10.77.0.11/24 dev ov0
ip link set ov0 up && ip link set ov1 up
inside setpriv --reuid onevoice --regid onevoice --clear-groups onevoice keygen --out /etc/onevoice/cluster.key
cat > /mnt/root/etc/onevoice/onevoice.toml <<'TOML'
[cluster]
name = "test"
interface = "ov0"
key_file = "/etc/onevoice/cluster.key"
peers = ["10.77.0.11"]

[node]
stop_timeout = "1s"

[[vip]]
address = "10.77.0.2/24"

[[service]]
name = "ssh"
listen = "10.77.0.2:22"
backend = "127.0.0.1:22"
TOML
inside onevoice check >/dev/null || fail "the file is refused"
caps=$(sed -n 's/^AmbientCapabilities=//p' packaging/onevoice.service)
# Numbers of capabilities(7). Where this system itself lacks one, so does the test.
declare -A number=([NET_BIND_SERVICE]=10 [NET_ADMIN]=12 [NET_RAW]=13 [SYS_NICE]=23 [SYS_RESOURCE]=24 [PERFMON]=38 [BPF]=39)
bound=$((16#$(sed -n 's/^CapBnd:\t//p' /proc/self/status)))
have=""
for cap in $caps; do
  name=${cap#CAP_}
  if [ $((bound >> number[$name] & 1)) = 1 ]; then
    have="$have,+${name,,}"
  fi
done
have="-all$have"
inside install -d -o onevoice -g onevoice -m 700 /run/onevoice /var/lib/onevoice
run() {
  chroot /mnt/root setpriv --reuid onevoice --regid onevoice --clear-groups --inh-caps="$have" --ambient-caps="$have" --no-new-privs onevoice run &
  child=$!
  for _ in $(seq 100); do
    if inside onevoice status 2>/dev/null | grep -q "holds a lease"; then return; fi
    sleep 0.1
  done
  fail "it has no lease: $(inside onevoice status 2>&1)"
}
run
inside onevoice status | grep -q "256 100 %" || fail "a node that is alone does not own all: $(inside onevoice status)"

step "upgrade over the running daemon"
inside dpkg -i /tmp/onevoice.deb >/dev/null
inside onevoice status >/dev/null || fail "the upgrade ended it"
kill "$child"
wait "$child" || fail "it stopped with code $?"

step "remove, and purge"
inside dpkg -r onevoice >/dev/null
[ ! -e /mnt/root/usr/bin/onevoice ] || fail "the program is still there"
[ -e /mnt/root/etc/onevoice/cluster.key ] || fail "the key was lost"
inside dpkg -P onevoice >/dev/null
[ ! -e /mnt/root/etc/onevoice ] || fail "the key is still there"
[ ! -e /mnt/root/var/lib/onevoice ] || fail "the state is still there"
ip rule | grep -q "lookup [0-9]" && fail "a rule was left: $(ip rule)"
step "all of it held"
