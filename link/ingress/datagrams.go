package ingress

import "github.com/cilium/ebpf/asm"

// udpBytes is the length of a UDP header, RFC 768.
const udpBytes = 8

// datagram4 refuses UDP to the port that is another socket's, and drops the datagrams
// of services that are another node's. Fragments pass, for only the first has ports; so
// do datagrams with less than 12 bytes of data, of which too little was read.
func (b *builder) datagram4() {
	serves := b.servesUDP("4")
	if b.Except == 0 && !serves {
		return
	}
	b.at("datagram", asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Half))
	b.add(
		asm.And.Imm(asm.R1, be16(0x1fff)),
		asm.JNE.Imm(asm.R1, 0, "accept"),
	)
	port := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R10, ipHeader, asm.Byte),
		asm.And.Imm(asm.R2, 15),
		asm.LSh.Imm(asm.R2, 2),
		asm.Add.Imm(asm.R2, ethernetBytes+2),
	}
	b.load(port, scratch, 2, "port")
	b.add(asm.Ja.Label("refuse"))
	b.at("port", asm.LoadMem(asm.R1, asm.R10, scratch, asm.Half))
	if b.Except != 0 {
		b.add(asm.JEq.Imm(asm.R1, be16(b.Except), "refuse"))
	}
	if !serves {
		b.add(asm.Ja.Label("accept"))
		return
	}
	b.add(asm.JNE.Imm(state, readTCP, "accept"))
	b.plain4(ipv4Bytes + udpBytes)
	b.length(tcp4)
	b.whole4("whole datagram 4", ipv4Bytes+udpBytes)
	b.add(asm.LoadMem(asm.R1, asm.R10, tcp4+2, asm.Half))
	b.ports("4", true)
}

// datagram6 is datagram4 for IPv6.
func (b *builder) datagram6() {
	serves := b.servesUDP("6")
	if b.Except == 0 && !serves {
		return
	}
	// What another socket hears is longer than what was read.
	b.at("datagram6", asm.JNE.Imm(state, readTCP, "accept"))
	b.add(asm.LoadMem(asm.R1, asm.R10, tcp6+2, asm.Half))
	if b.Except != 0 {
		b.add(asm.JEq.Imm(asm.R1, be16(b.Except), "refuse"))
	}
	if !serves {
		b.add(asm.Ja.Label("accept"))
		return
	}
	b.plain6("source datagram 6", udpBytes)
	b.length(tcp6)
	b.whole6("whole datagram 6")
	b.add(asm.LoadMem(asm.R1, asm.R10, tcp6+2, asm.Half))
	b.ports("6", true)
}

// length lets pass what has a UDP length that cannot be, in a packet that carries as
// many bytes as R3 says.
func (b *builder) length(at int16) {
	b.add(
		asm.LoadMem(asm.R1, asm.R10, at+4, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JLT.Imm(asm.R1, udpBytes, "accept"),
		asm.JGT.Reg(asm.R1, asm.R3, "accept"),
	)
}
