package admission

import (
	"encoding/binary"
	"time"

	"github.com/dchest/siphash"
)

const (
	// MaxSources bounds the sources that are remembered, of all services together.
	MaxSources = 1 << 16
	// maxStamps bounds what is remembered of them: with more than 16 for each, they
	// are fewer.
	maxStamps = 1 << 20
	// ways is among how many places a source has its own. The one that counts least
	// makes room.
	ways = 8
)

// sourceKey is a source of a service, without a pointer for the collector to follow.
type sourceKey struct {
	addr    [16]byte
	service uint16
}

// source is what is known of one. Its stamps are at its place in sources.stamps.
type source struct {
	key sourceKey
	// live are its stamps, oldest first: those that still counted when it was seen
	// last.
	live uint8
	// refused: it was, when it was seen last.
	refused bool
	seen    time.Duration
}

// stamp is a connection that was admitted, in milliseconds of a clock that wraps
// after 49 days; a source that was not seen for MaxPer has none that count.
type stamp struct {
	at         uint32
	connection uint64
}

// sources is a table of places in sets. Where a source's set is, is keyed, so that
// nobody can aim at another's.
type sources struct {
	places []source
	stamps []stamp
	width  int
	k0, k1 uint64
	count  int
	// forgotten counts sources that made room while they had stamps that counted.
	forgotten uint64
}

// newSources remembers up to width connections of each; none are remembered of any
// with width 0.
func newSources(width, most int, key [16]byte) sources {
	s := sources{width: width, k0: binary.LittleEndian.Uint64(key[:8]), k1: binary.LittleEndian.Uint64(key[8:])}
	if width > 0 {
		n := min(most, maxStamps/width/ways*ways)
		s.places, s.stamps = make([]source, n), make([]stamp, n*width)
	}
	return s
}

// take counts a connection of a source, unless it has begun most of them within the
// last time of the length per already. perOf is that time by service.
func (s *sources) take(now time.Duration, key sourceKey, most int, per time.Duration, connection uint64, perOf func(uint16) time.Duration) bool {
	at, known := s.find(now, key, perOf)
	p := &s.places[at]
	if !known {
		s.put(p, key, now, perOf)
	}
	stamps := s.stamps[at*s.width : at*s.width+most]
	p.live = prune(stamps[:min(int(p.live), most)], p, now, per)
	p.seen, p.refused = now, false
	for _, one := range stamps[:p.live] {
		if one.connection == connection {
			return true
		}
	}
	if int(p.live) >= most {
		p.refused = true
		return false
	}
	stamps[p.live] = stamp{millis(now), connection}
	p.live++
	return true
}

func millis(t time.Duration) uint32 { return uint32(t / time.Millisecond) }

// prune keeps the stamps that still count, in their order, and tells how many.
func prune(stamps []stamp, p *source, now, per time.Duration) (live uint8) {
	if now-p.seen >= per {
		return 0
	}
	for _, one := range stamps {
		if millis(now)-one.at < uint32(per/time.Millisecond) {
			stamps[live] = one
			live++
		}
	}
	return live
}

// find is the place of a source, or else the one that it may have.
func (s *sources) find(now time.Duration, key sourceKey, perOf func(uint16) time.Duration) (at int, known bool) {
	var b [18]byte
	copy(b[:], key.addr[:])
	binary.LittleEndian.PutUint16(b[16:], key.service)
	sets := uint64(len(s.places) / ways)
	first := int(siphash.Hash(s.k0, s.k1, b[:])%sets) * ways
	at = first
	for i := first; i < first+ways; i++ {
		if s.places[i].live > 0 && s.places[i].key == key {
			return i, true
		}
		if s.places[i].before(&s.places[at], now, perOf) {
			at = i
		}
	}
	return at, false
}

// worth is how much counts against a source: what it has begun, and that it was
// refused.
func (p *source) worth(now time.Duration, perOf func(uint16) time.Duration) int {
	if p.live == 0 || now-p.seen >= perOf(p.key.service) {
		return 0
	}
	if p.refused {
		return int(p.live) + 1
	}
	return int(p.live)
}

// before reports whether p makes room before o does.
func (p *source) before(o *source, now time.Duration, perOf func(uint16) time.Duration) bool {
	a, b := p.worth(now, perOf), o.worth(now, perOf)
	return a < b || a == b && p.seen < o.seen
}

func (s *sources) put(p *source, key sourceKey, now time.Duration, perOf func(uint16) time.Duration) {
	switch {
	case p.live == 0:
		s.count++
	case p.worth(now, perOf) > 0:
		s.forgotten++
	}
	*p = source{key: key}
}
