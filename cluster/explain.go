package cluster

import (
	"errors"
	"fmt"
)

// Explained is who answers for a bucket, and why.
type Explained struct {
	// Owner has it; To is whom it is on the way to, and Next who would have it were
	// Owner to die. Each is the zero Party for nobody.
	Owner, To, Next Party
	// Home is the name of whom it belongs to, Pinned of whom an operator wants it at;
	// "" for nobody.
	Home, Pinned string
	// Drainers may hold older flows of it, and Grace were evicted and may be alive.
	Drainers, Grace []string
	// Remapped: the service is about to be mapped anew, and nobody accepts for it.
	Remapped bool
}

// Party is somebody who may own buckets.
type Party struct {
	Name, Address string
	// Foreign: it is another system's node.
	Foreign bool
	// Self is the host that is asked. Leased: it holds a lease, as far as that host
	// knows.
	Self, Leased bool
	// Down: the service is down there. Told of an owner alone.
	Down bool
}

// MappingOf is the mapping of a service that is in force.
func (c *Core) MappingOf(service string) (Mapping, error) {
	if c.table == nil {
		return Mapping{}, errNoTableYet
	}
	s := c.table.service(service)
	if s == nil {
		return Mapping{}, fmt.Errorf("%w called %q", errNoService, service)
	}
	return s.Mapping, nil
}

var errNoTableYet = errors.New("this node has no table yet; see `onevoice status`")

// Explain tells who answers for a bucket of a service.
func (c *Core) Explain(service string, bucket uint8) (Explained, error) {
	m, err := c.MappingOf(service)
	switch {
	case err != nil:
		return Explained{}, err
	case int(bucket) >= m.buckets():
		return Explained{}, errNoBucket
	}
	s := c.table.service(service)
	r := &s.Rows[bucket]
	e := Explained{Owner: c.party(r.Owner), To: c.party(r.To), Home: m.Sharing.home(int(bucket)), Remapped: s.Next != nil}
	if h := c.table.at(r.Owner); h != nil && !h.Foreign {
		e.Owner.Down = !c.table.healthy(h, service)
	}
	if h := c.table.homeHost(s, int(bucket)); h != nil {
		e.Home = h.Name // the file may have its address
	}
	if h := c.table.at(r.Pinned); h != nil {
		e.Pinned = h.Name
	}
	for i := range c.table.Hosts {
		h := &c.table.Hosts[i]
		if r.Drainers.has(h.Slot) {
			e.Drainers = append(e.Drainers, h.Name)
		}
		if r.Grace.has(h.Slot) {
			e.Grace = append(e.Grace, h.Name)
		}
	}
	e.Next, err = c.heirOf(service, bucket, r.Owner)
	return e, err
}

// heirOf is who would own a bucket if its owner were evicted now: a copy of the table
// is asked. Buckets of foreign hosts pass to nobody by themselves.
func (c *Core) heirOf(service string, bucket uint8, owner uint8) (Party, error) {
	if h := c.table.at(owner); h == nil || h.Foreign {
		return Party{}, nil
	}
	t, err := c.codec.table(c.codec.marshal(c.table))
	if err != nil {
		return Party{}, err
	}
	t.takeOut(t.at(owner))
	t.giveAway(t.Index + 1)
	return c.party(t.service(service).Rows[bucket].Owner), nil
}

func (c *Core) party(slotPlusOne uint8) Party {
	h := c.table.at(slotPlusOne)
	if h == nil {
		return Party{}
	}
	return Party{Name: h.Name, Address: h.Address, Foreign: h.Foreign, Self: h.ID == c.id, Leased: !h.Foreign && c.leasedNow(h.ID)}
}
