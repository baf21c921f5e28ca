package ingress

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"
)

// ports goes to a TCP, or a UDP, service by the VIP's number and the port in R1; other
// ports pass.
func (b *builder) ports(family string, udp bool) {
	label := func(i int) string {
		if udp {
			return fmt.Sprint("UDP ports", i)
		}
		return fmt.Sprint("ports", i)
	}
	for i, a := range b.Addresses {
		if a.Is4() == (family == "4") {
			b.add(asm.JEq.Imm(service, int32(i), label(i)))
		}
	}
	b.add(asm.Ja.Label("accept"))
	for i, a := range b.Addresses {
		if a.Is4() != (family == "4") {
			continue
		}
		b.at(label(i), asm.Mov.Reg(asm.R2, asm.R1))
		for k, s := range b.Services {
			switch {
			case s.Listen.Addr() != a || s.UDP != udp:
			case s.Direct:
				b.port(&s, "refuse")
			default:
				b.port(&s, fmt.Sprint("service", k))
			}
		}
		b.add(asm.Ja.Label("accept"))
	}
}

// hostServes4 refuses the segments of services that the host's own stack serves: those
// without a tag, options and fragments, whatever else is wrong with them. Direct judges
// them, and this is asked about each.
func (b *builder) hostServes4() {
	var direct []*Service
	for k := range b.Services {
		if s := &b.Services[k]; s.Direct && !s.UDP && s.Listen.Addr().Is4() {
			direct = append(direct, s)
		}
	}
	if len(direct) == 0 {
		return
	}
	const others = "not the host's"
	b.add(
		asm.LoadMem(asm.R1, skb, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R1, 0, others),
		asm.LoadMem(asm.R1, asm.R10, ipHeader, asm.Byte),
		asm.JNE.Imm(asm.R1, 0x45, others),
		asm.LoadMem(asm.R1, asm.R10, ipHeader+6, asm.Half),
		asm.And.Imm(asm.R1, be16(0x3fff)), // more fragments, offset
		asm.JNE.Imm(asm.R1, 0, others),
		asm.LoadMem(asm.R2, asm.R10, tcp4+2, asm.Half),
	)
	for i, a := range b.Addresses {
		next := fmt.Sprint("not the host's of ", i)
		b.add(asm.JNE.Imm(service, int32(i), next))
		for _, s := range direct {
			if s.Listen.Addr() == a {
				b.port(s, "refuse")
			}
		}
		b.at(next, asm.Mov.Imm(asm.R1, 0))
	}
	b.at(others, asm.Mov.Imm(asm.R1, 0))
}

// port goes to a label if the port in R2, as on the wire, is the service's.
func (b *builder) port(s *Service, label string) {
	first := s.Listen.Port()
	if s.LastPort <= first {
		b.add(asm.JEq.Imm(asm.R2, be16(first), label))
		return
	}
	below := asm.JLT.Imm(asm.R3, int32(first), "")
	below.Offset = 1
	b.add(
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		below,
		asm.JLE.Imm(asm.R3, int32(s.LastPort), label),
	)
}

// services are the ways from each service to its hash, and the hashes.
func (b *builder) services() {
	used := map[string]bool{}
	for k, s := range b.Services {
		family := "6"
		if s.Listen.Addr().Is4() {
			family = "4"
		}
		hash := fmt.Sprintf("hash%s%+v", family, s.Hashed)
		label := fmt.Sprint("service", k)
		if !b.jumpedTo(label) {
			continue
		}
		b.at(label, asm.Mov.Imm(service, int32(k)))
		b.add(b.row(k)...)
		b.pins(k, family)
		if used[hash] {
			b.add(asm.Ja.Label(hash))
			continue
		}
		used[hash] = true
		p := b.hash(s.Hashed, family)
		p[0] = p[0].WithSymbol(hash)
		b.add(p...)
		b.add(asm.Ja.Label("decide" + family))
	}
	b.pinnedBuckets()
}

// servesUDP reports whether a service is of UDP on a VIP of a family.
func (c *Config) servesUDP(family string) bool {
	return slices.ContainsFunc(c.Services, func(s Service) bool { return s.UDP && s.Listen.Addr().Is4() == (family == "4") })
}
