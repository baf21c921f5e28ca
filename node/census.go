package node

import (
	"net/netip"
	"time"

	"onevoice/admission"
	"onevoice/internal/flowstate"
)

// census is how many open flows each source has, of the services that limit them. A
// flow counts from when its handshake is complete, so that forged SYNs use up
// nobody's share, until it is seen to have ended, or to be in TIME-WAIT.
type census struct {
	gate     *admission.Gate // nil when no service has rules
	sources  map[sourceKey]*sourceFlows
	services []int
}

// sourceKey is a source in a service's terms.
type sourceKey struct {
	prefix  netip.Prefix
	service int
}

// sourceFlows are the flows of one source, a list through the flows themselves.
type sourceFlows struct {
	key   sourceKey
	first *tracked
	count int
}

// maxRecount bounds the flows of a source that are looked at when it has too many.
const maxRecount = 64

func newCensus(gate *admission.Gate, services int) census {
	return census{gate: gate, sources: map[sourceKey]*sourceFlows{}, services: make([]int, services)}
}

// begin counts a flow.
func (c *census) begin(e *tracked) {
	if c.gate == nil || e.source != nil || !c.gate.Limits(e.service) {
		return
	}
	key := sourceKey{c.gate.Source(e.service, e.flow.Src), e.service}
	s := c.sources[key]
	if s == nil {
		s = &sourceFlows{key: key}
		c.sources[key] = s
	}
	e.source, e.nextOfSource = s, s.first
	if s.first != nil {
		s.first.prevOfSource = e
	}
	s.first = e
	s.count++
	c.services[e.service]++
}

// end counts it no more. It may be called for any flow.
func (c *census) end(e *tracked) {
	s := e.source
	if s == nil {
		return
	}
	if e.prevOfSource != nil {
		e.prevOfSource.nextOfSource = e.nextOfSource
	} else {
		s.first = e.nextOfSource
	}
	if e.nextOfSource != nil {
		e.nextOfSource.prevOfSource = e.prevOfSource
	}
	e.source, e.nextOfSource, e.prevOfSource = nil, nil, nil
	c.services[e.service]--
	if s.count--; s.count == 0 {
		delete(c.sources, s.key)
	}
}

// have is what a source and its service have.
func (c *census) have(key sourceKey) admission.Flows {
	f := admission.Flows{OfService: c.services[key.service]}
	if s := c.sources[key]; s != nil {
		f.OfSource = s.count
	}
	return f
}

// recount looks at the flows of a source for some that have ended, and reports
// whether there were any.
func (n *Node) recount(now time.Duration, key sourceKey) (found bool) {
	s := n.table.census.sources[key]
	if s == nil {
		return false
	}
	e := s.first
	for range maxRecount {
		if e == nil {
			break
		}
		next := e.nextOfSource
		switch n.flows.State(&e.flow) {
		case flowstate.None:
			n.drop(now, e)
			found = true
		case flowstate.TimeWait:
			n.table.census.end(e)
			found = true
		}
		e = next
	}
	return found
}

// prove records that this node saw the handshake of a flow complete.
func (n *Node) prove(e *tracked) {
	if !e.proven {
		e.proven, e.kept = true, nil
		n.table.census.begin(e)
	}
}
