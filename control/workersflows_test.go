package control

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/link"
	"onevoice/node"
	"onevoice/responder"
)

// segment is a client's TCP segment for ssh, from port 40000.
func segment(from byte, flags byte) *link.Frame {
	b := make([]byte, 14+20+20)
	copy(b, []byte{1, 0, 0x5e, 77, 0, 2, 2, 0, 0, 0, 0, from, 8, 0, 0x45})
	binary.BigEndian.PutUint16(b[16:], 40)
	b[22], b[23] = 64, 6
	copy(b[26:], []byte{10, 77, 0, from, 10, 77, 0, 2})
	binary.BigEndian.PutUint16(b[24:], ^responder.Sum(0, b[14:34]))
	binary.BigEndian.PutUint16(b[34:], 40000)
	binary.BigEndian.PutUint16(b[36:], 22)
	b[38], b[45], b[46], b[47] = 9, 9, 0x50, flags
	return &link.Frame{Data: b, Offload: link.Offload{Validated: true}}
}

// flowRig is a worker in this process under Workers.
type flowRig struct {
	*rig
	workers *Workers
}

func newFlowRig(t *testing.T) *flowRig {
	t.Helper()
	r := &flowRig{rig: newRig(t)}
	r.workers, _ = served(t)
	r.workers.all = []*worker{r.one}
	r.workers.tending.Add(1)
	go r.workers.listen(r.one)
	return r
}

// own puts rows in force under a lease.
func (r *flowRig) own(generation uint64, rows node.Rows) {
	r.t.Helper()
	if err := r.workers.Publish(&node.Ownership{Generation: generation, VIPs: []node.Rows{rows}, Services: []node.Rows{rows}}, Mappings{}); err != nil {
		r.t.Fatal(err)
	}
	now := testClock()
	r.workers.SetLease(0, now, now+time.Hour)
	for began := time.Now(); r.workers.WrittenBack() != generation; runtime.Gosched() {
		if time.Since(began) > patience {
			r.t.Fatalf("generation %d is not in force", generation)
		}
	}
}

// comes has the worker meet a segment.
func (r *flowRig) comes(f *link.Frame) (v node.Verdict) {
	r.t.Helper()
	p := &r.guest.parts
	if err := p.Loop.Call(func(now time.Duration) {
		h := p.Node.Handle(now, f)
		if v = h.Verdict; h.Packet != nil {
			p.Stack.Deliver(h.Packet)
		}
	}); err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *flowRig) held(wanted node.Bitmap) HeldFlows {
	r.t.Helper()
	h, err := r.workers.Held([]node.Bitmap{wanted})
	if err != nil || len(h.Services) != 1 {
		r.t.Fatalf("%+v, %v", h, err)
	}
	return h
}

// What a worker holds is said with the table under which it looked, and whether
// another worker may hold more.
func TestHeldIsOfATable(t *testing.T) {
	r := newFlowRig(t)
	all := node.Bitmap(every())
	if _, err := r.workers.Held(nil); err != nil {
		t.Fatal(err)
	}
	r.own(3, node.Rows{Accept: all})
	if v := r.comes(segment(101, 2)); v != node.DeliverSYN {
		t.Fatalf("the SYN: %v", v)
	}
	h := r.held(all)
	for began := time.Now(); len(h.Services[0]) == 0; h = r.held(all) {
		if time.Since(began) > patience {
			t.Fatal("the flow is not held")
		}
	}
	r.own(4, node.Rows{Draining: all})
	var hash uint64
	flow := hashing.Flow{Src: netip.MustParseAddr("10.77.0.101"), Dst: netip.MustParseAddr("10.77.0.2"), SrcPort: 40000, DstPort: 22, Proto: 6}
	if err := r.guest.parts.Loop.Call(func(time.Duration) { hash = r.guest.parts.Node.FlowHash(&flow) }); err != nil {
		t.Fatal(err)
	}
	h = r.held(all)
	if h.Generation != 4 || !h.All[0] || len(h.Services[0]) != 1 || h.Services[0][0].HalfOpen != 1 || !h.Services[0][0].Unproven || !slices.Equal(h.Services[0][0].Hashes, []uint64{hash}) {
		t.Errorf("held %+v", h)
	}
	bucket := h.Services[0][0].Bucket
	if h := r.held(bits(bucket + 1)); len(h.Services[0]) != 0 {
		t.Errorf("of another bucket %+v", h)
	}
	for name, beside := range map[string]func(w *Workers){
		"retired":  func(w *Workers) { w.all = append(w.all, &worker{retired: true}) },
		"unusable": func(w *Workers) { w.all = append(w.all, &worker{retired: true, unusable: true}) },
		"missed":   func(w *Workers) { w.missed = map[string]time.Duration{"@one": 0} },
	} {
		beside(r.workers)
		if h := r.held(all); h.All[0] {
			t.Errorf("beside a %s worker this is all", name)
		}
		r.workers.all, r.workers.missed = r.workers.all[:1], nil
	}
	w, _ := served(t)
	w.ownership.Generation = 9
	if h, err := w.Held([]node.Bitmap{all}); err != nil || h.Generation != 9 || !h.All[0] || len(h.Services) != 1 || len(h.Services[0]) != 0 {
		t.Errorf("without a worker %+v, %v", h, err)
	}
}

// Lists count under the table that they were told for, and beside no other
// worker.
func TestListsCountUnderTheirTable(t *testing.T) {
	r := newFlowRig(t)
	all := node.Bitmap(every())
	shared := node.Rows{Accept: all, Shared: all}
	stray := segment(102, 16)
	told := func(generation uint64, lists ...FlowList) node.Verdict {
		t.Helper()
		if err := r.workers.SetFlowLists(generation, lists); err != nil {
			t.Fatal(err)
		}
		// It is answered after the lists were taken in.
		r.held(all)
		return r.comes(stray)
	}
	with := func(hashes ...uint64) (lists []FlowList) {
		for b := range 256 {
			lists = append(lists, FlowList{Bucket: uint8(b), Complete: true, Hashes: hashes})
		}
		return lists
	}
	r.own(3, shared)
	if v := r.comes(stray); v != node.StrayShared {
		t.Fatalf("without lists: %v", v)
	}
	if v := told(2, with()...); v != node.StrayShared {
		t.Errorf("with lists for an older table: %v", v)
	}
	if v := told(4, with()...); v != node.StrayShared {
		t.Errorf("with lists for a later table: %v", v)
	}
	if v := told(3, with()...); v != node.StrayAnswered {
		t.Errorf("absent from complete lists: %v", v)
	}
	var hash uint64
	flow := hashing.Flow{Src: netip.MustParseAddr("10.77.0.102"), Dst: netip.MustParseAddr("10.77.0.2"), SrcPort: 40000, DstPort: 22, Proto: 6}
	if err := r.guest.parts.Loop.Call(func(time.Duration) { hash = r.guest.parts.Node.FlowHash(&flow) }); err != nil {
		t.Fatal(err)
	}
	if v := told(3, with(hash)...); v != node.StrayListed {
		t.Errorf("listed: %v", v)
	}
	if v := told(3, with()...); v != node.StrayAnswered {
		t.Errorf("absent again: %v", v)
	}
	r.own(4, shared)
	if v := r.comes(stray); v != node.StrayShared {
		t.Errorf("under the next table: %v", v)
	}
	// More hashes than one message has.
	many := make([]uint64, node.MaxListed)
	if v := told(4, with(many...)...); v != node.StrayAnswered {
		t.Errorf("absent from many: %v", v)
	}
	r.workers.all = append(r.workers.all, &worker{retired: true})
	if v := told(4, with()...); v != node.StrayShared {
		t.Errorf("beside a retired worker: %v", v)
	}
	r.workers.all = r.workers.all[:1]
	told(4, FlowList{Service: 1, Complete: true})
	if s, err := r.workers.Status(false, false); err != nil || s[0].Refused != 1 {
		t.Errorf("a list of no service: %+v, %v", s, err)
	}
}
