package sim

import (
	"fmt"
	"time"
)

// Defaults and bounds of a spanning tree (IEEE 802.1D-2004, table 17-1 and 17-2).
const (
	DefaultTreePriority = 32768
	DefaultForwardDelay = 15 * time.Second
	DefaultMaxAge       = 20 * time.Second
	minForwardDelay     = 4 * time.Second
	maxForwardDelay     = 30 * time.Second
)

// SpanningTree is how a switch takes part in the spanning tree.
type SpanningTree struct {
	// Priority of the switch: the lowest is the root, of equals the one that was
	// given first. A multiple of 4096 up to 61440; 0 means DefaultTreePriority.
	Priority int
	// ForwardDelay is how long a port listens, and then learns, before it
	// forwards; 0 means the default.
	ForwardDelay time.Duration
	// MaxAge is after what time without word from the root a port is free to
	// change; 0 means the default.
	MaxAge time.Duration
	// Rapid makes it the rapid protocol: a change takes a handshake of
	// milliseconds instead of the delays.
	Rapid bool
	// HostsWait lets the ports of hosts listen and learn first, too, as those do
	// that are not set to be edge ports.
	HostsWait bool
}

func (o *SpanningTree) check() error {
	switch {
	case o.Priority < 0 || o.Priority > 61440 || o.Priority%4096 != 0:
		return fmt.Errorf("a spanning tree's priority is a multiple of 4096 up to 61440, not %d", o.Priority)
	case o.ForwardDelay != 0 && (o.ForwardDelay < minForwardDelay || o.ForwardDelay > maxForwardDelay):
		return fmt.Errorf("a spanning tree's forward delay is from %v to %v, not %v", minForwardDelay, maxForwardDelay, o.ForwardDelay)
	case o.MaxAge != 0 && (o.MaxAge < 6*time.Second || o.MaxAge > 40*time.Second):
		return fmt.Errorf("a spanning tree's maximum age is from 6s to 40s, not %v", o.MaxAge)
	}
	return nil
}

// treeBridge is a switch's part in the spanning tree.
type treeBridge struct {
	s *Switch
	o SpanningTree
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
	return &treeBridge{s: s, o: o}
}

func (b *treeBridge) changing() bool { return false }

func (o *outlet) learns() bool   { return true }
func (o *outlet) forwards() bool { return true }

func (l *LAN) startTrees()          {}
func (l *LAN) trunkChanged(*Trunk)  {}
func (s *Switch) pluggedIn(*outlet) {}
