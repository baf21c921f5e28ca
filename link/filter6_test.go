package link

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
)

// ipv6To is an IPv6 packet with that next header and a UDP header for a port, or an
// ICMPv6 type in its place.
func ipv6To(dst netip.Addr, next byte, port uint16) []byte {
	p := make([]byte, 64)
	p[0], p[6] = 0x60, next
	copy(p[24:], dst.AsSlice())
	binary.BigEndian.PutUint16(p[42:], port)
	return p
}

func TestFilterOfBothFamilies(t *testing.T) {
	var (
		group6    = net.HardwareAddr{0x33, 0x33, 0x80, 0, 0, 0x02}
		group6b   = net.HardwareAddr{0x33, 0x33, 0x80, 0, 0, 0x03}
		solicited = net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 0x02}
		allNodes  = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 0x01}
		vip6      = netip.MustParseAddr("2001:db8::2")
		vip6b     = netip.MustParseAddr("2001:db8:0:0:1::3")
		host      = netip.MustParseAddr("2001:db8::11")
		near      = netip.MustParseAddr("2001:db8::1:2")
		to        = netip.MustParseAddr("ff02::1")
	)
	filter := &Filter{Addresses: []netip.Addr{vip6, vip, vip6b}, Groups: []net.HardwareAddr{group6, group, group6b}, Except: 7177}
	beats := &Filter{Addresses: []netip.Addr{vip6, vip6b}, Groups: []net.HardwareAddr{group6}, Port: 7177}
	for _, c := range []struct {
		name        string
		frame       []byte
		pass, beats bool
	}{
		{"TCP for the VIP", ethernet(group6, other, 0x86dd, ipv6To(vip6, 6, 22)), true, false},
		{"TCP for the last VIP to our MAC", ethernet(own, other, 0x86dd, ipv6To(vip6b, 6, 22)), true, false},
		{"a datagram", ethernet(group6, other, 0x86dd, ipv6To(vip6, 17, 53)), true, false},
		{"a heartbeat", ethernet(group6, other, 0x86dd, ipv6To(vip6, 17, 7177)), false, true},
		{"TCP to the port of heartbeats", ethernet(group6, other, 0x86dd, ipv6To(vip6, 6, 7177)), true, false},
		{"a heartbeat for the host", ethernet(own, other, 0x86dd, ipv6To(host, 17, 7177)), false, false},
		{"a heartbeat to another host", ethernet(other, own, 0x86dd, ipv6To(vip6, 17, 7177)), false, false},
		{"a heartbeat for the last VIP", ethernet(group6, other, 0x86dd, ipv6To(vip6b, 17, 7177)), false, true},
		{"TCP for an address that differs in its third word", ethernet(group6, other, 0x86dd, ipv6To(near, 6, 22)), false, false},
		{"TCP for the host", ethernet(own, other, 0x86dd, ipv6To(host, 6, 22)), false, false},
		{"ICMPv6 for the host", ethernet(own, other, 0x86dd, ipv6To(host, 58, 0)), true, false},
		{"a solicitation", ethernet(solicited, other, 0x86dd, ipv6To(to, 58, 0)), true, false},
		{"an advertisement to all nodes", ethernet(allNodes, other, 0x86dd, ipv6To(to, 58, 0)), true, false},
		{"an MLD query", ethernet(allNodes, other, 0x86dd, ipv6To(to, 0, 0)), true, false},
		{"a datagram to all nodes", ethernet(allNodes, other, 0x86dd, ipv6To(to, 17, 53)), false, false},
		{"a solicitation of others", ethernet(net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 0x09}, other, 0x86dd, ipv6To(to, 58, 0)), false, false},
		{"TCP for the VIP to another host", ethernet(other, own, 0x86dd, ipv6To(vip6, 6, 22)), false, false},
		{"too short for a destination", ethernet(group6, other, 0x86dd, ipv6To(vip6, 6, 22)[:39]), false, false},
		{"IPv4 for the VIP", ethernet(group, other, 0x0800, ipv4To(vip)), true, false},
		{"IPv4 for another", ethernet(group, other, 0x0800, ipv4To(vip2)), false, false},
		{"ARP", ethernet(broadcast, other, 0x0806, make([]byte, 28)), true, false},
	} {
		for _, x := range []struct {
			of   *Filter
			want bool
		}{{filter, c.pass}, {beats, c.beats}} {
			if passing(t, x.of)(c.frame) != x.want {
				t.Errorf("%s, port %d: passes %v, want %v", c.name, x.of.Port, !x.want, x.want)
			}
		}
	}
}

// As many IPv6 VIPs as there may be, each with its own MAC, still make a program.
func TestFilterOfTheMostIPv6Addresses(t *testing.T) {
	filter := &Filter{Except: 7177}
	for i := range MaxFilterAddresses / 2 {
		filter.Addresses = append(filter.Addresses, netip.AddrFrom16([16]byte{0x20, 1, 13: 1, 14: byte(i), 15: byte(i)}))
		filter.Groups = append(filter.Groups, net.HardwareAddr{0x33, 0x33, 0x80, 0, 0, byte(i)})
	}
	raw, err := bpf.Assemble(filter.Program(own))
	if err != nil || len(raw) > 4096 {
		t.Fatalf("%d instructions, %v", len(raw), err)
	}
	passes := passing(t, filter)
	last := len(filter.Groups) - 1
	for _, to := range []net.HardwareAddr{filter.Groups[0], filter.Groups[last], own} {
		for _, a := range []netip.Addr{filter.Addresses[0], filter.Addresses[last]} {
			if !passes(ethernet(to, other, 0x86dd, ipv6To(a, 6, 22))) {
				t.Errorf("for %s to %s: does not pass", a, to)
			}
		}
	}
}
