package ingress

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
)

// tcxRedirect is the result of a TCX program that has called bpf_redirect.
const tcxRedirect = 7

// skbIfindex is a field of struct __sk_buff.
const skbIfindex = 40

// answerSYN answers the SYN that the socket filter has taken out just before, and goes to
// "drop" with every other segment. It is the address in R7 that the frame begins at.
func (b *builder) answerSYN() {
	const data, slot, row = asm.R7, asm.R9, asm.R8
	b.at("segment", asm.FnGetSmpProcessorId.Call())
	b.add(
		asm.JGE.Imm(asm.R0, int32(b.processors), "drop"),
		asm.LSh.Imm(asm.R0, slotShift),
		asm.LoadMapValue(slot, b.Config.cookies.slots, 0),
		asm.Add.Reg(slot, asm.R0),
		asm.LoadMem(asm.R1, slot, slotService, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "drop"),
		asm.StoreImm(slot, slotService, 0, asm.Word),
		asm.Sub.Imm(asm.R1, 1),
		asm.JGE.Imm(asm.R1, int32(b.Config.cookies.services), "drop"),
		asm.Mul.Imm(asm.R1, cookieBytes),
		asm.LoadMapValue(row, b.Config.cookies.rows, cookieRows),
		asm.Add.Reg(row, asm.R1),
	)
	b.takenFrame(data, slot)
	b.add(
		// The lease is compared with the clock here: whoever renews it may have stopped.
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMem(asm.R1, row, rowLease, asm.DWord),
		asm.JGE.Reg(asm.R0, asm.R1, "lost"),
		asm.LoadMapValue(asm.R1, b.Config.cookies.rows, cookieTime),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.RSh.Imm(asm.R1, 32),
		asm.StoreMem(slot, slotNow, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, slot, slotStamped, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "stamped form"),
	)
	b.copyForm(slot, row, rowPlain, plainBytes)
	b.add(asm.Ja.Label("form"))
	b.at("stamped form", asm.Mov.Imm(asm.R1, 0))
	b.copyForm(slot, row, rowStamped, stampedBytes)
	b.at("form", asm.Mov.Imm(asm.R1, 0))
	b.writeCookie(slot, row)
	b.sendAnswer(slot, row)
}

// takenFrame goes to "drop" if the frame is not the one that was taken out, and writes the
// answer's Ethernet header: from our own MAC to where it came from.
func (b *builder) takenFrame(data, slot asm.Register) {
	const shortest = ethernetBytes + ipv4Bytes + tcpBytes
	b.add(
		asm.LoadMem(asm.R1, skb, skbDataEnd, asm.Word),
		asm.LoadMem(data, skb, skbData, asm.Word),
		asm.Mov.Reg(asm.R2, data),
		asm.Add.Imm(asm.R2, shortest),
		asm.JLE.Reg(asm.R2, asm.R1, "whole"),
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, shortest),
		asm.FnSkbPullData.Call(),
		asm.LoadMem(asm.R1, skb, skbDataEnd, asm.Word),
		asm.LoadMem(data, skb, skbData, asm.Word),
		asm.Mov.Reg(asm.R2, data),
		asm.Add.Imm(asm.R2, shortest),
		asm.JGT.Reg(asm.R2, asm.R1, "drop"),
	)
	b.at("whole", asm.Mov.Imm(asm.R3, 0))
	for _, same := range [][2]int16{
		{ethernetBytes + 12, slotFrom}, {ethernetBytes + ipv4Bytes, slotPorts}, {ethernetBytes + ipv4Bytes + 4, slotNumber},
	} {
		b.add(
			asm.LoadMem(asm.R1, data, same[0], asm.Word),
			asm.LoadMem(asm.R2, slot, same[1], asm.Word),
			asm.JNE.Reg(asm.R1, asm.R2, "drop"),
		)
	}
	for i := int16(0); i < 6; i += 2 {
		b.add(
			asm.LoadMem(asm.R1, data, 6+i, asm.Half),
			asm.StoreMem(slot, slotFrame+i, asm.R1, asm.Half),
			asm.StoreImm(slot, slotFrame+6+i, int64(native16(b.Own[i:])), asm.Half),
		)
	}
	b.add(asm.StoreImm(slot, slotFrame+12, int64(be16(typeIPv4)), asm.Half))
}

// copyForm copies an answer's packet.
func (b *builder) copyForm(slot, row asm.Register, from, bytes int16) {
	for at := int16(0); at < bytes; at += 4 {
		b.add(asm.LoadMem(asm.R1, row, from+at, asm.Word), asm.StoreMem(slot, slotIP+at, asm.R1, asm.Word))
	}
}

// hash leaves in R0 the first word of SHA-1 over the ports, a time, a nonce and the
// addresses: see cookieKey.hash in package stack.
func (b *builder) cookieHash(slot, row asm.Register, nonce int16, time asm.Instruction) {
	compress := func() {
		b.add(
			asm.Mov.Reg(asm.R1, slot), asm.Add.Imm(asm.R1, slotState),
			asm.Mov.Reg(asm.R2, slot), asm.Add.Imm(asm.R2, slotBlock),
			asm.Call.Label("sha1"),
		)
	}
	for i, h := range sha1Initial() {
		b.add(asm.Mov.Imm32(asm.R1, int32(h)), asm.StoreMem(slot, slotState+int16(4*i), asm.R1, asm.Word))
	}
	b.add(
		asm.LoadMem(asm.R1, slot, slotPorts, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
	)
	b.add(rotate32(asm.R1, asm.R2, 16)...)
	b.add(asm.StoreMem(slot, slotBlock, asm.R1, asm.Word), time, asm.StoreMem(slot, slotBlock+4, asm.R1, asm.Word))
	at := rowNonces + 64*nonce
	for i := int16(0); i < 56; i += 8 {
		b.add(asm.LoadMem(asm.R1, row, at+i, asm.DWord), asm.StoreMem(slot, slotBlock+8+i, asm.R1, asm.DWord))
	}
	compress()
	b.add(asm.LoadMem(asm.R1, row, at+56, asm.DWord), asm.StoreMem(slot, slotBlock, asm.R1, asm.DWord))
	b.addresses(slot, 2)
	const message = 80
	b.padded(slot, 4, message)
	compress()
	b.add(asm.LoadMem(asm.R0, slot, slotState, asm.Word))
}

// addresses writes the service's and the client's as words of the block.
func (b *builder) addresses(slot asm.Register, word int16) {
	for i, at := range []int16{slotIP + 12, slotFrom} {
		b.add(
			asm.LoadMem(asm.R1, slot, at, asm.Word),
			asm.HostTo(asm.BE, asm.R1, asm.Word),
			asm.StoreMem(slot, slotBlock+4*(word+int16(i)), asm.R1, asm.Word),
		)
	}
}

// padded ends the block: a bit, zeros from a word on, and the message's length.
func (b *builder) padded(slot asm.Register, word int16, bytes int64) {
	b.add(asm.Mov.Imm32(asm.R1, -1<<31), asm.StoreMem(slot, slotBlock+4*word, asm.R1, asm.Word))
	for i := word + 1; i < shaWords-1; i++ {
		b.add(asm.StoreImm(slot, slotBlock+4*i, 0, asm.Word))
	}
	b.add(asm.StoreImm(slot, slotBlock+4*(shaWords-1), 8*bytes, asm.Word))
}

// writeCookie writes what is this client's into the answer: cookieKey.cookie and
// stampKey.stamp of package stack.
func (b *builder) writeCookie(slot, row asm.Register) {
	const none = 0
	b.cookieHash(slot, row, 0, asm.Mov.Imm(asm.R1, none))
	b.add(asm.StoreMem(slot, slotSum, asm.R0, asm.Word))
	b.cookieHash(slot, row, 1, asm.LoadMem(asm.R1, slot, slotNow, asm.Word))
	b.add(
		asm.LoadMem(asm.R1, slot, slotSize, asm.Word),
		asm.Add.Reg32(asm.R0, asm.R1),
		asm.And.Imm32(asm.R0, 1<<24-1),
		asm.LoadMem(asm.R1, slot, slotSum, asm.Word),
		asm.Add.Reg32(asm.R0, asm.R1),
		asm.LoadMem(asm.R1, slot, slotNow, asm.Word),
		asm.LSh.Imm32(asm.R1, 24),
		asm.Add.Reg32(asm.R0, asm.R1),
		asm.LoadMem(asm.R1, slot, slotNumber, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Add.Reg32(asm.R0, asm.R1),
		asm.HostTo(asm.BE, asm.R0, asm.Word),
		asm.StoreMem(slot, slotTCP+4, asm.R0, asm.Word),
		asm.Add.Imm32(asm.R1, 1),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(slot, slotTCP+8, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, slot, slotFrom, asm.Word),
		asm.StoreMem(slot, slotIP+16, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, slot, slotPorts, asm.Half),
		asm.StoreMem(slot, slotTCP+2, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, slot, slotStamped, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "stamped"),
	)
	for i := int16(0); i < 16; i += 8 {
		b.add(asm.LoadMem(asm.R1, row, rowStamps+i, asm.DWord), asm.StoreMem(slot, slotBlock+i, asm.R1, asm.DWord))
	}
	b.addresses(slot, 4)
	const message = 16 + 8
	b.padded(slot, 6, message)
	b.add(
		asm.Mov.Reg(asm.R1, slot), asm.Add.Imm(asm.R1, slotBlock),
		asm.Call.Label("sha256"),
		// It counts as a number whose lowest byte comes first.
		asm.HostTo(otherOrder(), asm.R0, asm.Word),
		asm.LoadMapValue(asm.R1, b.Config.cookies.rows, cookieTime),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Add.Reg32(asm.R0, asm.R1),
		asm.HostTo(asm.BE, asm.R0, asm.Word),
		asm.StoreMem(slot, slotTCP+stampAt, asm.R0, asm.Word),
		asm.LoadMem(asm.R1, slot, slotStamp, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(slot, slotTCP+stampAt+4, asm.R1, asm.Word),
	)
	b.at("stamped", asm.Mov.Imm(asm.R1, 0))
}

// otherOrder is the byte order that this machine has not: a conversion to it swaps.
func otherOrder() asm.Endianness {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return asm.BE
	}
	return asm.LE
}

// sendAnswer writes the checksums, puts the answer into the frame's place and sends it
// back. Where the device is to finish the frame's checksum, it finishes the answer's: it
// takes the sum over the pseudo-header then. That a frame is one of those is told by the
// kernel alone, which does not let it be cut within what the device would write.
func (b *builder) sendAnswer(slot, row asm.Register) {
	const (
		bytes, invalid = asm.R7, -22 // EINVAL
		// within the checksum of TCP, from the frame's beginning.
		withinChecksum = ethernetBytes + ipv4Bytes + 16
		recompute      = 1 // BPF_F_RECOMPUTE_CSUM
	)
	b.add(
		asm.Mov.Imm(bytes, ethernetBytes+plainBytes),
		asm.LoadMem(asm.R1, slot, slotStamped, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "sums"),
		asm.Mov.Imm(bytes, ethernetBytes+stampedBytes),
		asm.Add.Imm(row, sumsBytes),
	)
	b.at("sums", asm.LoadMem(asm.R1, row, rowSums, asm.Word))
	b.add(asm.LoadMem(asm.R2, slot, slotFrom, asm.Word), asm.Add.Reg(asm.R1, asm.R2))
	b.add(foldSum(asm.R1, asm.R2)...)
	b.add(
		asm.Xor.Imm(asm.R1, 0xffff),
		asm.StoreMem(slot, slotIP+10, asm.R1, asm.Half),
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, withinChecksum),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.LoadMem(asm.R2, slot, slotFrom, asm.Word),
		asm.JEq.Imm(asm.R0, invalid, "partial"),
		asm.JNE.Imm(asm.R0, 0, "lost"),
		// It said that it has none yet, and is not of those: it is wrong.
		asm.LoadMem(asm.R1, slot, slotPartial, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "lost"),
		asm.LoadMem(asm.R1, row, rowSums+4, asm.Word),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R2, slot, slotTCP+2, asm.Half),
		asm.Add.Reg(asm.R1, asm.R2),
	)
	for _, at := range []int16{slotTCP + 4, slotTCP + 8} {
		b.add(asm.LoadMem(asm.R2, slot, at, asm.Word), asm.Add.Reg(asm.R1, asm.R2))
	}
	b.add(asm.LoadMem(asm.R2, slot, slotStamped, asm.Word), asm.JEq.Imm(asm.R2, 0, "summed"))
	for _, at := range []int16{slotTCP + stampAt, slotTCP + stampAt + 4} {
		b.add(asm.LoadMem(asm.R2, slot, at, asm.Word), asm.Add.Reg(asm.R1, asm.R2))
	}
	b.at("summed", asm.Mov.Imm(asm.R3, 0xffff))
	b.add(asm.Ja.Label("checksum"))
	b.at("partial", asm.LoadMem(asm.R1, row, rowSums+8, asm.Word))
	b.add(asm.Add.Reg(asm.R1, asm.R2), asm.Mov.Imm(asm.R3, 0))
	b.at("checksum", foldSum(asm.R1, asm.R2)...)
	b.add(
		asm.Xor.Reg(asm.R1, asm.R3),
		asm.StoreMem(slot, slotTCP+16, asm.R1, asm.Half),
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Reg(asm.R2, bytes),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.JNE.Imm(asm.R0, 0, "lost"),
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, slot),
		asm.Add.Imm(asm.R3, slotFrame),
		asm.Mov.Reg(asm.R4, bytes),
		asm.Mov.Imm(asm.R5, recompute),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "lost"),
	)
	b.add(count(b.maps.drops, b.processors, answeredSYN, "send")...)
	b.at("send", asm.LoadMem(asm.R1, skb, skbIfindex, asm.Word))
	b.add(asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
	b.at("lost", asm.Mov.Imm(asm.R0, 0))
	b.add(count(b.maps.drops, b.processors, lostSYN, "dropped")...)
}
