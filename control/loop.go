package control

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/internal/poller"
	"onevoice/internal/sealed"
)

// Servers are the processes that a Loop tells what they may do; Workers are.
type Servers interface {
	// Grant puts rights in force. SetLease extends or ends a path's lease under
	// the rights granted last.
	Grant(*cluster.Rights) error
	SetLease(path int, begin, end time.Duration)
	// WrittenBack is the generation that all of them have in force; Report is that,
	// and what they hold.
	WrittenBack() uint64
	Report() cluster.Report
	// Beat is how long ago those of a path last ended a turn.
	Beat(path int) time.Duration
	// Forget closes in silence the flows that they hold. EndDrained ends with
	// resets those that this node only drains.
	Forget()
	EndDrained()
}

// FlowServers know the flows that Servers hold; Workers do. Both methods wait for
// a process, and are not called on the loop's goroutine.
type FlowServers interface {
	// Held is what they hold of buckets, by the core's services.
	Held(wanted [][4]uint64) (HeldFlows, error)
	// SetFlowLists tells them what other nodes hold, under the rights of a
	// generation.
	SetFlowLists(generation uint64, lists []FlowList) error
}

// LoopConfig is what a Loop is made of. Run closes none of it.
type LoopConfig struct {
	Core      *cluster.Core
	Transport *Transport
	Sealer    *sealed.Sealer
	State     *State
	Poller    *poller.Poller
	// LANs in the order of the core's paths; none for a witness.
	LANs []*LAN
	// Servers is nil for a witness.
	Servers Servers
	// Flows is nil where no flows are listed. ServiceNames are the core's services,
	// and ListKey is the key of the lists' hashes.
	Flows        FlowServers
	ServiceNames []string
	ListKey      hashing.Key
	// Evidence is what was seen of clients, nil for nothing.
	Evidence func() Evidence
	// Card is what this host tells the others of itself, looked for on a goroutine of
	// its own, where asked says that somebody waits for it; nil for nothing. WallClock
	// is CLOCK_REALTIME, as time since 1970.
	Card      func(asked bool) Card
	WallClock func() time.Duration
	// Clock is CLOCK_BOOTTIME.
	Clock func() time.Duration
	// TTL bounds how long ago servers may have ended a turn.
	TTL time.Duration
	Log *slog.Logger
}

// Loop drives a core: the one goroutine that owns its clock and sockets. It keeps
// a thread of its own, so that a busy program does not delay a heartbeat.
type Loop struct {
	LoopConfig
	sealed   []byte
	stats    LoopStats
	lists    *Lister // nil without Flows
	cards    *cards  // nil without Card
	seen     seen
	told     map[string]time.Duration
	outage   Outage
	reportAt time.Duration
	expireAt time.Duration
	written  uint64
	silent   []bool // by path
	leases   []cluster.Lease
	failed   error

	mu      sync.Mutex
	calls   []func(now time.Duration)
	answers map[uint64]chan error
	asked   uint64
	ended   bool
	done    chan struct{}
	stop    bool
}

// LoopStats counts what a Loop did.
type LoopStats struct {
	Turns          uint64 `json:"turns"`
	HeartbeatsSent uint64 `json:"heartbeats_sent"`
	// HeartbeatsHeld were not sent, because no worker is alive to keep what they
	// claim.
	HeartbeatsHeld uint64 `json:"heartbeats_held"`
	SendErrors     uint64 `json:"send_errors"`
	ReceiveErrors  uint64 `json:"receive_errors"`
	// FramesRefused came where heartbeats do and were none: of another form, or not
	// to the cluster MAC.
	FramesRefused uint64 `json:"frames_refused"`
	// FramesDropped came there as well, and the kernel dropped them, because those before
	// them had not been read.
	FramesDropped uint64 `json:"frames_dropped"`
	// LeasesLost ended and were not given up: all of them, also those that were
	// held again in the same turn.
	LeasesLost uint64 `json:"leases_lost"`
	// LatestTurn is the longest time by which a turn came too late.
	LatestTurn time.Duration `json:"latest_turn_ns"`
}

// Tokens of the poller: the sockets of the transport, then the LANs.
const (
	transportToken = 1
	lanToken       = 1000
)

// Intervals of the loop.
const (
	reportEvery = 50 * time.Millisecond
	expireEvery = time.Second
)

// NewLoop makes a loop.
func NewLoop(cfg LoopConfig) (*Loop, error) {
	l := &Loop{LoopConfig: cfg, silent: make([]bool, len(cfg.LANs)), answers: map[uint64]chan error{}, told: map[string]time.Duration{}, done: make(chan struct{})}
	for i, fd := range cfg.Transport.FDs() {
		if err := l.Poller.AddLevel(fd, uint64(transportToken+i)); err != nil {
			return nil, err
		}
	}
	for i, lan := range cfg.LANs {
		if err := l.Poller.AddLevel(lan.device.FD(), uint64(lanToken+i)); err != nil {
			return nil, err
		}
	}
	if l.Flows != nil {
		l.lists = newLister(l)
	}
	if l.Card != nil {
		l.cards = newCards(l)
	}
	return l, nil
}

// Run runs until Stop, or until the core has failed, which is the error. It is
// the goroutine `control.loop`.
func (l *Loop) Run() error {
	defer l.end()
	if l.lists != nil {
		go l.lists.run()
		defer close(l.lists.jobs)
	}
	if l.cards != nil {
		go l.cards.run()
		defer close(l.cards.jobs)
	}
	l.step(l.Clock(), nil)
	for !l.stopped() && l.failed == nil {
		events, err := l.Poller.Wait(l.timeout())
		if err != nil {
			return err
		}
		now := l.Clock()
		l.stats.Turns++
		l.stats.LatestTurn = max(l.stats.LatestTurn, now-l.Core.Deadline())
		l.runCalls(now)
		l.saved(now)
		for i := range events {
			l.receive(now, events[i].Token)
		}
		l.upkeep(now)
		if err := l.Transport.Twin(); err != nil {
			l.failed = err
		}
		if now >= l.Core.Deadline() && l.failed == nil {
			l.step(now, nil)
		}
	}
	return l.failed
}

func (l *Loop) stopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop
}

// end makes waiting and future calls return, and ends the leases.
func (l *Loop) end() {
	for i := range l.LANs {
		l.Servers.SetLease(i, 0, 0)
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	close(l.done)
}

func (l *Loop) timeout() time.Duration {
	l.Poller.Sleep()
	l.mu.Lock()
	busy := len(l.calls) > 0 || l.stop || l.State.Waiting()
	l.mu.Unlock()
	if busy {
		return 0
	}
	return max(l.Core.Deadline()-l.Clock(), 0)
}

// ErrEnded says that the loop has ended.
var ErrEnded = errors.New("control: the loop has ended")

// Call runs fn on the loop's goroutine and waits for it.
func (l *Loop) Call(fn func(now time.Duration)) error {
	ran := make(chan struct{})
	if !l.post(func(now time.Duration) { fn(now); close(ran) }) {
		return ErrEnded
	}
	select {
	case <-ran:
		return nil
	case <-l.done:
		return ErrEnded
	}
}

// Tell gives the core an event from another goroutine, and does not wait.
func (l *Loop) Tell(ev cluster.Event) {
	l.post(func(now time.Duration) { l.step(now, ev) })
}

func (l *Loop) post(fn func(now time.Duration)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.calls = append(l.calls, fn)
	l.Poller.Wake()
	return true
}

// Ask asks the cluster for what an operator wants, and waits until the log has
// decided or time is over.
func (l *Loop) Ask(w cluster.Wish) error {
	answer := make(chan error, 1)
	ok := l.post(func(now time.Duration) {
		l.asked++
		// Requests of an earlier start are not taken for ours.
		id := uint64(now) + l.asked
		l.answers[id] = answer
		l.step(now, cluster.Ask{Request: id, Wish: w})
	})
	if !ok {
		return ErrEnded
	}
	select {
	case err := <-answer:
		return err
	case <-l.done:
		return ErrEnded
	}
}

// Stop ends Run. The node's lease runs out by itself.
func (l *Loop) Stop() {
	l.mu.Lock()
	l.stop = true
	l.mu.Unlock()
	l.Poller.Wake()
}

func (l *Loop) runCalls(now time.Duration) {
	l.mu.Lock()
	calls := l.calls
	l.calls = nil
	l.mu.Unlock()
	for _, fn := range calls {
		fn(now)
	}
}

// saved tells the core of a write that has ended.
func (l *Loop) saved(now time.Duration) {
	if w, ok := l.State.Wrote(); ok {
		l.step(now, w)
	}
}

// receive takes in what a descriptor has. The core is told the time after what it
// is told was received, never that of the turn's beginning: this thread may have
// stood still in between, and a promise that counts from before its heartbeat was
// sent runs out before the lease that it gives.
func (l *Loop) receive(now time.Duration, token uint64) {
	if token < lanToken {
		if _, err := l.Transport.Receive(now, int(token-transportToken), func(r cluster.Received) { l.step(l.Clock(), r) }); err != nil {
			l.stats.ReceiveErrors++
			l.failed = err
		}
		return
	}
	path := int(token - lanToken)
	err := l.LANs[path].receive(func(from netip.Addr, payload []byte) {
		if data, ok := l.Transport.Heartbeat(now, from, payload); ok {
			l.step(l.Clock(), cluster.Heard{Path: path, Data: data})
		}
	})
	if err != nil {
		l.stats.ReceiveErrors++
	}
}

// upkeep does what is due now and then.
func (l *Loop) upkeep(now time.Duration) {
	if now >= l.expireAt {
		l.expireAt = now + expireEvery
		l.Transport.Expire(now)
		l.Transport.Know(l.Core.Members())
		l.complain(now)
		l.tellOutage(now)
		l.lookAtLANs()
		if l.cards != nil {
			l.cards.turn(now)
		}
	}
	if l.cards != nil {
		l.cards.look(now)
	}
	if l.Servers == nil {
		return
	}
	if w := l.Servers.WrittenBack(); w != l.written || now >= l.reportAt {
		r := l.Servers.Report()
		l.reportAt, l.written = now+reportEvery, r.Written
		l.step(now, r)
	}
	if l.lists != nil {
		l.lists.Turn(now)
	}
	l.tellEvidence(now)
}

// step tells the core of an event and does what it wants.
func (l *Loop) step(now time.Duration, ev cluster.Event) {
	e := l.Core.Step(now, ev)
	if e.Write != nil {
		l.State.Save(*e.Write)
	}
	if e.Cluster != nil && *e.Cluster != l.Sealer.UUID() {
		if err := l.Sealer.Adopt(*e.Cluster); err != nil {
			l.failed = err
		}
	}
	l.grant(e)
	l.beat(e.Heartbeats)
	for _, d := range e.Datagrams {
		if l.Transport.Send(now, d) != nil {
			l.stats.SendErrors++
		}
	}
	for _, a := range e.Answers {
		if ch := l.answers[a.Request]; ch != nil {
			delete(l.answers, a.Request)
			ch <- a.Err
		}
	}
	for _, n := range e.Notes {
		if n.Warn {
			l.Log.Warn(n.Text)
		} else {
			l.Log.Info(n.Text)
		}
	}
	if e.Failed != nil {
		l.failed = e.Failed
	}
}

// grant passes rights and leases on, in this order: a lease is never in force
// under rights older than those that it was given for.
func (l *Loop) grant(e *cluster.Effects) {
	if l.Servers == nil {
		return
	}
	if e.Rights != nil {
		if err := l.Servers.Grant(e.Rights); err != nil {
			l.failed = err
		}
		if l.lists != nil {
			l.lists.Regranted()
		}
	}
	for i, lease := range e.Leases {
		l.Servers.SetLease(i, lease.Begin, lease.End)
	}
	if e.Leases != nil {
		l.tellLease(e.Leases)
	}
	if e.Forget {
		l.Servers.Forget()
	}
	if e.EndFlows {
		l.Servers.EndDrained()
	}
}

// Lists counts lists of flows. It is for functions that Call runs.
func (l *Loop) Lists() ListCounts {
	if l.lists == nil {
		return ListCounts{}
	}
	return l.lists.Counts()
}

// Stats is what the loop did so far. It is for functions that Call runs.
func (l *Loop) Stats() LoopStats {
	s := l.stats
	for _, lan := range l.LANs {
		s.FramesRefused += lan.refused
		s.FramesDropped += lan.droppedSoFar()
	}
	return s
}
