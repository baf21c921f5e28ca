package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"onevoice/admission"
	"onevoice/datagram"
	"onevoice/internal/page"
	"onevoice/internal/poller"
	"onevoice/internal/rights"
	"onevoice/link"
	"onevoice/link/egress"
	"onevoice/link/ingress"
	"onevoice/node"
	"onevoice/proxy"
	"onevoice/stack"
)

// linger is how long a worker without control, or a retired one, stays after
// its last flow: handshakes may be half-way, and a new control process may come.
const linger = 3 * time.Second

// firstWait bounds how long either side waits for the other's first message.
const firstWait = 10 * time.Second

// wakeToken is that of control's eventfd in the loop's poller: the stack has no
// flow of that number, so that the event does nothing but end the wait.
const wakeToken = poller.MaxToken

// outboxLength bounds the messages to control that have not been sent yet.
const outboxLength = 256

// Guest is the worker's side: it puts in force what control writes into the
// page, answers its questions, and outlives it for as long as there are flows.
type Guest struct {
	settings WorkerSettings
	log      *slog.Logger
	parts    WorkerParts
	listener *net.UnixListener
	outbox   chan outgoing
	ended    chan struct{}
	serving  sync.WaitGroup

	// first is the wire to the control process that started the worker; link is
	// the present one, nil while there is none.
	first   *wire
	mu      sync.Mutex
	link    *wire
	retired atomic.Bool
	refused atomic.Uint64
	lost    atomic.Uint64

	// What follows belongs to the loop's goroutine.
	page *page.Worker
	wake *os.File
	// edition is that of the page's table in force, and generation what may be
	// written back: 0 until there is a table of this page.
	edition, generation uint64
	// draining: the table has buckets that this node drains.
	draining bool
	// leases are by path, and pathOf is by VIP.
	leases []page.Lease
	pathOf []int
	// busyAt is when the worker last had a flow, in the loop's clock.
	busyAt time.Duration
	quiet  atomic.Bool
	// holding is what control was told last, and heldAt when it was looked at.
	holding Holding
	heldAt  time.Duration
	// foreign is how many frames the filter has dropped, as seen before foreignBy.
	foreign   uint64
	foreignBy time.Duration
	flood     floodWatch
	// lists are in force, by the files of prefixes; before Start they are the caller's.
	lists map[string]*admission.List
	// leased: there was a lease on some path.
	leased bool
	// guardFailed: it was said that the guard takes no lease.
	guardFailed bool
}

type outgoing struct {
	to *wire
	*message
}

// WorkerParts are what a worker is made of. They stay the caller's.
type WorkerParts struct {
	Node  *node.Node
	Stack *stack.Stack
	// Datagrams are the UDP flows, nil where no service is of UDP.
	Datagrams *datagram.Relay
	Loop      *node.Loop
	Device    link.Device
	Poller    *poller.Poller
	OwnHost   *proxy.OwnHost
	// Guards are by path, none where the kernel has none; NoGuard says why.
	Guards  []*egress.Guard
	NoGuard string
	// Filter drops other nodes' frames in the kernel, nil where it could not be
	// loaded; NoFilter says why, or why it is not all that it can be.
	Filter   *ingress.Filter
	NoFilter string
	// Direct are the services of this host's own TCP and UDP, nil where there are none.
	// NoPins is why they do not outlive the process, "" where they do.
	Direct *DirectPath
	NoPins string
	// Rights tells what the process may, nil for nobody.
	Rights func() *rights.Status
	// Watch watches the device's interface, nil for nobody.
	Watch *link.Watch
}

// Descriptors of a worker behind standard error, in the order in which control
// hands them down.
const (
	socketFD = 3 + iota
	pageFD
	wakeFD
)

// InheritGuest makes the worker's side of the descriptors that control has
// handed down, and waits for its settings. What it took is closed by Close.
func InheritGuest(log *slog.Logger) (*Guest, error) {
	return newGuest(log, os.NewFile(socketFD, "control"), os.NewFile(pageFD, "page"), os.NewFile(wakeFD, "wake"))
}

func newGuest(log *slog.Logger, socket, memory, wake *os.File) (*Guest, error) {
	g := &Guest{log: log, outbox: make(chan outgoing, outboxLength), ended: make(chan struct{}), wake: wake, lists: map[string]*admission.List{}}
	p, err := page.Open(int(memory.Fd()))
	memory.Close()
	if err != nil {
		return nil, errors.Join(errNotForPeople, err)
	}
	g.page = p
	if g.first, err = wireOf(socket); err != nil {
		return nil, errors.Join(errNotForPeople, err, g.Close())
	}
	if err := g.receiveSettings(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// errNotForPeople is for those who try the hidden command.
var errNotForPeople = errors.New("this command is for `onevoice run` itself")

func (g *Guest) receiveSettings() error {
	if err := g.first.conn.SetReadDeadline(time.Now().Add(firstWait)); err != nil {
		return err
	}
	m, files, err := g.first.receive()
	closeAll(files)
	if err != nil {
		return fmt.Errorf("control: no settings: %w", err)
	}
	if m.Type != tellSettings {
		return garbage("%q instead of settings", m.Type)
	}
	if g.settings, err = decode[WorkerSettings](m); err != nil {
		return err
	}
	if g.settings.Config == nil || len(g.settings.Config.VIPs) == 0 {
		return garbage("settings without a VIP")
	}
	g.leases = make([]page.Lease, len(g.settings.paths()))
	if len(g.leases) > page.MaxPaths {
		return garbage("%d paths", len(g.leases))
	}
	for vip := range g.settings.Config.VIPs {
		g.pathOf = append(g.pathOf, g.settings.Path(vip))
	}
	if err := g.receivePrefixes(); err != nil {
		return err
	}
	return g.first.conn.SetReadDeadline(time.Time{})
}

// Settings are those that control gave.
func (g *Guest) Settings() *WorkerSettings { return &g.settings }

// Fail tells control why the worker cannot begin.
func (g *Guest) Fail(err error) error {
	return g.first.send(newMessage(sayFailed, 0, failed{err.Error()}))
}

// Begin is for node.LoopConfig: it puts leases and table of the page in force.
// The leases are read first, so that none is ever newer than the table.
func (g *Guest) Begin(now time.Duration) {
	if g.page == nil {
		g.dropLeases(now)
		return
	}
	for path := range g.leases {
		// Where control died while it wrote, the lease that was read last runs out.
		g.page.Lease(path, &g.leases[path])
	}
	if e := g.page.Edition(); e != g.edition {
		if t := g.page.Table(); t != nil && g.take(t) {
			g.edition, g.generation = e, t.Generation
		}
	}
	for path, l := range g.leases {
		if l.Generation > g.generation {
			// The table of this lease could not be read yet.
			l.Begin, l.End = 0, 0
		}
		g.setLease(now, path, l.Begin, l.End)
		if g.parts.Direct != nil {
			g.parts.Direct.SetLease(path, l.Begin, l.End, l.Generation)
		}
	}
}

// dropLeases ends the leases of all paths.
func (g *Guest) dropLeases(now time.Duration) {
	for path := range g.leases {
		g.setLease(now, path, 0, 0)
		if g.parts.Direct != nil {
			g.parts.Direct.SetLease(path, 0, 0, 0)
		}
	}
}

// take gives the node a table. One of another size is refused and counted.
func (g *Guest) take(t *page.Table) bool {
	o := &node.Ownership{Generation: t.Generation, Elsewhere: t.Elsewhere}
	for i := range t.VIPs {
		o.VIPs = append(o.VIPs, rowsOf(&t.VIPs[i]))
	}
	draining := false
	for i := range t.Services {
		o.Services = append(o.Services, rowsOf(&t.Services[i]))
		draining = draining || t.Services[i].Draining != page.Bitmap{}
	}
	if err := g.parts.Node.SetOwnership(o); err != nil {
		g.refused.Add(1)
		return false
	}
	g.draining = draining
	if g.parts.Direct != nil {
		g.parts.Direct.Grant(o)
	}
	return true
}

func rowsOf(r *page.Row) node.Rows {
	return node.Rows{Key: r.Mapping.Key, Accept: node.Bitmap(r.Accept), Grace: node.Bitmap(r.Grace), Shared: node.Bitmap(r.Shared), Draining: node.Bitmap(r.Draining)}
}

// Turned is for node.LoopConfig: it writes back what is in force.
func (g *Guest) Turned(now time.Duration, _ uint64) {
	flows := g.parts.Stack.FlowCount()
	if flows > 0 || g.parts.OwnHost.Conns() > 0 {
		g.busyAt = now
	}
	g.quiet.Store(now-g.busyAt > linger)
	g.lookForeign(now)
	g.lookForFlood(now)
	if g.page != nil {
		if g.parts.Direct != nil {
			flows += g.parts.Direct.Running()
		}
		g.page.Turned(now, g.written(), flows, g.frames(), g.parts.Node.Unsent())
		g.tellHolding(now)
	}
}

// frames counts what clients and others have sent: all that was judged, here or in
// the kernel, but loops of our own frames and what has no service, such as
// heartbeats.
func (g *Guest) frames() (n uint64) {
	counts := g.parts.Node.Counts()
	for _, c := range counts {
		n += c
	}
	return n - counts[node.NoService] - counts[node.OwnMAC] + g.foreign
}

// BackendChanged is for stack.Config.
func (g *Guest) BackendChanged(service string, up bool, err error) {
	b := Backend{Service: service, Up: up}
	if err != nil {
		b.Error = err.Error()
	}
	g.say(newMessage(sayBackend, 0, b))
}

// say puts a message into the outbox of the present control process, without
// waiting: it is called from the loop. It reports whether there was room.
func (g *Guest) say(m *message) bool {
	g.mu.Lock()
	to := g.link
	g.mu.Unlock()
	if to == nil {
		return false
	}
	select {
	case g.outbox <- outgoing{to, m}:
		return true
	default:
		g.lost.Add(1)
		return false
	}
}

// Start says to control that the worker is open, and serves it and those that
// come after it. The loop has to run for that.
func (g *Guest) Start(parts WorkerParts) error {
	g.parts = parts
	if err := g.parts.Poller.AddEdge(int(g.wake.Fd()), wakeToken); err != nil {
		return err
	}
	l, err := listenForControl(g.settings.Config.VIPs[0].Address.Addr())
	if err != nil {
		return err
	}
	g.listener, g.link = l, g.first
	if g.parts.Direct != nil {
		g.parts.Direct.Start()
	}
	g.serving.Add(2)
	go g.write()
	go g.serve()
	return nil
}

// Close ends the goroutines and lets go of control. The loop has ended.
func (g *Guest) Close() error {
	close(g.ended)
	var errs []error
	if g.listener != nil {
		errs = append(errs, g.listener.Close())
	}
	if g.first != nil {
		g.first.close()
	}
	g.mu.Lock()
	if g.link != nil {
		g.link.close()
	}
	g.mu.Unlock()
	if g.listener != nil && g.parts.Direct != nil {
		errs = append(errs, g.parts.Direct.Close())
	}
	g.serving.Wait()
	if g.page != nil {
		errs = append(errs, g.page.Close())
	}
	return errors.Join(append(errs, g.wake.Close())...)
}

// Orphaned reports whether there is no control process.
func (g *Guest) Orphaned() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.link == nil
}

// write is the goroutine `control.Guest.write`; it ends with Close.
func (g *Guest) write() {
	defer g.serving.Done()
	for {
		select {
		case m := <-g.outbox:
			// Whoever receives will notice that the wire is gone.
			_ = m.to.send(m.message)
		case <-g.ended:
			return
		}
	}
}
