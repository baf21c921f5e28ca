package link

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
)

// The filter's frames, built from their addresses.
var (
	own       = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x11}
	other     = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x12}
	group     = net.HardwareAddr{0x01, 0, 0x5e, 0x4d, 0, 0x02}
	group2    = net.HardwareAddr{0x01, 0, 0x5e, 0x4d, 0, 0x03}
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	vip       = netip.MustParseAddr("10.77.0.2")
	vip2      = netip.MustParseAddr("10.77.0.3")
)

func ethernet(to, from net.HardwareAddr, etherType uint16, payload []byte) []byte {
	b := append(append(append([]byte{}, to...), from...), byte(etherType>>8), byte(etherType))
	return append(b, payload...)
}

func ipv4To(dst netip.Addr) []byte {
	p := make([]byte, 40)
	p[0] = 0x45
	copy(p[16:], dst.AsSlice())
	return p
}

// passing runs the filter's program.
func passing(t *testing.T, f *Filter) (passes func(frame []byte) bool) {
	t.Helper()
	vm, err := bpf.NewVM(f.Program(own))
	if err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		t.Helper()
		n, err := vm.Run(frame)
		if err != nil {
			t.Error(err)
		}
		return n > 0
	}
}

func TestFilterPassesOnlyWhatConcernsTheNode(t *testing.T) {
	passes := passing(t, &Filter{Addresses: []netip.Addr{vip, vip2}, Groups: []net.HardwareAddr{group, group2}})
	arp := make([]byte, 28)
	for _, c := range []struct {
		name  string
		frame []byte
		pass  bool
	}{
		{"IPv4 for the VIP to the group", ethernet(group, other, 0x0800, ipv4To(vip)), true},
		{"IPv4 for the second VIP to the second group", ethernet(group2, other, 0x0800, ipv4To(vip2)), true},
		{"IPv4 for the VIP to our MAC", ethernet(own, other, 0x0800, ipv4To(vip)), true},
		{"IPv4 for the host itself", ethernet(own, other, 0x0800, ipv4To(netip.MustParseAddr("10.77.0.11"))), false},
		{"IPv4 for the VIP to another host", ethernet(other, own, 0x0800, ipv4To(vip)), false},
		{"IPv4 for the VIP by broadcast", ethernet(broadcast, other, 0x0800, ipv4To(vip)), false},
		{"IPv4 to a group that differs in its last byte", ethernet(net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 4}, other, 0x0800, ipv4To(vip)), false},
		{"IPv4 to a group that differs in its first bytes", ethernet(net.HardwareAddr{3, 0, 0x5e, 0x4d, 0, 2}, other, 0x0800, ipv4To(vip)), false},
		{"ARP by broadcast", ethernet(broadcast, other, 0x0806, arp), true},
		{"ARP to our MAC", ethernet(own, other, 0x0806, arp), true},
		{"ARP to the group", ethernet(group, other, 0x0806, arp), true},
		{"ARP to another host", ethernet(other, own, 0x0806, arp), false},
		{"IPv6", ethernet(own, other, 0x86dd, make([]byte, 40)), false},
		{"too short for a type", []byte{1, 2, 3}, false},
		{"too short for an IPv4 destination", ethernet(group, other, 0x0800, []byte{0x45}), false},
	} {
		if passes(c.frame) != c.pass {
			t.Errorf("%s: passes %v, want %v", c.name, !c.pass, c.pass)
		}
	}
}

// The control process hears whole datagrams to its port, and nothing else; the worker
// hears all but those. What comes after the first part of a datagram has no port.
func TestFilterOfHeartbeats(t *testing.T) {
	const port = 7177
	beats := &Filter{Addresses: []netip.Addr{vip, vip2}, Groups: []net.HardwareAddr{group}, Port: port}
	rest := &Filter{Addresses: beats.Addresses, Groups: beats.Groups, Except: port}
	to := func(dst netip.Addr, proto byte, port uint16, edit ...byte) []byte {
		p := append(ipv4To(dst), make([]byte, 24)...)
		p[9] = proto
		for i := 0; i < len(edit); i += 2 {
			p[edit[i]] = edit[i+1]
		}
		header := int(p[0]&0xf) * 4
		p[header+2], p[header+3] = byte(port>>8), byte(port)
		return p
	}
	const udp, tcp = 17, 6
	for _, c := range []struct {
		name        string
		frame       []byte
		beat, other bool
	}{
		{"a heartbeat", ethernet(group, other, 0x0800, to(vip, udp, port)), true, false},
		{"a heartbeat for the second VIP to our MAC", ethernet(own, other, 0x0800, to(vip2, udp, port)), true, false},
		{"a heartbeat with IP options", ethernet(group, other, 0x0800, to(vip, udp, port, 0, 0x47)), true, false},
		{"one that must not be cut", ethernet(group, other, 0x0800, to(vip, udp, port, 6, 0x40)), true, false},
		{"a datagram to another port", ethernet(group, other, 0x0800, to(vip, udp, port+1)), false, true},
		{"TCP to that port", ethernet(group, other, 0x0800, to(vip, tcp, port)), false, true},
		{"the first part of a datagram", ethernet(group, other, 0x0800, to(vip, udp, port, 6, 0x20)), false, false},
		{"the last part of a datagram", ethernet(group, other, 0x0800, to(vip, udp, port, 7, 9)), false, true},
		{"a datagram for the host", ethernet(own, other, 0x0800, to(netip.MustParseAddr("10.77.0.11"), udp, port)), false, false},
		{"a heartbeat to another host", ethernet(other, own, 0x0800, to(vip, udp, port)), false, false},
		{"ARP with those bytes", ethernet(broadcast, other, 0x0806, to(vip, udp, port)), false, true},
		{"too short for a port", ethernet(group, other, 0x0800, to(vip, udp, port)[:22]), false, false},
	} {
		for _, x := range []struct {
			of   *Filter
			want bool
		}{{beats, c.beat}, {rest, c.other}} {
			if passing(t, x.of)(c.frame) != x.want {
				t.Errorf("%s, port %d: passes %v, want %v", c.name, x.of.Port, !x.want, x.want)
			}
		}
	}
}

func TestFilterOfTheMostAddressesAssembles(t *testing.T) {
	filter := &Filter{}
	for i := range MaxFilterAddresses / 2 {
		filter.Addresses = append(filter.Addresses, netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}))
		filter.Groups = append(filter.Groups, net.HardwareAddr{1, 0, 0x5e, 0x4d, 1, byte(i)})
	}
	passes := passing(t, filter)
	last := len(filter.Groups) - 1
	if !passes(ethernet(filter.Groups[last], other, 0x0800, ipv4To(filter.Addresses[last]))) {
		t.Error("the last group and address do not pass")
	}
	if !passes(ethernet(filter.Groups[0], other, 0x0800, ipv4To(filter.Addresses[0]))) {
		t.Error("the first group and address do not pass")
	}
	filter.Addresses = append(filter.Addresses, vip)
	filter.Groups = append(filter.Groups, group)
	if _, err := Open("lo", filter); err == nil {
		t.Error("more addresses than MaxFilterAddresses were accepted")
	}
}

func TestOffloadSurvivesEncodingAndDecoding(t *testing.T) {
	in := Offload{Partial: true, Segmentation: SegmentationTCPv4, HeaderBytes: 66, SegmentBytes: 1448, ChecksumStart: 34, ChecksumOffset: 16}
	var b [offloadBytes]byte
	in.encode(b[:])
	if out := decodeOffload(b[:]); out != in {
		t.Errorf("decoded %+v, want %+v", out, in)
	}
	b[1] |= segmentationECN
	if out := decodeOffload(b[:]); out.Segmentation != SegmentationTCPv4 {
		t.Errorf("with ECN the kind is %d", out.Segmentation)
	}
}
