package ingress

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// Extension headers of IPv6 (RFC 8200 section 4), and how many are walked.
const (
	nextRouting     = 43
	nextFragment    = 44
	nextDestination = 60

	maxExtensions = 4
	fragmentBytes = 8
)

// ICMPv6 messages that quote a packet are those from 1 to 4 (RFC 4443 section 2.1).
const lastError6 = 4

// in6 does for IPv6 what in4 does for IPv4.
func (s *steerer) in6() {
	s.at("ipv6", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromStart(), frame, ethernetBytes+ipv6Bytes, s.out(Elsewhere))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+24, asm.DWord),
		asm.LoadMem(asm.R2, asm.R10, ipHeader+32, asm.DWord),
	)
	s.ourVIPs("6", func(i int) { s.add(ifWords(s.Addresses[i].As16(), vipLabel(i))...) })
	s.macs("6")
	s.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, s.out(Malformed)),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+8, asm.Byte),
		asm.JEq.Imm(asm.R1, 0xff, s.out(Malformed)),
		// ::ffff:0:0/96, RFC 4291 section 2.5.5.2
		asm.LoadMem(asm.R1, asm.R10, ipHeader+8, asm.DWord),
		asm.JNE.Imm(asm.R1, 0, "source6"),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+16, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JEq.Imm(asm.R1, 0xffff, s.out(Malformed)),
	)
	s.at("source6", asm.Mov.Imm(offset, ethernetBytes+ipv6Bytes))
	s.extensions()
	s.at("upper6", asm.StoreMem(asm.R10, transport, asm.R8, asm.DWord))
	s.add(asm.Mov.Reg(asm.R1, asm.R8))
	s.protocols("6", protoICMPv6)
	s.errors6()
}

// extensions walks to the transport, whose protocol is in R8 then: over at most
// maxExtensions headers, and as many again behind that of a fragment.
func (s *steerer) extensions() {
	s.add(asm.LoadMem(asm.R8, asm.R10, ipHeader+6, asm.Byte))
	s.walk("extension", "fragment6")
	s.fragments6()
	s.walk("extension of a fragment", s.out(LostFragment))
}

// walk goes on to "upper6", and to a label at the header of a fragment.
func (s *steerer) walk(name, fragment string) {
	for n := range maxExtensions + 1 {
		step := fmt.Sprint(name, n)
		s.add(
			asm.JEq.Imm(asm.R8, nextRouting, s.out(Malformed)),
			asm.JEq.Imm(asm.R8, nextFragment, fragment),
		)
		if n == maxExtensions {
			s.add(
				asm.JEq.Imm(asm.R8, nextHopByHop, s.out(Malformed)),
				asm.JEq.Imm(asm.R8, nextDestination, s.out(Malformed)),
				asm.Ja.Label("upper6"),
			)
			return
		}
		s.add(
			asm.JEq.Imm(asm.R8, nextHopByHop, step),
			asm.JNE.Imm(asm.R8, nextDestination, "upper6"),
		)
		s.at(step, asm.Mov.Imm(asm.R1, 0))
		s.fetch(fromTransport(0), scratch, 2, s.out(Malformed))
		s.add(
			asm.LoadMem(asm.R8, asm.R10, scratch, asm.Byte),
			asm.LoadMem(asm.R1, asm.R10, scratch+1, asm.Byte),
			asm.Add.Imm(asm.R1, 1),
			asm.LSh.Imm(asm.R1, 3),
			asm.Add.Reg(offset, asm.R1),
		)
	}
}

// fragments6 is fragments4 for IPv6 (RFC 8200 section 4.5). One that is a whole packet
// (RFC 6946) is judged as if it were none.
func (s *steerer) fragments6() {
	s.at("fragment6", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromTransport(0), fragmentHeader, fragmentBytes, s.out(Malformed))
	s.add(
		asm.Add.Imm(offset, fragmentBytes),
		asm.LoadMem(asm.R8, asm.R10, fragmentHeader, asm.Byte),
		asm.LoadMem(asm.R1, asm.R10, fragmentHeader+2, asm.Half),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R1, be16(0xfff8)), // offset
		asm.JNE.Imm(asm.R1, 0, "part6"),
		asm.And.Imm(asm.R2, be16(1)), // more fragments
		asm.JEq.Imm(asm.R2, 0, "behind"),
		asm.StoreImm(asm.R10, isFirst, firstOf6, asm.Word),
		asm.Ja.Label("behind"),
	)
	s.at("part6", asm.Mov.Imm(asm.R1, 0))
	s.fragmentKey6()
	s.knownFragment(s.fds.fragments6, fragment6)
	s.at("behind", asm.Mov.Imm(asm.R1, 0))
}

// fragmentKey6 is what the fragments of a packet of IPv6 have in common.
func (s *steerer) fragmentKey6() {
	for at := int16(0); at < 32; at += 8 {
		s.add(asm.LoadMem(asm.R1, asm.R10, ipHeader+8+at, asm.DWord), asm.StoreMem(asm.R10, fragment6+at, asm.R1, asm.DWord))
	}
	s.add(asm.LoadMem(asm.R1, asm.R10, fragmentHeader+4, asm.Word), asm.StoreMem(asm.R10, fragment6+32, asm.R1, asm.Word))
}

// errors6 is errors4 for IPv6. A quoted packet is one of ours, without extension headers.
func (s *steerer) errors6() {
	const ip = quote + icmpBytes
	s.at("icmp6", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromTransport(0), quote, icmpBytes+ipv6Bytes, s.out(NotForKernel))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, quote, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, s.out(NotForKernel)),
		asm.JGT.Imm(asm.R1, lastError6, s.out(NotForKernel)),
	)
	for at := int16(0); at < 16; at += 8 {
		s.add(
			asm.LoadMem(asm.R1, asm.R10, ip+8+at, asm.DWord),
			asm.LoadMem(asm.R2, asm.R10, ipHeader+24+at, asm.DWord),
			asm.JNE.Reg(asm.R1, asm.R2, s.out(UnknownQuoted)),
			asm.StoreMem(asm.R10, tuple+16+at, asm.R1, asm.DWord),
			asm.LoadMem(asm.R1, asm.R10, ip+24+at, asm.DWord),
			asm.StoreMem(asm.R10, tuple+at, asm.R1, asm.DWord),
		)
	}
	s.fetch(fromTransport(icmpBytes+ipv6Bytes), quotePorts, 4, s.out(UnknownQuoted))
	s.quoted("6", ip+6, 32)
}
