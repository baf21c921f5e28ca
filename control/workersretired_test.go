package control

import (
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"onevoice/config"
	"onevoice/hashing"
	"onevoice/node"
)

// retiredRig is a worker beside a retired one that holds a half-open flow of segment(101).
type retiredRig struct {
	*flowRig
	old    *worker
	bucket uint8
	hash   uint64
	// mute: the retired one answers nothing; behind: it has another table still; cookies:
	// it has sent SYN cookies that may come back.
	mute, behind, cookies atomic.Bool
}

func newRetiredRig(t *testing.T) *retiredRig {
	t.Helper()
	r := &retiredRig{flowRig: newFlowRig(t)}
	r.own(4, node.Rows{Accept: node.Bitmap(every())})
	flow := hashing.Flow{Src: netip.MustParseAddr("10.77.0.101"), Dst: netip.MustParseAddr("10.77.0.2"), SrcPort: 40000, DstPort: 22, Proto: 6}
	if err := r.guest.parts.Loop.Call(func(time.Duration) {
		r.hash, r.bucket = r.guest.parts.Node.FlowHash(&flow), r.guest.parts.Node.BucketOf(0, &flow)
	}); err != nil {
		t.Fatal(err)
	}
	one, theirs := wiredWorker(t, testClock())
	far, err := wireOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	one.retired, one.runs, one.vips, one.services = true, testSettings(t), 1, 1
	r.old = one
	t.Cleanup(func() {
		// Who has ended is given no table any more.
		far.close()
		for r.workers.retiredCount() > 0 {
			runtime.Gosched()
		}
		one.close()
	})
	go r.answer(far)
	r.workers.add(one)
	return r
}

// answer answers as the retired worker; it ends with the wire.
func (r *retiredRig) answer(far *wire) {
	for {
		m, _, err := far.receive()
		if err != nil {
			return
		}
		want, err := decode[heldWanted](m)
		if m.Type != askHeld || err != nil || r.mute.Load() {
			continue
		}
		h := HeldFlows{Generation: 4, Services: make([][]node.Held, len(want.Services))}
		if r.behind.Load() {
			h.Generation = 3
		}
		if want.Services[0].Has(r.bucket) {
			h.Services[0] = []node.Held{{Bucket: r.bucket, Flows: 1, HalfOpen: 1, Unproven: true, Overflow: r.cookies.Load(), Hashes: []uint64{r.hash}}}
		}
		_ = far.send(newMessage(sayAnswer, m.ID, h))
	}
}

func everyList() (lists []FlowList) {
	for b := range 256 {
		lists = append(lists, FlowList{Bucket: uint8(b), Complete: true})
	}
	return lists
}

// What a retired worker holds is on the lists that others get, which are complete with it.
func TestRetiredWorkersAreListed(t *testing.T) {
	r := newRetiredRig(t)
	all := node.Bitmap(every())
	h := r.held(all)
	if !h.All[0] || h.Generation != 4 || len(h.Services[0]) != 1 || h.Services[0][0].HalfOpen != 1 || !slices.Equal(h.Services[0][0].Hashes, []uint64{r.hash}) {
		t.Fatalf("held %+v", h)
	}
	// The active one has a flow of its own in the same bucket.
	if v := r.comes(segment(101, 2)); v != node.DeliverSYN {
		t.Fatalf("the SYN: %v", v)
	}
	for began := time.Now(); h.Services[0][0].HalfOpen != 2; h = r.held(all) {
		if time.Since(began) > patience {
			t.Fatalf("of both %+v", h)
		}
	}
	if s := h.Services[0]; len(s) != 1 || s[0].Flows != 2 || !s[0].Unproven || !slices.Equal(s[0].Hashes, []uint64{r.hash}) {
		t.Errorf("of both %+v", s)
	}
	r.old.runs.Config.Services[0].Affinity = config.SourceNet
	if h := r.held(all); h.All[0] || len(h.Services[0]) != 1 || h.Services[0][0].Flows != 1 {
		t.Errorf("of one that shares otherwise %+v", h)
	}
}

// A stray is reset beside a retired worker that does not hold its flow, and only if it
// is known that it does not (OWNERSHIP.md R14, R19).
func TestStraysBesideRetiredWorkers(t *testing.T) {
	r := newRetiredRig(t)
	all := node.Bitmap(every())
	var h HeldFlows
	verdicts := func(lists []FlowList) (its, others node.Verdict) {
		t.Helper()
		if err := r.workers.SetFlowLists(4, lists); err != nil {
			t.Fatal(err)
		}
		h = r.held(all) // is answered after the lists were taken in
		return r.comes(segment(101, 16)), r.comes(segment(102, 16))
	}
	if its, others := r.comes(segment(101, 16)), r.comes(segment(102, 16)); its != node.StrayShared || others != node.StrayShared {
		t.Errorf("before it was told: %v, %v", its, others)
	}
	if its, others := verdicts(everyList()); its != node.StrayListed || others != node.StrayAnswered {
		t.Errorf("%v for its flow, %v for another", its, others)
	}
	incomplete := everyList()
	for i := range incomplete {
		incomplete[i].Complete = false
	}
	if its, others := verdicts(incomplete); its != node.StrayShared || others != node.StrayShared {
		t.Errorf("while another node's list is missing: %v, %v", its, others)
	}
	for name, change := range map[string]func(s *WorkerSettings){
		"affinity": func(s *WorkerSettings) { s.Config.Services[0].Affinity = config.SourceNet },
		"name":     func(s *WorkerSettings) { s.Config.Services[0].Name = "other" },
		"ports":    func(s *WorkerSettings) { s.Config.Services[0].LastPort = 23 },
		// Others may still know the service by this name at its old port.
		"port": func(s *WorkerSettings) { s.Config.Services[0].Listen = netip.MustParseAddrPort("10.77.0.2:2222") },
		"pins": func(s *WorkerSettings) {
			s.Config.Pins = []config.Pin{{Clients: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, Node: "10.77.0.11"}}
		},
		"hash": func(s *WorkerSettings) {
			s.Config.Services[0].Sharing.Hash, s.Config.Services[0].Sharing.Nodes = "xt-cluster", 2
		},
		"path":     func(s *WorkerSettings) { s.Config.Services[0].Direct = true },
		"key":      func(s *WorkerSettings) { s.HashKey[0]++ },
		"list key": func(s *WorkerSettings) { s.ListKey[0]++ },
		"unknown":  func(s *WorkerSettings) { *s = WorkerSettings{} },
	} {
		was := r.old.runs
		now := was
		c := *was.Config
		c.Services = slices.Clone(c.Services)
		now.Config = &c
		change(&now)
		r.old.runs = now
		if its, others := verdicts(everyList()); its != node.StrayShared || others != node.StrayShared {
			t.Errorf("beside one with another %s: %v, %v", name, its, others)
		}
		r.old.runs = was
	}
	// A service that is gone, and whose port nobody has.
	gone := *r.old.runs.Config
	gone.Services = append(slices.Clone(gone.Services), config.Service{Name: "gone", Listen: netip.MustParseAddrPort("10.77.0.2:8000")})
	if _, known := placesIn(&r.workers.cfg.Settings, &WorkerSettings{Config: &gone, HashKey: r.workers.cfg.Settings.HashKey, ListKey: r.workers.cfg.Settings.ListKey}); !known[0] {
		t.Error("a service that is gone makes others unknown")
	}
	if its, others := verdicts(everyList()); its != node.StrayListed || others != node.StrayAnswered {
		t.Errorf("in the end: %v, %v", its, others)
	}
	r.cookies.Store(true)
	if its, others := verdicts(everyList()); its != node.StrayShared || others != node.StrayAnswered {
		t.Errorf("while its cookies may come back: %v in their bucket, %v in another", its, others)
	}
	r.cookies.Store(false)
	r.closedPorts()
	r.behind.Store(true)
	if its, others := verdicts(everyList()); its != node.StrayShared || others != node.StrayShared || h.Generation != 3 {
		t.Errorf("beside one that has another table: %v, %v, %+v", its, others, h)
	}
	r.behind.Store(false)
	r.mute.Store(true)
	if its, others := verdicts(everyList()); its != node.StrayShared || others != node.StrayShared || h.All[0] {
		t.Errorf("beside one that says nothing: %v, %v, %+v", its, others, h)
	}
}

// closedPorts are answered beside a retired worker that serves no other ports.
func (r *retiredRig) closedPorts() {
	r.t.Helper()
	was := r.old.runs
	other := *was.Config
	other.Services = append(slices.Clone(other.Services), config.Service{Name: "other", Listen: netip.MustParseAddrPort("10.77.0.2:23")})
	for _, c := range []struct {
		runs *config.Config
		want node.Verdict
	}{{was.Config, node.ClosedPort}, {&other, node.StrayShared}, {nil, node.StrayShared}, {was.Config, node.ClosedPort}} {
		r.workers.mu.Lock()
		r.old.runs.Config = c.runs
		r.workers.publish()
		r.workers.mu.Unlock()
		f := segment(102, 2)
		f.Data[37] = 23
		if v := r.comes(f); v != c.want {
			r.t.Errorf("a closed port: %v, want %v", v, c.want)
		}
	}
}
