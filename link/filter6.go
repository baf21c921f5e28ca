package link

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// Next headers of RFC 8200 and what is behind the header of 40 bytes.
const (
	nextHopByHop = 0
	nextUDP      = 17
	nextICMPv6   = 58

	ipv6Bytes = 40
)

func hasIPv6(addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.Is4() })
}

// NeighbourGroups are the MACs at which a host with those IPv6 addresses is asked
// for them, and told of neighbours and routers: that of each address's
// solicited-node group (RFC 4291 §2.7.1) and that of all nodes.
func NeighbourGroups(addrs []netip.Addr) (out []net.HardwareAddr) {
	for _, a := range addrs {
		if a.Is4() {
			continue
		}
		b := a.As16()
		m := net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
		if !slices.ContainsFunc(out, func(o net.HardwareAddr) bool { return slices.Equal(o, m) }) {
			out = append(out, m)
		}
	}
	if len(out) > 0 {
		out = append(out, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1})
	}
	return out
}

// program6 judges an IPv6 packet: for a VIP to macs, or ICMPv6, also behind
// hop-by-hop options as MLD has them, to macs or to a group in which neighbours
// are asked.
func (f *Filter) program6(macs []net.HardwareAddr) []bpf.Instruction {
	const accept = 0x40000
	if !hasIPv6(f.Addresses) {
		return []bpf.Instruction{bpf.RetConstant{Val: 0}}
	}
	p := anyMAC(slices.Concat(macs, NeighbourGroups(f.Addresses)))
	p = append(p,
		bpf.LoadAbsolute{Off: 14 + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nextHopByHop, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextICMPv6, SkipTrue: 1},
		bpf.RetConstant{Val: accept},
	)
	p = append(p, ifAddress6(f.Addresses)...)
	if f.Except != 0 {
		p = append(p,
			bpf.LoadAbsolute{Off: 14 + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextUDP, SkipTrue: 3},
			bpf.LoadAbsolute{Off: 14 + ipv6Bytes + 2, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(f.Except), SkipTrue: 1},
			bpf.RetConstant{Val: 0},
		)
	}
	return append(p, bpf.RetConstant{Val: accept})
}

// portProgram6 is portProgram for IPv6. A heartbeat has no extension headers.
func (f *Filter) portProgram6(own net.HardwareAddr) []bpf.Instruction {
	const accept = 0x40000
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIPv6, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 14 + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nextUDP, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
	p = append(p, anyMAC(append([]net.HardwareAddr{own}, f.Groups...))...)
	p = append(p, ifAddress6(f.Addresses)...)
	return append(p,
		bpf.LoadAbsolute{Off: 14 + ipv6Bytes + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(f.Port), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: accept},
	)
}

// ifAddress6 falls through when the packet is for one of the IPv6 addresses, and
// drops it when not.
func ifAddress6(addrs []netip.Addr) (p []bpf.Instruction) {
	const words, each = 4, 9
	var six []netip.Addr
	for _, a := range addrs {
		if !a.Is4() {
			six = append(six, a)
		}
	}
	for i, a := range six {
		b := a.As16()
		for w := range words {
			p = append(p,
				bpf.LoadAbsolute{Off: uint32(14 + 24 + 4*w), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4*w:]), SkipTrue: uint8(each - 2 - 2*w)},
			)
		}
		p = append(p, bpf.Jump{Skip: uint32(each*(len(six)-1-i) + 1)})
	}
	return append(p, bpf.RetConstant{Val: 0})
}
