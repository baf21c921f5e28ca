package stack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Bounds and times of delayed acknowledgments.
const (
	// ackDelay is how long a pure acknowledgment may wait for data that carries
	// it. RFC 9293 §3.8.6.3 allows 500 ms; a request is mostly answered within
	// one, and a client that waits for nothing else should not feel it.
	ackDelay = 4 * time.Millisecond
	// ackSegments is how many full segments may wait for one acknowledgment, as
	// the same paragraph has it.
	ackSegments = 2
	// delaySlots bounds the flows whose acknowledgments are looked after. It is a
	// cache: two flows in one slot cost an acknowledgment that leaves at once.
	delaySlots = 1 << 12
)

// delayedACKs keeps back what netstack says in a packet of its own and another
// packet can say as well: a pure acknowledgment that data is about to carry, and
// a FIN right behind data. Each packet saved is a walk through the LAN.
type delayedACKs struct {
	slots [delaySlots]delaySlot
	// waiting are the slots with a packet that waits, oldest first; stale entries
	// are passed over.
	waiting []delayed
	// most is how many bytes may wait for one acknowledgment.
	most uint32
	// batch counts the calls of Egress: a FIN joins data of its own batch only.
	batch uint64
	// sparedACKs left in another packet, joinedFINs with the data before them.
	sparedACKs, joinedFINs uint64
}

// delayed is an acknowledgment that waits in a slot since a time.
type delayed struct {
	slot  *delaySlot
	since time.Duration
}

// delaySlot is what is known of the flow that used it last.
type delaySlot struct {
	flow slotFlow
	// known: acked is what the last packet that left acknowledged.
	known bool
	acked uint32
	// ack waits since then.
	ack   *netstack.PacketBuffer
	since time.Duration
	// data is the place of the last packet with data among those that leave in this
	// batch, one more, 0 for none; a FIN with number end may join it. The packet itself
	// would be held here until the slot's next flow.
	data  int
	end   uint32
	batch uint64
}

// segment is an egress packet as far as delayedACKs looks at it.
type segment struct {
	ip, tcp  []byte
	seq, ack uint32
	size     int
}

func (s *segment) flags() header.TCPFlags { return header.TCPFlags(s.tcp[13]) }

// readSegment reads a TCP packet without IP options or extension headers; false for
// any other.
func readSegment(p *netstack.PacketBuffer) (segment, bool) {
	ip, tcp := p.NetworkHeader().Slice(), p.TransportHeader().Slice()
	proto := uint8(header.TCPProtocolNumber)
	switch {
	case len(tcp) < header.TCPMinimumSize:
		return segment{}, false
	case len(ip) == header.IPv4MinimumSize && ip[9] == proto, len(ip) == header.IPv6MinimumSize && ip[6] == proto:
	default:
		return segment{}, false
	}
	return segment{ip, tcp, binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:]), p.Data().Size()}, true
}

// slotFlow is a flow as it is in the packet: near are the last four bytes of its
// addresses, and the ports; far are the addresses' others, of IPv6.
type slotFlow struct {
	near [12]byte
	far  [24]byte
}

func flowOf(s *segment) (f slotFlow) {
	if len(s.ip) == header.IPv6MinimumSize {
		copy(f.near[:4], s.ip[20:24])
		copy(f.near[4:8], s.ip[36:40])
		copy(f.far[:12], s.ip[8:20])
		copy(f.far[12:], s.ip[24:36])
	} else {
		copy(f.near[:8], s.ip[12:20])
	}
	copy(f.near[8:], s.tcp[:4])
	return f
}

// slot is where a segment's flow is looked after; what waits there for another
// flow is returned, to leave now.
func (d *delayedACKs) slot(s *segment) (slot *delaySlot, left *netstack.PacketBuffer) {
	flow := flowOf(s)
	h := binary.LittleEndian.Uint64(flow.near[4:])*0x9e3779b97f4a7c15 ^ uint64(binary.LittleEndian.Uint32(flow.near[:]))*0xc2b2ae3d27d4eb4f
	slot = &d.slots[(h^h>>29)*0x9e3779b97f4a7c15>>52%delaySlots]
	if slot.flow != flow {
		left = slot.ack
		*slot = delaySlot{flow: flow}
	}
	return slot, left
}

// pass judges the next packet of a batch, in order: it appends to out, which are all of
// the batch so far, the packets that leave now, of which each has one reference, and
// keeps or drops the others.
func (d *delayedACKs) pass(now time.Duration, p *netstack.PacketBuffer, out []*netstack.PacketBuffer) []*netstack.PacketBuffer {
	s, ok := readSegment(p)
	if !ok {
		return append(out, p)
	}
	slot, left := d.slot(&s)
	if left != nil {
		out = append(out, left)
	}
	if d.mayWait(slot, &s) {
		d.keep(now, slot, p)
		return out
	}
	if s.flags()&header.TCPFlagFin != 0 && slot.join(d.batch, &s, out) {
		d.joinedFINs++
		slot.drop(d)
		slot.known = false
		p.DecRef()
		return out
	}
	slot.drop(d)
	slot.acked, slot.known = s.ack, s.flags()&(header.TCPFlagFin|header.TCPFlagRst) == 0
	slot.data, out = 0, append(out, p)
	if s.size > 0 {
		slot.data, slot.end, slot.batch = len(out), s.seq+uint32(s.size), d.batch
	}
	return out
}

// mayWait reports whether a packet is an acknowledgment and nothing more, of so
// little that the client does not need it at once. One with selective blocks, a
// duplicate, and one that opens the window again do not wait.
func (d *delayedACKs) mayWait(slot *delaySlot, s *segment) bool {
	const timestampsOnly = 8 // words of header
	if !slot.known || s.size != 0 || s.flags() != header.TCPFlagAck || s.tcp[12]>>4 > timestampsOnly {
		return false
	}
	if slot.ack != nil && acknowledges(slot.ack) == s.ack {
		return false
	}
	news := s.ack - slot.acked
	return news > 0 && news <= d.most
}

// acknowledges is the number that a TCP packet acknowledges.
func acknowledges(p *netstack.PacketBuffer) uint32 {
	return binary.BigEndian.Uint32(p.TransportHeader().Slice()[8:])
}

// keep lets an acknowledgment wait, in place of an older one.
func (d *delayedACKs) keep(now time.Duration, slot *delaySlot, p *netstack.PacketBuffer) {
	if slot.ack != nil {
		slot.ack.DecRef()
		d.sparedACKs++
	} else {
		slot.since = now
		d.waiting = append(d.waiting, delayed{slot, now})
	}
	slot.ack = p
}

// drop lets go of an acknowledgment that the next packet carries.
func (slot *delaySlot) drop(d *delayedACKs) {
	if slot.ack != nil {
		slot.ack.DecRef()
		slot.ack = nil
		d.sparedACKs++
	}
}

// join puts a bare FIN into the packet with the data before it, one of those that
// leave, if that is of the same batch and says the same otherwise.
func (slot *delaySlot) join(batch uint64, s *segment, leaving []*netstack.PacketBuffer) bool {
	if slot.data == 0 || slot.batch != batch || slot.end != s.seq || s.size != 0 || s.flags() != header.TCPFlagFin|header.TCPFlagAck {
		return false
	}
	packet := leaving[slot.data-1]
	data := packet.TransportHeader().Slice()
	if binary.BigEndian.Uint32(data[8:]) != s.ack || [2]byte(data[14:]) != [2]byte(s.tcp[14:]) {
		return false
	}
	data[13] |= uint8(header.TCPFlagFin)
	if !partial(packet) {
		addToChecksum(data[16:], uint16(header.TCPFlagFin))
	}
	return true
}

// addToChecksum changes a checksum for a field that has grown by m (RFC 1624 §3).
func addToChecksum(sum []byte, m uint16) {
	v := uint32(^binary.BigEndian.Uint16(sum)) + uint32(m)
	binary.BigEndian.PutUint16(sum, ^uint16(v&0xffff+v>>16))
}

// due appends what has waited long enough.
func (d *delayedACKs) due(now time.Duration, out []*netstack.PacketBuffer) []*netstack.PacketBuffer {
	n := 0
	for ; n < len(d.waiting); n++ {
		w := d.waiting[n]
		if w.fresh() {
			if now < w.since+ackDelay {
				break
			}
			out = append(out, w.slot.ack)
			w.slot.acked, w.slot.ack = acknowledges(w.slot.ack), nil
		}
	}
	if n > 0 {
		d.waiting = append(d.waiting[:0], d.waiting[n:]...)
	}
	return out
}

// fresh reports whether the slot's acknowledgment is still the one that waits.
func (w *delayed) fresh() bool { return w.slot.ack != nil && w.slot.since == w.since }

// next is when due has something.
func (d *delayedACKs) next() (at time.Duration, ok bool) {
	for i := range d.waiting {
		if w := &d.waiting[i]; w.fresh() {
			return w.since + ackDelay, true
		}
	}
	return 0, false
}

// discard lets go of everything that waits.
func (d *delayedACKs) discard() {
	for _, w := range d.waiting {
		w.slot.drop(d)
	}
	d.waiting = nil
}
