package cluster

import (
	"slices"
	"time"
)

// Rows is what a service's rows mean for this host, see OWNERSHIP.md R12 to R14.
type Rows struct {
	// Accept: what is new is ours to answer, under a lease on the service's path.
	Accept [4]uint64
	// Grace: an evicted host that may be alive may hold flows of the bucket.
	Grace [4]uint64
	// Shared: another living host may hold flows of the bucket.
	Shared [4]uint64
	// Draining: this host does not own the bucket and may hold flows of it.
	Draining [4]uint64
}

// Rights are what the workers of this host may do. They are not changed after
// they were given out.
type Rights struct {
	// Generation counts the changes.
	Generation uint64
	// Services are in the order of Options.Services.
	Services []ServiceRights
	// Elsewhere: a service of the table is not in Options, or otherwise, and other
	// hosts may serve it, at a port that is nobody's here.
	Elsewhere bool
}

// ServiceRights are the rights in one service.
type ServiceRights struct {
	Rows
	// Mapping is the table's; the key of a service that the table does not have
	// is zero, and nothing is accepted.
	Mapping Mapping
	// Since is the last entry that gave a bucket of ours a drainer: what was known
	// of its flows before does not count any more.
	Since uint64
}

// rights keeps what was given out.
type rights struct {
	last Rights
	// indexes tells, for the generations that may not be written back yet, up to
	// which entry each shows the table; written is that of the newest one that is,
	// looked that of the one under which the workers looked what they hold. Who
	// drains a bucket under a generation takes no flow of it at any of its entries.
	indexes         []generationIndex
	written, looked uint64
	// applied is the entry that last was looked at, and epoch the epoch.
	applied, epoch uint64
	leases         []Lease
	alarms         alarms
}

// generationIndex: a generation shows the table up to an entry.
type generationIndex struct{ generation, last uint64 }

// showRights gives new rights out when the table or the epoch has changed.
func (c *Core) showRights() {
	r := &c.rights
	if r.last.Generation != 0 && r.applied == c.table.Index && r.epoch == c.holder.low {
		c.noteWritten()
		return
	}
	r.applied, r.epoch = c.table.Index, c.holder.low
	next := make([]ServiceRights, len(c.o.Services))
	for i := range c.o.Services {
		next[i] = c.serviceRights(&c.o.Services[i])
	}
	elsewhere := c.elsewhere()
	if r.last.Generation == 0 || !equalRights(next, r.last.Services) || elsewhere != r.last.Elsewhere {
		r.last = Rights{Generation: r.last.Generation + 1, Services: next, Elsewhere: elsewhere}
		given := r.last
		c.effects.Rights = &given
	}
	if n := len(r.indexes); n > 0 && r.indexes[n-1].generation == r.last.Generation {
		r.indexes[n-1].last = c.table.Index
	} else {
		r.indexes = append(r.indexes, generationIndex{r.last.Generation, c.table.Index})
	}
	c.noteWritten()
}

// elsewhere is Rights.Elsewhere: while files are changed node by node, what is no
// service here is one of others, whose flows must not be reset. An owner that has taken
// the service out of its file may have a worker that still serves flows of it.
func (c *Core) elsewhere() bool {
	for i := range c.table.Services {
		s := &c.table.Services[i]
		if at := slices.IndexFunc(c.o.Services, func(x ServiceSpec) bool { return x.Name == s.Name }); at >= 0 && s.Next == nil && s.Mapping.Digest == c.o.Services[at].Digest {
			continue
		}
		if c.servedElsewhere(s) {
			return true
		}
	}
	return false
}

// servedElsewhere reports a service of which another host owns rows, or may hold flows.
func (c *Core) servedElsewhere(s *Service) bool {
	for b := range s.Rows {
		r := &s.Rows[b]
		if owner := c.table.at(r.Owner); r.Drainers|r.Grace != 0 || owner != nil && owner.ID != c.id {
			return true
		}
	}
	return false
}

// maxGenerations bounds those that a worker may be behind.
const maxGenerations = 1024

// noteWritten finds out up to which entry the workers have written back, and have
// looked what they hold. The newest generation may still show more entries.
func (c *Core) noteWritten() {
	r := &c.rights
	done := min(c.outside.written, c.outside.looked)
	for len(r.indexes) > maxGenerations || len(r.indexes) > 1 && r.indexes[1].generation <= done {
		r.indexes = r.indexes[1:]
	}
	r.written, r.looked = 0, 0
	for _, g := range r.indexes {
		if g.generation <= c.outside.written {
			r.written = g.last
		}
		if g.generation <= c.outside.looked {
			r.looked = g.last
		}
	}
}

func equalRights(a, b []ServiceRights) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func (c *Core) serviceRights(spec *ServiceSpec) ServiceRights {
	var out ServiceRights
	s, me := c.table.service(spec.Name), c.table.host(c.id)
	if s == nil || me == nil {
		return out
	}
	out.Mapping = s.Mapping
	out.Mapping.Sharing = nil // Accept tells all that comes of it
	mine := me.In && me.Epoch == c.holder.low && s.Next == nil && s.Mapping.Digest == spec.Digest
	for b := range s.Rows {
		r, at, one := &s.Rows[b], b/64, uint64(1)<<(b%64)
		owned := r.Owner == me.Slot+1
		if mine && owned && r.To == 0 {
			out.Accept[at] |= one
		}
		if r.Grace != 0 {
			out.Grace[at] |= one
		}
		if owned && r.Drainers&^bit(me.Slot) != 0 {
			out.Since = max(out.Since, r.Since)
		}
		if r.Drainers&^bit(me.Slot) != 0 || !owned && r.Owner != 0 {
			out.Shared[at] |= one
		}
		if !owned && (r.Drainers | r.Grace).has(me.Slot) {
			out.Draining[at] |= one
		}
	}
	return out
}

// showLeases gives the leases out when one has changed.
func (c *Core) showLeases() {
	next := make([]Lease, len(c.o.Paths))
	same := len(next) == len(c.rights.leases)
	for i := range c.holder.paths {
		if p := &c.holder.paths[i]; p.held && c.now < p.end && c.failed == nil {
			next[i] = Lease{p.begin, p.end}
		}
		same = same && next[i] == c.rights.leases[i]
	}
	if !same {
		c.rights.leases = next
		c.effects.Leases = next
	}
}

// Leased reports whether this node may use its rights on a path at a time.
func (c *Core) Leased(path int, now time.Duration) bool {
	return path < len(c.rights.leases) && now < c.rights.leases[path].End
}
