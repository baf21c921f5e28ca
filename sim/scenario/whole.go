package scenario

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"time"

	"onevoice/link"
	"onevoice/node"
	"onevoice/sim"
	"onevoice/stack"
	"onevoice/stack/virtual"
)

// virtualTime is what a cluster needs to run netstack.
type virtualTime struct {
	*virtual.Settler
	restore func()
}

func newVirtualTime() *virtualTime {
	return &virtualTime{virtual.NewSettler(), virtual.Take()}
}

// Close ends netstack's goroutines and gives the processors back that it took
// from the process: only one cluster with netstack may be open at a time. One
// without need not be closed. What was recorded stays.
func (c *Cluster) Close() {
	if c.virtual == nil {
		return
	}
	for _, h := range c.Hosts {
		if h.worker.gate != nil {
			h.worker.gate.end()
			h.worker.gate = nil
		}
	}
	if c.users != nil {
		c.users.close()
	}
	c.virtual.restore()
	c.virtual = nil
}

// whole is a worker that serves frames as the daemon does: its loop, with netstack
// and proxy, on virtual time. The loop runs as a coroutine: where it would wait,
// it gives the turn back to the world.
type whole struct {
	guarded
	clock   *virtual.Clock
	stack   *stack.Stack
	device  *device
	poller  *loopPoller
	backend *backend
	// resume lets the loop do one turn, up to its next wait, and tells how long
	// that would be. stop ends it.
	resume func() (time.Duration, bool)
	stop   func()
	err    error

	alarm sim.Timer
	rings time.Duration // of the workers' clock
}

// turnTakes is how long after a frame the loop has it at most: others that come
// meanwhile are in the same batch.
const turnTakes = 20 * time.Microsecond

// maxTurns bounds the turns of a loop in one instant. One that reaches it would
// spin.
const maxTurns = 100_000

var errLoopStopped = errors.New("scenario: the loop is stopped")

// newWhole makes the worker as the daemon does, and lets it run from its first
// wait on.
func (h *Host) newWhole() *whole {
	c := h.c
	w := &whole{clock: &virtual.Clock{}}
	w.clock.Advance(h.workers.Now(), c.virtual.Settle)
	w.device = &device{send: h.send, mac: h.mac(0)}
	w.poller = &loopPoller{w: w, tokens: map[int]uint64{}}
	w.backend = &backend{w: w, random: c.World.Rand().IntN}
	cfg := stack.Config{
		MTU: mtu, Addresses: []netip.Addr{VIP()}, Poller: w.poller,
		Clock: w.clock, Random: virtual.NewRandom(c.World.Rand().Uint64()),
	}
	for i := range c.o.Services {
		cfg.Services = append(cfg.Services, stack.Service{
			Name: c.services[i+1].Name, Listen: netip.AddrPortFrom(VIP(), servicePort+uint16(i)), Dial: w.backend.dial,
		})
	}
	s, err := stack.New(cfg)
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	w.stack, w.guarded = s, h.newGuarded(s)
	loop, err := node.NewLoop(node.LoopConfig{
		Node: w.node, Stack: s, Device: w.device, Poller: w.poller, Log: slog.New(slog.DiscardHandler),
		Clock: h.clock.Now, Real: func() time.Duration { return h.clock.Now() + realtime },
		Begin: func(time.Duration) { w.guarded.force() },
	})
	if err != nil {
		panic(fmt.Sprintf("scenario: %v", err)) // a mistake of ours
	}
	w.resume, w.stop = iter.Pull(func(yield func(time.Duration) bool) {
		w.poller.yield = yield
		w.err = loop.Run()
	})
	w.wakeIn(0)
	return w
}

// frame implements server: the kernel takes it, and the loop has it when it turns.
func (w *whole) frame(frame []byte, arrived time.Duration) {
	if w.careless != nil && w.h.c.o.Without.covers(frame) {
		w.h.workers.Do(func() { w.answer(frame) })
		return
	}
	if w.device.put(frame, arrived+realtime) {
		w.wakeIn(turnTakes)
	}
}

// answer answers a frame that nobody answers for alone, as a rule is switched off.
func (w *whole) answer(frame []byte) {
	now := w.h.clock.Now()
	w.careless.Tick(now)
	if h := w.careless.Handle(now, &link.Frame{Data: frame}); h.Reply != nil {
		w.h.send(h.Reply)
	}
}

// wakeIn makes the loop turn after d at the latest.
func (w *whole) wakeIn(d time.Duration) {
	at := w.h.workers.Now() + d
	if w.alarm.Pending() && w.rings <= at {
		return
	}
	w.alarm.Stop()
	w.rings = at
	w.alarm = w.h.workers.At(at, func() {
		if w.h.worker.gate == w {
			w.turn()
		}
	})
}

// turn does what is due: netstack's timers, then turns of the loop until it waits
// for a later time.
func (w *whole) turn() {
	settle := w.h.c.virtual.Settle
	now := w.h.workers.Now()
	w.clock.Advance(now, settle)
	var wait time.Duration
	for n := 0; ; n++ {
		if n > maxTurns {
			panic(fmt.Sprintf("scenario: the loop of %s does not come to rest", w.h.Name))
		}
		settle()
		var running bool
		if wait, running = w.resume(); !running {
			w.h.c.breach("the loop of %s has ended: %v", w.h, w.err)
			return
		}
		settle()
		if wait != 0 && !w.poller.due() {
			break
		}
	}
	w.alarm.Stop()
	if wait > 0 {
		w.wakeIn(wait)
	}
	if at, ok := w.clock.Next(); ok {
		w.wakeIn(max(at-now, 0))
	}
}

// force implements server: a turn puts the rights in force and sends what was
// decided under older ones.
func (w *whole) force() { w.turn() }

// forgetAll implements server.
func (w *whole) forgetAll() {
	w.forgetFlows()
	w.turn()
}

// end implements server: nothing that netstack still says leaves.
func (w *whole) end() {
	w.alarm.Stop()
	w.stop()
	w.stack.Close()
}
