package egress

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/asm"
)

// Results of a TCX program (include/uapi/linux/bpf.h, enum tcx_action_base).
// TCX_NEXT lets the programs of others run.
const (
	tcxNext = -1
	tcxDrop = 2
)

// Rows of the map of drops.
const (
	dropSYNACK = iota
	dropARPReply
	dropEchoReply
	dropRows
)

// Ethernet types and their lengths, as the program needs them.
const (
	typeIPv4     = 0x0800
	typeARP      = 0x0806
	typeVLAN     = 0x8100 // IEEE 802.1Q
	typeQinQ     = 0x88a8 // IEEE 802.1ad
	maxTags      = 2
	tagBytes     = 4
	offsetOfType = 12

	minIPv4Bytes = 20
	arpBytes     = 28 // RFC 826 with Ethernet and IPv4
)

// Where the program keeps things.
const (
	skb    = asm.R6 // the frame; helpers leave R6 to R9 alone
	offset = asm.R7 // of what is looked at, from the frame's first byte
	row    = asm.R8 // of the map of drops

	// ipHeader and arpHeader are where a header is copied to, from the frame
	// pointer: such that the sender's address, 12 bytes into the one and 14 into
	// the other, is aligned as the verifier wants.
	ipHeader  = -32
	arpHeader = -30
	// scratch is for a field of at most 4 bytes, and for the row as a key.
	scratch = -40
)

// program is the whole program. What most frames are comes first, and then the lease, so
// that a frame under a valid one costs a look at the clock and at a word, and is not parsed.
func program(leaseFD, dropsFD int, vips []netip.Addr) asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg(skb, asm.R1)}
	if hasIPv4(vips) {
		p = append(p, plain()...)
	}
	p = append(p,
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMapValue(asm.R1, leaseFD, 0),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.JLT.Reg(asm.R0, asm.R1, "next"), // the lease holds until its end, exclusive
	)
	p = append(p, etherType(vips)...)
	if hasIPv4(vips) {
		p = append(p, ipv4(vips)...)
		p = append(p, arp(vips)...)
	}
	if hasIPv6(vips) {
		p = append(p, ipv6(vips)...)
	}
	p = append(p, drop(dropsFD)...)
	return append(p,
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("next"),
		asm.Return(),
	)
}

// Fields of struct __sk_buff (include/uapi/linux/bpf.h).
const (
	skbData    = 76
	skbDataEnd = 80
)

// plain goes to "next" for a segment of IPv4 without SYN and without options of IP whose
// headers lie in one piece. It costs less than the clock.
func plain() asm.Instructions {
	const (
		ethernetBytes = offsetOfType + 2
		flags         = ethernetBytes + minIPv4Bytes + 13
		syn           = 2
	)
	return asm.Instructions{
		asm.LoadMem(asm.R1, skb, skbData, asm.Word),
		asm.LoadMem(asm.R2, skb, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R3, asm.R1),
		asm.Add.Imm(asm.R3, flags+1),
		asm.JGT.Reg(asm.R3, asm.R2, "lease"),
		asm.LoadMem(asm.R2, asm.R1, offsetOfType, asm.Half),
		asm.JNE.Imm(asm.R2, be16(typeIPv4), "lease"),
		asm.LoadMem(asm.R2, asm.R1, ethernetBytes, asm.Byte),
		asm.JNE.Imm(asm.R2, 0x45, "lease"),
		asm.LoadMem(asm.R2, asm.R1, ethernetBytes+9, asm.Byte),
		asm.JNE.Imm(asm.R2, 6, "lease"),
		asm.LoadMem(asm.R2, asm.R1, flags, asm.Byte),
		asm.And.Imm(asm.R2, syn),
		asm.JEq.Imm(asm.R2, 0, "next"),
		asm.Mov.Imm(asm.R1, 0).WithSymbol("lease"),
	}
}

// fetch copies n bytes at offset+plus of the frame to the stack. A frame that is
// too short for them is nothing to drop.
func fetch(to int32, plus, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Reg(asm.R2, offset),
		asm.Add.Imm(asm.R2, plus),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, to),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "next"),
	}
}

// etherType sets offset behind the Ethernet type, past VLAN tags, and goes to
// "ipv4", "arp" or "ipv6", if a VIP is of that family. Tags that the kernel keeps beside the data are not in it.
func etherType(vips []netip.Addr) asm.Instructions {
	p := asm.Instructions{asm.Mov.Imm(offset, offsetOfType)}
	for n := range maxTags {
		tag := fmt.Sprintf("tag%d", n)
		p = append(p, fetch(scratch, 0, 2)...)
		p = append(p,
			asm.LoadMem(asm.R1, asm.R10, scratch, asm.Half),
			asm.JEq.Imm(asm.R1, be16(typeVLAN), tag),
			asm.JNE.Imm(asm.R1, be16(typeQinQ), "type"),
			asm.Add.Imm(offset, tagBytes).WithSymbol(tag),
		)
	}
	p = append(p, fetch(scratch, 0, 2)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R10, scratch, asm.Half),
		asm.Add.Imm(offset, 2).WithSymbol("type"),
	)
	if hasIPv4(vips) {
		p = append(p,
			asm.JEq.Imm(asm.R1, be16(typeIPv4), "ipv4"),
			asm.JEq.Imm(asm.R1, be16(typeARP), "arp"),
		)
	}
	if hasIPv6(vips) {
		p = append(p, asm.JEq.Imm(asm.R1, be16(typeIPv6), "ipv6"))
	}
	return append(p, asm.Ja.Label("next"))
}

// ipv4 goes to "drop" for a SYN-ACK or an echo reply of a VIP (RFC 791 section
// 3.1, RFC 9293 section 3.1, RFC 792). Fragments after the first carry neither.
func ipv4(vips []netip.Addr) asm.Instructions {
	const (
		synAndACK     = 0x12
		offsetOfFlags = 13
		echoReply     = 0
	)
	p := fetch(ipHeader, 0, minIPv4Bytes)
	p[0] = p[0].WithSymbol("ipv4")
	p = append(p,
		asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Half),
		asm.And.Imm(asm.R1, be16(0x1fff)),
		asm.JNE.Imm(asm.R1, 0, "next"),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word),
	)
	p = append(p, ifVIP(vips, "from")...)
	// The length of the ipHeader leads to what follows.
	p = append(p,
		asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Byte).WithSymbol("from"),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 4),
		asm.JNE.Imm(asm.R2, 4, "next"),
		asm.And.Imm(asm.R1, 15),
		asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, minIPv4Bytes, "next"),
		asm.Add.Reg(offset, asm.R1),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+9, asm.Byte),
		asm.JEq.Imm(asm.R1, 1, "icmp"),
		asm.JNE.Imm(asm.R1, 6, "next"),
	)
	p = append(p, fetch(scratch, offsetOfFlags, 1)...)
	p = append(p,
		asm.Mov.Imm(row, dropSYNACK),
		asm.LoadMem(asm.R1, asm.R10, scratch, asm.Byte),
		asm.And.Imm(asm.R1, synAndACK),
		asm.JEq.Imm(asm.R1, synAndACK, "drop"),
		asm.Ja.Label("next"),
	)
	icmp := fetch(scratch, 0, 1)
	icmp[0] = icmp[0].WithSymbol("icmp")
	p = append(p, icmp...)
	return append(p,
		asm.Mov.Imm(row, dropEchoReply),
		asm.LoadMem(asm.R1, asm.R10, scratch, asm.Byte),
		asm.JEq.Imm(asm.R1, echoReply, "drop"),
		asm.Ja.Label("next"),
	)
}

// arp goes to "drop" for a reply that a VIP is at some MAC (RFC 826).
func arp(vips []netip.Addr) asm.Instructions {
	const (
		lengths = 0x0604 // of an Ethernet and an IPv4 address
		reply   = 2
	)
	p := fetch(arpHeader, 0, arpBytes)
	p[0] = p[0].WithSymbol("arp")
	p = append(p,
		asm.LoadMem(asm.R1, asm.R10, arpHeader+2, asm.Half),
		asm.JNE.Imm(asm.R1, be16(typeIPv4), "next"),
		asm.LoadMem(asm.R1, asm.R10, arpHeader+4, asm.Half),
		asm.JNE.Imm(asm.R1, be16(lengths), "next"),
		asm.LoadMem(asm.R1, asm.R10, arpHeader+6, asm.Half),
		asm.JNE.Imm(asm.R1, be16(reply), "next"),
		asm.Mov.Imm(row, dropARPReply),
		asm.LoadMem(asm.R1, asm.R10, arpHeader+14, asm.Word),
	)
	return append(p, ifVIP(vips, "drop")...)
}

// ifVIP goes to a label if the word in R1 is a VIP, and to "next" if not.
func ifVIP(vips []netip.Addr, label string) asm.Instructions {
	var p asm.Instructions
	for _, v := range vips {
		if !v.Is4() {
			continue
		}
		b := v.As4()
		p = append(p, asm.JEq.Imm32(asm.R1, int32(binary.NativeEndian.Uint32(b[:])), label))
	}
	return append(p, asm.Ja.Label("next"))
}

// drop counts in the row and drops.
func drop(dropsFD int) asm.Instructions {
	return asm.Instructions{
		asm.StoreMem(asm.R10, scratch, row, asm.Word).WithSymbol("drop"),
		asm.LoadMapPtr(asm.R1, dropsFD),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, scratch),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "dropped"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("dropped"),
		asm.Return(),
	}
}

// be16 is a number of the wire as a load of it sees it on this machine.
func be16(v uint16) int32 {
	b := binary.BigEndian.AppendUint16(nil, v)
	return int32(binary.NativeEndian.Uint16(b))
}
