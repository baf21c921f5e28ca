package node

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/link/ingress"
)

// clientsOf are so many clients of different addresses.
func clientsOf(n int) (out []netip.AddrPort) {
	for i := range n {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), uint16(2000+i%7)))
	}
	return out
}

// allPass reports the first of the flows whose data the kernel drops.
func (k *inKernel) allPass(what string, flows []hashing.Flow) {
	k.t.Helper()
	for i := range flows {
		if !k.passes(segmentOf(&flows[i], flagACK, nil)) {
			k.t.Fatalf("%s: flow %d of %d is dropped", what, i, len(flows))
		}
	}
}

// Held flows pass, in the kernel, also where nothing else does, and no longer than
// they are held.
func TestR16HeldFlowsPassInTheKernel(t *testing.T) {
	k := newInKernel(t, 1)
	for i, c := range clientsOf(200) {
		k.hold(i%k.connections(), c)
	}
	k.own(hashing.Key{1}, none)
	k.allPass("held", k.held)
	everything := allBuckets()
	for i := range k.n.services {
		if n := k.n.Unmapped(i, &everything); n != 0 {
			t.Errorf("service %d: %d held flows are unmapped", i, n)
		}
	}
	for _, f := range k.held {
		other := f
		other.SrcPort ^= 1
		if k.passes(segmentOf(&other, flagACK, nil)) {
			t.Errorf("a flow beside a held one passes: %v", other)
		}
		if other = f; f.DstPort != 22 {
			// The same client with another service.
			other.DstPort, other.Dst = 22, vipAddr
			if k.passes(segmentOf(&other, flagACK, nil)) {
				t.Errorf("a held flow lets one with another service pass: %v", other)
			}
		}
	}
	for i := range k.n.services {
		k.n.ForgetFlows(k.n.last, i, &everything)
	}
	for _, f := range k.held {
		if k.passes(segmentOf(&f, flagACK, nil)) {
			t.Errorf("a flow that was forgotten passes: %v", f)
		}
	}
}

// While the key changes over and over nothing of ours is dropped at any instant:
// neither a flow that is held nor a SYN of a client who is ours before and after.
func TestR16KeyChangesUnderLoad(t *testing.T) {
	k := newInKernel(t, 2)
	clients := clientsOf(32)
	for i, c := range clients[:16] {
		k.hold(i%k.connections(), c)
	}
	var frames [][]byte
	for i := range k.held {
		frames = append(frames, segmentOf(&k.held[i], flagACK, nil))
	}
	mine := map[hashing.Key]*Ownership{}
	keys := []hashing.Key{{1}, {2}, {3}}
	for _, key := range keys {
		mine[key] = &Ownership{VIPs: make([]Rows, 2), Services: make([]Rows, len(k.n.services)), LeaseEnd: Forever}
	}
	for i, c := range clients[16:] {
		service := i % k.connections()
		at := k.n.services[service].Listen
		f := hashing.Flow{Src: c.Addr(), SrcPort: c.Port(), Dst: at.Addr(), DstPort: at.Port()}
		frames = append(frames, segmentOf(&f, flagSYN, nil))
		for _, key := range keys {
			hasher := hashing.NewHasher(key)
			mine[key].Services[service].Key = key
			bucket := hasher.Bucket(k.n.services[service].Affinity, &f)
			if other := k.n.services[service].Compatible; other != nil {
				bucket, _ = other.Bucket(&f)
			}
			if pin, ok := pinned(k.n.services[service].Pins, f.Src); ok {
				bucket = pin
			}
			mine[key].Services[service].Accept.Set(bucket)
		}
	}
	change := func(i int) {
		if err := k.n.SetOwnership(mine[keys[i%len(keys)]]); err != nil {
			t.Fatal(err)
		}
	}
	change(0)
	var stop atomic.Bool
	tried := make(chan int)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			b := frames[n%len(frames)]
			pass, err := k.filter.Passes(b)
			if err != nil || !pass {
				t.Errorf("frame %d passes: %v, %v", n%len(frames), pass, err)
				break
			}
		}
		tried <- n
	}()
	changes := 30_000
	if testing.Short() {
		changes = 3000
	}
	for i := range changes {
		change(i)
	}
	stop.Store(true)
	t.Logf("%d changes under %d frames", changes, <-tried)
	stranger := hashing.Flow{Src: netip.MustParseAddr("192.0.2.7"), SrcPort: 7, Dst: vipAddr, DstPort: 22}
	if k.passes(segmentOf(&stranger, flagSYN, nil)) && k.filter.Stats().Foreign == 0 {
		t.Error("nothing is dropped at all")
	}
}

// The kernel's map full: the buckets of the flows without room pass.
func TestR16FullMapInTheKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("fills the map")
	}
	k := newInKernel(t, 3)
	for i := range ingress.MaxHeld + 5 {
		k.hold(0, netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), uint16(3000+i>>16)))
	}
	k.own(hashing.Key{1}, none)
	turns := 0
	settled := func() bool {
		for b := range hashing.Buckets {
			if !k.n.passing[0].Has(uint8(b)) {
				return true
			}
		}
		return false
	}
	for ; !settled() || k.n.retryBy <= k.n.last; turns++ {
		if turns > 2*ingress.MaxHeld/maxHolds {
			t.Fatalf("%d turns are not enough", turns)
		}
		k.n.Tick(k.n.last + time.Millisecond)
	}
	mapped := 0
	for _, e := range k.n.table.order {
		if e.mapped {
			mapped++
		}
	}
	if mapped != ingress.MaxHeld {
		t.Errorf("%d flows are mapped after %d turns, want %d", mapped, turns, ingress.MaxHeld)
	}
	k.allPass("the map is full", k.held[len(k.held)-100:])
	k.allPass("the map is full", k.held[:100])
	everything := allBuckets()
	if n := k.n.Unmapped(0, &everything); n != 0 {
		t.Errorf("%d held flows are unmapped", n)
	}
}
