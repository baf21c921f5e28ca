package control

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
	"onevoice/node"
	"onevoice/responder"
)

// toldPrograms are programs of the direct path that remember what they were told. Settle
// returns when the test lets it.
type toldPrograms struct {
	mu       sync.Mutex
	rows     [][]ingress.DirectRow
	begins   map[int]time.Duration
	leases   map[int]time.Duration
	quiet    time.Duration
	left     bool
	settling chan chan error
	// has are the flows of drainers, each with whether there was a Settle since; listing is
	// the error of the next List.
	has     map[uint64]bool
	listing error
	// checked is called when rows or flows are others, nil for nobody.
	checked func(after string)
}

func (p *toldPrograms) Publish(rows []ingress.DirectRow) error {
	p.mu.Lock()
	p.rows = append(p.rows, slices.Clone(rows))
	p.mu.Unlock()
	p.check("rows")
	return nil
}

func (p *toldPrograms) Settle() error {
	done := make(chan error)
	p.settling <- done
	err := <-done
	if err == nil {
		p.settled()
	}
	return err
}

func (p *toldPrograms) SetLease(path int, begin, end time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begins[path], p.leases[path] = begin, end
}

func (p *toldPrograms) Silence(until time.Duration) { p.quiet = until }

func (p *toldPrograms) Rulings() [ingress.RulingCount]uint64 {
	return [ingress.RulingCount]uint64{ingress.PassSYN: 7}
}

func (p *toldPrograms) Before() int { return 0 }

func (p *toldPrograms) Leave() error {
	p.left = true
	return nil
}

// last are the rows in force, and how often there were others.
func (p *toldPrograms) last() (rows []ingress.DirectRow, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rows) == 0 {
		return nil, 0
	}
	return p.rows[len(p.rows)-1], len(p.rows)
}

// directRig is a DirectPath between programs and a kernel of the test's, which all belong
// to the test. Its service is the second of the configuration.
type directRig struct {
	t        *testing.T
	d        *DirectPath
	programs *toldPrograms
	node     *node.Node
	woken    chan struct{}

	mu      sync.Mutex
	now     time.Duration
	sockets []inetdiag.Socket
	cookies uint64
	ended   []netip.AddrPort
	failing error
	asked   inetdiag.Wanted
	told    []bool
}

const directService = 1

func newDirectRig(t *testing.T) *directRig {
	t.Helper()
	r := &directRig{t: t, now: time.Hour, woken: make(chan struct{}, 100),
		programs: &toldPrograms{begins: map[int]time.Duration{}, leases: map[int]time.Duration{}, settling: make(chan chan error), has: map[uint64]bool{}}}
	vip := netip.MustParseAddr("10.77.0.2")
	services := []node.Service{{Proto: node.TCP, Listen: netip.AddrPortFrom(vip, 80)}, {Proto: node.TCP, Listen: netip.AddrPortFrom(vip, 22)}}
	var err error
	r.node, err = node.New(node.Config{
		Own: responder.MAC{2, 0, 0, 0, 0, 1}, Address: netip.MustParseAddr("10.77.0.11"), MTU: 1500, Hasher: hashing.NewHasher(hashing.Key{1}), Flows: noFlows{},
		VIPs: []node.VIP{{VIP: responder.VIP{Addr: vip, MAC: responder.MAC{1, 0, 0x5e, 77, 0, 2}}, LAN: netip.PrefixFrom(vip, 24)}}, Services: services,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.listen(true)
	r.d = NewDirectPath(DirectConfig{
		Programs: r.programs, Services: []DirectService{{Index: directService, Name: "ssh", Listen: services[directService].Listen}},
		Self: []netip.Addr{netip.MustParseAddr("10.77.0.11")},
		Clock: func() time.Duration {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.now
		},
		Ask:   func(fn func(*node.Node)) error { fn(r.node); return nil },
		Woken: func() { r.woken <- struct{}{} },
		Listens: func(_ string, up bool, _ error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, up)
		},
		Log: slog.New(slog.DiscardHandler),
		Sockets: func(w inetdiag.Wanted) ([]inetdiag.Socket, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked = w
			return slices.DeleteFunc(slices.Clone(r.sockets), func(s inetdiag.Socket) bool { return s.State == inetdiag.TimeWait && !w.Over }), r.failing
		},
		Destroy: func(s *inetdiag.Socket) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ended = append(r.ended, s.Remote)
			return nil
		},
		Cookies: func() (uint64, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.cookies, nil
		},
	})
	return r
}

// noFlows is a netstack without flows.
type noFlows struct{ node.Flows }

// listen has a program listen at all addresses, or none.
func (r *directRig) listen(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sockets = slices.DeleteFunc(r.sockets, func(s inetdiag.Socket) bool { return s.State == inetdiag.Listen })
	if yes {
		r.sockets = append(r.sockets, inetdiag.Socket{Local: netip.MustParseAddrPort("0.0.0.0:22"), State: inetdiag.Listen})
	}
}

// connect has the kernel have a connection of a client, and tells its bucket.
func (r *directRig) connect(client string, state inetdiag.State) uint8 {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := netip.MustParseAddrPort(client)
	local := r.d.cfg.Services[0].Listen
	r.sockets = append(r.sockets, inetdiag.Socket{Local: local, Remote: from, State: state})
	return r.node.BucketOf(directService, &hashing.Flow{Src: from.Addr(), SrcPort: from.Port(), Dst: local.Addr(), DstPort: local.Port(), Proto: node.TCP})
}

// forget has all connections end.
func (r *directRig) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sockets = slices.DeleteFunc(r.sockets, func(s inetdiag.Socket) bool { return s.State != inetdiag.Listen })
}

func (r *directRig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now += d
}

// grant gives it other rows of its service.
func (r *directRig) grant(generation uint64, rows node.Rows) {
	all := make([]node.Rows, 2)
	all[directService] = rows
	r.d.Grant(&node.Ownership{Generation: generation, Services: all})
}

// settled does what the goroutine does, and lets every wait of it end.
func (r *directRig) settled() { r.waits(func() error { return nil }) }

// waits does what the goroutine does; each wait of it ends with what ends says.
func (r *directRig) waits(ends func() error) {
	r.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.d.settle()
		r.d.list()
	}()
	for {
		select {
		case one := <-r.programs.settling:
			one <- ends()
		case <-done:
			return
		}
	}
}

func (r *directRig) holding() (node.Bitmap, uint64) {
	all := make([]node.Bitmap, 2)
	generation := r.d.Holding(all, r.d.cfg.Clock())
	return all[directService], generation
}

func bitmap(buckets ...uint8) (b node.Bitmap) {
	for _, k := range buckets {
		b.Set(k)
	}
	return b
}

// A generation is written back when no frame is judged by older rows any more, and not
// before; what is granted meanwhile waits, for there are two copies of the rows.
func TestDirectSettlesBeforeItIsWrittenBack(t *testing.T) {
	r := newDirectRig(t)
	r.grant(3, node.Rows{Accept: bitmap(1, 2)})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.d.settle()
	}()
	first := <-r.programs.settling
	if got := r.d.Settled(); got != 0 {
		t.Errorf("written back as %d while frames are judged by older rows", got)
	}
	r.grant(4, node.Rows{Accept: bitmap(1)})
	r.grant(5, node.Rows{Accept: bitmap(2)})
	if rows, times := r.programs.last(); times != 1 || rows[0].Owned != [4]uint64(bitmap(1, 2)) {
		t.Errorf("%d times rows were exchanged, now %v", times, rows)
	}
	first <- nil
	second := <-r.programs.settling
	if got := r.d.Settled(); got != 3 {
		t.Errorf("written back as %d, want 3", got)
	}
	if rows, times := r.programs.last(); times != 2 || rows[0].Owned != [4]uint64(bitmap(2)) {
		t.Errorf("%d times rows were exchanged, now %v", times, rows)
	}
	second <- errors.New("the kernel does not say")
	<-done
	if got := r.d.Settled(); got != 3 {
		t.Errorf("written back as %d, and nobody knows whether it is", got)
	}
}

// leaseBegan is when the leases of these tests did.
const leaseBegan = 30 * time.Minute

// The programs are told since when a bucket is this node's, and its lease: a bucket that
// goes and comes back, or hashes other clients, is anew.
func TestDirectRightsBegin(t *testing.T) {
	r := newDirectRig(t)
	since := func(bucket uint8) time.Duration {
		rows, _ := r.programs.last()
		return rows[0].Since[bucket]
	}
	grant := func(generation uint64, rows node.Rows) time.Duration {
		r.pass(time.Second)
		r.grant(generation, rows)
		r.settled()
		return r.d.cfg.Clock()
	}
	first := grant(1, node.Rows{Accept: bitmap(1, 2)})
	second := grant(2, node.Rows{Accept: bitmap(1, 3)})
	if since(1) != first || since(3) != second {
		t.Errorf("1 is ours since %v and 3 since %v, want %v and %v", since(1), since(3), first, second)
	}
	third := grant(3, node.Rows{Accept: bitmap(1, 2, 3)})
	if since(1) != first || since(2) != third || since(3) != second {
		t.Errorf("2 is back since %v, want %v; 1 and 3 since %v and %v", since(2), third, since(1), since(3))
	}
	other := grant(4, node.Rows{Accept: bitmap(1), Key: hashing.Key{9}})
	if since(1) != other {
		t.Errorf("of other clients since %v, want %v", since(1), other)
	}
	r.d.TakenUp()
	if again := grant(1, node.Rows{Accept: bitmap(1), Key: hashing.Key{9}}); since(1) != again {
		t.Errorf("of another control process since %v, want %v", since(1), again)
	}
	if r.d.SetLease(0, leaseBegan, 2*time.Hour, 1); r.programs.begins[0] != leaseBegan {
		t.Errorf("the lease began at %v", r.programs.begins[0])
	}
}

// A lease that was given under another table than the programs have is none.
func TestDirectLeaseNeedsItsRows(t *testing.T) {
	r := newDirectRig(t)
	lease := func() time.Duration { return r.programs.leases[0] }
	r.grant(3, node.Rows{Accept: bitmap(1)})
	r.d.SetLease(0, leaseBegan, 2*time.Hour, 4)
	if lease() != 0 {
		t.Errorf("a lease of table 4 under the rows of table 3: until %v", lease())
	}
	if r.d.SetLease(0, leaseBegan, 2*time.Hour, 3); lease() != 2*time.Hour {
		t.Errorf("lease until %v", lease())
	}
	// While the rows of table 4 wait, the lease of table 3 runs on, and no longer.
	if r.d.SetLease(0, leaseBegan, 3*time.Hour, 4); lease() != 2*time.Hour {
		t.Errorf("lease until %v before the rows of table 4", lease())
	}
	if r.d.SetLease(0, leaseBegan, 90*time.Minute, 4); lease() != 90*time.Minute {
		t.Errorf("a lease that was cut short goes on until %v", lease())
	}
	if r.d.SetLease(0, leaseBegan, 2*time.Hour, 4); lease() != 90*time.Minute {
		t.Errorf("a lease that was cut short is longer again: until %v", lease())
	}
	r.d.Stop()
	if r.d.SetLease(0, leaseBegan, 2*time.Hour, 3); lease() != 0 {
		t.Errorf("stopped, and a lease until %v", lease())
	}
}

// Tables of another control process are numbered from 1 again: nothing that was written
// back, looked at or waited for under older numbers counts for them, and their lease needs
// their rows.
func TestDirectIsTakenUp(t *testing.T) {
	lease := func(r *directRig) time.Duration { return r.programs.leases[0] }
	counts := func(r *directRig, what string) {
		t.Helper()
		if _, looked := r.holding(); r.d.Settled() != 0 || looked != 0 {
			t.Errorf("%s: written back %d, looked under %d", what, r.d.Settled(), looked)
		}
	}
	for what, takenUp := range map[string]func(*directRig){
		"at rest": func(r *directRig) {
			r.settled()
			r.d.look()
			r.settled()
			r.d.TakenUp()
		},
		"while rows settle": func(r *directRig) {
			r.waits(func() error { r.d.TakenUp(); return nil })
		},
		"while rows wait": func(r *directRig) {
			r.grant(58, node.Rows{Accept: bitmap(1, 2, 3)})
			r.waits(func() error { r.d.TakenUp(); return nil })
		},
		"in a look": func(r *directRig) {
			r.settled()
			sockets := r.d.cfg.Sockets
			r.d.cfg.Sockets = func(w inetdiag.Wanted) ([]inetdiag.Socket, error) {
				r.d.TakenUp()
				return sockets(w)
			}
			r.d.look()
			r.d.cfg.Sockets = sockets
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newDirectRig(t)
			r.grant(57, node.Rows{Accept: bitmap(1, 2)})
			r.d.SetLease(0, leaseBegan, 2*time.Hour, 57)
			takenUp(r)
			counts(r, "taken up")
			r.d.SetLease(0, leaseBegan, 0, 0)
			// The rows of before are in force, and those of the new table wait.
			r.d.publish()
			r.grant(1, node.Rows{Accept: bitmap(9)})
			r.d.SetLease(0, leaseBegan, 3*time.Hour, 1)
			if rows, _ := r.programs.last(); lease(r) != 0 || rows[0].Owned != [4]uint64(bitmap(1, 2)) {
				t.Errorf("a lease until %v under rows that own %v", lease(r), rows[0].Owned)
			}
			counts(r, "granted")
			r.settled()
			if rows, _ := r.programs.last(); r.d.Settled() != 1 || rows[0].Owned != [4]uint64(bitmap(9)) {
				t.Errorf("written back as %d, and owned is %v", r.d.Settled(), rows[0].Owned)
			}
			if r.d.SetLease(0, leaseBegan, 3*time.Hour, 1); lease(r) != 3*time.Hour {
				t.Errorf("lease until %v", lease(r))
			}
		})
	}
}

// Settled is a bucket where nobody else can hold a flow. Lingering is what was owned, as
// long as the kernel has flows of it, and everything while SYN cookies may come back.
func TestDirectSettledAndLingering(t *testing.T) {
	r := newDirectRig(t)
	row := func() ingress.DirectRow {
		rows, _ := r.programs.last()
		return rows[0]
	}
	r.grant(1, node.Rows{Accept: bitmap(1, 2, 3, 4), Grace: bitmap(2, 9), Shared: bitmap(3)})
	if got := row(); got.Settled != [4]uint64(bitmap(1, 4)) || got.Lingering != every() {
		t.Errorf("settled %v, lingering %v, after a start", got.Settled, got.Lingering)
	}
	r.settled()
	if r.d.look(); row().Lingering != [4]uint64{} {
		t.Errorf("lingering %v, and the kernel has nothing", row().Lingering)
	}
	r.settled()
	r.grant(2, node.Rows{Accept: bitmap(1)})
	if row().Lingering != [4]uint64(bitmap(1, 2, 3, 4)) {
		t.Errorf("lingering %v: flows may have begun in what was owned", row().Lingering)
	}
	// What was seen under the older rows says nothing of those.
	if r.d.look(); row().Lingering != [4]uint64(bitmap(1, 2, 3, 4)) {
		t.Errorf("lingering %v before the rows have settled", row().Lingering)
	}
	r.settled()
	bucket := r.connect("10.77.0.101:40000", inetdiag.TimeWait)
	if r.d.look(); row().Lingering != [4]uint64(bitmap(bucket)) {
		t.Errorf("lingering %v, and a connection is in bucket %d", row().Lingering, bucket)
	}
	r.settled()
	r.cookies++
	r.grant(3, node.Rows{Accept: bitmap(1, 2)})
	r.settled()
	r.grant(4, node.Rows{})
	r.settled()
	if r.d.look(); row().Lingering != [4]uint64(bitmap(bucket, 1, 2)) {
		t.Errorf("lingering %v while cookies may come back", row().Lingering)
	}
	r.pass(cookieTime)
	if r.d.look(); row().Lingering != [4]uint64(bitmap(bucket)) {
		t.Errorf("lingering %v when none may any more", row().Lingering)
	}
	r.settled()
	// Another hash: a bucket's number says nothing of where flows are.
	r.grant(5, node.Rows{Key: hashing.Key{7}})
	if row().Lingering != every() {
		t.Errorf("lingering %v under another hash", row().Lingering)
	}
}

// What is held is as it was found under the table in force, and all of it while SYN
// cookies may come back.
func TestDirectHolds(t *testing.T) {
	r := newDirectRig(t)
	if held, _ := r.holding(); held != node.Bitmap(every()) {
		t.Errorf("held %v before anybody looked", held)
	}
	r.grant(1, node.Rows{Accept: bitmap(1)})
	r.settled()
	open := r.connect("10.77.0.101:40000", inetdiag.Established)
	half := r.connect("10.77.0.102:40000", inetdiag.SYNRecv)
	r.connect("10.77.0.11:40000", inetdiag.Established) // this host itself
	r.d.look()
	if held, generation := r.holding(); held != bitmap(open, half) || generation != 1 {
		t.Errorf("held %v of table %d, want buckets %d and %d of 1", held, generation, open, half)
	}
	if n := r.d.Running(); n != 2 {
		t.Errorf("%d flows run, want 2", n)
	}
	r.settled()
	r.grant(2, node.Rows{})
	if _, generation := r.holding(); generation != 1 {
		t.Errorf("what was found under table 1 is said to be of %d", generation)
	}
	// Rows that have not settled may have let something in after the look.
	r.d.look()
	if _, generation := r.holding(); generation != 1 {
		t.Errorf("what was found before the rows settled is said to be of %d", generation)
	}
	r.settled()
	r.d.look()
	if _, generation := r.holding(); generation != 2 {
		t.Errorf("found under table 2, and said to be of %d", generation)
	}
	lists := make([][]node.Held, 2)
	wanted := []node.Bitmap{{}, bitmap(open, half)}
	if generation, err := r.d.Held(wanted, lists); generation != 2 || err != nil || len(lists[directService]) != 2 {
		t.Fatalf("table %d: %+v, %v", generation, lists, err)
	}
	for _, h := range lists[directService] {
		if h.Flows != 1 || len(h.Hashes) != 1 || h.Overflow || h.Unproven != (h.Bucket == half) || (h.HalfOpen == 1) != (h.Bucket == half) {
			t.Errorf("%+v", h)
		}
	}
	r.cookies++
	r.d.look()
	if held, _ := r.holding(); held != node.Bitmap(every()) {
		t.Errorf("held %v while cookies may come back", held)
	}
	r.forget()
	r.pass(cookieTime)
	r.d.look()
	if held, _ := r.holding(); held != (node.Bitmap{}) {
		t.Errorf("held %v, and there is nothing", held)
	}
	// What cannot be looked at is not said to be free.
	r.connect("10.77.0.103:40000", inetdiag.Established)
	r.grant(3, node.Rows{})
	r.settled()
	r.failing = errors.New("no right to look")
	r.d.look()
	if _, generation := r.holding(); generation != 2 {
		t.Errorf("nobody could look, and it is said to be of table %d", generation)
	}
}

// Connections in TIME-WAIT are looked at where this node may have some in buckets that are
// another's, or drains, and not for as long as it owns all that it may have.
func TestDirectLooksAtWhatIsOver(t *testing.T) {
	r := newDirectRig(t)
	bucket := r.connect("10.77.0.101:40000", inetdiag.TimeWait)
	look := func(what string, over bool, held node.Bitmap) {
		t.Helper()
		r.settled()
		r.d.look()
		r.settled()
		if got, _ := r.holding(); r.asked.Over != over || got != held {
			t.Errorf("%s: asked for what is over %v, held %v", what, r.asked.Over, got)
		}
	}
	rest := func(what string, took, want time.Duration) {
		t.Helper()
		if got := r.d.rest(took); got != want {
			t.Errorf("%s: it rests for %v after %v, want %v", what, got, took, want)
		}
	}
	r.grant(1, node.Rows{Accept: bitmap(bucket)})
	rest("before", time.Millisecond, directShare*time.Millisecond)
	look("after a start", true, bitmap(bucket))
	look("what lingers is owned", false, node.Bitmap{})
	rest("nobody waits", time.Millisecond, idleShare*time.Millisecond)
	rest("nobody waits, for long", 100*time.Millisecond, idleLook)
	rest("nobody waits, for too long", time.Second, directShare*time.Second)
	r.grant(2, node.Rows{Draining: bitmap(bucket)})
	look("drained", true, bitmap(bucket))
	rest("drained", time.Millisecond, directShare*time.Millisecond)
	r.grant(3, node.Rows{})
	look("lingering", true, bitmap(bucket))
	r.forget()
	look("ended", true, node.Bitmap{})
	look("nothing lingers", false, node.Bitmap{})
	r.d.Stop()
	look("stopped", true, node.Bitmap{})
}

// Flows end by the kernel's word: those that are meant, and in silence where that is
// wanted. A worker that has left the programs to another ends none.
func TestDirectEnds(t *testing.T) {
	r := newDirectRig(t)
	r.connect("10.77.0.101:40000", inetdiag.Established)
	r.connect("10.77.0.102:40000", inetdiag.Established)
	n, err := r.d.End(true, func(service int, f *hashing.Flow, _ uint8) bool {
		return service == directService && f.Src == netip.MustParseAddr("10.77.0.102")
	})
	if n != 1 || err != nil || len(r.ended) != 1 || r.ended[0].String() != "10.77.0.102:40000" || r.programs.quiet != time.Hour+quietTime {
		t.Errorf("%d ended, %v: %v, quiet until %v", n, err, r.ended, r.programs.quiet)
	}
	if err := r.d.EndAll(); err != nil || len(r.ended) != 3 {
		t.Errorf("all: %v, %v", r.ended, err)
	}
	if r.d.Retire(); !r.programs.left {
		t.Error("retired, and the programs are its own yet")
	}
	if err := r.d.EndAll(); err != nil || len(r.ended) != 3 {
		t.Errorf("retired, and it ends %v, %v", r.ended[3:], err)
	}
	r.grant(9, node.Rows{Accept: bitmap(1)})
	if r.d.SetLease(0, leaseBegan, 2*time.Hour, 9); r.programs.leases[0] != 0 {
		t.Error("retired, and it has a lease")
	}
}

// A service for which no program listens is told, once, and again when one does.
func TestDirectTellsWhoListens(t *testing.T) {
	r := newDirectRig(t)
	r.d.look()
	r.listen(false)
	r.d.look()
	r.d.look()
	r.sockets = append(r.sockets, inetdiag.Socket{Local: netip.MustParseAddrPort("127.0.0.1:22"), State: inetdiag.Listen})
	r.d.look()
	r.sockets = append(r.sockets, inetdiag.Socket{Local: netip.MustParseAddrPort("[::]:22"), State: inetdiag.Listen})
	r.d.look()
	if !slices.Equal(r.told, []bool{false, true}) {
		t.Errorf("told %v", r.told)
	}
	if up, flows := r.d.service(directService); !up || flows != 0 {
		t.Errorf("up %v, %d flows", up, flows)
	}
}

// The goroutine does by itself what the tests above do for it, and ends.
func TestDirectFollows(t *testing.T) {
	r := newDirectRig(t)
	r.d.Start()
	r.grant(1, node.Rows{Accept: bitmap(1)})
	// The second exchange narrows what lingers.
	for range 2 {
		one := <-r.programs.settling
		one <- nil
	}
	for r.d.Settled() != 1 {
		<-r.woken
	}
	for generation := uint64(0); generation != 1; {
		if _, generation = r.holding(); generation != 1 {
			<-r.woken
		}
	}
	if err := r.d.Close(); err != nil {
		t.Error(err)
	}
}
