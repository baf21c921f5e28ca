package datagram

import (
	"net/netip"
	"time"

	"onevoice/hashing"
)

// Outcome is what became of a client's datagram at the table.
type Outcome uint8

// Outcomes.
const (
	// Goes: it is of a flow that is there.
	Goes Outcome = iota
	// Begins: it began a flow.
	Begins
	// Full: the bound on flows is reached, and all of them were used a moment ago.
	Full
	// SourceFull: the same of the flows of its source.
	SourceFull
)

// Bounds and times of a table.
const (
	// MaxFlows bounds the flows of a node. Each holds a socket.
	MaxFlows = 1 << 17
	// MaxFlowsOfSource bounds those of one source, an IPv6 /64. A resolver that asks
	// for a whole network takes a port for each question.
	MaxFlowsOfSource = 1 << 14
	// commonFlows is for how many there is room from the start.
	commonFlows = 1 << 10
	// DefaultIdle is how long a flow lasts that nothing is said in. RFC 4787 §4.3
	// wants two minutes at least of a NAT, which cannot know what it carries; here a
	// service's file may say so, and a flow that is begun anew from the client's own
	// address is the same to the service.
	DefaultIdle = 30 * time.Second
	// MinSpare is how long nothing was said in a flow that may be let go of for a new
	// one. At the bound newcomers are refused when there is none: what is under way
	// goes on, and whoever sends many does not push others out.
	MinSpare = 2 * time.Second
)

// FlowID names a flow of a table: its slot, and how often that was used before.
type FlowID uint64

func idOf(slot int32, generation uint32) FlowID {
	return FlowID(generation&maxGeneration)<<32 | FlowID(uint32(slot))
}

// maxGeneration keeps a FlowID below the bits that mark tokens of a poller.
const maxGeneration = 1<<28 - 1

func (id FlowID) slot() int32 { return int32(uint32(id)) }

// tableBounds are those of a Table.
type tableBounds struct{ flows, ofSource int }

// Table is the flows of UDP services: a pure state machine. A flow begins with a
// client's datagram and ends when nothing was said in it for its service's time.
//
// It holds nothing by pointers, so that 100,000 flows are no work for the garbage
// collector.
type Table struct {
	bounds  tableBounds
	idle    []time.Duration // by service
	flows   map[tuple]int32
	sources map[[16]byte]int32
	entries []entry
	free    int32 // the first free entry, by next of its service's list
	// byService has the flows of each service in the order of their last use, and
	// ofSource the slots of sources.
	byService   []ends
	bySource    []source
	freeSource  int32
	count, most int
}

// tuple is a flow without pointers in it.
type tuple struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
	four             bool
}

func tupleOf(f *hashing.Flow) tuple {
	return tuple{f.Src.As16(), f.Dst.As16(), f.SrcPort, f.DstPort, f.Src.Is4()}
}

// flow is the tuple in other words.
func (t *tuple) flow() hashing.Flow {
	f := hashing.Flow{Src: netip.AddrFrom16(t.src), Dst: netip.AddrFrom16(t.dst), SrcPort: t.srcPort, DstPort: t.dstPort, Proto: protoUDP}
	if t.four {
		f.Src, f.Dst = f.Src.Unmap(), f.Dst.Unmap()
	}
	return f
}

const protoUDP = 17

// entry is one flow.
type entry struct {
	tuple       tuple
	generation  uint32
	service     int32
	source      int32
	began, last time.Duration
	// taken and answered count datagrams.
	taken, answered uint64
	inService       links
	inSource        links
}

// links are an entry's neighbours in a list; ends are those of the list.
type (
	links struct{ older, newer int32 }
	ends  struct{ oldest, newest int32 }
)

// source is a client, or an IPv6 /64, with its flows in the order of their last use.
type source struct {
	key   [16]byte
	flows ends
	count int32
}

// none is no slot.
const none = int32(-1)

// newTable makes a table for services whose flows last so long without use.
func newTable(idle []time.Duration, b tableBounds) *Table {
	t := &Table{
		bounds: b, idle: idle, flows: make(map[tuple]int32, commonFlows), sources: map[[16]byte]int32{},
		free: none, freeSource: none, byService: make([]ends, len(idle)),
	}
	for i := range t.byService {
		t.byService[i] = ends{none, none}
	}
	return t
}

// Count is how many flows there are, Most how many there have been at a time.
func (t *Table) Count() int { return t.count }

// Most is how many flows there have been at a time.
func (t *Table) Most() int { return t.most }

// Find is a flow that is there.
func (t *Table) Find(f *hashing.Flow) (FlowID, bool) {
	i, ok := t.flows[tupleOf(f)]
	if !ok {
		return 0, false
	}
	return idOf(i, t.entries[i].generation), true
}

// Live reports whether the flow is still there.
func (t *Table) Live(id FlowID) bool {
	i := id.slot()
	return i >= 0 && int(i) < len(t.entries) && t.entries[i].source != none && id == idOf(i, t.entries[i].generation)
}

// Flow is a flow that is there, by its own words.
func (t *Table) Flow(id FlowID) hashing.Flow { return t.entries[id.slot()].tuple.flow() }

// Service is the service of a flow that is there.
func (t *Table) Service(id FlowID) int { return int(t.entries[id.slot()].service) }

// Use notes a client's datagram of a flow that is there.
func (t *Table) Use(now time.Duration, id FlowID) {
	t.use(now, id.slot())
	t.entries[id.slot()].taken++
}

// Begin makes a flow that is not there, for a client's datagram. Room has said that it
// may.
func (t *Table) Begin(now time.Duration, service int, f *hashing.Flow) FlowID {
	k, i := tupleOf(f), t.slot()
	e := &t.entries[i]
	*e = entry{tuple: k, generation: e.generation, service: int32(service), began: now, last: now, taken: 1}
	e.source = t.sourceSlot(sourceKey(f.Src))
	t.flows[k] = i
	t.link(i)
	t.count++
	t.most = max(t.most, t.count)
	return idOf(i, e.generation)
}

// Room says whether a flow may begin: Begins, or why not. With went, gone has to end
// first.
func (t *Table) Room(now time.Duration, f *hashing.Flow) (o Outcome, gone FlowID, went bool) {
	i, full := none, Begins
	if s, ok := t.sources[sourceKey(f.Src)]; ok && int(t.bySource[s].count) >= t.bounds.ofSource {
		i, full = t.bySource[s].flows.oldest, SourceFull
	} else if t.count >= t.bounds.flows {
		i, full = t.oldest(), Full
	}
	switch {
	case full == Begins:
		return Begins, 0, false
	case i == none || now-t.entries[i].last < MinSpare:
		return full, 0, false
	}
	return Begins, idOf(i, t.entries[i].generation), true
}

// oldest is the flow that was used longest ago.
func (t *Table) oldest() int32 {
	i := none
	for _, s := range t.byService {
		if s.oldest != none && (i == none || t.entries[s.oldest].last < t.entries[i].last) {
			i = s.oldest
		}
	}
	return i
}

// Answered notes a datagram of the service.
func (t *Table) Answered(now time.Duration, id FlowID) {
	t.use(now, id.slot())
	t.entries[id.slot()].answered++
}

// End forgets a flow that is there.
func (t *Table) End(id FlowID) {
	i := id.slot()
	e := &t.entries[i]
	t.unlink(i)
	delete(t.flows, e.tuple)
	if s := &t.bySource[e.source]; s.count == 0 {
		delete(t.sources, s.key)
		s.count, t.freeSource = t.freeSource, e.source
	}
	e.generation = (e.generation + 1) & maxGeneration
	e.source, e.inService.newer, t.free = none, t.free, i
	t.count--
}

// Expired is a flow whose time is over, for the caller to End.
func (t *Table) Expired(now time.Duration) (FlowID, bool) {
	for s, list := range t.byService {
		if i := list.oldest; i != none && now-t.entries[i].last >= t.idle[s] {
			return idOf(i, t.entries[i].generation), true
		}
	}
	return 0, false
}

// Next is when the next flow's time is over.
func (t *Table) Next() (at time.Duration, ok bool) {
	for s, list := range t.byService {
		if list.oldest == none {
			continue
		}
		if end := t.entries[list.oldest].last + t.idle[s]; !ok || end < at {
			at, ok = end, true
		}
	}
	return at, ok
}

// Flows calls for each flow, in no order, until that says to stop.
func (t *Table) Flows(each func(FlowID) bool) {
	for i := range t.entries {
		if e := &t.entries[i]; e.source != none && !each(idOf(int32(i), e.generation)) {
			return
		}
	}
}
