package egress

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf/asm"
)

const (
	typeIPv6  = 0x86dd
	ipv6Bytes = 40

	// ip6Header is where the header is copied to, from the frame pointer: the
	// addresses, 8 and 24 bytes into it, are aligned to 8.
	ip6Header = -80
)

func hasIPv4(vips []netip.Addr) bool {
	return slices.ContainsFunc(vips, netip.Addr.Is4)
}

func hasIPv6(vips []netip.Addr) bool {
	return slices.ContainsFunc(vips, func(a netip.Addr) bool { return !a.Is4() })
}

// ipv6 goes to "drop" for a SYN-ACK, an echo reply or a neighbour advertisement of a
// VIP (RFC 8200 section 3, RFC 9293 section 3.1, RFC 4443 section 4.2, RFC 4861
// section 4.4). What a node sends has no extension headers.
func ipv6(vips []netip.Addr) asm.Instructions {
	const (
		protoTCP, protoICMPv6 = 6, 58

		synAndACK     = 0x12
		offsetOfFlags = ipv6Bytes + 13
		echoReply     = 129
		advertisement = 136
	)
	p := fetch(ip6Header, 0, ipv6Bytes)
	p[0] = p[0].WithSymbol("ipv6")
	p = append(p,
		asm.LoadMem(asm.R1, asm.R10, ip6Header+8, asm.DWord),
		asm.LoadMem(asm.R2, asm.R10, ip6Header+16, asm.DWord),
	)
	for _, v := range vips {
		if !v.Is4() {
			p = append(p, ifAddress6(v.As16(), "from6")...)
		}
	}
	p = append(p, asm.Ja.Label("next"))
	p = append(p,
		asm.LoadMem(asm.R1, asm.R10, ip6Header, asm.Byte).WithSymbol("from6"),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, "next"),
		asm.LoadMem(asm.R1, asm.R10, ip6Header+6, asm.Byte),
		asm.JEq.Imm(asm.R1, protoICMPv6, "icmp6"),
		asm.JNE.Imm(asm.R1, protoTCP, "next"),
	)
	p = append(p, fetch(scratch, offsetOfFlags, 1)...)
	p = append(p,
		asm.Mov.Imm(row, dropSYNACK),
		asm.LoadMem(asm.R1, asm.R10, scratch, asm.Byte),
		asm.And.Imm(asm.R1, synAndACK),
		asm.JEq.Imm(asm.R1, synAndACK, "drop"),
		asm.Ja.Label("next"),
	)
	icmp := fetch(scratch, ipv6Bytes, 1)
	icmp[0] = icmp[0].WithSymbol("icmp6")
	p = append(p, icmp...)
	return append(p,
		asm.LoadMem(asm.R1, asm.R10, scratch, asm.Byte),
		asm.Mov.Imm(row, dropEchoReply),
		asm.JEq.Imm(asm.R1, echoReply, "drop"),
		asm.Mov.Imm(row, dropARPReply),
		asm.JEq.Imm(asm.R1, advertisement, "drop"),
		asm.Ja.Label("next"),
	)
}

// ifAddress6 goes to a label if R1 and R2 are the halves of an address.
func ifAddress6(v [16]byte, label string) asm.Instructions {
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
