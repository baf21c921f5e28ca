package stack

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"onevoice/link"
)

// path is what lies between a node and a client, the same both ways.
type path struct {
	name string
	rtt  time.Duration
	// gigabits a second of the narrowest link, and the bytes that wait before it
	// at most.
	gigabits int
	queue    int
	// loss and late are shares of the frames; late ones come lateBy later, so that
	// others overtake them.
	loss, late float64
	lateBy     time.Duration
}

// frameOverhead is what an IP packet takes of an Ethernet besides itself:
// preamble, header, check sum and gap.
const frameOverhead = 38

// hostTakes is how long after a packet its host takes it, with all that came
// meanwhile, as a loop or an interrupt does.
const hostTakes = 20 * time.Microsecond

// arrival is a packet on its way.
type arrival struct {
	ip []byte
	at time.Duration
}

// way is one direction of a path.
type way struct {
	path
	chance *rand.Rand
	free   time.Duration // when the narrowest link is
	coming []arrival     // by time

	// Of data: the first number, the end of what was sent, and whether a copy of
	// each byte gets through.
	began bool
	first uint32
	end   int
	whole []bool
	// again are segments with data that was sent before, spurious those of them of
	// which a copy got through already. full were dropped for want of room.
	again, spurious, full int
}

// send puts a packet on the way.
func (w *way) send(now time.Duration, ip []byte) {
	begins := max(now, w.free)
	lost := int64(begins-now)*int64(w.gigabits) > int64(w.queue)*8
	if lost {
		w.full++
	} else {
		w.free = begins + time.Duration((len(ip)+frameOverhead)*8/w.gigabits)
		lost = w.chance.Float64() < w.loss
	}
	w.note(ip, lost)
	if lost {
		return
	}
	at := w.free + w.rtt/2
	if w.chance.Float64() < w.late {
		at += w.lateBy
	}
	i := len(w.coming)
	for i > 0 && w.coming[i-1].at > at {
		i--
	}
	w.coming = slices.Insert(w.coming, i, arrival{ip, at})
}

// note counts what is sent again.
func (w *way) note(ip []byte, lost bool) {
	tcp := header.TCP(ip[header.IPv4MinimumSize:])
	n := len(tcp.Payload())
	if n == 0 {
		return
	}
	if !w.began {
		w.began, w.first = true, tcp.SequenceNumber()
	}
	from := int(tcp.SequenceNumber() - w.first)
	if from < w.end {
		w.again++
		if w.whole[from] && w.whole[min(from+n, w.end)-1] {
			w.spurious++
		}
	}
	w.end = max(w.end, from+n)
	for len(w.whole) < w.end {
		w.whole = append(w.whole, make([]bool, 1<<20)...)
	}
	for i := from; i < from+n && !lost; i++ {
		w.whole[i] = true
	}
}

// due is when the other end takes what comes next.
func (w *way) due() (time.Duration, bool) {
	if len(w.coming) == 0 {
		return 0, false
	}
	return w.coming[0].at + hostTakes, true
}

// take is what has come by then.
func (w *way) take(now time.Duration) []arrival {
	if at, ok := w.due(); !ok || at > now {
		return nil
	}
	n := 0
	for n < len(w.coming) && w.coming[n].at <= now {
		n++
	}
	out := w.coming[:n]
	w.coming = w.coming[n:]
	return out
}

// cut makes packets of what the kernel would cut. The client looks at IP's check
// sums only.
func cut(v *link.Vector) [][]byte {
	whole := slices.Concat(v.Pieces...)[EthernetBytes:]
	if v.Offload.Segmentation != link.SegmentationTCPv4 {
		return [][]byte{whole}
	}
	headers, size := int(v.Offload.HeaderBytes)-EthernetBytes, int(v.Offload.SegmentBytes)
	data, seq := whole[headers:], header.TCP(whole[header.IPv4MinimumSize:]).SequenceNumber()
	var out [][]byte
	for from := 0; from < len(data); from += size {
		to := min(from+size, len(data))
		b := slices.Concat(whole[:headers], data[from:to])
		ip, tcp := header.IPv4(b), header.TCP(b[header.IPv4MinimumSize:])
		ip.SetTotalLength(uint16(len(b)))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		binary.BigEndian.PutUint32(tcp[4:], seq+uint32(from))
		if to < len(data) {
			tcp[13] &^= uint8(header.TCPFlagFin | header.TCPFlagPsh)
		}
		out = append(out, b)
	}
	return out
}
