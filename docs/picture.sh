#!/usr/bin/env bash
# Takes docs/page.png: a lab of four nodes with clients, one of them drained, and the
# real page of one node in a real Chromium. It needs root, Chromium and curl.
#
#   docs/picture.sh ONEVOICE
set -euo pipefail
onevoice=$(realpath "$1")
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
go test -c -o "$dir/web.test" ./admin/web

lab() { "$onevoice" lab "$@"; }
lab up --nodes 4 --clients 4
trap 'lab down; rm -rf "$dir"' EXIT

# n1 asks for a token, so that its page has the buttons and the clients.
"$onevoice" keygen --token --out "$dir/token"
lab exec ov-n1 -- sed -i "s|^listen = \"127.*|&\ntoken_file = \"$dir/token\"|" /run/onevoice/n1/onevoice.toml
lab stop n1
lab start n1

# Clients that stay, and some that come and go.
for host in 1 2 3 4; do
  lab exec "ov-client$host" -- sh -c '
    addresses=$(ip -brief address show eth0 | grep -o "10\.77\.0\.1[0-9]*")
    for address in $(echo "$addresses" | head -8); do
      (sleep 250 | curl -s --interface "$address" --max-time 250 telnet://10.77.0.2:22 > /dev/null 2>&1) &
    done
    for again in $(seq 100); do
      for address in $(echo "$addresses" | tail -8); do
        sleep 0.3 | curl -s --interface "$address" --max-time 1 telnet://10.77.0.2:22 > /dev/null 2>&1
      done
    done' &
  clients+=($!)
done
sleep 20
lab exec ov-n2 -- onevoice drain n3
# Wait until the others have its share, a third each.
until [ "$(lab exec ov-n1 -- onevoice status | grep -cE '(33|34) %')" = 3 ]; do sleep 0.2; done
sleep 20
until [ "$(lab exec ov-n1 -- onevoice status | grep -cE '(33|34) %')" = 3 ]; do sleep 0.2; done
lab exec ov-n1 -- "$dir/web.test" -test.run '^TestPicture$' -picture-of http://127.0.0.1:7177/ -picture-token "$dir/token" -picture "$PWD/docs/page.png"
kill "${clients[@]}" 2>/dev/null || true
