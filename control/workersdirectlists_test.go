package control

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
	"onevoice/node"
)

// settled is that no program runs that began before: all rows but the last are gone, and
// every program sees the flows that are there.
func (p *toldPrograms) settled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = p.rows[max(0, len(p.rows)-1):]
	for h := range p.has {
		p.has[h] = true
	}
}

func (p *toldPrograms) check(after string) {
	if p.checked != nil {
		p.checked(after)
	}
}

// List implements DirectPrograms. What fails is told by half.
func (p *toldPrograms) List(hashes []uint64) error {
	defer p.check("flows that came")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listing != nil {
		hashes = hashes[:len(hashes)/2]
	}
	for _, h := range hashes {
		if !p.has[h] {
			p.has[h] = false
		}
	}
	return p.listing
}

// Unlist implements DirectPrograms.
func (p *toldPrograms) Unlist(hashes []uint64) error {
	defer p.check("flows that went")
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range hashes {
		delete(p.has, h)
	}
	return nil
}

// listRig has ownerships come and go, and drainers' flows that never end: of each bucket some
// under each ownership.
type listRig struct {
	*directRig
	random  *rand.Rand
	granted uint64
	flows   map[uint64]map[uint8][]uint64 // by generation
	next    uint64
	seen    map[string]int
}

// listBuckets are those that the test is about.
const listBuckets = 4

// own grants another ownership. Its generation is the key of its rows.
func (r *listRig) own() {
	r.granted++
	some := func() (b node.Bitmap) {
		for k := range uint8(listBuckets) {
			if r.random.IntN(4) > 0 {
				b.Set(k)
			}
		}
		return b
	}
	rows := node.Rows{Accept: some(), Shared: some()}
	for k, b := range some() {
		rows.Grace[k] = ^b & (1<<listBuckets - 1)
	}
	rows.Key[0], rows.Key[1] = byte(r.granted), byte(r.granted>>8)
	of := map[uint8][]uint64{}
	for k := range uint8(listBuckets) {
		for range r.random.IntN(4) {
			r.next++
			of[k] = append(of[k], r.next)
		}
	}
	r.flows[r.granted] = of
	r.grant(r.granted, rows)
}

// tell says what drainers hold under the ownership that was granted last, with flows that
// will have ended, or that something is not known.
func (r *listRig) tell() {
	var told []FlowList
	for k := range uint8(listBuckets) {
		l := FlowList{Service: directService, Bucket: k, Complete: r.random.IntN(4) > 0}
		if l.Complete {
			l.Hashes = append(l.Hashes, r.flows[r.granted][k]...)
			for range r.random.IntN(3) {
				r.next++
				l.Hashes = append(l.Hashes, r.next)
			}
		}
		if r.random.IntN(4) > 0 {
			told = append(told, l)
		}
	}
	r.d.SetFlowLists(told)
}

// check wants each flow of a listed bucket to be seen by every program that may run.
func (r *listRig) check(after string) {
	r.t.Helper()
	p := r.programs
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rows := range p.rows {
		row := &rows[0]
		of := r.flows[uint64(row.Key[0])|uint64(row.Key[1])<<8]
		listed := node.Bitmap(row.Listed)
		for k := range uint8(listBuckets) {
			for _, h := range of[k] {
				if seen, there := p.has[h]; listed.Has(k) && !(seen && there) {
					r.t.Errorf("after %s: bucket %d is listed by rows %v, and flow %d of a drainer there %v, seen %v", after, k, row.Key, h, there, seen)
				}
			}
			if owned := node.Bitmap(row.Owned); listed.Has(k) && !owned.Has(k) {
				r.t.Errorf("after %s: bucket %d is listed, and not owned", after, k)
			}
			if listed.Has(k) {
				r.seen["listed"]++
			}
		}
	}
}

// work does what the goroutine does. While it waits for programs others go on.
func (r *listRig) work() {
	r.t.Helper()
	r.waits(func() error {
		r.check("a wait")
		switch r.random.IntN(6) {
		case 0:
			r.own()
		case 1:
			r.tell()
		case 2:
			r.own()
			r.tell()
		}
		if r.random.IntN(8) == 0 {
			return errors.New("the kernel does not say")
		}
		return nil
	})
	r.check("work")
}

// Whatever is granted and told, and whenever: no program that may run takes a drainer's flow
// for nobody's; and when all is quiet, what may be listed is, and nothing else is kept.
func TestDirectListsInOrder(t *testing.T) {
	for seed := range uint64(30) {
		r := &listRig{directRig: newDirectRig(t), random: rand.New(rand.NewPCG(seed, 1)), flows: map[uint64]map[uint8][]uint64{}, seen: map[string]int{}}
		r.programs.checked, r.d.cfg.Woken = r.check, func() {}
		r.own()
		for range 100 {
			switch r.random.IntN(4) {
			case 0:
				r.own()
			case 1, 2:
				r.tell()
			}
			r.programs.listing = nil
			if r.random.IntN(8) == 0 {
				r.programs.listing = errors.New("no memory")
			}
			r.work()
		}
		r.programs.listing = nil
		r.grant(r.granted+1, node.Rows{Accept: bitmap(0, 1, 2), Shared: bitmap(0, 1, 2, 3), Grace: bitmap(2)})
		r.d.SetFlowLists([]FlowList{
			{Service: directService, Bucket: 0, Complete: true, Hashes: []uint64{1 << 40, 5}}, {Service: directService, Bucket: 1},
			{Service: directService, Bucket: 2, Complete: true, Hashes: []uint64{6}}, {Service: directService, Bucket: 3, Complete: true, Hashes: []uint64{7}},
			{Service: 0, Bucket: 1, Complete: true},
		})
		r.settled()
		rows, _ := r.programs.last()
		if keys := slices.Sorted(maps.Keys(r.programs.has)); rows[0].Listed != [4]uint64(bitmap(0)) || !slices.Equal(keys, []uint64{5, 1 << 40}) {
			t.Errorf("seed %d: in the end %v is listed, with %v", seed, rows[0].Listed, keys)
		}
		if r.seen["listed"] == 0 {
			t.Error("no bucket was ever listed")
		}
	}
}

// What the programs have no room for is not listed.
func TestDirectListsNoMoreThanThereIsRoom(t *testing.T) {
	r := newDirectRig(t)
	r.grant(1, node.Rows{Accept: bitmap(1, 2, 3), Shared: bitmap(1, 2, 3)})
	many := make([]uint64, ingress.MaxListed-1)
	for i := range many {
		many[i] = uint64(i)
	}
	r.d.SetFlowLists([]FlowList{
		{Service: directService, Bucket: 1, Complete: true, Hashes: []uint64{1 << 40}},
		{Service: directService, Bucket: 2, Complete: true, Hashes: append(many, 1<<41)},
		{Service: directService, Bucket: 3, Complete: true, Hashes: many},
	})
	r.settled()
	if rows, _ := r.programs.last(); rows[0].Listed != [4]uint64(bitmap(1, 3)) || len(r.programs.has) != ingress.MaxListed {
		t.Errorf("listed %v, with %d flows", rows[0].Listed, len(r.programs.has))
	}
}

// A drainer's list is complete when no SYN cookie may come back: not one that left since the
// last look, and not one of the process before. It counts for the rows that every frame is
// judged by.
func TestDirectListsOfADrainer(t *testing.T) {
	r := newDirectRig(t)
	g := &Guest{parts: WorkerParts{Direct: r.d}}
	held := func() (h node.Held, generation uint64) {
		t.Helper()
		out := HeldFlows{Generation: 9, Services: make([][]node.Held, 2)}
		g.heldDirect(&heldWanted{[]node.Bitmap{{}, node.Bitmap(every())}}, &out)
		if all := out.Services[directService]; len(all) > 0 {
			h = all[0]
		}
		return h, out.Generation
	}
	r.connect("10.77.0.101:40000", inetdiag.TimeWait)
	r.grant(3, node.Rows{})
	if h, generation := held(); len(h.Hashes) != 1 || h.Overflow || generation != 0 {
		t.Errorf("%+v of table %d, and rows of none have settled", h, generation)
	}
	r.settled()
	if _, generation := held(); generation != 3 {
		t.Errorf("of table %d", generation)
	}
	r.cookies++
	if h, _ := held(); !h.Overflow || !h.Unproven {
		t.Errorf("%+v, and a cookie has left", h)
	}
	r.d.Retire()
	if _, generation := held(); generation != 9 {
		t.Errorf("of table %d, and it takes nothing any more", generation)
	}
	r.d = NewDirectPath(r.d.cfg)
	g.parts.Direct = r.d
	if h, _ := held(); !h.Overflow || !h.Unproven {
		t.Errorf("%+v, and a cookie may have left before the process began", h)
	}
}
