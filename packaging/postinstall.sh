#!/bin/sh
# Makes the daemon's user, whom the key and the file belong to. Nothing is started:
# there is no file yet, and an upgrade must not end sessions.
set -e
if ! getent passwd onevoice >/dev/null; then
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers onevoice.conf
  else
    useradd --system --user-group --home-dir /var/lib/onevoice --no-create-home --shell /usr/sbin/nologin onevoice
  fi
fi
chown onevoice:onevoice /etc/onevoice
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if systemctl is-active --quiet onevoice; then
    echo "onevoice runs on in its earlier version; onevoice upgrade goes over to this one and ends no session"
  fi
fi
