package node

import (
	"net/netip"
	"time"

	"onevoice/link"
	"onevoice/stack"
)

// send sends the replies of this turn and what netstack has emitted. The clock
// is read again before each batch: between the look at the lease that let
// something in and the moment when the answer leaves, the lease may have run out
// (OWNERSHIP.md R10).
func (l *Loop) send() {
	now := l.clock()
	for i := range l.replies.n {
		now = l.flushFull(now)
		if !l.node.leases[l.replies.vips[i]].covers(now) {
			l.stats.LateReplies++
			continue
		}
		l.vectors = append(l.vectors, link.Vector{Pieces: l.replies.pieces[i][:]})
	}
	packets := l.stack.Egress(now)
	for i := range packets {
		now = l.flushFull(now)
		p := &packets[i]
		if l.node.MayLeave(now, p.Vector.Pieces[0][stack.EthernetBytes:]) == Undecided {
			l.route(now, p.To, p.Vector)
		}
	}
	now = l.sendDatagrams(now)
	l.report(now)
	l.flush(now)
	l.stack.Release()
	l.replies.n = 0
	if l.datagrams != nil {
		l.datagrams.Release()
	}
}

// sendDatagrams sends the answers of UDP services. An answer is not new, so that it
// needs no lease (OWNERSHIP.md R15).
func (l *Loop) sendDatagrams(now time.Duration) time.Duration {
	if l.datagrams == nil {
		return now
	}
	packets := l.datagrams.Egress()
	// They stand still while the vectors point to them.
	l.pieces = append(l.pieces[:0], make([][1][]byte, len(packets))...)
	for i := range packets {
		now = l.flushFull(now)
		l.pieces[i][0] = packets[i].Bytes
		l.route(now, packets[i].To, link.Vector{Pieces: l.pieces[i][:]})
	}
	return now
}

// announce puts an advertisement that nobody asked for among the replies.
func (l *Loop) announce(vip int, frame []byte) {
	l.stats.Announced++
	l.reply(vip, frame)
}

// reply puts a frame among the replies of this turn, which leave under a VIP's lease.
func (l *Loop) reply(vip int, frame []byte) {
	if !l.replies.add(vip, frame) {
		l.stats.RepliesFull++
	}
}

// report lets out what tells of the groups.
func (l *Loop) report(now time.Duration) {
	for _, f := range l.node.Reports(now) {
		now = l.flushFull(now)
		l.vectors = append(l.vectors, link.Vector{Pieces: [][]byte{f}})
	}
}

// Leave leaves the groups. It is for the caller of Run, after Run has returned.
func (l *Loop) Leave() {
	now := l.clock()
	for _, f := range l.node.LeaveGroups(now) {
		l.vectors = append(l.vectors, link.Vector{Pieces: [][]byte{f}})
	}
	l.flush(now)
}

// flushFull sends what was let out if it fills a call of the device, and returns
// the time after that.
func (l *Loop) flushFull(now time.Duration) time.Duration {
	if len(l.vectors) < link.MaxBatch {
		return now
	}
	l.flush(now)
	return l.clock()
}

// flush sends what was let out.
func (l *Loop) flush(now time.Duration) {
	if len(l.vectors) == 0 {
		return
	}
	if err := l.device.Send(l.vectors); err != nil {
		l.stats.SendErrors++
		if l.errors.due(now) {
			l.log.Warn("sending failed", "error", err, "times", l.stats.SendErrors)
		}
	}
	l.vectors = l.vectors[:0]
}

// route writes the Ethernet header: from our own MAC, never the cluster's, to
// where the client was last heard.
func (l *Loop) route(now time.Duration, to netip.Addr, v link.Vector) {
	if l.node.Address(now, to, v.Pieces[0]) {
		l.vectors = append(l.vectors, v)
		return
	}
	l.stats.NoNextHop++
	if ask := l.node.Ask(now, to); ask != nil {
		l.vectors = append(l.vectors, link.Vector{Pieces: [][]byte{ask}})
	}
}

// maxReplies bounds the replies of one turn: one for each frame that it takes in. Only
// answers that have to go in fragments are more.
const maxReplies = batchesPerTurn * link.MaxBatch

// maxReplyBytes is the largest reply, an echo of the largest unfragmented
// request that a LAN carries.
const maxReplyBytes = 9216 + ethernetBytes

// replies holds copies of the replies of a turn. Its buffers are made when they
// are first needed and used again.
type replies struct {
	n       int
	buffers [maxReplies][]byte
	pieces  [maxReplies][1][]byte
	vips    [maxReplies]int // under whose leases they may leave
}

// add copies a reply; false when there is no room for it.
func (r *replies) add(vip int, frame []byte) bool {
	if r.n == maxReplies || len(frame) > maxReplyBytes {
		return false
	}
	r.buffers[r.n] = append(r.buffers[r.n][:0], frame...)
	r.pieces[r.n][0], r.vips[r.n] = r.buffers[r.n], vip
	r.n++
	return true
}
