package cluster

// Drainer is a member that may hold flows of a bucket that another owns.
type Drainer struct{ ID, Epoch uint64 }

// DrainedRow is a bucket that this host owns, and of which others may hold flows: other
// hosts, or other workers of this one.
type DrainedRow struct {
	// Service is its place in Options.Services.
	Service int
	Bucket  uint8
	// Since is the last entry that made one of the drainers one. What a drainer
	// said of an earlier table says nothing about flows that it took on since.
	Since uint64
	// By are the drainers; one that is not in the table any more is the zero
	// Drainer.
	By []Drainer
}

// Drained are the buckets that this host owns and others drain, in order, and the
// generation of the rights that show them. While it has other workers than the active one
// these are all that it owns.
func (c *Core) Drained() (rows []DrainedRow, generation uint64) {
	for i := range c.o.Services {
		s, me := c.own(&c.o.Services[i])
		if s == nil {
			continue
		}
		for b := range s.Rows {
			r := &s.Rows[b]
			others := r.Drainers &^ bit(me.Slot)
			if r.Owner != me.Slot+1 || others == 0 && !c.outside.others {
				continue
			}
			row := DrainedRow{Service: i, Bucket: uint8(b), Since: r.Since}
			for j := range c.table.Hosts {
				if h := &c.table.Hosts[j]; others.has(h.Slot) {
					row.By = append(row.By, Drainer{h.ID, h.Epoch})
					others &^= bit(h.Slot)
				}
			}
			if others != 0 {
				row.By = append(row.By, Drainer{})
			}
			rows = append(rows, row)
		}
	}
	return rows, c.rights.last.Generation
}

// OtherWorkers reports whether other workers of this host than the active one may hold
// flows, see Report.Others.
func (c *Core) OtherWorkers() bool { return c.outside.others }

// DrainingRow is a bucket of which this host may hold flows, and who owns it.
type DrainingRow struct {
	Service int
	Bucket  uint8
	Owner   uint64
}

// Draining is what this host drains.
type Draining struct {
	// Generation is that of the rights that show it, and Index the table's: under
	// that generation and up to that entry this host takes nothing new in Rows.
	Generation, Index uint64
	// Epoch is the one that the table has this host under.
	Epoch uint64
	Rows  []DrainingRow
}

// Draining tells what this host drains, in order. A host that is out drains
// nothing: until it is back, or taken for dead, nobody speaks for its flows.
func (c *Core) Draining() Draining {
	d := Draining{Generation: c.rights.last.Generation}
	for i := range c.o.Services {
		s, me := c.own(&c.o.Services[i])
		if s == nil || !me.In {
			continue
		}
		d.Index, d.Epoch = c.table.Index, me.Epoch
		for b := range s.Rows {
			r := &s.Rows[b]
			owner := c.table.at(r.Owner)
			if owner != nil && owner != me && r.Drainers.has(me.Slot) {
				d.Rows = append(d.Rows, DrainingRow{i, uint8(b), owner.ID})
			}
		}
	}
	return d
}

// own is the table's service and this host in it, nil when one is not there.
func (c *Core) own(spec *ServiceSpec) (*Service, *Host) {
	if c.table == nil {
		return nil, nil
	}
	me := c.table.host(c.id)
	if me == nil {
		return nil, nil
	}
	return c.table.service(spec.Name), me
}
