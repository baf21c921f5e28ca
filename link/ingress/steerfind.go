package ingress

import "github.com/cilium/ebpf/asm"

// find leaves in found the state of the socket that takes the segment, tcpDistant or
// tcpNone.
func (s *steerer) find(family string) {
	tcp := tcpOf(family)
	s.tupleOf(family)
	s.add(asm.Mov.Imm(found, tcpNone))
	s.lookUp(family, "looked "+family)
	s.add(
		asm.Mov.Reg(socket, asm.R0),
		asm.LoadMem(found, socket, sockState, asm.Word),
		asm.JEq.Imm(found, tcpTimeWait, "release "+family),
		asm.JEq.Imm(found, tcpListen, "release "+family),
		asm.JEq.Imm(found, tcpNewSYNRecv, "release "+family),
		asm.JEq.Imm(found, tcpSYNRecv, "release "+family),
		asm.Mov.Reg(asm.R1, socket),
		asm.FnTcpSock.Call(),
		asm.JEq.Imm(asm.R0, 0, "release "+family),
		// Sequence and acknowledgment numbers lie around what is expected of them. An
		// acknowledgment may be there before the kernel has noted that it has sent.
		asm.LoadMem(asm.R1, asm.R0, tcpRcvNxt, asm.Word),
		asm.LoadMem(asm.R3, asm.R0, tcpSndNxt, asm.Word),
		asm.LoadMem(asm.R2, asm.R10, tcp+4, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Word),
		asm.Sub.Reg32(asm.R2, asm.R1),
		asm.Add.Imm32(asm.R2, window),
		asm.JGT.Imm32(asm.R2, 2*window, "distant "+family),
		asm.LoadMem(asm.R2, asm.R10, tcp+13, asm.Byte),
		asm.And.Imm(asm.R2, ackFlag),
		asm.JEq.Imm(asm.R2, 0, "release "+family),
		asm.LoadMem(asm.R2, asm.R10, tcp+8, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Word),
		asm.Sub.Reg32(asm.R3, asm.R2),
		asm.Add.Imm32(asm.R3, window),
		asm.JLE.Imm32(asm.R3, 2*window, "release "+family),
	)
	s.at("distant "+family, asm.Mov.Imm(found, tcpDistant))
	s.at("release "+family, asm.Mov.Reg(asm.R1, socket))
	s.add(asm.FnSkRelease.Call())
	s.at("looked "+family, asm.Mov.Imm(asm.R0, 0))
}

// tupleOf copies the segment's addresses and ports to where a socket is asked for by
// them.
func (s *steerer) tupleOf(family string) {
	from, tcp, n := int16(ipHeader+12), int16(tcp4), int16(8)
	if family == "6" {
		from, tcp, n = ipHeader+8, tcp6, 32
	}
	for at := int16(0); at < n; at += 4 {
		s.add(asm.LoadMem(asm.R1, asm.R10, from+at, asm.Word), asm.StoreMem(asm.R10, tuple+at, asm.R1, asm.Word))
	}
	s.add(asm.LoadMem(asm.R1, asm.R10, tcp, asm.Word), asm.StoreMem(asm.R10, tuple+n, asm.R1, asm.Word))
}

// excluded goes to a label if no drainer's list has the flow of tuple. It is asked about
// buckets that are listed, and keeps found.
func (s *steerer) excluded(family, none string) {
	const saved = socket
	s.add(asm.Mov.Reg(saved, found))
	s.hashFlow(family)
	s.get(s.fds.listed, flowHash)
	s.add(
		asm.JEq.Imm(asm.R0, 0, none),
		asm.Mov.Reg(found, saved),
	)
}

// hashFlow leaves node.FlowHash of tuple in flowHash. It takes the register state.
func (s *steerer) hashFlow(family string) {
	s.add(asm.LoadMapValue(state, s.fds.state, steerListKey))
	s.add(sipHash24(flowMessage(family))...)
	s.add(asm.StoreMem(asm.R10, flowHash, asm.R0, asm.DWord))
}

// lookUp asks for the socket of tuple, which is in R0 then and has to be released; where
// there is none it goes to a label.
func (s *steerer) lookUp(family, none string) {
	n := int32(12)
	if family == "6" {
		n = 36
	}
	const thisNamespace = -1 // BPF_F_CURRENT_NETNS
	s.add(
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, tuple),
		asm.Mov.Imm(asm.R3, n),
		asm.Mov.Imm(asm.R4, thisNamespace),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkcLookupTcp.Call(),
		asm.JEq.Imm(asm.R0, 0, none),
	)
}
