package node

import (
	"slices"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// What a drainer reports: flows in every state, half-open ones apart, hashes,
// and for how long a SYN-ACK may still be answered.
func TestHeldIsWhatTheTCPHolds(t *testing.T) {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	everything := allBuckets()
	if got := n.Held(time.Hour, 0, &everything); len(got) != 0 {
		t.Fatalf("a node without flows holds %+v", got)
	}
	var want []uint64
	for i, s := range []flowstate.State{flowstate.HalfOpen, flowstate.Open, flowstate.Closing, flowstate.TimeWait} {
		f := toFlow(uint16(port + i))
		hold(t, n, flows, f.SrcPort, s)
		want = append(want, n.FlowHash(&f))
	}
	flow := toFlow(port)
	bucket := hashing.NewHasher(key).Bucket(hashing.SourceIP, &flow)
	if got, want := n.Holding(time.Hour, 0), bit(bucket); got != want {
		t.Errorf("holding %x, want %x", got, want)
	}
	got := n.Held(time.Hour, 0, &everything)
	if len(got) != 1 || got[0].Bucket != bucket || got[0].Flows != 4 || got[0].HalfOpen != 1 || !got[0].Unproven || got[0].Overflow {
		t.Fatalf("held is %+v", got)
	}
	slices.Sort(want)
	slices.Sort(got[0].Hashes)
	if !slices.Equal(got[0].Hashes, want) {
		t.Errorf("hashes %x, want %x", got[0].Hashes, want)
	}
	if got := n.Held(time.Hour, 0, &Bitmap{}); len(got) != 0 {
		t.Errorf("of no bucket: %+v", got)
	}
	// The half-open flow completes: what is left is proven.
	flows.states[flow] = flowstate.Open
	if got := n.Held(time.Hour+unprovenTime, 0, &everything); len(got) != 1 || got[0].HalfOpen != 0 || got[0].Unproven {
		t.Errorf("a minute later: %+v", got)
	}
	clear(flows.states)
	if got := n.Held(time.Hour+unprovenTime, 0, &everything); len(got) != 0 {
		t.Errorf("when all have ended: %+v", got)
	}
	tickFor(n, unprovenTime+4*sweepTime)
	if got := n.Holding(n.last, 0); got != (Bitmap{}) {
		t.Errorf("a minute and a few seconds after that: holding %x", got)
	}
}

func bit(bucket uint8) (b Bitmap) {
	b.Set(bucket)
	return b
}

// A node stays a drainer for a minute after the last cookie, or after the last
// half-open flow, however that ended; not after a handshake that was completed.
func TestR17UnprovenForAMinute(t *testing.T) {
	everything := allBuckets()
	for name, c := range map[string]struct {
		begin func(n *Node, flows *modelFlows)
		want  bool
	}{
		"cookie": {func(n *Node, _ *modelFlows) { cookie(t, n) }, true},
		"half-open, ended by the client": {func(n *Node, flows *modelFlows) {
			hold(t, n, flows, port, flowstate.HalfOpen)
			delete(flows.states, toFlow(port))
			n.Handle(n.last, frame(etherTypeIPv4, segments()["RST"]))
		}, true},
		"half-open, forgotten": {func(n *Node, flows *modelFlows) {
			hold(t, n, flows, port, flowstate.HalfOpen)
			own(t, n, Bitmap{}, Forever)
			n.Handle(n.last, frame(etherTypeIPv4, segments()["SYN"]))
		}, true},
		"open and ended": {func(n *Node, flows *modelFlows) {
			hold(t, n, flows, port, flowstate.Open)
			delete(flows.states, toFlow(port))
			n.Handle(n.last, frame(etherTypeIPv4, segments()["RST"]))
		}, false},
	} {
		n, flows := newNode(t)
		n.Tick(time.Hour)
		c.begin(n, flows)
		for at, want := range map[time.Duration]bool{unprovenTime - 1: c.want, unprovenTime: false} {
			got := n.Held(time.Hour+at, 0, &everything)
			if (len(got) == 1 && got[0].Unproven && got[0].Flows == 0) != want {
				t.Errorf("%s, after %v: %+v", name, at, got)
			}
			// Nobody can list the flows that cookies may become.
			if len(got) == 1 && got[0].Overflow != (name == "cookie") {
				t.Errorf("%s: the list is complete: %v", name, !got[0].Overflow)
			}
			if got := n.Holding(time.Hour+at, 0); (got != Bitmap{}) != want {
				t.Errorf("%s, after %v: holding %x", name, at, got)
			}
		}
	}
}

func TestHeldOverflows(t *testing.T) {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	everything := allBuckets()
	for i := range MaxListed + 1 {
		hold(t, n, flows, uint16(1024+i), flowstate.Open)
		if i < MaxListed-1 {
			continue
		}
		got := n.Held(time.Hour, 0, &everything)
		if len(got) != 1 || got[0].Flows != i+1 || len(got[0].Hashes) != MaxListed || got[0].Overflow != (i == MaxListed) {
			t.Errorf("%d flows are told as %d with %d hashes, overflow %v", i+1, got[0].Flows, len(got[0].Hashes), got[0].Overflow)
		}
	}
}

// At a drain's deadline open flows end with a reset, which leaves though the
// bucket is another's; half-open and closed ones end in silence.
func TestEndFlows(t *testing.T) {
	for state, leaves := range map[flowstate.State]Verdict{
		flowstate.HalfOpen: Muted, flowstate.Open: Undecided, flowstate.Closing: Muted, flowstate.TimeWait: Muted,
	} {
		n, flows := situation{state: state, draining: true}.make(t)
		none, everything := Bitmap{}, allBuckets()
		if got := n.EndFlows(n.last, 0, &none); got != 0 {
			t.Errorf("%v: %d flows of no bucket ended", state, got)
		}
		if got := n.EndFlows(n.last, 0, &everything); got != 1 || len(flows.ended)+len(flows.forgotten) != 1 {
			t.Errorf("%v: %d flows ended: %v and %v", state, got, flows.ended, flows.forgotten)
		}
		if v := n.MayLeave(n.last, out(port, flagRST|flagACK, ownISN+1, clientISN+1, nil)); v != leaves {
			t.Errorf("%v: the reset: %v, want %v", state, v, leaves)
		}
	}
}

// R18: a node that was taken for dead closes its flows and says nothing, also
// where it owns the bucket again.
func TestR18ForgetFlows(t *testing.T) {
	for _, s := range []situation{{draining: true}, {owned: true}, {}} {
		s.state = flowstate.Open
		n, flows := s.make(t)
		everything := allBuckets()
		if got := n.ForgetFlows(n.last, 0, &everything); got != 1 || len(flows.forgotten) != 1 || len(flows.ended) != 0 {
			t.Errorf("%+v: %d flows forgotten: %v", s, got, flows.forgotten)
		}
		if v := n.MayLeave(n.last, out(port, flagRST|flagACK, ownISN+1, clientISN+1, nil)); v != Muted {
			t.Errorf("%+v: the reset: %v", s, v)
		}
		if got := n.Held(n.last, 0, &everything); len(got) != 0 || n.Holding(n.last, 0) != (Bitmap{}) {
			t.Errorf("%+v: still held: %+v", s, got)
		}
	}
}

func TestFlowHashIsKeyedAndTakesEveryField(t *testing.T) {
	n, _ := newNode(t)
	flow := toFlow(port)
	seen := map[uint64]string{n.FlowHash(&flow): "the flow"}
	for name, change := range map[string]func(*hashing.Flow){
		"source":           func(f *hashing.Flow) { f.Src = f.Src.Next() },
		"destination":      func(f *hashing.Flow) { f.Dst = f.Dst.Next() },
		"source port":      func(f *hashing.Flow) { f.SrcPort++ },
		"destination port": func(f *hashing.Flow) { f.DstPort++ },
		"protocol":         func(f *hashing.Flow) { f.Proto++ },
	} {
		other := flow
		change(&other)
		if was, twice := seen[n.FlowHash(&other)]; twice {
			t.Errorf("another %s hashes as %s", name, was)
		}
		seen[n.FlowHash(&other)] = name
	}
	n.listKey[0]++
	if _, same := seen[n.FlowHash(&flow)]; same {
		t.Error("another key makes the same hash")
	}
}

// A drainer takes the end of a cookie for as long as it says that one is out,
// whatever cookies of other buckets are out.
func TestR17CookiesOfADrainedBucketCountByBucket(t *testing.T) {
	n, flows := newNode(t)
	n.Tick(time.Hour)
	cookie(t, n)
	flow := toFlow(port)
	bucket := hashing.NewHasher(key).Bucket(hashing.SourceIP, &flow)
	n.Tick(time.Hour + unprovenTime/2)
	other := out(port, flagSYN|flagACK, ownISN, clientISN+1, nil)
	copy(other[16:], []byte{10, 77, 0, 200})
	fixIP(other)
	fixTransport(other)
	if v := n.MayLeave(n.last, other); v != Undecided || len(flows.states) != 0 {
		t.Fatalf("a cookie for another client: %v", v)
	}
	drains := []Rows{{Draining: bit(bucket)}}
	if err := n.SetOwnership(&Ownership{Generation: 2, VIPs: drains, Services: drains, LeaseEnd: Forever}); err != nil {
		t.Fatal(err)
	}
	ack := frame(etherTypeIPv4, in(port, flagACK, clientISN+1, ownISN+1, nil))
	wanted := bit(bucket)
	for at, want := range map[time.Duration]Verdict{unprovenTime - 1: DeliverStray, unprovenTime: NotOwner} {
		if v := n.Handle(time.Hour+at, ack).Verdict; v != want {
			t.Errorf("%v after the cookie: %v, want %v", at, v, want)
		}
		if held := n.Held(time.Hour+at, 0, &wanted); (len(held) == 1 && held[0].Unproven) != (want == DeliverStray) {
			t.Errorf("%v after the cookie: held %+v", at, held)
		}
	}
}
