package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Ethernet types that the filter knows.
const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	etherTypeARP  = 0x0806

	protoIGMP = 2
)

// Filter says which frames a Packet device takes in. Everything else is
// dropped by the kernel before it wakes the daemon.
type Filter struct {
	// Addresses are the VIPs: a packet passes if it is for one of them. With one of
	// IPv6 passes besides what is said of neighbours, see NeighbourGroups.
	Addresses []netip.Addr
	// Groups are the cluster MACs, groups or single ones.
	Groups []net.HardwareAddr
	// Port, when it is not 0, lets nothing pass but whole UDP datagrams to that
	// port of an address: the heartbeats of a cluster. The addresses are then of one
	// family.
	Port uint16
	// Tagged: datagrams to Port may be of a VLAN. Sockets of one protocol get them
	// after the kernel has forgotten of which.
	Tagged bool
	// Mute: nothing is received. What the filter lets pass is heard in another way, and the
	// device sends, and has the interface take in frames to the MACs.
	Mute bool
	// Except, when it is not 0, keeps such datagrams out: they are for another
	// socket of this host, and would wake whoever serves clients for nothing.
	Except uint16
	// Membership: IGMP passes, for whatever address, in frames to Groups. The group
	// of all hosts has to be one of them, or general queries do not come.
	Membership bool
}

// MaxFilterAddresses bounds the VIPs and groups of one filter: classic BPF
// jumps reach 255 instructions.
const MaxFilterAddresses = 60

// protocol is that of the socket. One of all protocols costs something for each frame
// of the interface. Where nothing but datagrams is wanted, one of their family is enough: it
// comes after link/ingress has dropped what clients send. A port of a bridge, or of
// another device that takes all frames, gives none of them to such a socket.
func (f *Filter) protocol(ifi *net.Interface) (int, error) {
	if f.Mute {
		return 0, nil
	}
	if f.Port == 0 || f.Tagged {
		return unix.ETH_P_ALL, nil
	}
	device, err := netlink.LinkByIndex(ifi.Index)
	if err != nil {
		return 0, fmt.Errorf("interface: %w", err)
	}
	if device.Attrs().MasterIndex != 0 {
		return unix.ETH_P_ALL, nil
	}
	if hasIPv6(f.Addresses) {
		return unix.ETH_P_IPV6, nil
	}
	return unix.ETH_P_IP, nil
}

// rejectAll is in force from before bind until the socket is set up, so that
// no frame is queued that was received under other settings.
func rejectAll() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
}

// Program is the classic BPF program for a filter on the interface with the
// given MAC: ARP to broadcast, to us or to a group of ours, and packets for a VIP
// to us or to a group of ours, with what IPv6 says of neighbours. Loads are from the Ethernet header; the kernel
// has taken a VLAN tag out of the frame by then, and tagged frames pass so
// that the node can count them.
func (f *Filter) Program(own net.HardwareAddr) []bpf.Instruction {
	const accept = 0x40000
	if f.Port != 0 {
		return f.portProgram(own)
	}
	macs := append([]net.HardwareAddr{own}, f.Groups...)
	arpMACs := append(macs, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})

	arp := append(anyMAC(arpMACs), bpf.RetConstant{Val: accept})
	ip := anyMAC(macs)
	if f.Membership {
		ip = append(ip,
			bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoIGMP, SkipTrue: 1},
			bpf.RetConstant{Val: accept})
	}
	ip = append(ip, bpf.LoadAbsolute{Off: 14 + 16, Size: 4})
	ip = append(ip, ifAddress4(f.Addresses)...)
	if f.Except != 0 {
		ip = append(ip, exceptPort(f.Except)...)
	}
	ip = append(ip, bpf.RetConstant{Val: accept})
	ip6 := f.program6(macs)

	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIPv4, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeARP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIPv6, SkipTrue: 3},
		bpf.RetConstant{Val: 0},
		bpf.Jump{Skip: uint32(2 + len(arp))},
		bpf.Jump{Skip: 1},
		bpf.Jump{Skip: uint32(len(arp) + len(ip))},
	}
	return slices.Concat(p, arp, ip, ip6)
}

// ifAddress4 falls through when the loaded address is one of IPv4 among addrs, and
// drops the frame when not.
func ifAddress4(addrs []netip.Addr) (p []bpf.Instruction) {
	for i, a := range addrs {
		rest := uint8(len(addrs) - 1 - i)
		if !a.Is4() {
			p = append(p, bpf.Jump{Skip: 0})
			continue
		}
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(a.AsSlice()), SkipTrue: rest + 1})
	}
	return append(p, bpf.RetConstant{Val: 0})
}

// portProgram lets only UDP datagrams to the filter's port pass, and no fragment.
func (f *Filter) portProgram(own net.HardwareAddr) []bpf.Instruction {
	const accept, fragment = 0x40000, 0x3fff
	if hasIPv6(f.Addresses) {
		return f.portProgram6(own)
	}
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherTypeIPv4, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		// Most frames of a host are of TCP.
		bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 17, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
	p = append(p, anyMAC(append([]net.HardwareAddr{own}, f.Groups...))...)
	p = append(p, bpf.LoadAbsolute{Off: 14 + 16, Size: 4})
	p = append(p, ifAddress4(f.Addresses)...)
	return append(p,
		bpf.LoadAbsolute{Off: 14 + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragment, SkipTrue: 3},
		bpf.LoadMemShift{Off: 14},
		bpf.LoadIndirect{Off: 14 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(f.Port), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: accept},
	)
}

// exceptPort drops UDP datagrams to a port, and falls through otherwise.
func exceptPort(port uint16) []bpf.Instruction {
	const offset = 0x1fff
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 17, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 14 + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: offset, SkipTrue: 4},
		bpf.LoadMemShift{Off: 14},
		bpf.LoadIndirect{Off: 14 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// anyMAC falls through when the frame's destination is one of macs and drops
// the frame when not.
func anyMAC(macs []net.HardwareAddr) []bpf.Instruction {
	var p []bpf.Instruction
	for i, m := range macs {
		rest := (len(macs) - 1 - i) * 4
		p = append(p,
			bpf.LoadAbsolute{Off: 0, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(m), SkipTrue: 2},
			bpf.LoadAbsolute{Off: 4, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(m[4:])), SkipTrue: uint8(rest + 1)},
		)
	}
	return append(p, bpf.RetConstant{Val: 0})
}
