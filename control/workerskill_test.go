package control

import (
	"net/netip"
	"testing"
)

// Only flows are ended that all of what was said is true of.
func TestKillTakes(t *testing.T) {
	net24, alone := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.7/32")
	for _, c := range []struct {
		kill    Kill
		client  string
		service string
		want    bool
	}{
		{Kill{Clients: net24}, "192.0.2.7:4000", "ssh", true},
		{Kill{Clients: net24}, "192.0.3.7:4000", "ssh", false},
		{Kill{Clients: alone, Port: 4000}, "192.0.2.7:4000", "ssh", true},
		{Kill{Clients: alone, Port: 4000}, "192.0.2.7:4001", "ssh", false},
		{Kill{Clients: alone, Port: 4000}, "192.0.2.8:4000", "ssh", false},
		{Kill{Clients: net24, Service: "web"}, "192.0.2.7:4000", "ssh", false},
		{Kill{Clients: net24, Service: "ssh"}, "192.0.2.7:4000", "ssh", true},
		{Kill{Service: "ssh"}, "192.0.2.7:4000", "ssh", false},
	} {
		if got := c.kill.Takes(netip.MustParseAddrPort(c.client), c.service); got != c.want {
			t.Errorf("%+v takes %s of %s: %v", c.kill, c.client, c.service, got)
		}
	}
}
