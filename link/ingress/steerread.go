package ingress

import "github.com/cilium/ebpf/asm"

// fetch copies n bytes of the frame, from where R2 is told by at, to the stack; it goes
// to a label when the frame is too short.
func (s *steerer) fetch(at asm.Instructions, to, n int32, short string) {
	s.add(asm.Mov.Reg(asm.R1, skb))
	s.add(at...)
	s.add(
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, to),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, short),
	)
}

// head copies the first headers to the stack: those of Ethernet and IPv4 as far as they
// are there, and 20 bytes more where they lie in one piece with them, which is told in
// headAt. A copy by the program itself costs less than a call.
func (s *steerer) head() {
	const whole = ethernetBytes + ipv4Bytes + tcpBytes
	s.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R10, headAt, asm.R1, asm.DWord))
	if !s.inPieces {
		s.add(
			asm.LoadMem(asm.R2, skb, skbData, asm.Word),
			asm.LoadMem(asm.R3, skb, skbDataEnd, asm.Word),
			asm.Mov.Reg(asm.R1, asm.R2),
			asm.Add.Imm(asm.R1, whole),
			asm.JGT.Reg(asm.R1, asm.R3, "in pieces"),
		)
		// The stack is aligned where the IP header is.
		for at, n := int16(0), int16(0); at < whole; at += n {
			size := asm.DWord
			switch {
			case at == 0:
				size = asm.Half
			case at < 6:
				size = asm.Word
			}
			n = int16(size.Sizeof())
			s.add(asm.LoadMem(asm.R1, asm.R2, at, size), asm.StoreMem(asm.R10, frame+at, asm.R1, size))
		}
		s.add(asm.Mov.Imm(asm.R1, ethernetBytes+ipv4Bytes), asm.StoreMem(asm.R10, headAt, asm.R1, asm.DWord), asm.Ja.Label("head"))
	}
	s.at("in pieces", asm.Mov.Imm(asm.R1, 0))
	s.fetch(fromStart(), frame, ethernetBytes+ipv4Bytes, s.out(Elsewhere))
	for at := int16(tcp4); at < tcp4+tcpBytes; at += 4 {
		s.add(asm.StoreImm(asm.R10, at, 0, asm.Word))
	}
	s.at("head", asm.Mov.Imm(asm.R1, 0))
}

// fetchTCP copies the TCP header to the stack, unless it is there.
func (s *steerer) fetchTCP(family string, to int16, short string) {
	there := "header " + family
	if family == "4" {
		s.add(asm.LoadMem(asm.R1, asm.R10, headAt, asm.DWord), asm.JEq.Reg(asm.R1, offset, there))
	}
	s.fetch(fromTransport(0), int32(to), tcpBytes, short)
	s.at(there, asm.Mov.Imm(asm.R1, 0))
}

func fromStart() asm.Instructions { return asm.Instructions{asm.Mov.Imm(asm.R2, 0)} }

// fromTransport is so many bytes behind the transport's first.
func fromTransport(plus int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Reg(asm.R2, offset), asm.Add.Imm(asm.R2, plus)}
}

// get looks for the key at a place of the stack in a map: R0 is its value or 0 then.
func (s *steerer) get(fd int, key int32) {
	s.add(
		asm.LoadMapPtr(asm.R1, fd),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
	)
}

// put has a map have the value at a place of the stack under the key at another.
func (s *steerer) put(fd int, key, value int32) {
	s.add(
		asm.LoadMapPtr(asm.R1, fd),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, key),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, value),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	)
}
