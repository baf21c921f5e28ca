package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"onevoice/internal/netns"
)

// regress is where Debian's openssh-tests has the regression tests of OpenSSH.
const regress = "/usr/lib/openssh/regress"

// openSSH runs OpenSSH's own regression tests: their sshd is on the first node behind
// the VIP, or on the plain server, and all else on the client, where 127.0.0.1 and
// the tests' port lead there. What passes through a plain server must pass through
// the cluster, also while another node dies every 20 s.
func (a *arena) openssh() {
	if _, err := os.Stat(regress); err != nil {
		a.rows = append(a.rows, row{tool: "OpenSSH's regression tests", verdict: "skipped: needs openssh-tests"})
		return
	}
	a.sh(a.client, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
	a.sh(a.plain, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
	a.sh(a.plain, "nft", fmt.Sprintf("add table ip n; add chain ip n p { type nat hook prerouting priority -100; }; add rule ip n p tcp dport %d dnat to 127.0.0.1:%[1]d", regressPort))
	pass := func(at target, server *netns.NS) string {
		a.sh(a.client, "nft", fmt.Sprintf("add table ip n; delete table ip n; add table ip n; add chain ip n o { type nat hook output priority -100; }; add rule ip n o ip daddr 127.0.0.1 tcp dport %d dnat to %s:%[1]d; add chain ip n p { type nat hook postrouting priority 100; }; add rule ip n p ip daddr %[2]s snat to %[3]s",
			regressPort, at.v4, arenaClient))
		return a.regression(server)
	}
	sshdOf := func(at target) *netns.NS {
		if at.name == "plain" {
			return a.plain.NS
		}
		return a.nodes[0].NS
	}
	all := func(plain, ours string) string {
		var lost []string
		for _, name := range strings.Fields(plain)[1:] {
			if !slices.Contains(strings.Fields(ours), name) {
				lost = append(lost, name)
			}
		}
		if len(lost) > 0 || number(`^(\d+)`, plain) < 20 {
			return fmt.Sprintf("these pass through the plain server alone: %v", lost)
		}
		return ""
	}
	a.judged("OpenSSH's regression tests", "nft", func(at target) string { return pass(at, sshdOf(at)) }, all)
	a.judged("OpenSSH's regression tests while another node dies every 20 s", "nft", func(at target) string {
		if at.name != "plain" {
			defer a.dying()()
		}
		return pass(at, sshdOf(at))
	}, all)
}

// regressions are OpenSSH's tests that talk over the network. What is about files alone is
// left out.
const regressions = "connect connect-privsep connect-uri proto-version exit-status exit-status-signal envpass transfer banner rekey stderr-data stderr-after-eof broken-pipe try-ciphers yes-head login-timeout keyscan dynamic-forward forwarding multiplex reconfigure localcommand forcecommand portnum forward-control integrity authinfo hostkey-rotate allow-deny-users channel-timeout connection-timeout scp sftp scp-uri sftp-uri"

// regressionTime is how long one of them may take.
const regressionTime = 5 * time.Minute

// regression runs them with sshd in a namespace, and gives how many have passed, and
// which. Their own loop ends with the first that fails, so each is run by itself.
func (a *arena) regression(server *netns.NS) string {
	dir := a.t.TempDir()
	a.must(os.CopyFS(filepath.Join(dir, "regress"), os.DirFS(regress)))
	obj := filepath.Join(dir, "regress")
	sshd := filepath.Join(dir, "sshd")
	a.must(os.WriteFile(sshd, []byte(fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/proc/%d/fd/%d /usr/sbin/sshd \"$@\"\n", os.Getpid(), server.FD())), 0o755))
	var passed []string
	for _, test := range strings.Fields(regressions) {
		out := a.runIn(regressionTime, "make", "-C", obj, ".OBJDIR="+obj, ".CURDIR="+obj, "BUILDDIR="+obj, "OBJ="+obj, "SUDO=", "TEST_SHELL=sh", "TEST_SSH_SSH=/usr/bin/ssh",
			"TEST_SSH_SSHD="+sshd, "TEST_SSH_SFTPSERVER=/usr/lib/openssh/sftp-server", "TEST_SSH_ECC=yes", "TEST_SSH_UNSAFE_PERMISSIONS=1", "t-exec", "LTESTS="+test)
		if regexp.MustCompile(`(?m)^ok `).MatchString(out) {
			passed = append(passed, test)
			continue
		}
		a.t.Logf("%s did not pass; its last words: %s", test, out[max(0, len(out)-500):])
	}
	a.t.Logf("of %d tests %d passed", len(strings.Fields(regressions)), len(passed))
	return fmt.Sprintf("%d: %s", len(passed), strings.Join(passed, " "))
}
