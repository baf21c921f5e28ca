package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
	"onevoice/node"
)

// DirectService is a service that this host's own TCP or UDP serves.
type DirectService struct {
	// Index is its place among the services of the configuration.
	Index  int
	Name   string
	Listen netip.AddrPort
	// LastPort ends a range of ports, 0 for one.
	LastPort uint16
	UDP      bool
}

// DirectPrograms are the programs of the direct path, as package ingress has them.
type DirectPrograms interface {
	Publish([]ingress.DirectRow) error
	Settle() error
	List(hashes []uint64) error
	Unlist(hashes []uint64) error
	SetLease(path int, begin, end time.Duration)
	Silence(until time.Duration)
	Rulings() [ingress.RulingCount]uint64
	Before() int
	Leave() error
}

var _ DirectPrograms = (*ingress.Direct)(nil)

// DirectConfig is what a DirectPath is made of; the programs stay the caller's.
type DirectConfig struct {
	Programs DirectPrograms
	Services []DirectService
	// Self are addresses of this host: what comes from there came by no wire.
	Self []netip.Addr
	// Clock is CLOCK_BOOTTIME. Ask runs a function with the node, on its goroutine.
	Clock func() time.Duration
	// Attach puts the programs in the place of those of another process, when this one has
	// got its first lease and that one none any more; nil where they stand already.
	Attach func() error
	Ask    func(func(*node.Node)) error
	// Woken is called when a generation has been settled, Listens when a service has
	// begun or ceased to have a program that listens.
	Woken   func()
	Listens func(service string, up bool, err error)
	Log     *slog.Logger
	// Sockets and Destroy are those of package inetdiag, nil for these.
	Sockets func(inetdiag.Wanted) ([]inetdiag.Socket, error)
	Destroy func(*inetdiag.Socket) error
	// Cookies is how many SYN cookies the host has sent, nil for what the kernel says.
	Cookies func() (uint64, error)
	// Begun is how many connections of clients it has begun, nil for the same.
	Begun func() (uint64, error)
}

// Times of a DirectPath.
const (
	// directLook is how often the kernel's sockets are looked at, and directDrain while
	// this node drains or stops.
	directLook  = time.Second
	directDrain = 200 * time.Millisecond
	// directShare bounds what looking takes: a part of the time, one in so many. While
	// nobody waits for what is found it is idleShare, but it is looked after idleLook: the
	// kernel walks past a million connections in TIME-WAIT, too, where there is one for
	// each request.
	directShare = 20
	idleShare   = 200
	idleLook    = 5 * time.Second
	// cookieTime is how long a SYN cookie is good for, as in the node.
	cookieTime = 60 * time.Second
	// quietTime is how long connections that end in silence may take for it.
	quietTime = 2 * time.Second
)

// DirectPath keeps the programs of the direct path to what this node owns, and knows
// which flows the host's own TCP has. It is for package control what a node with its
// netstack is; the frames it never sees. Its methods may be called by any goroutine.
type DirectPath struct {
	cfg  DirectConfig
	kick chan struct{}
	done chan struct{}
	over sync.WaitGroup

	mu   sync.Mutex
	rows []ingress.DirectRow
	// flipped is the generation of the rows in force, settled that under which no frame
	// is judged by older ones, looked that under which sockets were looked for.
	flipped, settled, looked uint64
	// anew: all that is owned next is new, see node.TakenUp.
	anew bool
	// controls counts the control processes, each of which numbers its tables from 1.
	controls int
	// settling: rows were exchanged, and it is not known yet that nobody uses the old
	// ones; pending are those that wait for it.
	settling bool
	pending  *node.Ownership
	// leases are what the programs were told last, by path.
	leases  [ingress.MaxPaths]time.Duration
	stopped bool
	retired bool
	// attach: the programs are to be put in their place; attached: they are, or were.
	attach, attached bool
	draining         bool
	// held is in which buckets there are flows, by service, and flows how many.
	held  []node.Bitmap
	flows []int
	// cookies are how many SYN cookies the host has sent, and cookieAt when it last did.
	cookies  uint64
	cookieAt time.Duration
	flood    floodWatch
	listens  []bool
	keptOut  keptOut
	// shared is, by service, what is owned, in nobody's grace, and drained by others.
	shared []node.Bitmap
	lists  directLists
	// failed: the last look failed, and that was said.
	failed bool
}

// NewDirectPath is one that owns nothing yet. Start begins to look after the programs.
func NewDirectPath(cfg DirectConfig) *DirectPath {
	if cfg.Sockets == nil {
		cfg.Sockets, cfg.Destroy = inetdiag.Sockets, inetdiag.Destroy
	}
	if cfg.Cookies == nil {
		cfg.Cookies = cookiesSent
	}
	if cfg.Begun == nil {
		cfg.Begun = connectionsBegun
	}
	n := len(cfg.Services)
	d := &DirectPath{
		cfg: cfg, kick: make(chan struct{}, 1), done: make(chan struct{}),
		rows: make([]ingress.DirectRow, n), held: make([]node.Bitmap, n), flows: make([]int, n), listens: make([]bool, n),
		cookieAt: -cookieTime, shared: make([]node.Bitmap, n),
		lists: directLists{told: map[drainedBucket][]uint64{}, heard: make(chan struct{}, 1)},
	}
	for i := range d.rows {
		d.rows[i].Lingering, d.held[i], d.listens[i] = every(), node.Bitmap(every()), true
	}
	// The process before this one may have seen cookies leave.
	if d.cookies, _ = cfg.Cookies(); d.cookies > 0 {
		d.cookieAt = cfg.Clock()
	}
	d.attached = cfg.Attach == nil
	return d
}

// Start begins to look after the programs, until Close. Who is asked by Ask has to
// answer.
func (d *DirectPath) Start() {
	d.over.Add(1)
	go d.run()
}

// Close ends what Start began. The programs stay as they are.
func (d *DirectPath) Close() error {
	close(d.done)
	d.over.Wait()
	return nil
}

// Grant puts another ownership in force; its lease is set apart. It does not wait.
func (d *DirectPath) Grant(o *node.Ownership) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.retired {
		return
	}
	d.lists.granted()
	if d.settling {
		d.pending = o
		return
	}
	d.flip(o)
}

// TakenUp says that tables are another control process's from now on, numbered from 1 again.
// The rows in force stay until the first of these, under what is left of their lease; those
// that wait for them are of a table that was never written back, and nobody's.
func (d *DirectPath) TakenUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.controls++
	d.anew = true
	d.flipped, d.settled, d.looked, d.pending = 0, 0, 0, nil
}

// flip exchanges the rows. A bucket that was owned lingers: flows may have begun in it. None
// is listed.
func (d *DirectPath) flip(o *node.Ownership) {
	d.draining = false
	now := d.cfg.Clock()
	for i, s := range d.cfg.Services {
		r, was := &o.Services[s.Index], &d.rows[i]
		next := ingress.DirectRow{Key: r.Key, Owned: r.Accept, Since: was.Since, Lingering: was.Lingering}
		for b := range next.Since {
			if b := uint8(b); r.Accept.Has(b) && (d.anew || r.Key != was.Key || !(*node.Bitmap)(&was.Owned).Has(b)) {
				next.Since[b] = now
			}
		}
		for k := range next.Owned {
			next.Lingering[k] |= was.Owned[k]
			next.Settled[k] = r.Accept[k] &^ (r.Grace[k] | r.Shared[k])
			d.shared[i][k] = r.Accept[k] & r.Shared[k] &^ r.Grace[k]
		}
		if next.Key != was.Key {
			next.Lingering = every()
		}
		d.draining = d.draining || r.Draining != node.Bitmap{}
		*was = next
	}
	d.anew = false
	d.publish()
	d.flipped = o.Generation
}

// publish gives the programs the rows as they are now.
func (d *DirectPath) publish() {
	// The number of rows is that of the services.
	if err := d.cfg.Programs.Publish(d.rows); err != nil {
		d.cfg.Log.Error("the programs of the direct path cannot be told what this node owns", "error", err)
	}
	d.settling = true
	d.wake()
}

func (d *DirectPath) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// SetLease sets a path's lease, given under the table of a generation; its begin stays the
// same while it is renewed. Before the rows of
// that table are in force it counts no longer than the one before, which was given under
// theirs: who waits for those rows waits until they are written back.
func (d *DirectPath) SetLease(path int, begin, end time.Duration, generation uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.retired:
		return
	case d.stopped:
		end = 0
	case generation > d.flipped:
		end = min(end, d.leases[path])
	}
	d.leases[path] = end
	d.cfg.Programs.SetLease(path, begin, end)
	if !d.attached && !d.attach && end > d.cfg.Clock() {
		d.attach = true
		d.wake()
	}
}

// Settled is the generation under whose predecessors no frame is judged any more.
func (d *DirectPath) Settled() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled
}

// Stop has nothing new accepted any more.
func (d *DirectPath) Stop() {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	d.wake()
}

// Retire leaves the programs to those of another worker, which has exchanged them.
func (d *DirectPath) Retire() {
	d.mu.Lock()
	for path := range ingress.MaxPaths {
		d.cfg.Programs.SetLease(path, 0, 0)
	}
	d.retired, d.pending = true, nil
	clear(d.flows)
	d.mu.Unlock()
	if err := d.cfg.Programs.Leave(); err != nil {
		d.cfg.Log.Warn("the programs of the direct path could not be taken from the interface", "error", err)
	}
}

// Running is how many flows the host's own TCP has, as of the last look.
func (d *DirectPath) Running() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.flows {
		n += f
	}
	return n
}

// Holding is in which buckets of each service of the configuration there may be flows,
// and the generation under which that was found.
func (d *DirectPath) Holding(services []node.Bitmap, now time.Duration) (generation uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range d.cfg.Services {
		switch {
		case s.UDP: // answers leave no flow behind
		case now-d.cookieAt < cookieTime:
			services[s.Index] = node.Bitmap(every())
		default:
			services[s.Index] = d.held[i]
		}
	}
	return d.looked
}

// takePlace exchanges the programs of another process for these, once that is wanted.
// Until then that one's go on, as they were last told.
func (d *DirectPath) takePlace() {
	d.mu.Lock()
	attach := d.attach && !d.attached && !d.retired
	d.mu.Unlock()
	if !attach {
		return
	}
	if err := d.cfg.Attach(); err != nil {
		d.cfg.Log.Error("the programs of the direct path cannot be put on the interface; the services of that path accept nothing new here", "error", err)
		return
	}
	d.mu.Lock()
	d.attached = true
	d.mu.Unlock()
}

// settle waits until the rows that were exchanged count for every frame, and puts those
// that waited for it in their place.
func (d *DirectPath) settle() {
	for {
		d.mu.Lock()
		settling := d.settling
		d.mu.Unlock()
		if !settling {
			return
		}
		if d.waits() != nil {
			return // what was not settled is never said to be
		}
		d.mu.Lock()
		// No other rows came while these were settling, but perhaps another numbering.
		d.settled, d.settling = d.flipped, false
		if o := d.pending; o != nil {
			d.pending = nil
			d.flip(o)
		}
		d.mu.Unlock()
		d.cfg.Woken()
	}
}

// waits waits until no program runs that began before.
func (d *DirectPath) waits() error {
	err := d.cfg.Programs.Settle()
	if err != nil {
		d.cfg.Log.Error("it cannot be told whether the programs of the direct path have taken what this node owns; this node gives nothing away", "error", err)
	}
	return err
}

// look finds out what the host's own TCP has, and lets the programs not look for
// sockets where there are none.
func (d *DirectPath) look() {
	d.mu.Lock()
	generation, retired, over, controls := d.settled, d.retired, d.overMatters(), d.controls
	d.mu.Unlock()
	if retired {
		return
	}
	all, listens, err := d.sockets(inetdiag.Wanted{Over: over}, true)
	if errors.Is(err, node.ErrEnded) {
		return
	}
	if err = errors.Join(err, d.lookForCookies(), d.noticeKeptOut(all, listens)); err != nil {
		if !d.failed {
			d.failed = true
			d.cfg.Log.Error("this host's own connections cannot be looked at; this node gives nothing away that it may hold", "error", err)
		}
		return
	}
	d.failed = false
	held, flows := make([]node.Bitmap, len(d.held)), make([]int, len(d.flows))
	for i := range all {
		held[all[i].service].Set(all[i].bucket)
		flows[all[i].service]++
	}
	d.mu.Lock()
	d.held, d.flows = held, flows
	if d.controls == controls {
		d.looked = generation
		d.shrink(generation)
	}
	d.mu.Unlock()
	d.cfg.Woken()
	for i, s := range d.cfg.Services {
		if !s.UDP && d.listens[i] != listens[i] {
			d.listens[i] = listens[i]
			d.cfg.Listens(s.Name, listens[i], fmt.Errorf("no program listens on %s", s.Listen))
		}
	}
}

// overMatters reports whether it matters where connections in TIME-WAIT are: this node
// may have some in buckets that are not its own, or waits for their end. Else there is
// no sense in looking at as many as a minute brings.
func (d *DirectPath) overMatters() bool {
	if d.draining || d.stopped {
		return true
	}
	for i := range d.rows {
		for k, l := range d.rows[i].Lingering {
			if l&^d.rows[i].Owned[k] != 0 {
				return true
			}
		}
	}
	return false
}

// shrink has the programs look for sockets in fewer buckets: beyond those that are owned
// only where there are flows, or SYN cookies may come back. What was found under older
// rows says nothing of what those let in.
func (d *DirectPath) shrink(generation uint64) {
	if d.settling || generation != d.flipped || d.cfg.Clock()-d.cookieAt < cookieTime {
		return
	}
	less := false
	for i := range d.rows {
		if l := d.held[i]; d.rows[i].Lingering != l {
			d.rows[i].Lingering, less = l, true
		}
	}
	if less {
		d.publish()
	}
}
