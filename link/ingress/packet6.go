package ingress

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/cilium/ebpf/asm"
)

// packet6 does for IPv6 (RFC 8200 section 3) what packet4 and segment4 do for IPv4.
// Extension headers pass, as fragments are one, and so does a source that stands for
// an IPv4 address, which hashing.Flow takes for that address.
func (b *builder) packet6() {
	if !b.has6() {
		return
	}
	start := asm.Instructions{asm.Mov.Imm(asm.R2, 0)}
	b.at("ipv6", asm.Mov.Imm(state, readTCP))
	b.load(start, frame, ethernetBytes+ipv6Bytes+tcpBytes, "link6")
	b.add(asm.Mov.Imm(state, readIPv4))
	b.load(start, frame, ethernetBytes+ipv6Bytes, "link6")
	b.add(asm.Ja.Label("refuse"))

	macs := ifMAC(asm.R10, frame, b.ours(), "ours6")
	b.at("link6", macs...)
	b.add(ifMAC(asm.R10, frame, b.neighbourGroups(), "neighbours")...)
	b.add(asm.Ja.Label("refuse"))
	// What is said of neighbours, to a group or to this host: ICMPv6, which may stand
	// behind hop-by-hop options (RFC 4861, RFC 3810).
	b.at("neighbours", asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Byte))
	b.add(
		asm.JEq.Imm(asm.R1, protoICMPv6, "accept"),
		asm.JEq.Imm(asm.R1, nextHopByHop, "accept"),
		asm.Ja.Label("refuse"),
	)
	b.at("ours6", asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Byte))
	b.add(
		asm.JEq.Imm(asm.R1, protoICMPv6, "accept"),
		asm.JEq.Imm(asm.R1, nextHopByHop, "accept"),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+24, asm.DWord),
	)
	b.add(asm.LoadMem(asm.R2, asm.R10, ipHeader+32, asm.DWord))
	b.vips("6", func(i int) {
		v := b.Addresses[i].As16()
		b.add(ifWords(v, fmt.Sprint("vip", i))...)
	})
	b.at("any vip 6", asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Byte))
	if b.Except != 0 || b.servesUDP("6") {
		b.add(asm.JEq.Imm(asm.R1, protoUDP, "datagram6"))
	}
	b.add(asm.JNE.Imm(asm.R1, protoTCP, "accept"))
	b.segment6()
	b.datagram6()
}

// neighbourGroups are the MACs at which this host is asked for its IPv6 VIPs, and
// told of neighbours: link.NeighbourGroups has the same.
func (c *Config) neighbourGroups() (out []net.HardwareAddr) {
	for _, a := range c.Addresses {
		if !a.Is4() {
			v := a.As16()
			out = append(out, net.HardwareAddr{0x33, 0x33, 0xff, v[13], v[14], v[15]})
		}
	}
	return append(out, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1})
}

// ifWords goes to a label if R1 and R2 are an address.
func ifWords(v [16]byte, label string) asm.Instructions {
	// A load of 8 bytes takes the place of two instructions.
	next := asm.JNE.Reg(asm.R1, asm.R3, "")
	next.Offset = 3
	return asm.Instructions{
		asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint64(v[:])), asm.DWord),
		next,
		asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint64(v[8:])), asm.DWord),
		asm.JEq.Reg(asm.R2, asm.R3, label),
	}
}

func (b *builder) segment6() {
	b.add(asm.JNE.Imm(state, readTCP, "accept"))
	b.plain6("source6", tcpBytes)
	b.header(tcp6)
	b.whole6("whole6")
	b.add(asm.LoadMem(asm.R1, asm.R10, tcp6+2, asm.Half))
	b.ports("6", false)
}

// plain6 is plain4 for IPv6.
func (b *builder) plain6(label string, shortest int32) {
	b.untagged()
	b.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, "accept"),
		// ::ffff:0:0/96, RFC 4291 section 2.5.5.2
		asm.LoadMem(asm.R1, asm.R10, ipHeader+8, asm.DWord),
		asm.JNE.Imm(asm.R1, 0, label),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+16, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JEq.Imm(asm.R1, 0xffff, "accept"),
	)
	b.at(label, asm.LoadMem(asm.R3, asm.R10, ipHeader+4, asm.Half))
	b.add(asm.HostTo(asm.BE, asm.R3, asm.Half), asm.JLT.Imm(asm.R3, shortest, "accept"))
}

// whole6 is whole4 for IPv6.
func (b *builder) whole6(label string) {
	last := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R10, ipHeader+4, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.Add.Imm(asm.R2, ethernetBytes+ipv6Bytes-1),
	}
	b.load(last, scratch, 1, label)
	b.add(asm.Ja.Label("accept"))
	b.at(label, asm.Mov.Imm(asm.R1, 0))
}
