package sim

import (
	"fmt"
	"time"
)

// Defaults and bounds of a spanning tree (IEEE 802.1D-1998, table 8-3; 802.1D-2004,
// table 17-1).
const (
	DefaultTreePriority = 32768
	DefaultForwardDelay = 15 * time.Second
	DefaultMaxAge       = 20 * time.Second
	treeHello           = 2 * time.Second
	rapidMaxAge         = 3 * treeHello         // 802.1D-2004 §17.21.23: three hellos are missed
	rapidDelay          = 10 * time.Millisecond // what a proposal and an agreement take
	treePriorityStep    = 4096
	maxTreePriority     = 61440
	// treeCostOf1 is the cost of a link of 1 bit/s; that of a faster one is less
	// in proportion: 20,000 for 1 Gb/s (802.1D-2004, table 17-3).
	treeCostOf1      = 20_000_000_000_000
	treeCostOfNoRate = 20_000
)

// SpanningTree is how a switch takes part in the spanning tree (IEEE 802.1D-1998
// clause 8). Switches of one tree should have the same times. Of the rapid protocol
// (802.1D-2004 clause 17) there is the outcome: a port that may forward does so a
// handshake later, word from the root is missed after three hellos, and addresses
// are forgotten at a change; proposals and agreements themselves are not sent.
type SpanningTree struct {
	// Priority of the switch: the lowest is the root, of equals the one that was
	// given first. A multiple of 4096 up to 61440; 0 means DefaultTreePriority.
	Priority int
	// ForwardDelay is how long a port listens, and then learns, before it
	// forwards; 0 means the default.
	ForwardDelay time.Duration
	// MaxAge is after what time without word from the root a port forgets it; 0
	// means the default.
	MaxAge time.Duration
	Rapid  bool
	// HostsWait lets the ports of hosts listen and learn first, too, as those do
	// that are not set to be edge ports.
	HostsWait bool
	// Cold: the switches are switched on at the world's beginning. Otherwise the
	// tree has been there for long.
	Cold bool
}

func (o *SpanningTree) check() error {
	switch {
	case o.Priority < 0 || o.Priority > maxTreePriority || o.Priority%treePriorityStep != 0:
		return fmt.Errorf("a spanning tree's priority is a multiple of %d up to %d, not %d", treePriorityStep, maxTreePriority, o.Priority)
	case o.ForwardDelay != 0 && (o.ForwardDelay < 4*time.Second || o.ForwardDelay > 30*time.Second):
		return fmt.Errorf("a spanning tree's forward delay is from 4s to 30s, not %v", o.ForwardDelay)
	case o.MaxAge != 0 && (o.MaxAge < 6*time.Second || o.MaxAge > 40*time.Second):
		return fmt.Errorf("a spanning tree's maximum age is from 6s to 40s, not %v", o.MaxAge)
	}
	return nil
}

// PortState is what the spanning tree lets a port do (802.1D-1998 §8.4).
type PortState int

// The states. A switch without a spanning tree has all its ports Forwarding.
const (
	Forwarding PortState = iota
	Blocking
	Listening
	Learning
)

func (s PortState) String() string {
	return [...]string{"forwarding", "blocking", "listening", "learning"}[s]
}

// treePort is a port's part in the spanning tree.
type treePort struct {
	state  PortState
	chosen bool // it is the root port, or the designated one of its segment
	heard  *bpdu
	expiry Timer // of heard
	delay  Timer // until the next state
}

// treeBridge is a switch's part in the spanning tree.
type treeBridge struct {
	o           SpanningTree
	s           *Switch
	id          uint64
	best        bpdu // what it believes of the root, with its own cost
	rootPort    *outlet
	hello       Timer
	changeUntil time.Duration // until when addresses age fast
	tellUntil   time.Duration // the root's: until when it tells of a change
}

func newTreeBridge(s *Switch, o SpanningTree) *treeBridge {
	if o.Priority == 0 {
		o.Priority = DefaultTreePriority
	}
	if o.ForwardDelay == 0 {
		o.ForwardDelay = DefaultForwardDelay
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	b := &treeBridge{o: o, s: s, id: uint64(o.Priority)<<48 | uint64(s.number)}
	b.best = bpdu{root: b.id, bridge: b.id}
	return b
}

func (b *treeBridge) now() time.Duration { return b.s.lan.w.now }

// changing says whether the tree has changed a short while ago.
func (b *treeBridge) changing() bool { return b.now() < b.changeUntil }

func (o *outlet) forwards() bool { return o.tree.state == Forwarding }
func (o *outlet) learns() bool   { return o.tree.state == Forwarding || o.tree.state == Learning }

// State is what the spanning tree lets the port of a host or of a trunk do.
func (s *Switch) State(name string) (PortState, bool) {
	for _, o := range s.outlets {
		if o.name() == name {
			return o.tree.state, true
		}
	}
	return 0, false
}

// cost of a trunk's end, by the speed of the link out of it.
func (o *outlet) cost() uint32 {
	if o.link.BitsPerSecond <= 0 {
		return treeCostOfNoRate
	}
	return uint32(max(1, treeCostOf1/o.link.BitsPerSecond))
}

// elect finds the root and the way there, and what each trunk's end is for
// (802.1D-1998 §8.6.8): the one end that leads to the root, the one end of each
// segment that is nearest to it, and others, which are blocked.
func (b *treeBridge) elect() {
	b.best, b.rootPort = bpdu{root: b.id, bridge: b.id}, nil
	for _, o := range b.s.outlets {
		if h := o.tree.heard; h != nil {
			via := *h
			via.cost += o.cost()
			if b.rootPort == nil && via.root < b.id || b.rootPort != nil && via.before(b.best) {
				b.best, b.rootPort = via, o
			}
		}
	}
	for _, o := range b.s.outlets {
		if o.trunk != nil {
			h := o.tree.heard
			own := b.vector(o)
			o.tree.chosen = o.trunk.unplugged == 0 && (o == b.rootPort || h == nil || own.before(*h))
		}
	}
}

// vector is what the switch would say out of a trunk's end.
func (b *treeBridge) vector(o *outlet) bpdu {
	cost := uint32(0)
	if b.rootPort != nil {
		cost = b.best.cost
	}
	return bpdu{root: b.best.root, cost: cost, bridge: b.id, port: uint16(o.index)}
}

// update elects anew and sets the ports' states on their way.
func (b *treeBridge) update() {
	wasRoot, changed := b.rootPort == nil, false
	b.elect()
	for _, o := range b.s.outlets {
		if o.trunk == nil {
			continue
		}
		switch t := &o.tree; {
		case !t.chosen && t.state != Blocking:
			changed = changed || t.state == Forwarding
			b.set(o, Blocking)
		case t.chosen && t.state == Blocking:
			b.set(o, Listening)
		}
	}
	if b.rootPort == nil && !wasRoot {
		b.sayHello() // it is the root from now on
	}
	if changed {
		b.topologyChanged()
	}
}

// set gives a port its state, and the time until the next.
func (b *treeBridge) set(o *outlet, s PortState) {
	o.tree.delay.Stop()
	o.tree.state = s
	b.s.lan.w.Record(b.s.name, o.name()+" is "+s.String())
	delay := b.o.ForwardDelay
	if b.o.Rapid {
		delay = rapidDelay
	}
	switch s {
	case Listening:
		o.tree.delay = b.s.lan.w.After(delay, func() { b.set(o, Learning) })
	case Learning:
		o.tree.delay = b.s.lan.w.After(delay, func() { b.set(o, Forwarding) })
	case Forwarding:
		if o.trunk != nil {
			b.topologyChanged()
		}
	}
}

// topologyChanged lets addresses age fast everywhere for a while (802.1D-1998
// §8.5.3.11 to §8.5.3.13): the root tells all, and is told by the others. With the
// rapid protocol they are forgotten at once (802.1D-2004 §17.11).
func (b *treeBridge) topologyChanged() {
	if b.o.Rapid {
		clear(b.s.table)
	}
	if n := b.s.snoop; n != nil && n.o.Querier {
		n.askAll() // RFC 4541 §2.1.1 (4)
	}
	if b.rootPort != nil {
		b.s.emitOwn(b.rootPort, changeFrame(b.s.mac()))
		return
	}
	b.tellUntil = b.now() + b.o.MaxAge + b.o.ForwardDelay
	b.changeUntil = b.tellUntil
	b.speak(0)
}

// startTrees lets the switches find their tree: at once if they were there before
// the world began.
func (l *LAN) startTrees() {
	for range len(l.switches) + 1 {
		for _, s := range l.switches {
			if s.tree != nil && !s.tree.o.Cold {
				s.tree.settle()
			}
		}
	}
	for _, s := range l.switches {
		if s.tree == nil {
			continue
		}
		for _, o := range s.outlets {
			switch {
			case s.tree.o.Cold:
				o.tree.chosen = true
				s.tree.set(o, Listening)
			case !o.tree.chosen:
				o.tree.state = Blocking
			}
		}
		s.tree.sayHello()
	}
}

// settle is an exchange of words that takes no time, before the world begins.
func (b *treeBridge) settle() {
	b.elect()
	for _, o := range b.s.outlets {
		if o.trunk == nil || !o.tree.chosen || o == b.rootPort {
			continue
		}
		for _, far := range o.far.treeEnds(map[*Switch]bool{}) {
			far.sw.tree.take(far, b.vector(o))
			far.sw.tree.elect()
		}
	}
}

// treeEnds are the trunks' ends of switches with a spanning tree that hear what
// comes in at this one: itself, or those behind switches that only pass it on.
func (o *outlet) treeEnds(seen map[*Switch]bool) (out []*outlet) {
	if o.sw.tree != nil {
		return []*outlet{o}
	}
	if seen[o.sw] {
		return nil
	}
	seen[o.sw] = true
	for _, other := range o.sw.outlets {
		if other != o && other.trunk != nil {
			out = append(out, other.far.treeEnds(seen)...)
		}
	}
	return out
}

// trunkChanged tells both switches that a cable was pulled or put back.
func (l *LAN) trunkChanged(t *Trunk) {
	for _, o := range []*outlet{t.a, t.b} {
		if b := o.sw.tree; b != nil {
			o.tree.heard = nil
			o.tree.expiry.Stop()
			b.update()
		}
		if t.unplugged > 0 {
			o.sw.unlearn(o)
		}
	}
}

// unlearn forgets what was behind a port that has lost its cable.
func (s *Switch) unlearn(o *outlet) {
	for mac, e := range s.table {
		if e.at == o {
			delete(s.table, mac)
		}
	}
}

// pluggedIn is a host's new port.
func (s *Switch) pluggedIn(o *outlet) {
	if s.tree != nil && s.tree.o.HostsWait {
		s.tree.set(o, Listening)
	}
}
