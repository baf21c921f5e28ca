package sim

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestDescribe(t *testing.T) {
	g := joinedGroup()
	m := bpdu{root: 0x8000000000000001, cost: 20000, bridge: 0x8000000000000002}
	group := groupMember{Redundancy: Redundancy{Number: 7, Address: shared(), Priority: 90, Advertise: time.Second},
		l: &leg{Leg: Leg{Address: netip.MustParsePrefix("10.77.0.250/24")}}}
	hello := group
	hello.Protocol = HSRP
	for _, c := range []struct {
		frame []byte
		want  string
	}{
		{igmpFrame(MAC{2}, netip.MustParseAddr("10.77.0.11"), g, igmpReportV2, 0, g), "igmp 10.77.0.11 joins 239.77.0.2"},
		{igmpFrame(MAC{2}, netip.MustParseAddr("10.77.0.11"), allRouters4(), igmpLeave, 0, g), "igmp 10.77.0.11 leaves 239.77.0.2"},
		{queries(netip.Addr{}, MAC{2}, netip.Addr{}, time.Second)[0], "igmp 0.0.0.0 asks for all groups"},
		{queries(netip.Addr{}, MAC{2}, netip.Addr{}, time.Second)[1], "mld :: asks for all groups"},
		{bpduFrame(MAC{2}, &m, &SpanningTree{}), "spanning tree: root 8000000000000001, cost 20000, says 8000000000000002"},
		{changeFrame(MAC{2}), "spanning tree: it has changed"},
		{changeFrame(MAC{2})[:20], "spanning tree, broken"},
		{group.frame(), "vrrp 10.77.0.250 group 7 priority 90: 10.77.0.254"},
		{hello.frame(), "udp 10.77.0.250:1985 > 224.0.0.2:1985, 20 bytes"},
	} {
		if got := Describe(c.frame); !strings.HasSuffix(got, " "+c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
		for n := range c.frame {
			Describe(c.frame[:n]) // must not fail
		}
	}
}
