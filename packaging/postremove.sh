#!/bin/sh
# The key, the file and the state stay until they are purged.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "$1" = purge ]; then
  rm -rf /etc/onevoice /var/lib/onevoice
fi
