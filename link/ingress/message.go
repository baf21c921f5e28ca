package ingress

import "github.com/cilium/ebpf/asm"

// Hashed says which fields of a segment are hashed, in the order of a packet: the
// client's address or, with Network, its /24 or IPv6 /64; then its port, and then the
// service's. It is what package hashing calls an affinity, in which DestPort never
// comes without SourcePort.
type Hashed struct {
	Network, SourcePort, DestPort bool
	// Other is another system's hash of them, in the place of ours.
	Other
}

// hash leaves a number in R0 whose low byte is the bucket.
func (b *builder) hash(h Hashed, family string) asm.Instructions {
	switch {
	case h.System != OwnHash:
		return otherHash(h, family)
	case family == "4":
		return sipHash24(message4(h))
	}
	return sipHash24(message6(h))
}

// message4 is the fields of an IPv4 segment as pieces of SipHash's message.
func message4(h Hashed) []asm.Instructions {
	first := asm.Instructions{
		asm.LoadMem(block, asm.R10, ipHeader+12, asm.Word),
		asm.HostTo(asm.LE, block, asm.Word),
	}
	if h.Network {
		first = append(first, asm.And.Imm(block, 0xffffff))
	}
	n := int64(4)
	if h.SourcePort {
		first = append(first, portsAt(tcp4, h)...)
		first = append(first, asm.LSh.Imm(temp, 32), asm.Or.Reg(block, temp))
		if n = 6; h.DestPort {
			return []asm.Instructions{first, lengthIs(8)}
		}
	}
	return []asm.Instructions{append(first, orLength(n)...)}
}

// message6 is the fields of an IPv6 segment.
func message6(h Hashed) []asm.Instructions {
	word := func(at int16) asm.Instructions {
		return asm.Instructions{asm.LoadMem(block, asm.R10, at, asm.DWord), asm.HostTo(asm.LE, block, asm.DWord)}
	}
	pieces, n := []asm.Instructions{word(ipHeader + 8)}, int64(8)
	if !h.Network {
		pieces, n = append(pieces, word(ipHeader+16)), 16
	}
	if !h.SourcePort {
		return append(pieces, lengthIs(n))
	}
	n += 2
	if h.DestPort {
		n += 2
	}
	last := append(portsAt(tcp6, h), asm.Mov.Reg(block, temp))
	return append(pieces, append(last, orLength(n)...))
}

// portsAt loads the ports of a TCP header into temp.
func portsAt(at int16, h Hashed) asm.Instructions {
	size := asm.Half
	if h.DestPort {
		size = asm.Word
	}
	return asm.Instructions{asm.LoadMem(temp, asm.R10, at, size), asm.HostTo(asm.LE, temp, size)}
}

// orLength puts the message's length into the highest byte of its last piece.
func orLength(n int64) asm.Instructions {
	return asm.Instructions{asm.LoadImm(temp, n<<56, asm.DWord), asm.Or.Reg(block, temp)}
}

// lengthIs is a last piece with nothing else in it.
func lengthIs(n int64) asm.Instructions {
	return asm.Instructions{asm.LoadImm(block, n<<56, asm.DWord)}
}

// flowMessage is what drainers hash to name a flow (node.FlowHash), from tuple: addresses,
// ports and the protocol.
func flowMessage(family string) (pieces []asm.Instructions) {
	addresses := int16(8)
	if family == "6" {
		addresses = 32
	}
	for at := int16(0); at < addresses; at += 8 {
		pieces = append(pieces, asm.Instructions{asm.LoadMem(block, asm.R10, tuple+at, asm.DWord), asm.HostTo(asm.LE, block, asm.DWord)})
	}
	last := asm.Instructions{
		asm.LoadMem(block, asm.R10, tuple+addresses, asm.Word),
		asm.HostTo(asm.LE, block, asm.Word),
		asm.LoadImm(temp, protoTCP<<32, asm.DWord),
		asm.Or.Reg(block, temp),
	}
	return append(pieces, append(last, orLength(int64(addresses)+5)...))
}
