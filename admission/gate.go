package admission

import (
	"net/netip"
	"time"

	"github.com/dchest/siphash"
)

// Access says which clients of a service may begin anything. Of all prefixes that
// contain a client the longest counts, wherever it stands; of two that are equal the
// service's, and then the one in Deny. A client in none may, unless Allow or
// AllowAll has any.
type Access struct {
	// Allow and Deny are the service's, AllowAll and DenyAll those of all services.
	Allow, Deny, AllowAll, DenyAll []netip.Prefix
	// Files are prefixes that can be exchanged, by name, see Gate.SetList. They count
	// as those of the field of their name do, "" for none.
	Files Files
}

// Files are names of lists.
type Files struct{ Allow, Deny, AllowAll, DenyAll string }

// rank tells two prefixes of one length apart: the lower counts. Odd ones let in.
type rank uint8

const (
	rankDeny rank = iota
	rankAllow
	rankDenyAll
	rankAllowAll
)

func (r rank) may() bool { return r&1 == 1 }

// Limit is how much one source may begin. What is 0 is not limited.
type Limit struct {
	// New is how many flows a source may begin within any time of the length Per:
	// at most MaxNew, and MaxPer.
	New int
	Per time.Duration
	// Flows is how many a source may have at once, PerNode how many all have
	// together on this node.
	Flows, PerNode int
	// Bits4 and Bits6 are how much of an address makes a source: 32 and 128 for
	// each address by itself.
	Bits4, Bits6 int
	// Exempt are not limited.
	Exempt []netip.Prefix
}

// Bounds of a limit.
const (
	// MaxNew is what the kernel's `recent` remembers of a source (ip_pkt_list_tot of
	// net/netfilter/xt_recent.c).
	MaxNew = 255
	// MaxPer is far from where the stamps of a source wrap.
	MaxPer = time.Hour
)

// Outcome is what is decided about something new.
type Outcome uint8

// Outcomes.
const (
	// Admitted: it may begin.
	Admitted Outcome = iota
	// Denied: by its prefix.
	Denied
	// OverRate: its source has begun too much lately.
	OverRate
	// SourceFull: its source has as many flows as it may have at once.
	SourceFull
	// NodeFull: the service has as many on this node.
	NodeFull

	outcomeCount
)

// Counts are how often each was refused, by service.
type Counts struct {
	Denied     uint64 `json:"denied"`
	OverRate   uint64 `json:"over_rate"`
	SourceFull uint64 `json:"source_full"`
	NodeFull   uint64 `json:"node_full"`
}

// Service is what a service admits. The zero value admits all.
type Service struct {
	Access
	Limit
}

// file is a list that can be exchanged; it is empty until it is set.
type file struct {
	name string
	rank rank
	list *List
}

// Gate is the rules of all services of a node.
type Gate struct {
	services []service
	sources  sources
	refused  [][outcomeCount]uint64
}

type service struct {
	access prefixes
	files  []file
	// others: who is in no prefix may.
	others bool
	limit  Limit
	exempt prefixes
}

// New makes a gate. No result depends on the key, but what a flood of forged
// sources can push out: it has to be a secret of this host.
func New(services []Service, key [16]byte) *Gate { return newGate(services, key, MaxSources) }

func newGate(services []Service, key [16]byte, maxSources int) *Gate {
	g := &Gate{services: make([]service, len(services)), refused: make([][outcomeCount]uint64, len(services))}
	most := 0
	for i := range services {
		s := &services[i]
		to := &g.services[i]
		for _, list := range []struct {
			of   []netip.Prefix
			file string
			rank rank
		}{{s.Deny, s.Files.Deny, rankDeny}, {s.Allow, s.Files.Allow, rankAllow}, {s.DenyAll, s.Files.DenyAll, rankDenyAll}, {s.AllowAll, s.Files.AllowAll, rankAllowAll}} {
			for _, p := range list.of {
				to.access.add(p, list.rank)
			}
			if list.file != "" {
				to.files = append(to.files, file{list.file, list.rank, NewList(nil)})
			}
		}
		to.others = len(s.Allow)+len(s.AllowAll) == 0 && s.Files.Allow == "" && s.Files.AllowAll == ""
		to.limit = s.Limit
		to.limit.New = min(max(s.New, 0), MaxNew)
		to.limit.Per = min(s.Per, MaxPer)
		for _, p := range s.Exempt {
			to.exempt.add(p, rankAllow)
		}
		most = max(most, to.limit.New)
	}
	g.sources = newSources(most, maxSources, key)
	return g
}

// Denies reports whether a client may begin nothing at all, and counts it.
func (g *Gate) Denies(service int, client netip.Addr) bool {
	s := &g.services[service]
	if s.access.ranks == nil && s.files == nil || s.may(client) {
		return false
	}
	g.refused[service][Denied]++
	return true
}

// may is what the longest prefix says, and of several as long the one of lowest rank.
func (s *service) may(client netip.Addr) bool {
	best, longest, found := s.access.find(client)
	for i := range s.files {
		f := &s.files[i]
		bits, ok := f.list.Longest(client)
		if ok && (!found || bits > longest || bits == longest && f.rank < best) {
			best, longest, found = f.rank, bits, true
		}
	}
	if !found {
		return s.others
	}
	return best.may()
}

// SetList puts another list in the place of those of a name, for all services.
func (g *Gate) SetList(name string, l *List) {
	for i := range g.services {
		for k := range g.services[i].files {
			if f := &g.services[i].files[k]; f.name == name {
				f.list = l
			}
		}
	}
}

// Limits reports whether a service limits how much flows a client has at once.
func (g *Gate) Limits(service int) bool {
	l := &g.services[service].limit
	return l.Flows > 0 || l.PerNode > 0
}

// Source is the source that a client belongs to, in a service's terms.
func (g *Gate) Source(service int, client netip.Addr) netip.Prefix {
	l := &g.services[service].limit
	bits := l.Bits6
	if client.Is4() {
		bits = l.Bits4
	}
	p, err := client.Prefix(bits)
	if err != nil {
		return netip.PrefixFrom(client, client.BitLen())
	}
	return p
}

// Flows is what a source, and a service, has on this node now.
type Flows struct{ OfSource, OfService int }

// Fits reports whether one flow more is within the limits: Admitted, SourceFull or
// NodeFull. It counts nothing; see Refused.
func (g *Gate) Fits(service int, client netip.Addr, have Flows) Outcome {
	s := &g.services[service]
	l := &s.limit
	switch {
	case l.Flows == 0 && l.PerNode == 0:
		return Admitted
	case l.Flows > 0 && have.OfSource >= l.Flows && !s.isExempt(client):
		return SourceFull
	case l.PerNode > 0 && have.OfService >= l.PerNode && !s.isExempt(client):
		return NodeFull
	}
	return Admitted
}

// Take admits something new of a client, or says OverRate. Of a connection that was
// admitted lately, which the same number names, the rest is admitted without being
// counted again, as the first packet when it was sent again.
func (g *Gate) Take(now time.Duration, service int, client netip.Addr, connection uint64) Outcome {
	s := &g.services[service]
	if s.limit.New == 0 || s.isExempt(client) {
		return Admitted
	}
	// Two clients of one source may have the same ports and numbers.
	address := client.As16()
	connection ^= siphash.Hash(g.sources.k0, g.sources.k1, address[:])
	key := sourceKey{g.Source(service, client).Addr().As16(), uint16(service)}
	if !g.sources.take(now, key, s.limit.New, s.limit.Per, connection, g.perOf) {
		return OverRate
	}
	return Admitted
}

func (g *Gate) perOf(service uint16) time.Duration { return g.services[service].limit.Per }

// Refused counts what was refused by Fits or Take.
func (g *Gate) Refused(service int, why Outcome) { g.refused[service][why]++ }

func (s *service) isExempt(client netip.Addr) bool {
	_, _, exempt := s.exempt.find(client)
	return exempt
}

// Counts are how often a service was refused.
func (g *Gate) Counts(service int) Counts {
	r := &g.refused[service]
	return Counts{Denied: r[Denied], OverRate: r[OverRate], SourceFull: r[SourceFull], NodeFull: r[NodeFull]}
}

// Sources is how many sources are remembered, of all services, and how many were
// forgotten to make room while something still counted against them.
func (g *Gate) Sources() (remembered int, forgotten uint64) {
	return g.sources.count, g.sources.forgotten
}
