package ingress

import (
	"github.com/cilium/ebpf/asm"
)

// ICMP messages that quote a packet (RFC 792).
const (
	protoICMP            = 1
	icmpUnreachable      = 3
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12
	icmpBytes            = 8
)

// in4 judges what is wrong with a packet for a VIP, and goes to its service.
func (s *steerer) in4() {
	s.at("ipv4", asm.LoadMem(asm.R1, asm.R10, ipHeader+16, asm.Word))
	s.ourVIPs("4", func(i int) {
		v := s.Addresses[i].As4()
		s.add(asm.JEq.Imm32(asm.R1, native32(v[:]), vipLabel(i)))
	})
	s.macs("4")
	s.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Byte),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 4),
		asm.JNE.Imm(asm.R2, 4, s.out(Malformed)),
		asm.And.Imm(asm.R1, 15),
		asm.JLT.Imm(asm.R1, 5, s.out(Malformed)),
		asm.LSh.Imm(asm.R1, 2),
		asm.Add.Imm(asm.R1, ethernetBytes),
		asm.Mov.Reg(offset, asm.R1),
		// The client's address.
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, s.out(Malformed)),
		asm.JEq.Imm(asm.R1, 127, s.out(Malformed)),
		asm.JGE.Imm(asm.R1, 224, s.out(Malformed)),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word),
		asm.LoadMem(asm.R2, asm.R10, ipHeader+16, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, s.out(Malformed)),
	)
	s.fragments4()
	s.at("whole4", asm.LoadMem(asm.R1, asm.R10, ipHeader+9, asm.Byte))
	s.add(asm.StoreMem(asm.R10, transport, asm.R1, asm.DWord))
	s.protocols("4", protoICMP)
	s.errors4()
}

// ourVIPs goes on, for a VIP of a family, with its number in service: compare jumps to
// its label. Other addresses are not ours.
func (s *steerer) ourVIPs(family string, compare func(int)) {
	for i, a := range s.Addresses {
		if a.Is4() == (family == "4") {
			compare(i)
		}
	}
	s.add(asm.Ja.Label(s.out(Elsewhere)))
	for i, a := range s.Addresses {
		if a.Is4() == (family == "4") {
			s.at(vipLabel(i), asm.Mov.Imm(service, int32(i)))
			s.add(asm.Ja.Label("any vip " + family))
		}
	}
}

// macs judges the MACs: a packet for a VIP in a frame to others, as a broadcast, is not
// for the host's stack either.
func (s *steerer) macs(family string) {
	macs := ifMAC(asm.R10, frame, s.ours(), "ours"+family)
	s.at("any vip "+family, macs...)
	s.add(asm.Ja.Label(s.out(NotForKernel)))
	s.at("ours"+family, asm.LoadMem(asm.R1, asm.R10, frame+6, asm.Byte))
	s.add(asm.And.Imm(asm.R1, 1), asm.JNE.Imm(asm.R1, 0, s.out(Malformed)))
	s.add(ifMAC(asm.R10, frame+6, s.ours(), s.out(Malformed))...)
}

// protocols goes by the transport in R1 to the ports of the services. Heartbeats are
// datagrams that no router may pass on; the control process hears them behind TCX.
func (s *steerer) protocols(family string, icmp int32) {
	tcp, ttl := int16(tcp4), int16(ipHeader+8)
	if family == "6" {
		tcp, ttl = tcp6, ipHeader+7
	}
	if s.servesTCP(family) {
		s.add(asm.JEq.Imm(asm.R1, protoTCP, "tcp"+family))
	}
	s.add(
		asm.JEq.Imm(asm.R1, protoUDP, "udp"+family),
		asm.JEq.Imm(asm.R1, icmp, "icmp"+family),
		asm.Ja.Label(s.out(NotForKernel)),
	)
	s.at("udp"+family, asm.LoadMem(asm.R1, asm.R10, ttl, asm.Byte))
	s.add(asm.JEq.Imm(asm.R1, heartbeatTTL, s.out(Elsewhere)))
	if s.servesUDP(family) {
		s.fetch(fromTransport(0), int32(tcp), udpBytes, s.out(Malformed))
		s.add(
			asm.LoadMem(asm.R1, asm.R10, tcp+4, asm.Half),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			asm.JLT.Imm(asm.R1, udpBytes, s.out(Malformed)),
			asm.LoadMem(asm.R1, asm.R10, tcp+2, asm.Half),
		)
		s.ports(family, true)
	} else {
		s.add(asm.Ja.Label(s.out(NotForKernel)))
	}
	if s.servesTCP(family) {
		s.at("tcp"+family, asm.Mov.Imm(asm.R1, 0))
		s.fetchTCP(family, tcp, s.out(Malformed))
		s.tcpHeader(tcp)
		s.add(asm.LoadMem(asm.R1, asm.R10, tcp+2, asm.Half))
		s.ports(family, false)
	}
}

// tcpHeader refuses what is no TCP header.
func (s *steerer) tcpHeader(at int16) {
	plain := "plain " + map[int16]string{tcp4: "4", tcp6: "6"}[at]
	s.add(
		asm.LoadMem(asm.R1, asm.R10, at+12, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JLT.Imm(asm.R1, tcpBytes/4, s.out(Malformed)),
		asm.LoadMem(asm.R1, asm.R10, at, asm.Half),
		asm.JEq.Imm(asm.R1, 0, s.out(Malformed)),
		asm.LoadMem(asm.R1, asm.R10, at+13, asm.Byte),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, synFlag|ackFlag|rstFlag),
		asm.JEq.Imm(asm.R2, 0, s.out(Malformed)),
		asm.And.Imm(asm.R2, synFlag),
		asm.JEq.Imm(asm.R2, 0, plain),
		asm.And.Imm(asm.R1, finFlag|rstFlag),
		asm.JNE.Imm(asm.R1, 0, s.out(Malformed)),
	)
	s.at(plain, asm.Mov.Imm(asm.R1, 0))
}

// fragments4 judges fragments by the first of their packet: it alone has ports, and each
// service has a hash of its own, so that the address does not tell whose a fragment is.
// One that comes before the first is lost, as if the network had lost it.
func (s *steerer) fragments4() {
	s.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Half),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R1, be16(0x3fff)), // more fragments, offset
		asm.JEq.Imm(asm.R1, 0, "whole4"),
		asm.StoreImm(asm.R10, isFirst, firstOf4, asm.Word),
		asm.And.Imm(asm.R2, be16(0x1fff)), // offset
		asm.JEq.Imm(asm.R2, 0, "whole4"),
		asm.StoreImm(asm.R10, isFirst, 0, asm.Word),
	)
	s.fragmentKey4()
	s.knownFragment(s.fds.fragments4, fragment4)
}

// knownFragment lets a fragment pass whose key is at hand, if the first of its packet has
// passed.
func (s *steerer) knownFragment(fd int, key int32) {
	const nanoseconds = 1e9
	s.get(fd, key)
	s.add(
		asm.JEq.Imm(asm.R0, 0, s.out(LostFragment)),
		asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord),
		asm.FnKtimeGetBootNs.Call(),
		asm.Sub.Reg(asm.R0, asm.R7),
		asm.LoadImm(asm.R1, fragmentSeconds*nanoseconds, asm.DWord),
		asm.JGT.Reg(asm.R0, asm.R1, s.out(LostFragment)),
		asm.Ja.Label(s.out(PassFragment)),
	)
}

// fragmentKey4 is what the fragments of a packet have in common (RFC 791 section 3.2).
func (s *steerer) fragmentKey4() {
	s.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word),
		asm.StoreMem(asm.R10, fragment4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+16, asm.Word),
		asm.StoreMem(asm.R10, fragment4+4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+4, asm.Half),
		asm.StoreMem(asm.R10, fragment4+8, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+9, asm.Byte),
		asm.StoreMem(asm.R10, fragment4+10, asm.R1, asm.Half),
	)
}

// errors4 hands an ICMP error to the kernel that has the connection which it quotes.
// Echo requests are the responder's.
func (s *steerer) errors4() {
	s.at("icmp4", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromTransport(0), quote, icmpBytes+ipv4Bytes, s.out(NotForKernel))
	s.add(
		asm.LoadMem(asm.R1, asm.R10, quote, asm.Byte),
		asm.JEq.Imm(asm.R1, icmpUnreachable, "quoted4"),
		asm.JEq.Imm(asm.R1, icmpTimeExceeded, "quoted4"),
		asm.JNE.Imm(asm.R1, icmpParameterProblem, s.out(NotForKernel)),
	)
	const ip = quote + icmpBytes
	s.at("quoted4", asm.LoadMem(asm.R1, asm.R10, ip+12, asm.Word))
	s.add(
		asm.LoadMem(asm.R2, asm.R10, ipHeader+16, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, s.out(UnknownQuoted)),
		asm.StoreMem(asm.R10, tuple+4, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R10, ip+16, asm.Word),
		asm.StoreMem(asm.R10, tuple, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R10, ip, asm.Byte),
		asm.And.Imm(asm.R1, 15),
		asm.JLT.Imm(asm.R1, 5, s.out(Malformed)),
		asm.LSh.Imm(asm.R1, 2),
		asm.Add.Reg(offset, asm.R1),
	)
	s.fetch(fromTransport(icmpBytes), quotePorts, 4, s.out(UnknownQuoted))
	s.quoted("4", ip+9, 8)
}

// quoted passes an error about a connection or a datagram of ours, whose ports and
// protocol are at hand and whose addresses are in tuple. Of datagrams the kernel keeps
// no list: it looks by itself whether a socket wants to know.
func (s *steerer) quoted(family string, protocol, ports int16) {
	s.add(
		asm.LoadMem(asm.R1, asm.R10, quotePorts, asm.Half),
		asm.StoreMem(asm.R10, tuple+ports+2, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R10, quotePorts+2, asm.Half),
		asm.StoreMem(asm.R10, tuple+ports, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R10, protocol, asm.Byte),
		asm.JEq.Imm(asm.R1, protoUDP, s.out(PassError)),
		asm.JNE.Imm(asm.R1, protoTCP, s.out(UnknownQuoted)),
	)
	s.lookUp(family, s.out(UnknownQuoted))
	s.add(
		asm.LoadMem(found, asm.R0, sockState, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.FnSkRelease.Call(),
		asm.JEq.Imm(found, tcpListen, s.out(UnknownQuoted)),
		asm.Ja.Label(s.out(PassError)),
	)
}
