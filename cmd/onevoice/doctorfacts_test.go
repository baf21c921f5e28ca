package main

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"onevoice/config"
	"onevoice/doctor"
	"onevoice/internal/netns"
	"onevoice/proxy"
)

// The bridge is that of the namespace in which the doctor is, whose /sys may be another's.
func TestSnoopingBridgeOfThisNamespace(t *testing.T) {
	err := ownNamespace(t).Do(func() error {
		snoops := true
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br7"}, MulticastSnooping: &snoops}
		port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port"}, PeerName: "apart"}
		if err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkAdd(port), netlink.LinkSetMaster(port, bridge)); err != nil {
			return err
		}
		for name, want := range map[string]string{"br7": "br7", "port": "br7", "apart": "", "none": ""} {
			if got := snoopingBridge(name); got != want {
				t.Errorf("%s is on %q, want %q", name, got, want)
			}
		}
		snoops = false
		if err := netlink.BridgeSetMcastSnoop(bridge, false); err != nil {
			return err
		}
		if got := snoopingBridge("port"); got != "" {
			t.Errorf("%s does not snoop", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The rules that the daemon sets are those that the doctor wants: a VIP with services of the
// direct path is an address of the host and has none.
func TestRulesAreThoseThatAreSet(t *testing.T) {
	const file = `[node]
name = "n1"
state_dir = "/var/lib/onevoice"
[cluster]
interface = "lo"
key_file = "/etc/onevoice/key"
name = "x"
peers = ["10.77.0.11"]
[[vip]]
address = "10.77.0.2/24"
[[vip]]
address = "10.77.0.3/24"
[[service]]
name = "ssh"
listen = "10.77.0.2:22"
backend = "127.0.0.1:22"
[[service]]
name = "web"
listen = "10.77.0.3:80"
`
	for name, want := range map[string]int{"netstack": 2, "direct": 1} {
		c, err := config.Parse("file", []byte(file+map[string]string{"netstack": `backend = "127.0.0.1:80"`, "direct": `path = "direct"`}[name]), "n1")
		if err != nil {
			t.Fatal(err)
		}
		err = ownNamespace(t).Do(func() error {
			lo, err := netlink.LinkByName("lo")
			if err == nil {
				err = netlink.LinkSetUp(lo)
			}
			if err != nil {
				return err
			}
			d := &daemon{cfg: c, self: netip.MustParseAddr("127.0.0.1")}
			if err := d.installRoutes(proxy.InstallRoutes); err != nil {
				return err
			}
			rules, err := netlink.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Table: proxy.TableFor(c.VIPs[0].Address.Addr())}, netlink.RT_FILTER_TABLE)
			rules = slices.DeleteFunc(rules, func(r netlink.Rule) bool { return r.Dst == nil })
			if len(rules) != want {
				t.Errorf("%s: rules %v, want %d", name, rules, want)
			}
			var h doctor.Host
			if addRules(&h, c); h.RulesGone {
				t.Errorf("%s: the doctor misses rules", name)
			}
			for i := range rules {
				err = errors.Join(err, netlink.RuleDel(&rules[i]))
			}
			if addRules(&h, c); !h.RulesGone {
				t.Errorf("%s: the doctor misses no rules that are gone", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ownNamespace is a network namespace for the rest of the test.
func ownNamespace(t *testing.T) *netns.NS {
	t.Helper()
	ns, err := netns.New()
	if errors.Is(err, os.ErrPermission) {
		t.Skip("needs root for a network namespace of its own (CAP_SYS_ADMIN, CAP_NET_ADMIN)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}
