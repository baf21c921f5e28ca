package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/admin"
	"onevoice/internal/netns"
)

// second gives the pair's node another interface, with a client of its own behind it.
func (p *pair) second(own, client string) *netns.NS {
	p.t.Helper()
	there, err := netns.New()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { there.Close() })
	err = p.Do(func() error {
		peer := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1"}, PeerName: "cable", PeerNamespace: netlink.NsFd(there.FD())}
		return netlink.LinkAdd(peer)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, end := range []struct {
		where   interface{ Do(func() error) error }
		name    string
		address string
	}{{p, "eth1", own}, {there, "cable", client}} {
		err := end.where.Do(func() error {
			l, err := netlink.LinkByName(end.name)
			if err != nil {
				return err
			}
			ip, network, err := net.ParseCIDR(end.address)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: network.Mask}}); err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return there
}

// Two interfaces have a VIP each, and a worker each. What comes in over one is answered
// over it, and neither answers for the other's VIP.
func TestSeveralInterfaces(t *testing.T) {
	p := newPair(t)
	const other = "10.88.0.2"
	p.configure(fmt.Sprintf(`[[vip]]
address = "%[1]s/24"
interface = "eth1"
[[service]]
name = "other"
listen = "%[1]s:7"
backend = "127.0.0.1:7001"
`, other))
	if code, out := runProgram(t, program(t, "run", "--config", p.file), p.Start); code != 1 || !strings.Contains(out, "there is no interface eth1 on this host, on which VIP 10.88.0.2 is") {
		t.Errorf("without the interface: exit %d: %s", code, out)
	}
	client := p.second("10.88.0.11/24", "10.88.0.101/24")
	before := p.settings()
	p.echo("127.0.0.1:7001")
	c := p.start()
	c.until("answering: this node holds a lease")
	p.session()
	dial := func(where interface{ Do(func() error) error }, to string) (conn net.Conn) {
		t.Helper()
		err := where.Do(func() (err error) {
			conn, err = net.DialTimeout("tcp4", to, patience)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	here := dial(client, other+":7")
	if err := echoes(here); err != nil {
		t.Fatal(err)
	}
	if err := echoes(dial(p, other+":7")); err != nil {
		t.Errorf("this host itself: %v", err)
	}
	s := p.status()
	if len(s.Workers) != 2 || s.Workers[0].Uplink != "eth0" || s.Workers[1].Uplink != "eth1" || s.Workers[0].Flows.Running != 1 || s.Workers[1].Flows.Running != 1 {
		t.Fatalf("workers %+v", s.Workers)
	}
	for i, name := range []string{"echo", "other"} {
		if v := s.Services[i]; v.Name != name || !v.Up || v.Flows != 1 {
			t.Errorf("service %+v", v)
		}
	}
	// The VIP of one LAN is nobody's on the other.
	w := newWire(p)
	crossed := w.arp(1, w.mac, nobody().String(), other)
	if answers, counted := w.judged(crossed); len(answers) > 0 || counted["answered-arp"] > 0 {
		t.Errorf("over the wrong interface: answers %q, counted as %v", kindsOf(answers), counted)
	}
	// Both workers are taken up again, and a worker that dies costs its interface alone.
	c.end(syscall.SIGKILL)
	c = p.start()
	c.until("answering: this node holds a lease")
	if again := p.status(); len(again.Workers) != 2 || again.Workers[0].Process.PID != s.Workers[0].Process.PID || again.Workers[1].Process.PID != s.Workers[1].Process.PID {
		t.Errorf("workers %+v, before %+v", again.Workers, s.Workers)
	}
	if err := echoes(here); err != nil {
		t.Errorf("a session under the next control: %v", err)
	}
	if err := syscall.Kill(s.Workers[0].Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := echoes(here); err != nil {
		t.Errorf("a session over the other interface: %v", err)
	}
	p.session()
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
	if p.settings() != before {
		t.Errorf("%d rules and routes, before %d", p.settings(), before)
	}
}

// Who is cut off from one LAN loses what is on it to the others, and keeps what is on
// the other.
func TestR6OneInterfaceIsCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes, until their shares have settled twice")
	}
	hosts := map[string]*host{"10.77.0.11": newHost(t), "10.77.0.12": newHost(t), "10.77.0.13": newHost(t)}
	joinLAN(t, hosts)
	second := map[string]*host{}
	for address, h := range hosts {
		second[strings.Replace(address, "77", "88", 1)] = h
	}
	lan := joinLANBy(t, "eth1", second)
	var logs []*logged
	for _, h := range hosts {
		h.ownState()
		h.edit(`, "10.77.0.14"]`, "]", "\n[[service]]\nname = \"ssh\"", `
[[vip]]
address = "10.88.0.2/24"
interface = "eth1"
[[service]]
name = "other"
listen = "10.88.0.2:22"
backend = "127.0.0.1:22"
check = "exec:/bin/true"
[[service]]
name = "ssh"`, `# check = "tcp"`, `check = "exec:/bin/true"`)
		logs = append(logs, h.begin("run"))
	}
	for _, l := range logs {
		l.until("answering: this node holds a lease")
	}
	// owned are a host's buckets, as whoever has applied most of the log knows them.
	owned := func(address string) (ssh, other int) {
		var latest uint64
		for _, h := range hosts {
			s, err := admin.Ask(context.Background(), h.socket(), admin.Wanted{})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range s.Nodes {
				if n.Address == address && s.Index >= latest {
					latest, ssh, other = s.Index, n.BucketsOf["ssh"], n.BucketsOf["other"]
				}
			}
		}
		return ssh, other
	}
	until := func(what string, is func(ssh, other int) bool) {
		t.Helper()
		for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			ssh, other := owned("10.77.0.11")
			if is(ssh, other) {
				return
			}
			if time.Since(begun) > patience {
				t.Fatalf("%s: the host has %d buckets of ssh and %d of the other", what, ssh, other)
			}
		}
	}
	until("at first", func(ssh, other int) bool { return ssh >= 85 && other >= 85 })
	err := lan.Do(func() error {
		l, err := netlink.LinkByName("p11")
		if err != nil {
			return err
		}
		return netlink.LinkSetNoMaster(l)
	})
	if err != nil {
		t.Fatal(err)
	}
	until("cut off from the second LAN", func(ssh, other int) bool { return ssh >= 85 && other == 0 })
	for _, l := range logs {
		l.end()
	}
}
