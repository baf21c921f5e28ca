package cluster

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"
)

// Status is what a core knows, for people. It is a copy.
type Status struct {
	ID uint64
	// Phase is "blank", "joining" or "member", or "failed".
	Phase   string
	Cluster string
	UUID    [16]byte
	Leader  uint64
	Index   uint64
	Hosts   []HostStatus
	// Tables are the owners of each service's buckets, 0 for nobody.
	Tables map[string][256]uint64
	// Sizes are how many buckets each service has; those behind are nobody\'s.
	Sizes    map[string]int
	Voters   []uint64
	Leases   []Lease
	Warnings []string
	// Differs are the services of this host's file that the cluster defines in
	// another way, or does not have.
	Differs []string
}

// HostStatus is a host as this core sees it.
type HostStatus struct {
	Host
	Self, Voter, Leader bool
	// Slow: it has just come and takes its share bit by bit.
	Slow bool
	// Leased: it said so in its last heartbeat, Heard ago; negative for never.
	Leased bool
	Heard  time.Duration
	// Buckets of each service that it owns, and those in which it may hold older flows.
	Buckets, Drains map[string]int
}

// Status describes the cluster as this core knows it.
func (c *Core) Status(now time.Duration) Status {
	s := Status{ID: c.id, Phase: "blank", Cluster: c.o.Cluster}
	if c.raft != nil {
		s.Phase, s.UUID, s.Leader = "joining", c.disk.own.UUID, c.raft.node.BasicStatus().Lead
	}
	if c.failed != nil {
		s.Phase = "failed"
		s.Warnings = append(s.Warnings, c.failed.Error())
	}
	s.Warnings = append(s.Warnings, c.telling(now)...)
	if c.table == nil {
		return s
	}
	if c.failed == nil {
		s.Phase = "member"
	}
	s.Warnings = append(s.Warnings, c.alarmWarnings()...)
	t := c.table
	s.Index, s.Voters, s.Leases = t.Index, append([]uint64(nil), t.voters().Voters...), append([]Lease(nil), c.rights.leases...)
	s.Tables, s.Sizes = map[string][256]uint64{}, map[string]int{}
	for i := range t.Services {
		var owners [256]uint64
		for b := range t.Services[i].Rows {
			if h := t.at(t.Services[i].Rows[b].Owner); h != nil {
				owners[b] = h.ID
			}
		}
		s.Tables[t.Services[i].Name], s.Sizes[t.Services[i].Name] = owners, t.Services[i].Mapping.buckets()
	}
	for i := range t.Hosts {
		s.Hosts = append(s.Hosts, c.hostStatus(&t.Hosts[i], s.Leader, now))
	}
	s.Differs = c.differs()
	return s
}

// differs are the services of this host's file that the table has otherwise.
func (c *Core) differs() (out []string) {
	for _, spec := range c.o.Services {
		i := slices.IndexFunc(c.table.Services, func(s Service) bool { return s.Name == spec.Name })
		if i < 0 || c.table.Services[i].mapped().Digest != spec.Digest {
			out = append(out, spec.Name)
		}
	}
	return out
}

// mapped is the mapping that is in force, or on its way.
func (s *Service) mapped() *Mapping {
	if s.Next != nil {
		return s.Next
	}
	return &s.Mapping
}

func (c *Core) hostStatus(h *Host, leader uint64, now time.Duration) HostStatus {
	out := HostStatus{Host: *h, Self: h.ID == c.id, Voter: c.table.voters().has(h.ID), Leader: h.ID == leader, Heard: -1,
		Buckets: map[string]int{}, Drains: map[string]int{}}
	out.Health = append([]Health(nil), h.Health...)
	_, out.Slow = c.cameAt(h.ID)
	if out.Self {
		out.Leased, out.Heard = c.holder.leased(now), 0
	} else if m := c.voter.of(h.ID); m.heard >= 0 {
		out.Leased, out.Heard = m.leased, now-m.heard
	}
	for i := range c.table.Services {
		s := &c.table.Services[i]
		out.Buckets[s.Name] = s.shareOf(h)
		n := 0
		for b := range s.Rows {
			if (s.Rows[b].Drainers | s.Rows[b].Grace).has(h.Slot) {
				n++
			}
		}
		out.Drains[s.Name] = n
	}
	return out
}

// Hears are the ids of the other hosts of the table whose last heartbeat is at most
// within old, in the order of the table.
func (c *Core) Hears(now, within time.Duration) (out []uint64) {
	if c.table == nil {
		return nil
	}
	for i := range c.table.Hosts {
		id := c.table.Hosts[i].ID
		if m := c.voter.of(id); id != c.id && m.heard >= 0 && now-m.heard <= within {
			out = append(out, id)
		}
	}
	return out
}

// Members are the hosts of the table with the addresses that name them.
func (c *Core) Members() map[uint64]netip.Addr {
	out := map[uint64]netip.Addr{}
	if c.table == nil {
		return out
	}
	for i := range c.table.Hosts {
		if a, err := netip.ParseAddr(c.table.Hosts[i].Address); err == nil && !c.table.Hosts[i].Foreign {
			out[c.table.Hosts[i].ID] = a
		}
	}
	return out
}

// Applied is the last entry that this core's table shows, 0 without a table.
func (c *Core) Applied() uint64 {
	if c.table == nil {
		return 0
	}
	return c.table.Index
}

// Sum is a digest of the table: hosts that have applied the same entries have
// the same.
func (c *Core) Sum() [sha256.Size]byte {
	if c.table == nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(c.codec.marshal(c.table))
}

// Mine is how many buckets of all services this host owns, and Others whether
// another host could take them.
func (c *Core) Mine() (buckets int, others bool) {
	if c.table == nil {
		return 0, false
	}
	for i := range c.table.Hosts {
		h := &c.table.Hosts[i]
		others = others || h.ID != c.id && h.serves() && c.leasedNow(h.ID)
	}
	if me := c.table.host(c.id); me != nil && me.In {
		for i := range c.table.Services {
			buckets += c.table.Services[i].shareOf(me)
		}
	}
	return buckets, others
}
