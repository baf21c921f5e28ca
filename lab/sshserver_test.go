package lab

import (
	"net/netip"
	"testing"
)

// The built-in server has a socket of the family that it was told, where the lab looks
// for it: of all addresses too, as the direct path needs it.
func TestBuiltInServerListensOnOneFamily(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0"} {
		l, err := listenTCP(at)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		want := netip.MustParseAddrPort(at).Addr()
		if got := netip.MustParseAddrPort(l.Addr().String()).Addr(); got != want {
			t.Errorf("%s listens on %s", at, got)
		}
		l.Close()
	}
	if l, err := listenTCP("localhost:0"); err == nil {
		l.Close()
		t.Error("a name is no address")
	}
}
