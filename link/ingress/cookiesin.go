package ingress

import (
	"net"
	"slices"

	"github.com/cilium/ebpf/asm"
)

// A processor's slot: the SYN that the socket filter has taken out for the TCX program,
// and room to work in.
const (
	slotService = 0 // and one; 0 is none
	slotFrom    = 4 // as on the wire, and so the next two
	slotPorts   = 8
	slotNumber  = 12
	slotSize    = 16 // of segments, as the cookie tells it
	slotStamped = 20
	slotStamp   = 24
	slotPartial = 28  // its checksum is a sum over the pseudo-header
	slotHeader  = 32  // the TCP header; zeros behind it
	slotFrame   = 130 // the answer, whose IP header is aligned
	slotIP      = slotFrame + ethernetBytes
	slotTCP     = slotIP + ipv4Bytes
	slotState   = 208
	slotBlock   = 232
	slotAt      = 296 // in the options
	slotNow     = 300 // the cookie's time
	slotSum     = 304 // of the first hash
	slotBytes   = 512
	slotShift   = 9
)

// Where the socket filter keeps things while it looks at a SYN.
const (
	cookieBucket = -128
	cookieRow    = -136
	cookieLength = -144 // of the TCP header
)

// takeSYNs takes out, for the TCX program, the SYNs that it is to answer. The bucket is in
// R0, and is there again for what goes on to "judge4": what is no SYN, and what the process
// is to see.
func (b *builder) takeSYNs() {
	const row, slot = asm.R5, asm.R9
	b.add(
		asm.LoadMem(asm.R1, asm.R10, tcp4+13, asm.Byte),
		asm.And.Imm(asm.R1, synFlag|ackFlag),
		asm.JNE.Imm(asm.R1, synFlag, "judge4"),
		asm.StoreMem(asm.R10, cookieBucket, asm.R0, asm.DWord),
		asm.FnGetSmpProcessorId.Call(),
		asm.JGE.Imm(asm.R0, int32(b.processors), "process's"),
		asm.LSh.Imm(asm.R0, slotShift),
		asm.LoadMapValue(slot, b.Config.cookies.slots, 0),
		asm.Add.Reg(slot, asm.R0),
		// What was taken out and never came is over.
		asm.StoreImm(slot, slotService, 0, asm.Word),
		// The verifier is not to walk all that follows for each service.
		asm.StoreMem(slot, slotAt, service, asm.Word),
		asm.LoadMem(asm.R1, slot, slotAt, asm.Word),
		asm.JGE.Imm(asm.R1, int32(b.Config.cookies.services), "process's"),
		asm.Mul.Imm(asm.R1, cookieBytes),
		asm.LoadMapValue(row, b.Config.cookies.rows, cookieRows),
		asm.Add.Reg(row, asm.R1),
		asm.LoadMem(asm.R1, asm.R10, cookieBucket, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 6),
		asm.LSh.Imm(asm.R2, 3),
		asm.Add.Reg(asm.R2, row),
		asm.LoadMem(asm.R2, asm.R2, rowBits, asm.DWord),
		asm.And.Imm(asm.R1, 63),
		asm.RSh.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, 1),
		asm.JEq.Imm(asm.R2, 0, "process's"),
		// The bucket may have been found under a key that was changed before the bit was
		// set: see decide, also for what keeps the order of the loads.
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.And.Imm(asm.R4, 0),
		asm.Add.Reg(asm.R4, state),
		asm.LoadMem(asm.R1, row, rowPort, asm.Half),
		asm.LoadMem(asm.R2, asm.R10, tcp4+2, asm.Half),
		asm.JNE.Reg(asm.R1, asm.R2, "process's"),
		asm.StoreMem(asm.R10, cookieRow, row, asm.DWord),
	)
	for _, half := range []int16{0, 8} {
		b.add(
			asm.LoadMem(asm.R1, asm.R4, stateKey+half, asm.DWord),
			asm.LoadMem(asm.R2, asm.R10, usedKey+half, asm.DWord),
			asm.JNE.Reg(asm.R1, asm.R2, "process's"),
		)
	}
	b.clientSYN()
	b.wholeSYN(slot)
	b.optionsOf(slot)
	b.newTuple(slot, row)
	for i, at := range []int16{ipHeader + 12, tcp4, tcp4 + 4} {
		b.add(
			asm.LoadMem(asm.R1, asm.R10, at, asm.Word),
			asm.StoreMem(slot, []int16{slotFrom, slotPorts, slotNumber}[i], asm.R1, asm.Word),
		)
	}
	b.add(
		asm.Mov.Reg(asm.R1, service),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(slot, slotService, asm.R1, asm.Word),
	)
	b.add(count(b.maps.drops, b.processors, takenSYN, "refuse")...)
	b.at("process's", asm.LoadMem(asm.R0, asm.R10, cookieBucket, asm.DWord))
	b.at("judge4", asm.Mov.Reg(asm.R1, asm.R0))
}

// clientSYN goes on if the frame is for a cluster MAC, where the TCX program sees it, and
// from who can be answered.
func (b *builder) clientSYN() {
	b.add(ifMAC(asm.R10, frame, b.clusterMACs(), "shared")...)
	b.add(asm.Ja.Label("process's"))
	b.at("shared", asm.Mov.Imm(asm.R1, 0))
	b.add(ifMAC(asm.R10, frame+6, []net.HardwareAddr{{0, 0, 0, 0, 0, 0}}, "process's")...)
	b.add(asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word))
	for _, a := range append(b.Addresses[:len(b.Addresses):len(b.Addresses)], b.Never...) {
		if v := a.As16(); a.Is4() {
			b.add(asm.JEq.Imm32(asm.R1, native32(v[12:]), "process's"))
		}
	}
}

// clusterMACs are the groups without those that all hosts are in, to which nobody sends
// segments: of IGMP and of MLD.
func (c *Config) clusterMACs() []net.HardwareAddr {
	return slices.DeleteFunc(slices.Clone(c.Groups), func(m net.HardwareAddr) bool {
		return m.String() == "01:00:5e:00:00:01" || m.String() == "33:33:00:00:00:01"
	})
}

// wholeSYN copies the TCP header, which has to be all that the packet carries, and goes on
// if its checksum is right, or none yet: the sender's kernel leaves it to the device, and
// writes a sum over the pseudo-header.
func (b *builder) wholeSYN(slot asm.Register) {
	b.add(
		asm.LoadMem(asm.R4, asm.R10, tcp4+12, asm.Byte),
		asm.RSh.Imm(asm.R4, 4),
		asm.LSh.Imm(asm.R4, 2),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+2, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Sub.Imm(asm.R1, ipv4Bytes),
		asm.JNE.Reg(asm.R1, asm.R4, "process's"),
		asm.JLT.Imm(asm.R4, tcpBytes, "process's"),
		asm.JGT.Imm(asm.R4, 60, "process's"),
		asm.StoreMem(asm.R10, cookieLength, asm.R4, asm.DWord),
	)
	b.add(asm.Mov.Imm(asm.R1, 0))
	for at := int16(slotHeader); at < slotFrame-8; at += 8 {
		b.add(asm.StoreMem(slot, at, asm.R1, asm.DWord))
	}
	const fromMAC = 0 // BPF_HDR_START_MAC
	for _, last := range []asm.Instructions{
		{asm.Mov.Imm(asm.R5, fromMAC), asm.FnSkbLoadBytesRelative.Call(), asm.JEq.Imm(asm.R0, 0, "copied")},
		{asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "process's")},
	} {
		b.add(
			asm.Mov.Reg(asm.R1, skb),
			asm.Mov.Imm(asm.R2, ethernetBytes+ipv4Bytes),
			asm.Mov.Reg(asm.R3, slot),
			asm.Add.Imm(asm.R3, slotHeader),
			asm.LoadMem(asm.R4, asm.R10, cookieLength, asm.DWord),
		)
		b.add(last...)
	}
	b.at("copied", asm.LoadMem(asm.R1, slot, slotHeader, asm.Word))
	for at := int16(4); at < 60; at += 4 {
		b.add(asm.LoadMem(asm.R2, slot, slotHeader+at, asm.Word), asm.Add.Reg(asm.R1, asm.R2))
	}
	b.add(
		asm.LoadMem(asm.R2, asm.R10, ipHeader+12, asm.Word),
		asm.LoadMem(asm.R3, asm.R10, ipHeader+16, asm.Word),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.LoadMem(asm.R3, asm.R10, cookieLength, asm.DWord),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.Add.Imm(asm.R2, be16(protoTCP)),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.StoreImm(slot, slotPartial, 0, asm.Word),
	)
	b.add(foldSum(asm.R1, asm.R3)...)
	b.add(asm.JEq.Imm(asm.R1, 0xffff, "sound"), asm.StoreImm(slot, slotPartial, 1, asm.Word))
	b.add(foldSum(asm.R2, asm.R3)...)
	b.add(asm.LoadMem(asm.R1, slot, slotHeader+16, asm.Half), asm.JNE.Reg(asm.R1, asm.R2, "process's"))
	b.at("sound", asm.Mov.Imm(asm.R1, 0))
}

// foldSum leaves a ones' complement sum of 16 bits in r, of one that is less than 2 to the 48.
func foldSum(r, temp asm.Register) (p asm.Instructions) {
	p = asm.Instructions{asm.Mov.Reg(temp, r), asm.RSh.Imm(temp, 32), asm.LSh.Imm(r, 32), asm.RSh.Imm(r, 32), asm.Add.Reg(r, temp)}
	for range 3 {
		p = append(p, asm.Mov.Reg(temp, r), asm.RSh.Imm(temp, 16), asm.And.Imm(r, 0xffff), asm.Add.Reg(r, temp))
	}
	return p
}

// optionsOf reads the TCP options: the largest segment size and the time stamps (RFC 9293
// section 3.2, RFC 7323). Where stacks may differ about one, the process sees it.
func (b *builder) optionsOf(slot asm.Register) {
	const (
		end, filler, segment, scale, selective, stamps = 0, 1, 2, 3, 4, 8

		kind, length, at, left = asm.R4, asm.R0, asm.R3, asm.R5
	)
	b.add(
		asm.StoreImm(slot, slotSize, 0, asm.Word),
		asm.StoreImm(slot, slotStamped, 0, asm.Word),
		asm.StoreImm(slot, slotAt, tcpBytes, asm.Word),
		asm.Mov.Imm(left, 60-tcpBytes+1),
	)
	b.at("option", asm.LoadMem(asm.R1, slot, slotAt, asm.Word))
	b.add(
		asm.Sub.Imm(left, 1),
		asm.JEq.Imm(left, 0, "read"),
		asm.LoadMem(asm.R2, asm.R10, cookieLength, asm.DWord),
		asm.JGE.Reg(asm.R1, asm.R2, "read"),
		asm.And.Imm(asm.R1, 63),
		asm.Mov.Reg(at, slot),
		asm.Add.Reg(at, asm.R1),
		asm.LoadMem(kind, at, slotHeader, asm.Byte),
		asm.JEq.Imm(kind, end, "read"),
		asm.JNE.Imm(kind, filler, "long"),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(slot, slotAt, asm.R1, asm.Word),
		asm.Ja.Label("option"),
	)
	b.at("long", asm.LoadMem(length, at, slotHeader+1, asm.Byte))
	b.add(
		asm.JLT.Imm(length, 2, "process's"),
		asm.Add.Reg(asm.R1, length),
		asm.JGT.Reg(asm.R1, asm.R2, "process's"),
		asm.StoreMem(slot, slotAt, asm.R1, asm.Word),
		asm.JEq.Imm(kind, segment, "segment"),
		asm.JEq.Imm(kind, stamps, "stamps"),
		asm.JEq.Imm(kind, scale, "scale"),
		asm.JNE.Imm(kind, selective, "option"),
		asm.JNE.Imm(length, 2, "process's"),
		asm.Ja.Label("option"),
	)
	b.at("scale", asm.JNE.Imm(length, 3, "process's"))
	b.add(asm.Ja.Label("option"))
	b.at("segment", asm.JNE.Imm(length, 4, "process's"))
	b.add(number(asm.R1, asm.R2, at, slotHeader+2, 2)...)
	b.add(asm.JEq.Imm(asm.R1, 0, "process's"), asm.Mov.Imm(asm.R2, 0))
	for i, least := range []int32{1300, 1440, 1460} {
		b.add(asm.JLT.Imm(asm.R1, least, "sized"), asm.Mov.Imm(asm.R2, int32(i+1)))
	}
	b.at("sized", asm.StoreMem(slot, slotSize, asm.R2, asm.Word))
	b.add(asm.Ja.Label("option"))
	b.at("stamps", asm.JNE.Imm(length, 10, "process's"))
	b.add(number(asm.R1, asm.R2, at, slotHeader+2, 4)...)
	b.add(
		asm.StoreMem(slot, slotStamp, asm.R1, asm.Word),
		asm.StoreImm(slot, slotStamped, 1, asm.Word),
		asm.Ja.Label("option"),
	)
	b.at("read", asm.Mov.Imm(asm.R1, 0))
}

// number loads n bytes of the wire as a number. They need not be aligned.
func number(r, temp, base asm.Register, at, n int16) asm.Instructions {
	p := asm.Instructions{asm.LoadMem(r, base, at, asm.Byte)}
	for i := int16(1); i < n; i++ {
		p = append(p, asm.LSh.Imm(r, 8), asm.LoadMem(temp, base, at+i, asm.Byte), asm.Or.Reg(r, temp))
	}
	return p
}

// newTuple goes on if there is an answer of the kind, the tuple is none that may be held
// (OWNERSHIP.md R13), and none whose SYNs ask the listener. answering.hash is the same.
func (b *builder) newTuple(slot, row asm.Register) {
	b.add(
		asm.LoadMem(row, asm.R10, cookieRow, asm.DWord),
		asm.LoadMem(asm.R1, slot, slotStamped, asm.Word),
		asm.LoadMem(asm.R2, row, rowKinds, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, "kind"),
		asm.LoadMem(asm.R2, row, rowKinds+1, asm.Byte),
	)
	keys := b.Config.cookies.keys
	b.at("kind", asm.JEq.Imm(asm.R2, 0, "process's"))
	b.add(
		asm.LoadMem(asm.R1, asm.R10, ipHeader+12, asm.Word),
		asm.LSh.Imm(asm.R1, 32),
		asm.LoadMem(asm.R2, asm.R10, tcp4, asm.Word),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.LoadImm(asm.R2, int64(keys[0]), asm.DWord),
		asm.Xor.Reg(asm.R1, asm.R2),
		asm.LoadImm(asm.R2, int64(keys[1]), asm.DWord),
		asm.Mul.Reg(asm.R1, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 32),
		asm.Xor.Reg(asm.R1, asm.R2),
		asm.LoadImm(asm.R2, int64(keys[2]), asm.DWord),
		asm.Mul.Reg(asm.R1, asm.R2),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 64-tupleBits-8),
		asm.And.Imm(asm.R2, asksOneIn-1),
		asm.JEq.Imm(asm.R2, 0, "process's"),
		asm.RSh.Imm(asm.R1, 64-tupleBits),
		asm.LoadMapValue(asm.R2, b.Config.cookies.tuples, 0),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.LoadMem(asm.R2, asm.R2, 0, asm.Byte),
		asm.JNE.Imm(asm.R2, 0, "process's"),
	)
}
