package main

import (
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"onevoice/internal/netns"
)

// joinLAN puts hosts on one LAN: a bridge in a namespace of its own, whose ports
// are called p and the last number of the host's address.
func joinLAN(t *testing.T, hosts map[string]*host) *netns.NS {
	t.Helper()
	return joinLANBy(t, "eth0", hosts)
}

// joinLANBy is the same by an interface of that name.
func joinLANBy(t *testing.T, device string, hosts map[string]*host) *netns.NS {
	t.Helper()
	lan, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lan.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(lan.Do(func() error {
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan"}})
	}))
	for address, h := range hosts {
		port := "p" + address[strings.LastIndex(address, ".")+1:]
		must(h.Do(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: device}, PeerName: port, PeerNamespace: netlink.NsFd(lan.FD())})
		}))
		must(lan.Do(func() error {
			bridge, err := netlink.LinkByName("lan")
			if err != nil {
				return err
			}
			l, err := netlink.LinkByName(port)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetMaster(l, bridge); err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		}))
		must(h.Do(func() error {
			for _, name := range []string{"lo", device} {
				l, err := netlink.LinkByName(name)
				if err != nil {
					return err
				}
				if err := netlink.LinkSetUp(l); err != nil {
					return err
				}
				if name == device {
					a := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(24, 32)}}
					if err := netlink.AddrAdd(l, a); err != nil {
						return err
					}
				}
			}
			return nil
		}))
	}
	must(lan.Do(func() error {
		bridge, err := netlink.LinkByName("lan")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(bridge)
	}))
	return lan
}

// Two nodes and a witness: when a node dies, the other takes its buckets, for the
// witness votes; when the witness is away too, it does not.
func TestTwoNodesWithAWitness(t *testing.T) {
	hosts := map[string]*host{"10.77.0.11": newHost(t), "10.77.0.12": newHost(t), "10.77.0.9": newHost(t)}
	joinLAN(t, hosts)
	for _, h := range hosts {
		h.ownState()
		h.edit(`peers = ["10.77.0.11", "10.77.0.12", "10.77.0.13", "10.77.0.14"]`,
			"peers = [\"10.77.0.11\", \"10.77.0.12\"]\ntwo_nodes = \"witness\"\nwitness = \"10.77.0.9:7999\"")
	}
	w := hosts["10.77.0.9"].begin("witness").until("msg=started")
	n1 := hosts["10.77.0.11"].begin("run")
	n2 := hosts["10.77.0.12"].begin("run")
	n1.until("founded cluster campus-ssh with 3 hosts").until("answering: this node holds a lease")
	n2.until("answering: this node holds a lease")

	status := func(h *host) string {
		_, out := runProgram(t, program(t, "status", "--socket", h.socket()), (*exec.Cmd).Start)
		return out
	}
	if out := status(hosts["10.77.0.9"]); !strings.Contains(out, "10.77.0.11") || !strings.Contains(out, "witness") {
		t.Errorf("the witness's status:\n%s", out)
	}
	// It knows no reload, says so, and goes on.
	if err := w.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	w.until("a witness takes neither another file nor another version while it runs")
	code, out := runProgram(t, program(t, "reload", "--socket", hosts["10.77.0.9"].socket()), (*exec.Cmd).Start)
	if code != 1 || !strings.Contains(out, "stop it and start it") {
		t.Errorf("a witness's reload: exit %d: %s", code, out)
	}
	// Its worker outlives n2 and gets no lease any more, as if the host were cut off.
	if err := n2.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n1.until("was evicted")
	_ = n2.Wait()
	// With the witness away and n2 dead, nobody can tell n1 from a node cut off.
	n2 = hosts["10.77.0.12"].begin("run").until("answering: this node holds a lease")
	w.end()
	if err := n2.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n1.until("the lease is over")
	_ = n2.Wait()
	// Either of the two makes a majority again.
	w = hosts["10.77.0.9"].begin("witness").until("msg=started")
	n1.until("answering: this node holds a lease")
	n2 = hosts["10.77.0.12"].begin("run").until("answering: this node holds a lease")
	for _, l := range []*logged{n2, n1, w} {
		l.end()
	}
}

func TestWitnessSaysWhyItCannotStart(t *testing.T) {
	h := newHost(t)
	h.plug("10.77.0.11/24")
	h.ownState()
	says := func(word string) {
		t.Helper()
		code, out := runProgram(t, program(t, "witness", "--config", h.file), h.Start)
		if code != 1 || !strings.Contains(out, word) || strings.Count(out, "\n") != 1 {
			t.Errorf("exit %d, want one line with %q:\n%s", code, word, out)
		}
	}
	says("[cluster] names no witness")
	h.edit("\"10.77.0.14\"]", "\"10.77.0.14\"]\nwitness = \"10.77.0.9\"")
	says("this host is the node 10.77.0.11, and a node cannot be its own witness")
}
