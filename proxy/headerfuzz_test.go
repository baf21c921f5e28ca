package proxy

import (
	"bufio"
	"bytes"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
)

// FuzzHeader: a header of any client says what it was made of, whoever reads it, is
// within the bounds of proxy-protocol.txt, and has nothing behind it.
func FuzzHeader(f *testing.F) {
	for _, a := range []string{"10.77.0.101", "2001:db8::1", "::ffff:10.0.0.1", "fe80::1%eth0"} {
		f.Add(netip.MustParseAddr(a).AsSlice(), uint16(40000), uint16(22), true)
	}
	f.Fuzz(func(t *testing.T, address []byte, from, to uint16, text bool) {
		a, ok := netip.AddrFromSlice(address)
		if !ok {
			return
		}
		version, vip := HeaderV2, netip.MustParseAddr("2001:db8::2")
		if text {
			version = HeaderV1
		}
		if a = a.Unmap(); a.Is4() {
			vip = netip.MustParseAddr("10.77.0.2")
		}
		client := netip.AddrPortFrom(a, from)
		b, err := version.bytes(client, netip.AddrPortFrom(vip, to))
		if err != nil {
			t.Fatalf("%v: %v", client, err)
		}
		// §2.1: the longest line of version 1 has 107 bytes; §2.2: of version 2 these two
		// have 16 and 12 or 36.
		if len(b) > 107 {
			t.Errorf("%d bytes for %v", len(b), client)
		}
		r := bufio.NewReader(bytes.NewReader(append(b, "rest"...)))
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		src, dst, ok := h.TCPAddrs()
		if !ok || src.AddrPort().Addr().Unmap() != a || src.Port != int(from) || dst.AddrPort().Addr().Unmap() != vip || dst.Port != int(to) {
			t.Errorf("%v reads as %v, %v", client, src, dst)
		}
		if rest, _ := r.Peek(5); string(rest) != "rest" {
			t.Errorf("%q is left behind the header", rest)
		}
	})
}
