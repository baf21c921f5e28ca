package ingress

import (
	"net"
	"net/netip"
	"testing"
)

// IGMP passes in frames to the groups, where it is wanted, whatever address it is
// for.
func TestIGMPPassesWhereItIsWanted(t *testing.T) {
	everybody := net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}
	for _, wanted := range []bool{true, false} {
		c := every()
		c.Groups, c.Membership = append(c.Groups, everybody), wanted
		f := loaded(t, c)
		packet := func(dst string, proto byte) []byte {
			ip := make([]byte, ipv4Bytes+8)
			ip[0], ip[8], ip[9] = 0x45, 1, proto
			copy(ip[16:], netip.MustParseAddr(dst).AsSlice())
			return seal(ip)
		}
		for name, x := range map[string]struct {
			frame []byte
			pass  bool
		}{
			"a general query":        {ethernet(everybody, typeIPv4, packet("224.0.0.1", 2)), wanted},
			"a query for the group":  {ethernet(group, typeIPv4, packet("239.77.0.2", 2)), wanted},
			"to another group's MAC": {ethernet(net.HardwareAddr{1, 0, 0x5e, 0, 0, 2}, typeIPv4, packet("224.0.0.1", 2)), false},
			"another protocol":       {ethernet(everybody, typeIPv4, packet("224.0.0.1", 17)), false},
		} {
			if got := passes(t, f, x.frame); got != x.pass {
				t.Errorf("wanted %v, %s: passes %v", wanted, name, got)
			}
		}
	}
}
