#!/usr/bin/env bash
# Makes a release of the last commit twice, from two clones in folders of different
# names, and compares the bytes of all that comes out.
#
#   packaging/reproduce.sh
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# make_release CLONE TIME-ZONE UMASK
make_release() {
  git clone -q . "$dir/$1"
  echo "== make release, in $1"
  (cd "$dir/$1" && umask "$3" && TZ=$2 make --no-print-directory release >"$dir/log" 2>&1) || { tail -20 "$dir/log"; exit 1; }
}
make_release a/onevoice UTC 0022
sleep 1
make_release b/another-name Pacific/Auckland 0027
if ! diff "$dir/a/onevoice/dist/SHA256SUMS" "$dir/b/another-name/dist/SHA256SUMS"; then
  echo "FAILED: the same commit made different bytes" >&2
  exit 1
fi
for arch in amd64 arm64; do
  if go version -m "$dir/a/onevoice/dist/linux-$arch/onevoice" | grep -q 'CGO_ENABLED=1'; then
    echo "FAILED: the program for $arch is not static" >&2
    exit 1
  fi
done
cat "$dir/a/onevoice/dist/SHA256SUMS"
echo "== twice the same bytes"
