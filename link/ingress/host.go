package ingress

import "github.com/cilium/ebpf/asm"

// Results of a TCX program (include/uapi/linux/bpf.h, enum tcx_action_base).
// TCX_NEXT lets the programs of others run.
const (
	tcxNext = -1
	tcxDrop = 2
)

// heartbeatTTL is the time to live of the cluster's heartbeats.
const heartbeatTTL = 1

// hostGuard is the TCX program: it drops IP packets for a VIP in frames to a cluster
// MAC. The host's own kernel has no business with them, whoever owns them, and would
// walk each to a route that is not there. Packet sockets of all protocols have had them
// by then.
//
// The control process hears heartbeats with a socket that comes after this: they are
// datagrams that no router may pass on, and such datagrams pass. Their port is not
// looked at, for a program of an earlier configuration may stand beside.
//
// What is tagged goes to a VLAN device; what comes to the interface's own MAC may be
// for a service of the host.
func hostGuard(c *Config, m maps, processors int) asm.Instructions {
	g := &builder{Config: c, maps: m, processors: processors}
	const data, end = asm.R7, asm.R8
	g.add(
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMem(asm.R1, skb, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "next"),
		asm.LoadMem(data, skb, skbData, asm.Word),
		asm.LoadMem(end, skb, skbDataEnd, asm.Word),
	)
	const shortest = ethernetBytes + ipv4Bytes
	g.add(
		asm.Mov.Reg(asm.R1, data),
		asm.Add.Imm(asm.R1, shortest),
		asm.JLE.Reg(asm.R1, end, "linear"),
		// The header may lie in a fragment; what is shorter is nobody's.
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, shortest),
		asm.FnSkbPullData.Call(),
		asm.LoadMem(data, skb, skbData, asm.Word),
		asm.LoadMem(end, skb, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R1, data),
		asm.Add.Imm(asm.R1, shortest),
		asm.JGT.Reg(asm.R1, end, "next"),
	)
	macs := ifMAC(data, 0, c.Groups, "ours")
	g.at("linear", macs...)
	g.add(asm.Ja.Label("next"))
	g.at("ours", asm.LoadMem(asm.R1, data, 12, asm.Half))
	if c.has6() {
		g.add(asm.JEq.Imm(asm.R1, be16(typeIPv6), "ipv6"))
	}
	if c.has4() {
		g.host4(data)
	} else {
		g.add(asm.Ja.Label("next"))
	}
	if c.has6() {
		g.host6(data, end)
	}
	g.at("drop", asm.Mov.Imm(asm.R0, 0))
	g.add(count(m.drops, processors, dropForHost, "dropped")...)
	g.at("dropped", asm.Mov.Imm(asm.R0, tcxDrop))
	g.add(asm.Return())
	g.at("next", asm.Mov.Imm(asm.R0, tcxNext))
	g.add(asm.Return())
	if c.answers4() {
		g.answerSYN()
		g.add(sha1Compress("sha1")...)
		g.add(sha256First("sha256")...)
	}
	return g.code
}

// host4 goes to "drop" for an IPv4 packet for a VIP.
func (b *builder) host4(data asm.Register) {
	b.add(
		asm.JNE.Imm(asm.R1, be16(typeIPv4), "next"),
		asm.LoadMem(asm.R1, data, ethernetBytes+16, asm.Word),
	)
	for _, a := range b.Addresses {
		if v := a.As16(); a.Is4() {
			b.add(asm.JEq.Imm32(asm.R1, native32(v[12:]), "vip"))
		}
	}
	b.add(asm.Ja.Label("next"))
	b.at("vip", asm.LoadMem(asm.R1, data, ethernetBytes+9, asm.Byte))
	if b.answers4() {
		b.add(asm.JEq.Imm(asm.R1, protoTCP, "segment"))
	}
	b.add(
		asm.JNE.Imm(asm.R1, protoUDP, "drop"),
		asm.LoadMem(asm.R1, data, ethernetBytes+8, asm.Byte),
		asm.JEq.Imm(asm.R1, heartbeatTTL, "next"),
		asm.Ja.Label("drop"),
	)
}

// host6 is host4 for IPv6.
func (b *builder) host6(data, end asm.Register) {
	b.at("ipv6", asm.Mov.Reg(asm.R1, data))
	b.add(asm.Add.Imm(asm.R1, ethernetBytes+ipv6Bytes), asm.JGT.Reg(asm.R1, end, "next"))
	b.add(asm.LoadMem(asm.R1, data, ethernetBytes+24, asm.Word))
	b.add(asm.LoadMem(asm.R2, data, ethernetBytes+28, asm.Word), asm.LSh.Imm(asm.R2, 32), asm.Or.Reg(asm.R1, asm.R2))
	b.add(asm.LoadMem(asm.R2, data, ethernetBytes+32, asm.Word))
	b.add(asm.LoadMem(asm.R3, data, ethernetBytes+36, asm.Word), asm.LSh.Imm(asm.R3, 32), asm.Or.Reg(asm.R2, asm.R3))
	for _, a := range b.Addresses {
		if !a.Is4() {
			b.add(ifWords(a.As16(), "vip6")...)
		}
	}
	b.add(asm.Ja.Label("next"))
	b.at("vip6", asm.LoadMem(asm.R1, data, ethernetBytes+6, asm.Half))
	b.add(asm.JEq.Imm(asm.R1, be16(protoUDP<<8|heartbeatTTL), "next"))
}
