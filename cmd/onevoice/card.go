package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/control"
	"onevoice/link"
)

// card is what this host tells the others of itself, but for the times.
func (d *daemon) card(asked bool) control.Card {
	c := control.Card{Version: version(), File: fileDigests(d.cfg), MTU: map[string]int{}, Sysctls: sysctls()}
	for _, u := range d.cfg.Uplinks() {
		if mtu, err := link.MTU(u.Interface); err == nil {
			c.MTU[u.Interface] = mtu
		}
	}
	c.HostKeys = d.hostKeys.of(d.cfg, time.Now(), asked)
	return c
}

// witnessCard is what a witness tells: it has neither services nor interfaces.
func (d *daemon) witnessCard(bool) control.Card {
	return control.Card{Version: version(), File: fileDigests(d.cfg)}
}

// fileDigests are digests of what has to be the same in the files of all nodes, by
// table. They are of what the file means, so that comments, and the order of keys, do
// not count.
// Where a node keeps the key is its own affair.
func fileDigests(c *config.Config) map[string]string {
	out, shared := map[string]string{}, c.Cluster
	shared.KeyFile, shared.OtherKeyFile = "", ""
	for table, meaning := range map[string]any{
		"[cluster]": shared, "[[vip]]": c.VIPs, "[access]": c.Access, "[[service]]": c.Services, "[[pin]]": c.Pins,
	} {
		// Typed values of a file can be written out.
		text, _ := json.Marshal(meaning)
		sum := sha256.Sum256(text)
		out[table] = fmt.Sprintf("%x", sum[:8])
	}
	return out
}

// sysctls are the settings of this host's kernel that ought to be the same on all
// nodes, for connections to a service to be treated alike (ip-sysctl.rst and
// sysctl/net.rst of the kernel's documentation).
func sysctls() map[string]string {
	out := map[string]string{}
	for _, name := range []string{
		"net.core.somaxconn", "net.ipv4.ip_forward", "net.ipv4.ip_local_port_range", "net.ipv4.ip_nonlocal_bind",
		"net.ipv4.tcp_keepalive_time", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.all.send_redirects", "net.ipv6.conf.all.forwarding",
	} {
		if text, ok := sysctl(name); ok {
			out[name] = text
		}
	}
	return out
}

// sysctl reads one setting; words are parted by one space each.
func sysctl(name string) (string, bool) {
	text, err := os.ReadFile(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")))
	return strings.Join(strings.Fields(string(text)), " "), err == nil
}

// wallClock is CLOCK_REALTIME.
func wallClock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &ts)
	return time.Duration(ts.Nano())
}
