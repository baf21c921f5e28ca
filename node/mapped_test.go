package node

import (
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// modelFilter is the program in the kernel: it fails the test when a frame that
// the node must see would be kept from it.
type modelFilter struct {
	t       *testing.T
	room    int
	held    map[hashing.Flow]bool
	key     hashing.Key
	passing Bitmap
	// must are the flows that the node holds.
	must []hashing.Flow
	// calls says in which order Hold and Pass came.
	calls string
}

func (m *modelFilter) Hold(_ int, f *hashing.Flow) bool {
	m.calls += "h"
	if len(m.held) >= m.room {
		return false
	}
	m.held[*f] = true
	return true
}

func (m *modelFilter) Release(_ int, f *hashing.Flow) { delete(m.held, *f) }

func (m *modelFilter) Pass(_ int, buckets *Bitmap) {
	m.calls += "p"
	m.passing = *buckets
	m.check()
}

func (m *modelFilter) SetKey(_ int, key hashing.Key) {
	m.calls += "k"
	m.key = key
	m.check()
}

func (m *modelFilter) passes(f *hashing.Flow) bool {
	return m.held[*f] || m.passing.Has(hashing.NewHasher(m.key).Bucket(hashing.SourceIP, f))
}

func (m *modelFilter) check() {
	for _, f := range m.must {
		if !m.passes(&f) {
			m.t.Errorf("the filter keeps the flow from port %d from its holder", f.SrcPort)
		}
	}
}

// filtered is a node with a filter that has room, which holds flows.
func filtered(t *testing.T, room, held int) (*Node, *modelFlows, *modelFilter) {
	t.Helper()
	n, flows := newNode(t)
	n.Tick(time.Hour)
	f := &modelFilter{t: t, room: room, held: map[hashing.Flow]bool{}}
	n.SetFilter(f)
	for i := range held {
		hold(t, n, flows, uint16(port+i), flowstate.State(1+i%4))
		f.must = append(f.must, toFlow(uint16(port+i)))
	}
	f.calls = ""
	return n, flows, f
}

func TestR16HeldFlowsAreMappedBeforeTheBitIsCleared(t *testing.T) {
	everything := allBuckets()
	n, flows, f := filtered(t, 10, 10)
	own(t, n, Bitmap{}, Forever)
	if f.calls != "hhhhhhhhhhp" || len(f.held) != 10 || f.passing != (Bitmap{}) {
		t.Errorf("the calls were %s, %d flows are mapped", f.calls, len(f.held))
	}
	if got := n.Unmapped(0, &everything); got != 0 {
		t.Errorf("%d held flows are unmapped", got)
	}
	// Flows that end make room.
	delete(flows.states, toFlow(port))
	n.Handle(n.last, frame(etherTypeIPv4, in(port, flagACK, clientISN+1, ownISN+1, nil)))
	if f.held[toFlow(port)] || len(f.held) != 9 {
		t.Errorf("a flow that has ended is still mapped, with %d", len(f.held))
	}
	if n.ForgetFlows(n.last, 0, &everything); len(f.held) != 0 {
		t.Errorf("%d forgotten flows are still mapped", len(f.held))
	}
}

// A full map passes the bucket to user space, until there is room.
func TestR16FullMapPassesTheBucket(t *testing.T) {
	everything := allBuckets()
	n, flows, f := filtered(t, 9, 10)
	own(t, n, Bitmap{}, Forever)
	flow := toFlow(port)
	bucket := hashing.NewHasher(key).Bucket(hashing.SourceIP, &flow)
	if f.passing != bit(bucket) || n.Unmapped(0, &everything) != 0 {
		t.Errorf("passing is %x, %d flows are unmapped", f.passing, n.Unmapped(0, &everything))
	}
	for i := range 4 {
		delete(flows.states, toFlow(uint16(port+i)))
	}
	f.must = f.must[4:]
	for now := time.Hour; now < time.Hour+10*time.Second; now += 100 * time.Millisecond {
		n.Tick(now)
	}
	if f.passing != (Bitmap{}) || len(f.held) != 6 {
		t.Errorf("with room again passing is %x, %d flows are mapped", f.passing, len(f.held))
	}
}

// Nothing tells which flows will complete a SYN cookie: the bucket passes for as
// long as they may, and the flow that came of one is mapped.
func TestR16CookiesKeepTheBucketPassing(t *testing.T) {
	n, flows, f := filtered(t, 10, 0)
	cookie(t, n)
	draining := []Rows{{Draining: allBuckets()}}
	if err := n.SetOwnership(&Ownership{Generation: 2, VIPs: draining, Services: draining, LeaseEnd: Forever}); err != nil {
		t.Fatal(err)
	}
	flow := toFlow(port)
	if !f.passes(&flow) {
		t.Fatal("the ACK of a cookie is kept from the node")
	}
	ack := frame(etherTypeIPv4, segments()["ACK"])
	if v := n.Handle(n.last, ack).Verdict; v != DeliverStray {
		t.Fatalf("the ACK of a cookie: %v", v)
	}
	flows.states[flow] = flowstate.Open
	n.Handle(n.last, ack)
	f.must = append(f.must, flow)
	n.Tick(time.Hour + unprovenTime)
	if f.passing != (Bitmap{}) || !f.held[flow] {
		t.Errorf("a minute later passing is %x, the flow is mapped: %v", f.passing, f.held[flow])
	}
}

// A flow that is found in a bucket that does not pass is mapped at once.
func TestR16LateFlowIsMapped(t *testing.T) {
	for room, wantPassing := range map[int]bool{1: false, 0: true} {
		n, flows, f := filtered(t, room, 0)
		own(t, n, Bitmap{}, Forever)
		n.cookies[0] = n.last
		flow := toFlow(port)
		flows.states[flow] = flowstate.Open
		n.Handle(n.last, frame(etherTypeIPv4, segments()["data"]))
		if !f.passes(&flow) || f.held[flow] == wantPassing {
			t.Errorf("room %d: mapped %v", room, f.held[flow])
		}
	}
}

// Under another key flows have other buckets: everything passes from before the key
// changes until the flows are mapped.
func TestR16KeyChangesWhileEverythingPasses(t *testing.T) {
	n, _, f := filtered(t, 3, 4)
	own(t, n, Bitmap{}, Forever)
	f.calls = ""
	for i, key := range []hashing.Key{{1}, {2}, {}} {
		rows := []Rows{{Key: key}}
		if err := n.SetOwnership(&Ownership{Generation: uint64(i + 2), VIPs: rows, Services: rows, LeaseEnd: Forever}); err != nil {
			t.Fatal(err)
		}
		if f.calls != "pkhp" || f.key != n.mappings[0].hasher.Key() {
			t.Errorf("key %d: the calls were %s", i, f.calls)
		}
		f.calls = ""
	}
	// The same key again changes nothing.
	own(t, n, Bitmap{}, Forever)
	if f.calls != "h" {
		t.Errorf("the calls were %s", f.calls)
	}
}

// Each turn maps a bounded number of flows; the others' buckets pass until theirs.
func TestR16MapsAFewFlowsInEachTurn(t *testing.T) {
	n, _, f := filtered(t, 3*maxHolds, 2*maxHolds+1)
	own(t, n, Bitmap{}, Forever)
	for turn, want := range []int{maxHolds, 2 * maxHolds, 2*maxHolds + 1} {
		if len(f.held) != want || (f.passing == Bitmap{}) != (want == 2*maxHolds+1) {
			t.Errorf("turn %d: %d flows are mapped, want %d; passing %x", turn, len(f.held), want, f.passing)
		}
		n.Tick(n.last + time.Millisecond)
	}
}
