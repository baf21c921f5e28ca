package ingress

import (
	"fmt"
	"net/netip"
	"testing"
)

// A client of a pin goes by the pin's bucket, of both families; the first pin that
// contains it counts.
func TestPins(t *testing.T) {
	c := every()
	service := map[bool]int{}
	for k := range c.Services {
		s := &c.Services[k]
		if s.UDP {
			continue
		}
		four := s.Listen.Addr().Is4()
		service[four] = k
		s.Pins = nil
		for _, p := range []string{"198.51.100.7/32", "198.51.100.0/25", "192.0.0.0/3", "2001:db8::7/128", "2001:db8:0:1::/63", "2001:db8::/32"} {
			if prefix := netip.MustParsePrefix(p); prefix.Addr().Is4() == four {
				s.Pins = append(s.Pins, Pin{prefix, uint8(10 + len(s.Pins))})
			}
		}
	}
	f := loaded(t, c)
	for text, bucket := range map[string]uint8{
		"198.51.100.7": 10, "198.51.100.8": 11, "198.51.100.128": 12, "223.255.255.1": 12,
		"2001:db8::7": 10, "2001:db8:0:1::7": 11, "2001:db8:0:2::7": 12, "2001:db8:ffff::": 12,
	} {
		a := netip.MustParseAddr(text)
		k := service[a.Is4()]
		frame := segment(netip.AddrPortFrom(a, 40000), c.Services[k].Listen, syn, 0)
		only := bit(bucket)
		f.Pass(k, &only)
		if !passes(t, f, frame) {
			t.Errorf("%s: bucket %d alone passes, and it does not", text, bucket)
		}
		others := not(only)
		f.Pass(k, &others)
		if passes(t, f, frame) {
			t.Errorf("%s: all but bucket %d pass, and it does", text, bucket)
		}
	}
}

// As many pins as are compared with load, in every service, and beyond them the
// services that have some pass.
func TestMostPins(t *testing.T) {
	for _, n := range []int{maxPins, maxPins + 1} {
		c := every()
		var with, without int
		for k := range c.Services {
			if s := &c.Services[k]; !s.UDP && s.Listen.Addr().Is4() {
				with, without = k, with
			}
		}
		for i := range n {
			c.Services[with].Pins = append(c.Services[with].Pins, Pin{netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)), uint8(i)})
		}
		f := loaded(t, c)
		var none [4]uint64
		f.Pass(with, &none)
		f.Pass(without, &none)
		src := netip.MustParseAddrPort("10.1.255.7:40000")
		if got, want := passes(t, f, segment(src, c.Services[with].Listen, syn, 0)), n > maxPins; got != want {
			t.Errorf("%d pins: passes is %v", n, got)
		}
		if without != with && passes(t, f, segment(src, c.Services[without].Listen, syn, 0)) {
			t.Errorf("%d pins: a foreign segment of another service passes", n)
		}
	}
}
