package main

import (
	"errors"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"onevoice/internal/netns"
)

// The bridge is that of the namespace in which the doctor is, whose /sys may be another's.
func TestSnoopingBridgeOfThisNamespace(t *testing.T) {
	ns, err := netns.New()
	if errors.Is(err, os.ErrPermission) {
		t.Skip("needs root for a network namespace of its own (CAP_SYS_ADMIN, CAP_NET_ADMIN)")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
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
