package node

import (
	"testing"
	"time"

	"onevoice/internal/flowstate"
	"onevoice/link"
)

// at puts an ownership of everything, or of nothing, in force at a time.
func (l *lender) at(now time.Duration, owned bool, leaseBegin time.Duration) {
	l.t.Helper()
	rows := []Rows{{Draining: allBuckets()}}
	if owned {
		rows = []Rows{{Accept: allBuckets()}}
	}
	l.generation++
	o := &Ownership{Generation: l.generation, VIPs: rows, Services: rows, LeaseBegin: leaseBegin, LeaseEnd: Forever}
	if err := l.n.SetOwnership(o); err != nil {
		l.t.Fatal(err)
	}
	l.n.Tick(now)
}

// lender gives a node rights and takes them back.
type lender struct {
	t          *testing.T
	n          *Node
	flows      *modelFlows
	generation uint64
}

func newLender(t *testing.T) *lender {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	return &lender{t, n, flows, 1}
}

// synACK is what becomes of a SYN-ACK of the half-open flow that the TCP has.
func (l *lender) synACK(now time.Duration, own uint32) Verdict {
	l.flows.states[toFlow(port)] = flowstate.HalfOpen
	return l.n.MayLeave(now, out(port, flagSYN|flagACK, own, clientISN+1, nil))
}

func (l *lender) in(now time.Duration, segment string) Verdict {
	return l.n.Handle(now, frame(etherTypeIPv4, segments()[segment])).Verdict
}

// What the right to answer goes away by and comes back.
var absences = map[string]func(l *lender, away, back time.Duration){
	"the bucket":         func(l *lender, away, back time.Duration) { l.at(away, false, 0); l.at(back, true, 0) },
	"the bucket, unseen": func(l *lender, _, back time.Duration) { l.at(back, false, 0); l.at(back, true, 0) },
	"control process":    func(l *lender, _, back time.Duration) { l.n.TakenUp(); l.at(back, true, 0) },
	"the lease, unseen":  func(l *lender, _, back time.Duration) { l.at(back, true, back-1) },
}

// One SYN is answered by one node: a SYN-ACK that is repeated after the right went and came
// back stays, for another node may have answered meanwhile, until the client asks again.
// The acknowledgment of the one that left before is taken all the same.
func TestR12SYNACKsAnswerTheLastSYN(t *testing.T) {
	for name, absent := range absences {
		l := newLender(t)
		l.in(time.Hour, "SYN")
		if v := l.synACK(time.Hour, ownISN); v != Undecided {
			t.Fatalf("the first SYN-ACK: %v", v)
		}
		if v := l.synACK(time.Hour+time.Second, ownISN); v != Undecided {
			t.Fatalf("repeated: %v", v)
		}
		absent(l, time.Hour+2*time.Second, time.Hour+4*time.Second)
		if v := l.synACK(time.Hour+7*time.Second, ownISN); v != LateSYNACK {
			t.Errorf("%s: repeated once the right was back: %v", name, v)
		}
		if v := l.in(time.Hour+7*time.Second, "bad ACK"); v != BadHandshakeACK || l.n.Unsent() != 0 {
			t.Errorf("%s: what another node may have sent is acknowledged: %v, %d unsent", name, v, l.n.Unsent())
		}
		if v := l.in(time.Hour+8*time.Second, "SYN"); v != DeliverSYN {
			t.Errorf("%s: the SYN again: %v", name, v)
		}
		if v := l.synACK(time.Hour+8*time.Second, ownISN); v != Undecided {
			t.Errorf("%s: the answer to it: %v", name, v)
		}
		if v := l.in(time.Hour+9*time.Second, "ACK"); v != DeliverHeld {
			t.Errorf("%s: the ACK: %v", name, v)
		}
	}
	l := newLender(t)
	l.in(time.Hour, "SYN")
	l.synACK(time.Hour, ownISN)
	absences["the bucket"](l, time.Hour+2*time.Second, time.Hour+4*time.Second)
	if v := l.in(time.Hour+5*time.Second, "data"); v != DeliverHeld {
		t.Errorf("data of who has heard the first SYN-ACK: %v", v)
	}
}

// The same holds for a SYN-ACK that the TCP makes only then: the process has stood still
// between the SYN and its answer. What was let in since is answered at once.
func TestR12FirstSYNACKsAnswerNoOldSYN(t *testing.T) {
	for name, absent := range absences {
		for _, cookie := range []bool{false, true} {
			l := newLender(t)
			l.in(time.Hour, "SYN")
			absent(l, time.Hour+2*time.Second, time.Hour+4*time.Second)
			now := time.Hour + 4*time.Second + askedTime - 1
			old := l.synACK(now, ownISN)
			if old != LateSYNACK || len(l.flows.forgotten) != 1 {
				t.Errorf("%s: an answer to the SYN from before: %v, forgotten are %v", name, old, l.flows.forgotten)
			}
			l.in(now, "other SYN")
			if v := l.synACK(now, ownISN); v != LateSYNACK {
				t.Errorf("%s: an answer to it when another SYN has come from the port: %v", name, v)
			}
			l.in(now, "SYN")
			state := flowstate.HalfOpen
			if cookie {
				state = flowstate.None
			}
			l.flows.states[toFlow(port)] = state
			if v := l.n.MayLeave(now, out(port, flagSYN|flagACK, ownISN+9, clientISN+1, nil)); v != Undecided {
				t.Errorf("%s: an answer to the SYN of now, cookie %v: %v", name, cookie, v)
			}
		}
	}
}

// A SYN-ACK for which the table has no room is not repeated when it has, for the right may
// have gone and come back by then.
func TestR12WhatFoundNoRoomIsNotRepeated(t *testing.T) {
	l := newLender(t)
	l.in(time.Hour, "SYN")
	order := l.n.table.order
	l.n.table.order = make([]*tracked, MaxTracked)
	if v := l.synACK(time.Hour, ownISN); v != FlowsFull {
		t.Fatalf("the SYN-ACK: %v", v)
	}
	l.n.table.order = order
	absences["the bucket"](l, time.Hour+time.Second, time.Hour+2*time.Second)
	if f := toFlow(port); l.flows.State(&f) != flowstate.None {
		v := l.n.MayLeave(time.Hour+7*time.Second, out(port, flagSYN|flagACK, ownISN, clientISN+1, nil))
		t.Errorf("the TCP still has it, and repeats it: %v", v)
	}
}

// A client that was served elsewhere while the right was away uses its port again. It could
// not reset what it had asked for before, for nothing of that leaves.
func TestR13TupleUsedAgainOnceTheRightIsBack(t *testing.T) {
	for name, absent := range absences {
		l := newLender(t)
		l.in(time.Hour, "SYN")
		l.synACK(time.Hour, ownISN)
		if v := l.in(time.Hour+time.Second, "other SYN"); v != SecondSYN {
			t.Errorf("%s: another SYN before: %v", name, v)
		}
		absent(l, time.Hour+2*time.Second, time.Hour+4*time.Second)
		now := time.Hour + 5*time.Second
		if v := l.in(now, "other SYN"); v != DeliverSYN || len(l.flows.forgotten) != 1 {
			t.Errorf("%s: another SYN: %v, forgotten are %v", name, v, l.flows.forgotten)
		}
		if v := l.synACK(now, ownISN); v != Muted {
			t.Errorf("%s: the first one's SYN-ACK: %v", name, v)
		}
		if v := l.n.MayLeave(now, out(port, flagSYN|flagACK, ownISN+9, clientISN+778, nil)); v != Undecided {
			t.Errorf("%s: its SYN-ACK: %v", name, v)
		}
	}
}

// A client that has its half-open flow already has asked again, whatever is full.
func TestR12AskedWhileAllIsFull(t *testing.T) {
	for name, fill := range map[string]func(l *lender){
		"all":        func(l *lender) { l.flows.full = true },
		"its source": func(l *lender) { l.flows.crowded = toFlow(port).Src },
	} {
		l := newLender(t)
		l.in(time.Hour, "SYN")
		l.synACK(time.Hour, ownISN)
		absences["the bucket"](l, time.Hour+time.Second, time.Hour+2*time.Second)
		fill(l)
		l.in(time.Hour+3*time.Second, "SYN")
		if v := l.synACK(time.Hour+3*time.Second, ownISN); v != Undecided {
			t.Errorf("%s is full: the SYN-ACK: %v", name, v)
		}
	}
}

// renew gives the node another generation of all that it has, as a worker does: the
// ownership says nothing of the lease, which is set apart and began when it did.
func (l *lender) renew(now, leaseBegin time.Duration) {
	l.t.Helper()
	rows := []Rows{{Accept: allBuckets()}}
	l.generation++
	if err := l.n.SetOwnership(&Ownership{Generation: l.generation, VIPs: rows, Services: rows}); err != nil {
		l.t.Fatal(err)
	}
	l.n.SetLease(0, leaseBegin, Forever)
	l.n.Tick(now)
}

// A right that goes on is no new one: who asked just before another generation is answered.
func TestR12ARightThatGoesOnIsNoNewOne(t *testing.T) {
	l := newLender(t)
	const now = 2 * time.Hour
	l.renew(time.Hour, time.Minute)
	l.in(now, "SYN")
	l.renew(now+time.Millisecond, time.Minute)
	if v := l.synACK(now+2*time.Millisecond, ownISN); v != Undecided || len(l.flows.forgotten) != 0 {
		t.Errorf("the SYN-ACK: %v, forgotten are %v", v, l.flows.forgotten)
	}
}

// More SYNs than are remembered are answered, but for those that were overwritten while
// they waited.
func TestAskedIsBounded(t *testing.T) {
	l := newLender(t)
	l.at(time.Hour, false, 0)
	l.at(time.Hour, true, 0)
	const clients = 3 * askedSlots
	answered := 0
	for i := range clients {
		port := uint16(10_000 + i)
		l.n.Handle(time.Hour, frame(etherTypeIPv4, in(port, flagSYN, clientISN, 0, nil)))
		l.flows.states[toFlow(port)] = flowstate.HalfOpen
	}
	for i := range clients {
		if l.n.MayLeave(time.Hour, out(uint16(10_000+i), flagSYN|flagACK, ownISN, clientISN+1, nil)) == Undecided {
			answered++
		}
	}
	if len(l.n.asked) != askedSlots || answered > askedSlots || answered < askedSlots*3/4 {
		t.Errorf("%d answered of %d, with %d slots", answered, clients, len(l.n.asked))
	}
}

// Hardly any SYN is overwritten while it waits for our TCP with as many others as a turn
// takes in.
func TestAskedOfATurn(t *testing.T) {
	l := newLender(t)
	l.at(time.Hour, false, 0)
	l.at(time.Hour, true, 0)
	const turns, lets = 100, batchesPerTurn * link.MaxBatch
	kept := 0
	for turn := range turns {
		now := time.Hour + time.Duration(turn)*time.Millisecond
		first := uint16(1000 + turn*lets)
		for i := range uint16(lets) {
			l.n.Handle(now, frame(etherTypeIPv4, in(first+i, flagSYN, clientISN, 0, nil)))
			l.flows.states[toFlow(first+i)] = flowstate.HalfOpen
		}
		for i := range uint16(lets) {
			if l.n.MayLeave(now, out(first+i, flagSYN|flagACK, ownISN, clientISN+1, nil)) != Undecided {
				kept++
			}
		}
	}
	if kept > turns*lets/200 {
		t.Errorf("%d of %d SYN-ACKs were kept back", kept, turns*lets)
	}
}
