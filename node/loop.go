package node

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"onevoice/datagram"
	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/stack"
)

// deviceToken is the device's in the poller; the stack's lie above it.
const deviceToken = 1

// batchesPerTurn bounds the receive calls of one turn, so that a flood does not
// keep running flows from their bytes.
const batchesPerTurn = 4

// Loop is the one goroutine that owns device, stack, poller and clock.
type Loop struct {
	node  *Node
	stack *stack.Stack
	// datagrams are the UDP flows, nil where there is no service for them.
	datagrams *datagram.Relay
	device    link.Device
	poller    Poller
	clock     func() time.Duration
	log       *slog.Logger

	rest   func(time.Duration)
	real   func() time.Duration
	begin  func(now time.Duration)
	turned func(now time.Duration, generation uint64)
	others func() bool

	frames            []link.Frame
	replies           replies
	vectors           []link.Vector
	pieces            [][1][]byte // of the vectors of datagrams
	errors, strangers errorLog
	stats             LoopStats

	mu    sync.Mutex
	calls []func(now time.Duration)
	ended bool
	done  chan struct{}

	stopBy time.Duration
	// woken: Wake was called since the last turn began.
	woken atomic.Bool
	// leaseBegins are those of the VIPs' leases under which the last turn ran,
	// turnedAt is when that was.
	leaseBegins []time.Duration
	turnedAt    time.Duration
	// joined is how many segments of the last turn came to netstack as a part of
	// another.
	joined uint64
	// lookBy is when to see whether the interface is there, -1 while nothing
	// has made that doubtful.
	lookBy time.Duration
}

// LoopStats counts what the loop did.
type LoopStats struct {
	Turns uint64 `json:"turns"`
	// NoNextHop counts packets that were dropped because their client's MAC was
	// not known; an ARP request was sent instead.
	NoNextHop uint64 `json:"no_next_hop"`
	// LateReplies counts answers of this node that were ready only after the
	// lease had run out, and did not leave.
	LateReplies uint64 `json:"late_replies"`
	// RepliesFull counts answers that one turn had no room for (maxReplies), or that
	// were longer than a frame may be.
	RepliesFull uint64 `json:"replies_full"`
	// Announced counts neighbour advertisements that nobody had asked for.
	Announced uint64 `json:"announced"`
	// Gaps counts turns that began so late, or under so new a lease, that the
	// receive queue was emptied first.
	Gaps uint64 `json:"gaps"`
	// LongestTurn is the longest time from the beginning of a turn to that of the next,
	// in seconds: all flows wait meanwhile. A loop that has nothing to do takes MaxIdle.
	LongestTurn float64 `json:"longest_turn_seconds"`
	// ReceiveErrors and SendErrors count failed calls of the device.
	ReceiveErrors uint64 `json:"receive_errors"`
	SendErrors    uint64 `json:"send_errors"`
}

// Poller is what a loop waits with. A *poller.Poller is the host's; a simulation
// has its own.
type Poller interface {
	stack.Poller
	// AddLevel makes Wait return for as long as fd is readable.
	AddLevel(fd int, token uint64) error
	// Sleep announces a Wait that may block: a Wake from here on ends it.
	Sleep()
	// Wait waits up to timeout, without end if that is negative. The events are
	// valid until the next call.
	Wait(timeout time.Duration) ([]poller.Event, error)
}

var _ Poller = (*poller.Poller)(nil)

// LoopConfig is what a loop is made of; it owns none of it before Run.
type LoopConfig struct {
	Node  *Node
	Stack *stack.Stack
	// Datagrams are the UDP flows, nil where no service is of UDP.
	Datagrams *datagram.Relay
	Device    link.Device
	Poller    Poller
	// Clock is a clock that does not go back and goes on while the host is
	// suspended, CLOCK_BOOTTIME.
	Clock func() time.Duration
	// Real is CLOCK_REALTIME since its epoch, the clock of the frames' stamps.
	// Nil for the system's.
	Real func() time.Duration
	// Rest stands still for a time, whatever happens. With it the loop lets the short
	// frames of a stream gather. Nil for not at all.
	Rest func(time.Duration)
	// Begin is called on the loop's goroutine at the start of each turn, before
	// any frame of it: the place to call Node.SetOwnership and Node.SetLease. With
	// it the loop turns at least every MaxIdle. Nil for nothing.
	Begin func(now time.Duration)
	// Turned is called on the loop's goroutine at the end of each turn, after its
	// frames were sent, with the generation of the ownership under which they
	// were judged. Nothing decided under an older one is sent after that.
	Turned func(now time.Duration, generation uint64)
	// Busy reports whether a stop has something to wait for beyond the loop's own flows;
	// nil is no.
	Busy func() bool
	Log  *slog.Logger
}

// MaxIdle is the longest time between two turns of a loop that has a Begin.
const MaxIdle = 20 * time.Millisecond

// maxGap is how late a turn may begin before what waits in the receive queue
// counts as having waited through a gap.
const maxGap = 100 * time.Millisecond

// NewLoop makes a loop.
func NewLoop(cfg LoopConfig) (*Loop, error) {
	l := &Loop{
		node: cfg.Node, stack: cfg.Stack, datagrams: cfg.Datagrams, device: cfg.Device, poller: cfg.Poller, clock: cfg.Clock, log: cfg.Log,
		rest: cfg.Rest, real: cfg.Real, begin: cfg.Begin, turned: cfg.Turned, others: cfg.Busy,
		frames: make([]link.Frame, link.MaxBatch),
		done:   make(chan struct{}),
		lookBy: -1,

		leaseBegins: make([]time.Duration, len(cfg.Node.leases)),
	}
	if l.real == nil {
		l.real = func() time.Duration { return time.Duration(time.Now().UnixNano()) }
	}
	if err := l.poller.AddLevel(l.device.FD(), deviceToken); err != nil {
		return nil, err
	}
	return l, nil
}

// ErrEnded says that the loop has ended and takes no calls.
var ErrEnded = errors.New("node: the loop has ended")

// Call runs fn on the loop's goroutine and waits for it.
func (l *Loop) Call(fn func(now time.Duration)) error {
	ran := make(chan struct{})
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return ErrEnded
	}
	l.calls = append(l.calls, func(now time.Duration) { fn(now); close(ran) })
	l.mu.Unlock()
	l.poller.Wake()
	select {
	case <-ran:
		return nil
	case <-l.done:
		return ErrEnded
	}
}

// Wake makes the loop turn once more, soon: what Begin looks at has changed. It
// may be called from any goroutine.
func (l *Loop) Wake() {
	l.woken.Store(true)
	l.poller.Wake()
}

// Stop makes the loop accept nothing new and return from Run once the last
// flow has ended, or after grace, when the rest is reset. Of several calls the
// one that ends first counts.
func (l *Loop) Stop(grace time.Duration) {
	// The loop may have ended by itself, which is what Stop asks for.
	_ = l.Call(func(now time.Duration) {
		by := max(now+grace, 1)
		if l.stopBy == 0 {
			l.node.Stop()
			l.stopBy = by
		}
		l.stopBy = min(l.stopBy, by)
	})
}

// Stats is what the loop did so far. It is for functions that Call runs.
func (l *Loop) Stats() LoopStats { return l.stats }

// Run runs until Stop has ended the last flow, or the interface is gone, which
// is an error. It is the goroutine `node.loop`.
func (l *Loop) Run() error {
	defer l.end()
	now := l.clock()
	for {
		if l.stopBy != 0 && (!l.busy(now) || now >= l.stopBy) {
			l.lastWords()
			return nil
		}
		events, err := l.wait(now)
		if err != nil {
			return err
		}
		now = l.clock()
		if err := l.turn(now, events); err != nil {
			return err
		}
	}
}

// busy reports whether a stop has something to wait for: a connection, or the answer
// to a datagram.
func (l *Loop) busy(now time.Duration) bool {
	return l.stack.FlowCount() > 0 || l.datagrams != nil && l.datagrams.Waiting(now) || l.others != nil && l.others()
}

// end makes waiting and future calls return.
func (l *Loop) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	close(l.done)
}

// timeout says how long the poller may wait. It announces the sleep first and
// looks at the queues after that, so that work put there in between wakes it.
func (l *Loop) timeout(now time.Duration) time.Duration {
	l.poller.Sleep()
	if !l.stack.Idle() || l.called() || l.woken.Load() {
		return 0
	}
	at, ok := l.stack.Next()
	if l.datagrams != nil {
		if end, ends := l.datagrams.Next(); ends && (!ok || end < at) {
			at, ok = end, true
		}
	}
	if l.begin != nil && (!ok || l.turnedAt+MaxIdle < at) {
		at, ok = l.turnedAt+MaxIdle, true
	}
	if l.stopBy != 0 && (!ok || l.stopBy < at) {
		at, ok = l.stopBy, true
	}
	if report, waits := l.node.nextReport(); waits && (!ok || report < at) {
		at, ok = report, true
	}
	if l.lookBy >= 0 && (!ok || l.lookBy < at) {
		at, ok = l.lookBy, true
	}
	if !ok {
		return -1
	}
	return max(at-now, 0)
}

func (l *Loop) called() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls) > 0
}

// turn does everything that is due now.
func (l *Loop) turn(now time.Duration, events []poller.Event) error {
	l.stack.HoldTime()
	defer l.stack.ReleaseTime()
	l.stats.Turns++
	l.woken.Store(false)
	if l.begin != nil {
		if l.stats.Turns > 1 {
			l.stats.LongestTurn = max(l.stats.LongestTurn, (now - l.turnedAt).Seconds())
		}
		l.begin(now)
	}
	l.runCalls(now)
	emptied := l.afterGap(now)
	if emptied {
		l.stats.Gaps++
		l.node.emptying = true
		l.receive()
	}
	if err := l.look(now); err != nil {
		return err
	}
	for i := range events {
		switch {
		case datagram.Owns(events[i].Token):
			l.datagrams.Ready(&events[i], now)
		case events[i].Token != deviceToken:
			l.stack.Ready(&events[i], now)
		case !emptied:
			l.receive()
		}
	}
	// Netstack handles segments in goroutines of its own; let them go first, so
	// that one pass accepts, copies and sends what the batch has brought.
	runtime.Gosched()
	l.stack.Turn(now)
	if l.datagrams != nil {
		l.datagrams.Turn(now)
	}
	l.node.Tick(now)
	l.node.announce(now, l.announce)
	l.node.probeGateway(now, l.reply)
	l.send()
	if l.turned != nil {
		l.turned(now, l.node.Generation())
	}
	l.turnedAt = now
	return nil
}

// afterGap reports whether frames may be waiting that came in while this node
// had no right to answer them: the lease is a new one, or the turn is late.
func (l *Loop) afterGap(now time.Duration) bool {
	renewed := false
	for i := range l.leaseBegins {
		begin, _ := l.node.Lease(i)
		renewed = renewed || begin != l.leaseBegins[i]
		l.leaseBegins[i] = begin
	}
	return renewed || l.begin != nil && l.stats.Turns > 1 && now-l.turnedAt > maxGap
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

// receive takes in what has arrived. The clocks are read once for each batch,
// after it was received, so that no frame in it seems to come from the future.
func (l *Loop) receive() {
	for range batchesPerTurn {
		n, err := l.device.Receive(l.frames)
		now := l.clock()
		l.node.SetReal(l.real())
		if err != nil {
			l.receiveFailed(now, err)
			return
		}
		if n > 0 {
			l.lookBy = -1
		}
		for i := range n {
			h := l.node.Handle(now, &l.frames[i])
			if h.Packet != nil {
				l.stack.Gather(h.Packet)
			}
			if g := h.Datagram; g != nil {
				l.datagrams.Deliver(now, &g.Flow, g.Packet, g.Payload, g.SegmentBytes)
			}
			if h.Reply != nil {
				l.reply(h.vip, h.Reply)
			}
			for _, r := range h.Rest {
				l.reply(h.vip, r)
			}
			switch h.Verdict {
			case StrangerClaim:
				l.tellStranger(now)
			case LearnedMTU:
				l.stack.SetMTU6(l.node.MTU6())
				if l.datagrams != nil {
					l.datagrams.SetMTU6(l.node.MTU6())
				}
			}
		}
		// The frames' bytes are the device's.
		l.stack.Flush()
		l.device.Release()
		if n < len(l.frames) {
			l.node.emptying = false
			return
		}
	}
}

// tellStranger logs that somebody claims an address of ours.
func (l *Loop) tellStranger(now time.Duration) {
	if s := l.node.LastStranger(); l.strangers.due(now) {
		l.log.Warn("somebody else claims an address of this cluster", "address", s.Address, "mac", s.MAC, "sent_from", s.From)
	}
}

// look asks whether the interface still exists, once a receive error has made
// that doubtful: the kernel tells of an interface that goes down, and not when
// it is removed after that.
func (l *Loop) look(now time.Duration) error {
	if l.lookBy < 0 || now < l.lookBy {
		return nil
	}
	if !l.device.Present() {
		return errInterfaceGone
	}
	l.lookBy = now + lookInterval
	return nil
}

// lookInterval is how often an interface is looked for after a receive error.
const lookInterval = time.Second

// errInterfaceGone ends the loop: no frame will come any more.
var errInterfaceGone = errors.New("the interface was removed")

func (l *Loop) receiveFailed(now time.Duration, err error) {
	l.stats.ReceiveErrors++
	l.lookBy = now
	if l.errors.due(now) {
		l.log.Warn("receiving failed", "error", err, "times", l.stats.ReceiveErrors)
	}
}

// lastWords resets what is left when the time at a stop is over, and sends the
// resets.
func (l *Loop) lastWords() {
	l.stack.AbortFlows()
	l.send()
}

// errorLogInterval is the least time between two lines about the same trouble.
const errorLogInterval = 10 * time.Second

// errorLog bounds the lines that a lasting trouble writes.
type errorLog struct{ next time.Duration }

func (e *errorLog) due(now time.Duration) bool {
	if now < e.next {
		return false
	}
	e.next = now + errorLogInterval
	return true
}
