package ingress

import "github.com/cilium/ebpf/asm"

// arpHeader is where ARP behind an Ethernet header is copied to.
const (
	arpHeader = frame + ethernetBytes
	arpBytes  = 28
)

// leave is the program on the way out: the rule is node.SteerOut. It sees what the
// kernel sends and what packet sockets send; of the latter nothing is from a port of the
// direct path, and all ARP names the cluster MAC.
func (s *steerer) leave() asm.Instructions {
	s.other = Elsewhere
	s.begin()
	s.head()
	s.add(ifMAC(asm.R10, frame+6, s.Groups, s.out(KeptSource))...)
	s.add(asm.LoadMem(asm.R1, asm.R10, frame+12, asm.Half))
	if s.has4() {
		s.add(asm.JEq.Imm(asm.R1, be16(typeIPv4), "ipv4"), asm.JEq.Imm(asm.R1, be16(typeARP), "arp"))
	}
	if s.has6() {
		s.add(asm.JEq.Imm(asm.R1, be16(typeIPv6), "ipv6"))
	}
	s.add(asm.Ja.Label(s.out(Elsewhere)))
	if s.has4() {
		s.out4()
		s.arp()
	}
	if s.has6() {
		s.out6()
	}
	s.services()
	for _, family := range []string{"4", "6"} {
		if s.servesTCP(family) {
			s.rights(family)
			s.kept(family)
		}
	}
	s.rulings()
	return s.code
}

// arp keeps back what the kernel says in ARP as a VIP: its own MAC would take the VIP to
// this host alone (RFC 826).
func (s *steerer) arp() {
	const mac, sender = arpHeader + 8, arpHeader + 14
	s.at("arp", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromStart(), frame, ethernetBytes+arpBytes, s.out(Elsewhere))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, sender, asm.Half),
		asm.LoadMem(asm.R2, asm.R10, sender+2, asm.Half),
	)
	for _, a := range s.Addresses {
		if a.Is4() {
			v := a.As4()
			next := asm.JNE.Imm(asm.R1, native16(v[:2]), "")
			next.Offset = 1
			s.add(next, asm.JEq.Imm(asm.R2, native16(v[2:]), "from vip"))
		}
	}
	s.add(asm.Ja.Label(s.out(Elsewhere)))
	macs := ifMAC(asm.R10, mac, s.Groups, s.out(Elsewhere))
	s.at("from vip", macs...)
	s.add(asm.Ja.Label(s.out(KeptAddress)))
}

// out4 goes to the service of a SYN-ACK or a reset from a VIP. The client is made its
// source, as the hash has it.
func (s *steerer) out4() {
	s.at("ipv4", asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word))
	s.ourVIPs("4", func(i int) {
		v := s.Addresses[i].As4()
		s.add(asm.JEq.Imm32(asm.R1, native32(v[:]), vipLabel(i)))
	})
	s.at("any vip 4", asm.LoadMem(asm.R1, asm.R10, ipHeader+9, asm.Byte))
	s.add(
		asm.JNE.Imm(asm.R1, protoTCP, s.out(Elsewhere)),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Half),
		asm.And.Imm(asm.R1, be16(0x1fff)),
		asm.JNE.Imm(asm.R1, 0, s.out(Elsewhere)),
		asm.LoadMem(offset, asm.R10, ipHeader, asm.Byte),
		asm.And.Imm(offset, 15),
		asm.LSh.Imm(offset, 2),
		asm.Add.Imm(offset, ethernetBytes),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word),
		asm.LoadMem(asm.R2, asm.R10, ipHeader+16, asm.Word),
		asm.StoreMem(asm.R10, ipHeader+12, asm.R2, asm.Word),
		asm.StoreMem(asm.R10, ipHeader+16, asm.R1, asm.Word),
	)
	s.segmentOut("4", tcp4)
}

// out6 is out4 for IPv6.
func (s *steerer) out6() {
	s.at("ipv6", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromStart(), frame, ethernetBytes+ipv6Bytes, s.out(Elsewhere))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+8, asm.DWord),
		asm.LoadMem(asm.R2, asm.R10, ipHeader+16, asm.DWord),
	)
	s.ourVIPs("6", func(i int) { s.add(ifWords(s.Addresses[i].As16(), vipLabel(i))...) })
	s.at("any vip 6", asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Byte))
	s.add(asm.JNE.Imm(asm.R1, protoTCP, s.out(Elsewhere)), asm.Mov.Imm(offset, ethernetBytes+ipv6Bytes))
	for at := int16(0); at < 16; at += 8 {
		s.add(
			asm.LoadMem(asm.R1, asm.R10, ipHeader+8+at, asm.DWord),
			asm.LoadMem(asm.R2, asm.R10, ipHeader+24+at, asm.DWord),
			asm.StoreMem(asm.R10, ipHeader+8+at, asm.R2, asm.DWord),
			asm.StoreMem(asm.R10, ipHeader+24+at, asm.R1, asm.DWord),
		)
	}
	s.segmentOut("6", tcp6)
}

// segmentOut reads the TCP header, lets go what is neither a SYN-ACK nor a reset, and
// finds the service by the VIP's port.
func (s *steerer) segmentOut(family string, tcp int16) {
	s.fetchTCP(family, tcp, s.out(Elsewhere))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, tcp+13, asm.Byte),
		asm.JSet.Imm(asm.R1, rstFlag, "word "+family),
		asm.And.Imm(asm.R1, synFlag|ackFlag),
		asm.JNE.Imm(asm.R1, synFlag|ackFlag, s.out(Elsewhere)),
	)
	s.at("word "+family, asm.LoadMem(asm.R1, asm.R10, tcp, asm.Half))
	s.add(
		asm.LoadMem(asm.R2, asm.R10, tcp+2, asm.Half),
		asm.StoreMem(asm.R10, tcp, asm.R2, asm.Half),
		asm.StoreMem(asm.R10, tcp+2, asm.R1, asm.Half),
	)
	s.ports(family, false)
}

// kept is node.SteerOut.
func (s *steerer) kept(family string) {
	tcp := tcpOf(family)
	nobody, stray := "in nobody's name "+family, "for a stray "+family
	s.add(
		asm.LoadMem(asm.R1, asm.R10, tcp+13, asm.Byte),
		asm.JSet.Imm(asm.R1, rstFlag, "reset "+family),
		asm.Mov.Reg(asm.R1, rights),
		asm.And.Imm(asm.R1, isOwned),
		asm.JEq.Imm(asm.R1, 0, s.out(KeptSYNACK)),
	)
	s.answersSYN(family)
	s.at("reset "+family, asm.LoadMem(asm.R1, skb, skbSocket, asm.DWord))
	s.add(
		asm.JEq.Imm(asm.R1, 0, nobody),
		asm.FnSkFullsock.Call(),
		asm.JEq.Imm(asm.R0, 0, nobody),
		asm.LoadMem(asm.R1, asm.R0, sockType, asm.Word),
		asm.JNE.Imm(asm.R1, sockStream, nobody),
		asm.LoadMem(asm.R1, asm.R0, sockState, asm.Word),
		asm.JEq.Imm(asm.R1, tcpListen, nobody),
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMapValue(asm.R1, s.fds.state, steerQuiet),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.JLT.Reg(asm.R0, asm.R1, s.out(KeptSilent)),
		asm.Ja.Label(s.out(Elsewhere)),
	)
	s.at(nobody, asm.Mov.Reg(asm.R2, rights))
	s.add(
		asm.And.Imm(asm.R2, isOwned|isSettled),
		asm.JEq.Imm(asm.R2, isOwned|isSettled, s.out(Elsewhere)),
		asm.JEq.Imm(asm.R2, 0, s.out(KeptReset)),
		asm.JEq.Imm(asm.R2, isSettled, s.out(KeptReset)),
		asm.LoadMem(asm.R1, asm.R10, tcp+13, asm.Byte),
		asm.And.Imm(asm.R1, ackFlag),
		asm.JEq.Imm(asm.R1, 0, stray),
		asm.LoadMem(asm.R1, asm.R10, tcp+4, asm.Word),
		asm.JEq.Imm(asm.R1, 0, s.out(Elsewhere)),
	)
	s.at(stray, asm.Mov.Reg(asm.R2, rights))
	s.add(asm.And.Imm(asm.R2, isListed), asm.JEq.Imm(asm.R2, 0, s.out(KeptReset)))
	s.tupleOf(family)
	s.excluded(family, s.out(Elsewhere))
	s.add(asm.Ja.Label(s.out(KeptReset)))
}
