package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"onevoice/link/ingress"
)

// modelSocket is what the kernel of a host has for a client's tuple: its state, and the
// initial sequence number that tells one connection from the next.
type modelSocket struct {
	state KernelSocket
	isn   int
}

// modelHost is a host with the programs of the direct path before its kernel.
type modelHost struct {
	bucket  BucketState
	sockets [modelClients]modelSocket
	// listed: the programs take a flow for nobody's that has not.
	listed bool
	has    [modelClients]bool
	// asked are the clients whose SYN has come since the bucket is this host's.
	asked [modelClients]bool
	// told is what the drainers hold, nil where that is not known for this ownership.
	told *[modelClients]bool
}

// modelList is the flows of a host as it drained, and the table's entry then.
type modelList struct {
	entry int
	holds [modelClients]bool
}

// modelReset is one that a host's kernel has made and that has not left yet.
type modelReset struct{ host, client, ack int }

const (
	modelHosts   = 3
	modelClients = 3
)

// modelClient is a client of one tuple, which it uses again and again. isn is the number
// of the connection that it has, 0 while it opens one; answerer is the host that last sent
// it a SYN-ACK.
type modelClient struct{ isn, answerer int }

// said is what leaves a host: flags, and for a SYN-ACK its number.
type said struct {
	host, isn int
	flags     uint8
}

// modelLAN is hosts that all hear every segment of one bucket.
type modelLAN struct {
	t       *testing.T
	random  *rand.Rand
	hosts   [modelHosts]modelHost
	clients [modelClients]modelClient
	next    int // number of the next SYN-ACK
	// entry is the table's last, which moved the bucket; lists are what each host said last.
	entry  int
	lists  [modelHosts]modelList
	late   []modelReset
	log    []string
	counts map[string]int
}

// socketFor is what a host's kernel finds for a segment that acknowledges a number.
func (h *modelHost) socketFor(client, ack int) KernelSocket {
	s := &h.sockets[client]
	switch {
	case s.state == NoSocket:
		return ListeningSocket
	case s.state == OpenSocket && s.isn != ack:
		return DistantSocket
	}
	return s.state
}

// rights are what the bucket is to a host, for a client's flow.
func (h *modelHost) rights(client int) BucketState {
	b := h.bucket
	b.Excluded = h.listed && !h.has[client]
	b.Asked = h.asked[client]
	return b
}

// receive is one segment at one host, and what leaves the host for it.
func (l *modelLAN) receive(at, client int, flags uint8, ack int) (out []said) {
	h := &l.hosts[at]
	s := &h.sockets[client]
	found := h.socketFor(client, ack)
	ruling := SteerIn(flags, found, h.rights(client))
	if !ruling.Passes() {
		return nil
	}
	if ruling == ingress.PassStray && !h.bucket.Owned {
		l.fail("host %d hears a stray of a bucket that is not its own", at)
	}
	if ruling == ingress.PassSYN {
		h.asked[client] = true
	}
	says := func(flags uint8, isn int, seq uint32, open bool) {
		if flags&flagRST != 0 && l.random.IntN(4) == 0 {
			l.late = append(l.late, modelReset{at, client, isn})
			return
		}
		if SteerOut(flags, seq, open, false, h.rights(client)) == ingress.Elsewhere {
			if out = append(out, said{at, isn, flags}); ruling == ingress.PassStray {
				l.counts["strays reset"]++
			}
		}
	}
	switch {
	case flags&(flagSYN|flagACK) == flagSYN && s.state == OpenSocket:
		says(flagACK, s.isn, 1, true) // a challenge (RFC 9293 section 3.10.7.4)
	case flags&(flagSYN|flagACK) == flagSYN:
		if s.state != HalfOpenSocket {
			l.next++
			*s = modelSocket{HalfOpenSocket, l.next}
		}
		says(flagSYN|flagACK, s.isn, 1, false)
	case flags&flagRST != 0:
		if s.isn == ack {
			*s = modelSocket{}
		}
	case s.state == HalfOpenSocket && s.isn == ack:
		s.state = OpenSocket
		says(flagACK, s.isn, 1, true)
	case s.state == HalfOpenSocket, s.state == NoSocket:
		says(flagRST, ack, uint32(ack), false)
	case s.state == TimeWaitSocket && s.isn != ack:
		// A FIN alone comes here: it is answered with an acknowledgment of old, which the
		// client ignores. The program cannot tell its number.
		if flags&flagFIN == 0 && !(h.bucket.Owned && h.bucket.Settled) {
			l.fail("host %d hears of a connection with the tuple of an old one of its own", at)
		}
		l.counts["late FINs"]++
	case flags&flagFIN != 0:
		s.state = TimeWaitSocket
		says(flagACK, s.isn, 1, true)
	default:
		says(flagACK, s.isn, 1, true)
	}
	return out
}

// send has every host hear a segment, in any order, and the client hear the answers. It
// judges what left.
func (l *modelLAN) send(client int, flags uint8, ack int) {
	c := &l.clients[client]
	holder := l.holder(client, ack)
	var all []said
	for _, at := range l.random.Perm(modelHosts) {
		all = append(all, l.receive(at, client, flags, ack)...)
	}
	l.log = append(l.log, fmt.Sprintf("client %d, flags %x, ack %d: %+v", client, flags, ack, all))
	accepted := 0
	for _, a := range all {
		switch {
		case a.flags&flagSYN != 0:
			if accepted++; c.isn == 0 && l.random.IntN(2) == 0 {
				c.isn = a.isn // else it is lost
			}
			c.answerer = a.host
		case a.flags&flagRST != 0 && holder >= 0:
			l.fail("host %d resets the connection of host %d", a.host, holder)
		case a.flags&flagRST != 0:
			l.counts["resets"]++
			c.isn = 0
		case a.isn != ack && flags&flagSYN == 0 && holder >= 0:
			l.fail("host %d answers with another connection", a.host)
		}
	}
	if accepted > 1 {
		l.fail("%d hosts accept", accepted)
	}
	if len(all) > 1 {
		l.fail("%d hosts answer", len(all))
	}
	l.counts["accepted"] += accepted
	l.counts["held"] += len(all) - accepted
	if len(all) == 1 && all[0].flags == flagACK && flags == flagSYN {
		// It has no such connection (RFC 9293 section 3.10.7.3).
		l.send(client, flagRST, all[0].isn)
	}
}

// holder is the host that has a client's connection of a number, -1 for none.
func (l *modelLAN) holder(client, isn int) int {
	return slices.IndexFunc(l.hosts[:], func(h modelHost) bool {
		s := &h.sockets[client]
		return s.isn == isn && isn != 0 && s.state != NoSocket
	})
}

// leave has a reset leave that was made before, if it may.
func (l *modelLAN) leave() {
	if len(l.late) == 0 {
		return
	}
	k := l.random.IntN(len(l.late))
	r := l.late[k]
	l.late = slices.Delete(l.late, k, k+1)
	if SteerOut(flagRST, uint32(r.ack), false, false, l.hosts[r.host].rights(r.client)) != ingress.Elsewhere {
		return
	}
	if holder := l.holder(r.client, r.ack); holder >= 0 {
		l.fail("host %d resets the connection of host %d, late", r.host, holder)
	}
	if l.counts["late resets"]++; l.clients[r.client].isn == r.ack {
		l.clients[r.client].isn = 0
	}
}

// repeat has a host's kernel repeat a SYN-ACK, which may leave if no other host has
// answered since.
func (l *modelLAN) repeat() {
	at, client := l.random.IntN(modelHosts), l.random.IntN(modelClients)
	h, c := &l.hosts[at], &l.clients[client]
	if h.sockets[client].state != HalfOpenSocket {
		return
	}
	if SteerOut(flagSYN|flagACK, 1, false, false, h.rights(client)) != ingress.Elsewhere {
		l.counts["kept SYN-ACKs"]++
		return
	}
	if c.answerer != at {
		l.fail("host %d repeats its SYN-ACK, and host %d has answered client %d since", at, c.answerer, client)
	}
	if l.counts["repeated SYN-ACKs"]++; c.isn == 0 {
		c.isn = h.sockets[client].isn
	}
}

// list has a host that drains say what it holds, or is one step of what the owner does with
// what it heard: flows come, the bit is set, or cleared, flows leave.
func (l *modelLAN) list() {
	at := l.random.IntN(modelHosts)
	h := &l.hosts[at]
	if !h.bucket.Owned {
		l.lists[at] = modelList{entry: l.entry}
		for k := range h.sockets {
			l.lists[at].holds[k] = h.sockets[k].state != NoSocket
		}
		return
	}
	switch l.random.IntN(4) {
	case 0:
		if h.told = l.merged(at); l.random.IntN(4) == 0 {
			h.told = nil // one of the lists is too old
		}
	case 1:
		for k := range h.has {
			h.has[k] = h.has[k] || h.told != nil && h.told[k]
		}
	case 2:
		h.listed = h.told != nil
		for k := range h.has {
			h.listed = h.listed && (h.has[k] || !h.told[k])
		}
	case 3:
		switch {
		case h.told != nil:
			for k := range h.has {
				h.has[k] = h.has[k] && h.told[k]
			}
		case !h.listed:
			h.has = [modelClients]bool{}
		}
	}
}

// merged is what all other hosts hold, nil where one has not said it since the bucket moved.
func (l *modelLAN) merged(owner int) *[modelClients]bool {
	var all [modelClients]bool
	for i := range l.lists {
		if i == owner {
			continue
		}
		if l.lists[i].entry < l.entry {
			return nil
		}
		for k, holds := range l.lists[i].holds {
			all[k] = all[k] || holds
		}
	}
	return &all
}

// die ends a host's connections without a word.
func (l *modelLAN) die() {
	l.hosts[l.random.IntN(modelHosts)].sockets = [modelClients]modelSocket{}
	l.settle()
}

func (l *modelLAN) fail(format string, args ...any) {
	l.t.Helper()
	l.t.Fatalf(format+"\n%v\n%+v", append(args, l.log[max(0, len(l.log)-12):], l.hosts)...)
}

// move gives the bucket up, or gives it to a host when nobody has it. Settled is told
// when no other host has anything of it; a host that has something lingers.
func (l *modelLAN) move() {
	owner := -1
	for i := range l.hosts {
		if l.hosts[i].bucket.Owned {
			owner = i
		}
	}
	l.entry++
	heard := l.random.IntN(3) > 0
	switch to := l.random.IntN(modelHosts); {
	case owner >= 0:
		// Its lease may be over before it has heard of the table.
		l.hosts[owner].bucket = BucketState{Lingering: true}
		if heard {
			l.hosts[owner].told, l.hosts[owner].listed = nil, false
		}
	default:
		// What was said was said of another ownership.
		l.hosts[to].told, l.hosts[to].listed, l.hosts[to].asked = nil, false, [modelClients]bool{}
		l.hosts[to].bucket = BucketState{Owned: true, Lingering: true}
	}
	l.settle()
}

func (l *modelLAN) settle() {
	holds := [modelHosts]bool{}
	for i := range l.hosts {
		for _, s := range l.hosts[i].sockets {
			holds[i] = holds[i] || s.state != NoSocket
		}
	}
	for i := range l.hosts {
		b := &l.hosts[i].bucket
		others := false
		for k := range holds {
			others = others || k != i && holds[k]
		}
		b.Settled = b.Owned && !others && l.random.IntN(2) == 0
		b.Lingering = b.Owned || holds[i] || b.Lingering && l.random.IntN(4) > 0
	}
}

// expire ends half-open connections and TIME-WAITs, as time does.
func (l *modelLAN) expire() {
	for i := range l.hosts {
		for k := range l.hosts[i].sockets {
			s := &l.hosts[i].sockets[k]
			gone := s.state == TimeWaitSocket || s.state == HalfOpenSocket && l.clients[k].isn != s.isn
			if gone && l.random.IntN(12) == 0 {
				*s = modelSocket{}
			}
		}
	}
}

// While a bucket moves about, hosts come and go as its owner, die and list what they drain,
// and clients use their tuples again, at most one host answers any segment, no connection
// of a host is reset by another, and none repeats what another has answered since.
func TestOneVoiceOnTheDirectPath(t *testing.T) {
	const steps = 300_000
	l := &modelLAN{t: t, random: rand.New(rand.NewPCG(9, 9)), counts: map[string]int{}}
	for range steps {
		client := l.random.IntN(modelClients)
		c := &l.clients[client]
		switch l.random.IntN(24) {
		case 12, 13, 14, 15, 16, 17, 18:
			for range 5 {
				l.list()
			}
		case 19, 20:
			l.leave()
			l.repeat()
		case 21:
			if l.random.IntN(4) == 0 {
				l.die()
			}
		case 0:
			l.move()
		case 1:
			l.expire()
			l.settle()
		case 2:
			if c.isn != 0 {
				l.send(client, flagFIN|flagACK, c.isn)
				if l.random.IntN(2) == 0 {
					c.isn = 0 // the tuple is free to be used again
				}
			}
		case 3:
			c.isn = 0 // it has lost its memory
		default:
			if c.isn == 0 {
				l.send(client, flagSYN, 0)
			} else {
				l.send(client, flagACK, c.isn)
			}
		}
	}
	for what, least := range map[string]int{"accepted": steps / 100, "held": steps / 100, "resets": 1, "strays reset": steps / 2000, "late resets": steps / 2000,
		"repeated SYN-ACKs": steps / 2000, "kept SYN-ACKs": steps / 2000} {
		if l.counts[what] < least {
			t.Errorf("%d %s in %d steps", l.counts[what], what, steps)
		}
	}
	t.Log(l.counts)
}
