package node

import (
	"net/netip"
	"slices"
	"time"

	"onevoice/responder"
)

// Unbeliever is a station that this node tells where a VIP is, and that asks again
// and again and sends nothing there. RFC 1812 §3.3.2 has routers believe no answer
// that names a group MAC, and a switch that validates source MACs may keep the
// answers from it.
//
// Only the node that answers can tell: no other knows whether an answer was sent.
type Unbeliever struct {
	Address netip.Addr
	MAC     responder.MAC
	VIP     netip.Addr
	// Times is how often it was answered in a row, At when it last was.
	Times int
	At    time.Duration
}

// What makes an unbeliever.
const (
	// doubtTimes is after how many answers to questions by broadcast. Who believed the
	// first one has an entry, and asks by unicast when that grows old; a resolver gives
	// up after three to five questions and begins again with the next packet.
	doubtTimes = 5
	// doubtGap is the least time between two questions that count: what comes closer
	// may have been asked before the answer came.
	doubtGap = 200 * time.Millisecond
	// doubtTime is the longest: after it, an entry may just have grown old.
	doubtTime = time.Minute
	// maxDoubts bounds the stations that are looked at; the one that has not asked for
	// the longest time makes room.
	maxDoubts = 16
)

// doubts are the stations that were told where a VIP is and have sent nothing there
// yet.
type doubts struct {
	open []doubt
	last Unbeliever
}

type doubt struct {
	Unbeliever
	// from is the MAC that it sends from, which may differ from the one it names.
	from responder.MAC
}

// answered notes an answer to a question that came by broadcast.
func (d *doubts) answered(now time.Duration, r *responder.ARPResult) {
	i := slices.IndexFunc(d.open, func(o doubt) bool { return o.Address == r.Peer && o.VIP == r.VIP && o.MAC == r.MAC })
	if i < 0 {
		i = d.room()
		d.open[i] = doubt{Unbeliever{Address: r.Peer, MAC: r.MAC, VIP: r.VIP, Times: 1, At: now}, r.From}
		return
	}
	o := &d.open[i]
	switch gap := now - o.At; {
	case gap < doubtGap:
		return
	case gap > doubtTime:
		o.Times = 0
	}
	o.Times++
	o.At = now
	if o.Times >= doubtTimes {
		d.last = o.Unbeliever
	}
}

// room is the place for another station.
func (d *doubts) room() int {
	if len(d.open) < maxDoubts {
		d.open = append(d.open, doubt{})
		return len(d.open) - 1
	}
	oldest := 0
	for i := range d.open {
		if d.open[i].At < d.open[oldest].At {
			oldest = i
		}
	}
	return oldest
}

// heard notes a packet for a VIP from a station: it knows where that is.
func (d *doubts) heard(from responder.MAC) {
	d.open = slices.DeleteFunc(d.open, func(o doubt) bool { return o.from == from || o.MAC == from })
	if d.last.MAC == from {
		d.last = Unbeliever{}
	}
}

// expire forgets who has not asked for doubtTime: its frames may be for other nodes,
// so that this one never sees them.
func (d *doubts) expire(now time.Duration) {
	if len(d.open) > 0 {
		d.open = slices.DeleteFunc(d.open, func(o doubt) bool { return now-o.At > doubtTime && o.Times < doubtTimes })
	}
}

// LastUnbeliever is who last did not believe this node's answers; the zero value when
// all do.
func (n *Node) LastUnbeliever() Unbeliever { return n.doubts.last }
