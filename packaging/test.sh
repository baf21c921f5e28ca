#!/usr/bin/env bash
# Installs, runs, upgrades, removes and purges a package in a throw-away copy of this
# system: an overlay that nothing of comes back from. It needs root.
#
#   packaging/test.sh PACKAGE.deb|PACKAGE.rpm
#
# Where a system of the other kind has rpm, an .rpm is installed beside what is there,
# without a look at what it needs.
set -euo pipefail
package=$(realpath "$1")

if [ "${ONEVOICE_INSIDE:-}" != yes ]; then
  [ "$(id -u)" = 0 ] || { echo "this needs root" >&2; exit 1; }
  export ONEVOICE_INSIDE=yes
  exec unshare --mount --net --pid --fork --kill-child --propagation private "$0" "$package"
fi

step() { printf '== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

case "$package" in
  *.deb) tool=dpkg ;;
  *.rpm) tool=rpm ;;
  *) fail "$package is neither a .deb nor an .rpm" ;;
esac
if ! command -v $tool >/dev/null; then
  echo "no $tool here, so $(basename "$package") is not tried"
  exit 0
fi

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
cp "$package" /mnt/root/tmp/package
export DEBIAN_FRONTEND=noninteractive
inside() { chroot /mnt/root "$@"; }
install() {
  case $tool in
    dpkg) inside dpkg -i /tmp/package ;;
    rpm) inside rpm --upgrade --replacepkgs --nodeps /tmp/package ;;
  esac >/dev/null
}
remove() {
  case $tool in
    dpkg) inside dpkg -r onevoice ;;
    rpm) inside rpm --erase --nodeps onevoice ;;
  esac >/dev/null
}

step "install $(basename "$package")"
install
inside onevoice version
for file in /usr/lib/systemd/system/onevoice.service /usr/share/man/man1/onevoice-run.1 /usr/share/bash-completion/completions/onevoice /usr/share/zsh/vendor-completions/_onevoice /usr/share/fish/vendor_completions.d/onevoice.fish /usr/share/doc/onevoice/docs/page.md /usr/share/doc/onevoice/licenses/gvisor.dev/gvisor/pkg/LICENSE /usr/share/doc/onevoice/licenses/go/LICENSE; do
  [ -f "/mnt/root$file" ] || fail "no $file"
done
if command -v man >/dev/null; then
  inside env MANPAGER=cat man onevoice-run > /mnt/page 2>/mnt/wrong || fail "the manual page cannot be shown: $(cat /mnt/wrong)"
  grep -q -- --config /mnt/page || fail "the manual page of run says nothing of --config"
fi
inside bash -n /usr/share/bash-completion/completions/onevoice || fail "bash refuses the completion"
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
install
inside onevoice status >/dev/null || fail "the upgrade ended it"
kill "$child"
wait "$child" || fail "it stopped with code $?"

step "remove, and purge"
remove
[ ! -e /mnt/root/usr/bin/onevoice ] || fail "the program is still there"
[ -e /mnt/root/etc/onevoice/cluster.key ] || fail "the key was lost"
if [ $tool = dpkg ]; then
  inside dpkg -P onevoice >/dev/null
  [ ! -e /mnt/root/etc/onevoice ] || fail "the key is still there"
  [ ! -e /mnt/root/var/lib/onevoice ] || fail "the state is still there"
fi
# All that is not as it was lies in the overlay's upper folder; what was removed there is
# a character device (the kernel's Documentation/filesystems/overlayfs.rst). The tools'
# own lists may change, and the user stays, as is the custom. rpm knows no purge: there
# key, file and state are the operator's, who removes them.
changed() { (cd /mnt/upper && find . "$@" | sed 's/^\.//' | grep -v -e '^/var/lib/dpkg/' -e '^/var/lib/rpm' -e '^/root/\.rpmdb' -e '^/var/cache/' -e '^/var/log/' -e '^/tmp/' -e '^/run/' -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-\?$' -e '^/etc/\.pwd.lock$'); }
left=$(changed -type f | grep -v -e '^/etc/onevoice/' -e '^/var/lib/onevoice/' || true)
[ -z "$left" ] || fail "these files were left behind: $left"
left=$(changed -type d -name '*onevoice*' | grep -v -e '^/etc/onevoice$' -e '^/var/lib/onevoice$' || true)
[ -z "$left" ] || fail "these folders were left behind: $left"
gone=$(changed -type c | grep -v onevoice || true)
[ -z "$gone" ] || fail "these files of the system are gone: $gone"
ip rule | grep -q "lookup [0-9]" && fail "a rule was left: $(ip rule)"
step "all of it held"
