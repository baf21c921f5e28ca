package ingress

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/cilium/ebpf/asm"
)

// Pin gives the clients of a prefix a bucket, whatever they hash to.
type Pin struct {
	Clients netip.Prefix
	Bucket  uint8
}

// maxPins bounds the prefixes that are compared with, of all services together: a
// jump goes over at most 32,767 instructions. Beyond it the segments of services with
// pins pass, and user space drops what is another node's.
const maxPins = 512

// pins go to a bucket for the clients of a service that have one by their prefix; the
// others fall through.
func (b *builder) pins(k int, family string) {
	all := 0
	for i := range b.Services {
		all += len(b.Services[i].Pins)
	}
	s := &b.Services[k]
	if len(s.Pins) > 0 && all > maxPins {
		b.always("accept")
		return
	}
	for i, p := range s.Pins {
		if p.Clients.Addr().Is4() != (family == "4") {
			continue
		}
		next := fmt.Sprintf("pin %d after %d", k, i)
		source := int16(ipHeader + 12)
		if family == "6" {
			source = ipHeader + 8
		}
		address := p.Clients.Masked().Addr().AsSlice()
		for at, bits := 0, p.Clients.Bits(); bits > 0; at, bits = at+4, bits-32 {
			mask := binary.BigEndian.AppendUint32(nil, uint32(math.MaxUint32<<max(32-bits, 0)))
			b.add(
				asm.LoadMem(asm.R1, asm.R10, source+int16(at), asm.Word),
				asm.And.Imm32(asm.R1, native32(mask)),
				asm.JNE.Imm32(asm.R1, native32(address[at:at+4]), next),
			)
		}
		b.always(pinnedLabel(family, p.Bucket))
		b.at(next, asm.Mov.Imm(asm.R0, 0))
	}
}

// always goes to a label. The verifier refuses a program with instructions that
// nothing leads to, so it looks as if this could fall through.
func (b *builder) always(label string) {
	b.add(asm.Mov.Imm(asm.R1, 0), asm.JEq.Imm(asm.R1, 0, label))
}

func pinnedLabel(family string, bucket uint8) string {
	return fmt.Sprint("pinned", family, " ", bucket)
}

// pinnedBuckets are where the pins go: to the decision, with their bucket in R0. The
// key, which has no part in it, is copied as sipHash24 does.
func (b *builder) pinnedBuckets() {
	done := map[string]bool{}
	for i := range b.Services {
		for _, p := range b.Services[i].Pins {
			family := "6"
			if p.Clients.Addr().Is4() {
				family = "4"
			}
			label := pinnedLabel(family, p.Bucket)
			if done[label] || !b.jumpedTo(label) {
				continue
			}
			done[label] = true
			b.at(label, asm.LoadMem(asm.R0, state, stateKey, asm.DWord))
			b.add(
				asm.LoadMem(asm.R1, state, stateKey+8, asm.DWord),
				asm.StoreMem(asm.R10, usedKey, asm.R0, asm.DWord),
				asm.StoreMem(asm.R10, usedKey+8, asm.R1, asm.DWord),
				asm.Mov.Imm(asm.R0, int32(p.Bucket)),
				asm.Ja.Label("decide"+family),
			)
		}
	}
}

// jumpedTo reports whether an instruction goes to a label: the verifier refuses what
// is not reached.
func (b *builder) jumpedTo(label string) bool {
	for _, i := range b.code {
		if i.Reference() == label {
			return true
		}
	}
	return false
}
