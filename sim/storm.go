package sim

import "time"

// Bounds of a storm. Ethernet has no hop count, so that a frame in a circle goes
// round for ever; a simulation must come to an end.
const (
	MaxLaps      = 1000   // times that a copy of a frame may come to a switch again
	MaxStormWork = 50_000 // copies out of ports that such frames may make in one stormTick; then trunks pass nothing
	stormTick    = time.Second

	movesForFinding = 5 // moves of one address within movesWithin that are a finding
	movesWithin     = time.Second
)

// storm counts what goes in circles. When it fills the trunks, it is as with a
// real one: nothing else gets through either.
type storm struct {
	lan   *LAN
	tick  time.Duration // when the count began
	count int
	moves map[MAC]*moving
}

type moving struct {
	since time.Duration
	times int
}

// passes says whether a copy that is at a switch for another time goes on.
func (s *storm) passes(at *outlet, t transit, frame []byte) bool {
	if !at.sw.storms { // to describe a frame is dear, and laps are many
		at.sw.storms = true
		s.lan.report(Storm, at.sw.name, "frames go in circles through trunk %s (first %s); use a spanning tree, or take a trunk out", at.name(), Describe(frame))
	}
	if s.count == 0 || s.lan.w.now-s.tick >= stormTick {
		s.tick, s.count = s.lan.w.now, 0
	}
	s.count += len(at.sw.outlets)
	return t.laps <= MaxLaps && s.count <= MaxStormWork
}

// full says whether the trunks are full of what goes in circles.
func (s *storm) full() bool {
	return s.count > MaxStormWork && s.lan.w.now-s.tick < stormTick
}

// moved notes that an address has spoken from another port than before.
func (s *Switch) moved(mac MAC, from, to *outlet) {
	l := s.lan
	if l.storm.moves == nil {
		l.storm.moves = map[MAC]*moving{}
	}
	m := l.storm.moves[mac]
	if m == nil {
		if len(l.storm.moves) >= DefaultTableSize {
			return
		}
		m = &moving{since: l.w.now}
		l.storm.moves[mac] = m
	}
	if l.w.now-m.since > movesWithin {
		m.since, m.times = l.w.now, 0
	}
	if m.times++; m.times >= movesForFinding {
		l.report(StationMoves, s.name, "%s speaks now from %s, now from %s", macText(mac[:]), from.name(), to.name())
	}
}
