#!/bin/sh
# $1 is "remove" or "0" where the package goes, "upgrade" or "1" where another version
# comes.
set -e
case "$1" in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl disable --now onevoice || true
    fi
    ;;
esac
