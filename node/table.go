package node

import (
	"time"

	"onevoice/admission"
	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// MaxTracked bounds the flows that a node knows: those that its TCP holds, and
// for a moment those that it has just let go of. Beyond it no SYN is let in.
const MaxTracked = 1 << 18

// Times of the table.
const (
	// unprovenTime is how long a SYN-ACK of ours is good for: a half-open flow is
	// forgotten after it, and after it no ACK of an unknown flow is taken for the
	// end of a SYN cookie. A drainer stays one for as long (OWNERSHIP.md R12, R17).
	unprovenTime = 60 * time.Second
	// crowdedTime is the same of a half-open flow while there is no room for others, so
	// that SYN cookies are sent: its SYN-ACK has then been sent three times. Linux keeps no
	// longer what is old when most of its queue is (reqsk_timer_handler of
	// net/ipv4/inet_connection_sock.c). A client that is as slow has a cookie when it asks
	// again. Cookies are sent while one was within sweepTime. While the kernel sends them, a
	// flood would have the room at once.
	crowdedTime = 7 * time.Second
	// sweepTime is within what the whole table is looked through once.
	sweepTime = time.Second
	// restTime is how long a sweep passes over a flow that it has seen in
	// TIME-WAIT, where nearly all of them are when many short ones end.
	restTime = 3 * time.Second
	// maxSweep bounds the flows that one sweep looks at.
	maxSweep = 4096
	// mutedTime is how long nothing of a forgotten flow leaves. What netstack
	// says about it lies in the egress queue within the same turn.
	mutedTime = time.Second
)

// tuple and tuple6 are a flow in the form in which the table finds it fastest.
type tuple struct {
	src, dst         [4]byte
	srcPort, dstPort uint16
}

type tuple6 struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
}

func tupleOf(f *hashing.Flow) tuple {
	return tuple{f.Src.As4(), f.Dst.As4(), f.SrcPort, f.DstPort}
}

func tuple6Of(f *hashing.Flow) tuple6 {
	return tuple6{f.Src.As16(), f.Dst.As16(), f.SrcPort, f.DstPort}
}

// tracked is one flow that this node's TCP holds.
type tracked struct {
	flow hashing.Flow
	// service and bucket are what it belongs to.
	service int
	bucket  uint8
	// at is its place in the table's order.
	at int
	// ownISN and clientISN are those of a flow that began with a SYN-ACK of ours
	// which the TCP remembers; a SYN cookie's are not known.
	ownISN, clientISN uint32
	// stamped: that SYN-ACK agreed on time stamps.
	stamped bool
	// since is when that SYN-ACK first left, asked when the client last asked for it.
	since, asked time.Duration
	// kept is the repeat of it that stayed last, an IP packet, until the client asks again.
	kept []byte
	// proven: this node saw the handshake complete.
	proven bool
	// muted: forgotten; nothing of it leaves any more until mutedUntil.
	muted      bool
	mutedUntil time.Duration
	// rests: no sweep looks at it before.
	rests time.Duration
	// mapped: the in-kernel filter passes its frames.
	mapped  bool
	windows windows
	// source is the census it is counted in, nil when it is not, with its neighbours
	// there.
	source                     *sourceFlows
	nextOfSource, prevOfSource *tracked
}

// table is the flows that this node's TCP holds. Entries are made when a SYN-ACK
// leaves, and go when the TCP has nothing of the flow any more.
type table struct {
	flows  map[tuple]*tracked
	flows6 map[tuple6]*tracked
	order  []*tracked
	// count is how many there are of each service and bucket, those that were
	// forgotten not among them.
	count  [][hashing.Buckets]int32
	census census
	// answers is told of the flows, nil for nobody.
	answers *kernelAnswers
	// next is where the sweep goes on, swept when the last one was.
	next  int
	swept time.Duration
}

// floodRoom is for how many flows of IPv4 there is room from the start: a flood's half-open
// ones, of which a TCP keeps 4,096, and as many again, for a map in which flows come and go
// takes room for those that went.
const floodRoom = 8192

func newTable(services int, gate *admission.Gate) table {
	return table{
		flows: make(map[tuple]*tracked, floodRoom), flows6: map[tuple6]*tracked{},
		count: make([][hashing.Buckets]int32, services), census: newCensus(gate, services),
	}
}

func (t *table) find(f *hashing.Flow) *tracked {
	if !f.Dst.Is4() {
		return t.flows6[tuple6Of(f)]
	}
	return t.flows[tupleOf(f)]
}

func (t *table) full() bool { return len(t.order) >= MaxTracked }

func (t *table) add(f *hashing.Flow, service int, bucket uint8, now time.Duration) *tracked {
	e := &tracked{flow: *f, service: service, bucket: bucket, at: len(t.order), since: now, asked: now}
	t.order = append(t.order, e)
	if f.Dst.Is4() {
		t.flows[tupleOf(f)] = e
	} else {
		t.flows6[tuple6Of(f)] = e
	}
	t.count[service][bucket]++
	if t.answers != nil {
		t.answers.count(f)
	}
	return e
}

// mute makes a flow one that was forgotten.
func (t *table) mute(e *tracked, until time.Duration) {
	if !e.muted {
		t.count[e.service][e.bucket]--
	}
	t.census.end(e)
	e.muted, e.proven, e.mutedUntil = true, false, until
}

func (t *table) remove(e *tracked) {
	if !e.muted {
		t.count[e.service][e.bucket]--
	}
	t.census.end(e)
	if t.answers != nil {
		t.answers.uncount(&e.flow)
	}
	last := len(t.order) - 1
	t.order[e.at] = t.order[last]
	t.order[e.at].at = e.at
	t.order[last] = nil
	t.order = t.order[:last]
	if e.flow.Dst.Is4() {
		delete(t.flows, tupleOf(&e.flow))
	} else {
		delete(t.flows6, tuple6Of(&e.flow))
	}
}

// lookup finds a flow that the TCP holds, and its state; nil when it holds none.
// A flow that began with a SYN cookie is found once its ACK was taken.
func (n *Node) lookup(now time.Duration, service int, bucket uint8, f *hashing.Flow) (*tracked, flowstate.State) {
	var e *tracked
	if n.table.count[service][bucket] > 0 {
		// Of most buckets that are another's, nothing is held at all.
		e = n.table.find(f)
	}
	if e == nil {
		if !n.cookiesOut(now, service) {
			return nil, flowstate.None
		}
		return n.adopt(now, service, bucket, f)
	}
	if e.muted {
		return nil, flowstate.None
	}
	state := n.flows.State(f)
	switch state {
	case flowstate.None:
		n.drop(now, e)
		return nil, flowstate.None
	case flowstate.HalfOpen:
	default:
		n.prove(e)
	}
	return e, state
}

// adopt takes a flow into the table that began with a SYN cookie.
func (n *Node) adopt(now time.Duration, service int, bucket uint8, f *hashing.Flow) (*tracked, flowstate.State) {
	state := n.flows.State(f)
	// A half-open one has no SYN-ACK out yet that an ACK could fit.
	if state == flowstate.None || state == flowstate.HalfOpen || n.table.full() || n.table.find(f) != nil {
		return nil, flowstate.None
	}
	e := n.table.add(f, service, bucket, now)
	n.prove(e)
	n.mapHeld(e)
	return e, state
}

// drop takes a flow out of the table that the TCP does not hold any more.
func (n *Node) drop(now time.Duration, e *tracked) {
	if !e.proven && !e.muted {
		n.lost[e.service][e.bucket] = now
	}
	n.unmap(e)
	n.table.remove(e)
}

// forget removes a flow without a word: nothing that the TCP says about it from
// now on leaves (OWNERSHIP.md R13, R18).
func (n *Node) forget(now time.Duration, e *tracked) {
	if !e.proven {
		n.lost[e.service][e.bucket] = now
	}
	n.table.mute(e, now+mutedTime)
	n.unmap(e)
	n.flows.Forget(&e.flow)
}

// Tick lets go of flows that have ended and of half-open ones whose time is
// over. It looks at a part of the table, in proportion to the time since the
// last call, and is to be called once in each turn.
func (n *Node) Tick(now time.Duration) {
	n.settle(now)
	n.retry(now)
	n.tickAnswers(now)
	n.doubts.expire(now)
	n.counts[FragmentTimeout] += uint64(n.fragments.Expire(now))
	t := &n.table
	part := min(now-t.swept, sweepTime)
	quota := min(len(t.order)*int(part/time.Millisecond)/int(sweepTime/time.Millisecond), maxSweep)
	if quota == 0 && len(t.order) > 0 {
		return
	}
	t.swept = now
	for range quota {
		if len(t.order) == 0 {
			return
		}
		t.next = (t.next + 1) % len(t.order)
		n.look(now, t.order[t.next])
	}
}

// look is what the sweep does about one flow.
func (n *Node) look(now time.Duration, e *tracked) {
	if e.muted {
		if now >= e.mutedUntil {
			n.drop(now, e)
		}
		return
	}
	if now < e.rests {
		return
	}
	switch n.flows.State(&e.flow) {
	case flowstate.None:
		n.drop(now, e)
	case flowstate.HalfOpen:
		crowded := now-n.cookies[e.service] < sweepTime && !n.kernel.any
		if age := now - e.since; age >= unprovenTime || age >= crowdedTime && crowded {
			n.forget(now, e)
		}
	case flowstate.TimeWait:
		n.prove(e)
		n.table.census.end(e)
		e.rests = now + restTime
	default:
		n.prove(e)
	}
}
