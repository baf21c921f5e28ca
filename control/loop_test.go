package control

import (
	"fmt"
	"io"
	"log/slog"
	mathbits "math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/cluster"
	"onevoice/internal/poller"
	"onevoice/internal/sealed"
	"onevoice/link"
)

// hub is a LAN of socket pairs: what one device sends, all others receive.
type hub struct {
	mu      sync.Mutex
	devices []*hubDevice
}

type hubDevice struct {
	hub    *hub
	in, to int // read and write end of the inbox
	buf    [link.MaxBatch][2048]byte
	// deaf: nothing comes in. most is the longest frame that does, 0 for any.
	deaf atomic.Bool
	most atomic.Int64
}

func (h *hub) plug(t *testing.T) *hubDevice {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &hubDevice{hub: h, in: pair[0], to: pair[1]}
	h.mu.Lock()
	h.devices = append(h.devices, d)
	h.mu.Unlock()
	return d
}

func (d *hubDevice) Send(vectors []link.Vector) error {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	for _, v := range vectors {
		for _, o := range d.hub.devices {
			if most := int(o.most.Load()); o != d && !o.deaf.Load() && (most == 0 || len(v.Pieces[0]) <= most) {
				_, _ = unix.Write(o.to, v.Pieces[0]) // a full inbox loses frames, as a switch does
			}
		}
	}
	return nil
}

func (d *hubDevice) Receive(frames []link.Frame) (int, error) {
	for i := range frames {
		n, err := unix.Read(d.in, d.buf[i][:])
		if err == unix.EAGAIN {
			return i, nil
		}
		if err != nil {
			return i, err
		}
		frames[i] = link.Frame{Data: d.buf[i][:n]}
	}
	return len(frames), nil
}

func (d *hubDevice) Release()                       {}
func (d *hubDevice) FD() int                        { return d.in }
func (d *hubDevice) HardwareAddr() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }
func (d *hubDevice) MTU() int                       { return 1500 }
func (d *hubDevice) Present() bool                  { return true }
func (d *hubDevice) Stats() link.Stats              { return link.Stats{} }

func (d *hubDevice) Close() error {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	for i, o := range d.hub.devices {
		if o == d {
			d.hub.devices = append(d.hub.devices[:i], d.hub.devices[i+1:]...)
			break
		}
	}
	unix.Close(d.to)
	return unix.Close(d.in)
}

// patience is how long a starved machine may take.
const patience = time.Minute

// granted are workers that obey at once and serve nothing.
type granted struct {
	mu      sync.Mutex
	rights  *cluster.Rights
	lease   cluster.Lease
	stuck   bool
	forgets int
	// holds are the buckets in which there are flows.
	holds [4]uint64
	// changed has room for one: somebody is to look.
	changed chan struct{}
}

func (g *granted) look() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *granted) Grant(r *cluster.Rights) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rights = r
	g.look()
	return nil
}

func (g *granted) SetLease(_ int, begin, end time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lease = cluster.Lease{Begin: begin, End: end}
	g.look()
}

func (g *granted) WrittenBack() uint64 { return g.Report().Written }

func (g *granted) Report() cluster.Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := cluster.Report{Holding: [][4]uint64{g.holds}}
	if g.rights != nil {
		r.Written, r.Looked = g.rights.Generation, g.rights.Generation
	}
	return r
}

func (g *granted) Beat(int) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stuck {
		return time.Hour
	}
	return 0
}

func (g *granted) Forget()     { g.mu.Lock(); g.forgets++; g.mu.Unlock() }
func (g *granted) EndDrained() {}

// accepts are the buckets in which something new is accepted now.
func (g *granted) accepts() (out [4]uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := bootNow(); g.rights == nil || now < g.lease.Begin || now >= g.lease.End {
		return out
	}
	return g.rights.Services[0].Accept
}

func bootNow() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// looped is a host: a Loop with all that it needs, on loopback and a hub.
type looped struct {
	*granted
	loop   *Loop
	device *hubDevice
	ended  chan error
	close  func()
}

// town is a few of them.
type town struct {
	t       *testing.T
	hub     hub
	port    uint16
	dir     string
	changed chan struct{}
	n       int
	hosts   map[int]*looped
	// tune changes what a host's loop is made of, nil for nothing.
	tune func(i int, h *looped, cfg *LoopConfig)
	// log gets all logs, key is a host's cluster key, and file changes its options;
	// nil for nothing, key 1, and as they are.
	log  io.Writer
	key  func(i int) byte
	file func(i int, o *cluster.Options)
}

func newTown(t *testing.T, n int) *town {
	return newTunedTown(t, n, nil)
}

func newTunedTown(t *testing.T, n int, tune func(int, *looped, *LoopConfig)) *town {
	w := &town{t: t, port: freePort(t), dir: t.TempDir(), changed: make(chan struct{}, 1), n: n, hosts: map[int]*looped{}, tune: tune}
	t.Cleanup(func() {
		for i := range w.hosts {
			w.stop(i)
		}
	})
	for i := range n {
		w.start(i)
	}
	return w
}

func (w *town) options(i int) cluster.Options {
	o := alone(w.t)
	o.Name, o.Address, o.Peers = fmt.Sprintf("n%d", i+1), loopback(byte(i+1)), nil
	for j := range w.n {
		o.Peers = append(o.Peers, cluster.Peer{Address: loopback(byte(j + 1))})
	}
	o.Random = rand.New(rand.NewPCG(uint64(bootNow()), uint64(i)))
	if w.file != nil {
		w.file(i, &o)
	}
	return o
}

func (w *town) start(i int) {
	w.t.Helper()
	wait, err := poller.New(poller.ByRuntime)
	if err != nil {
		w.t.Fatal(err)
	}
	log, key := slog.New(slog.DiscardHandler), sealed.Key{1}
	if w.log != nil {
		log = slog.New(slog.NewTextHandler(w.log, nil)).With("host", i)
	}
	if w.key != nil {
		key = sealed.Key{w.key(i)}
	}
	state, saved, err := OpenState(filepath.Join(w.dir, fmt.Sprint(i)), nil, wait.Wake, log)
	if err != nil {
		w.t.Fatal(err)
	}
	o := w.options(i)
	core, err := cluster.New(o, saved, bootNow(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	sealer := sealed.NewSealer(sealed.Keyring{Current: key}, core.ID(), sealed.UUID{}, sealed.Salt{byte(i + 1), byte(bootNow()), byte(bootNow() >> 8), byte(bootNow() >> 16)})
	cfg := TransportConfig{Sealer: sealer, Local: []netip.Addr{o.Address}, Port: w.port}
	for _, p := range o.Peers {
		cfg.Peers = append(cfg.Peers, PeerAddress{Address: p.Address, Port: w.port})
	}
	transport, err := OpenTransport(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	h := &looped{granted: &granted{changed: w.changed}, device: w.hub.plug(w.t), ended: make(chan error, 1)}
	lan := &LAN{device: h.device, to: net.HardwareAddr{1, 0, 0x5e, 0, 0, 2}, self: o.Address, vip: loopback(200), port: w.port}
	loopConfig := LoopConfig{
		Core: core, Transport: transport, Sealer: sealer, State: state, Poller: wait, LANs: []*LAN{lan}, Servers: h.granted,
		Clock: bootNow, TTL: o.Timing.TTL, Log: log,
	}
	if w.tune != nil {
		w.tune(i, h, &loopConfig)
	}
	if h.loop, err = NewLoop(loopConfig); err != nil {
		w.t.Fatal(err)
	}
	h.close = func() {
		for _, c := range []interface{ Close() error }{lan, transport, state, wait} {
			if err := c.Close(); err != nil {
				w.t.Error(err)
			}
		}
	}
	w.hosts[i] = h
	go func() { h.ended <- h.loop.Run() }()
}

// stop ends a host's control process.
func (w *town) stop(i int) {
	w.t.Helper()
	h := w.hosts[i]
	delete(w.hosts, i)
	h.loop.Stop()
	if err := <-h.ended; err != nil {
		w.t.Error(err)
	}
	if h.lease.End != 0 {
		w.t.Error("workers were left with a lease")
	}
	h.close()
}

// accepted is what each host accepts, and looks at S1: of two that are read one
// after the other the first may have let go in between, so it is read again.
func (w *town) accepted(what string) map[int][4]uint64 {
	w.t.Helper()
	read := map[int][4]uint64{}
	for i, h := range w.hosts {
		set := h.accepts()
		for j, other := range read {
			again := w.hosts[j].accepts()
			for word := range set {
				if set[word]&other[word]&again[word] != 0 {
					w.t.Fatalf("%s: hosts %d and %d accept in a bucket", what, i, j)
				}
			}
		}
		read[i] = set
	}
	return read
}

// until waits until something holds, and looks at S1 whenever something changes.
func (w *town) until(what string, holds func(owned map[int]int) bool) time.Duration {
	w.t.Helper()
	began, late := time.Now(), time.After(patience)
	grain := time.NewTicker(5 * time.Millisecond) // leases end without a word
	defer grain.Stop()
	for {
		owned := map[int]int{}
		for i, set := range w.accepted(what) {
			for _, word := range set {
				owned[i] += mathbits.OnesCount64(word)
			}
		}
		if holds(owned) {
			return time.Since(began)
		}
		select {
		case <-w.changed:
		case <-grain.C:
		case <-late:
			w.t.Fatalf("%s: not within %v; owned %v", what, patience, owned)
		}
	}
}

// all: these hosts own everything between them, each its share.
func all(hosts ...int) func(map[int]int) bool {
	return func(owned map[int]int) bool {
		sum := 0
		for _, i := range hosts {
			if owned[i] < 256/len(hosts) {
				return false
			}
			sum += owned[i]
		}
		return sum == 256
	}
}

// back: everything is owned, and this host has begun to take its share again,
// which takes its time.
func back(i int) func(map[int]int) bool {
	return func(owned map[int]int) bool { return owned[i] > 0 && covered(owned) }
}

// covered: everything is owned by somebody.
func covered(owned map[int]int) bool {
	sum := 0
	for _, n := range owned {
		sum += n
	}
	return sum == 256
}

func TestLoopsServeTogether(t *testing.T) {
	w := newTown(t, 3)
	t.Logf("cold start in %v", w.until("a cold start", all(0, 1, 2)))

	w.stop(2)
	t.Logf("all owned again in %v", w.until("one has crashed", all(0, 1)))
	epoch := func() (out cluster.HostStatus) {
		if err := w.hosts[2].loop.Call(func(now time.Duration) {
			for _, h := range w.hosts[2].loop.Core.Status(now).Hosts {
				if h.Self {
					out = h
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	w.start(2)
	w.until("it is back", back(2))
	before := epoch()
	w.stop(2)
	w.start(2)
	w.until("it is back again", back(2))
	if after := epoch(); after.ID != before.ID || after.Epoch <= before.Epoch {
		t.Errorf("id %x and epoch %d after id %x and epoch %d", after.ID, after.Epoch, before.ID, before.Epoch)
	}

	// All off and on: nobody has heard anybody.
	for i := range 3 {
		w.stop(i)
	}
	for i := range 3 {
		w.start(i)
	}
	t.Logf("all off and on: all owned again in %v", w.until("all off and on", covered))

	// An operator may ask anywhere.
	if err := w.hosts[0].loop.Ask(cluster.Drain{Node: "n2"}); err != nil {
		t.Fatal(err)
	}
	w.until("one is drained", func(owned map[int]int) bool { return owned[1] == 0 && covered(owned) })
	if err := w.hosts[1].loop.Ask(cluster.Drain{Node: "n2", Undo: true}); err != nil {
		t.Fatal(err)
	}
	w.until("it takes its share again", back(1))
	if err := w.hosts[1].loop.Ask(cluster.Drain{Node: "nobody"}); err == nil {
		t.Error("a node that is not there was drained")
	}
	if err := w.hosts[0].loop.Call(func(time.Duration) {
		c := w.hosts[0].loop.Transport.Counts()
		if c.WrongWay != 0 || c.Verdicts[sealed.Replayed] != 0 || c.Verdicts[sealed.Forged] != 0 {
			t.Errorf("%+v", c)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// A node that does not hear, and one whose workers stand still, lose their
// buckets to the others and get them back.
func TestLoopsOfTheDeafAndTheStuck(t *testing.T) {
	w := newTown(t, 3)
	w.until("a cold start", all(0, 1, 2))
	w.hosts[1].device.deaf.Store(true)
	t.Logf("all owned again in %v", w.until("one is deaf", func(owned map[int]int) bool { return owned[1] == 0 && covered(owned) }))
	w.hosts[1].device.deaf.Store(false)
	w.until("it hears again", back(1))

	stuck := func(yes bool) {
		g := w.hosts[2].granted
		g.mu.Lock()
		g.stuck = yes
		g.mu.Unlock()
	}
	stuck(true)
	w.until("the workers of one stand still", func(owned map[int]int) bool { return owned[2] == 0 && covered(owned) })
	if err := w.hosts[2].loop.Call(func(time.Duration) {
		if w.hosts[2].loop.Stats().HeartbeatsHeld == 0 {
			t.Error("no heartbeat was held back")
		}
	}); err != nil {
		t.Fatal(err)
	}
	stuck(false)
	w.until("they turn again", back(2))
}

// What is asked of a loop that has ended returns.
func TestLoopThatHasEnded(t *testing.T) {
	w := newTown(t, 1)
	w.until("a cold start", all(0))
	l := w.hosts[0].loop
	w.stop(0)
	if err := l.Call(func(time.Duration) { t.Error("called") }); err != ErrEnded {
		t.Error(err)
	}
	if err := l.Ask(cluster.Drain{Node: "n1"}); err != ErrEnded {
		t.Error(err)
	}
	l.Tell(cluster.Checked{})
}
