package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"onevoice/hashing"
)

// Sharing is how the buckets of a service are shared that maps its clients as
// another system does (R21): there are as many as that system has nodes.
type Sharing struct {
	// Buckets is how many there are, 1 to hashing.Buckets.
	Buckets uint16 `cbor:"1,keyasint"`
	// Homes are, by bucket, the names of those to whom each belongs; "", and what is
	// beyond its end, goes where the shares want it. A bucket is at its home whenever
	// that can serve. A name that no host has when the service is defined is a node's
	// of the other system: a foreign host.
	Homes []string `cbor:"2,keyasint,omitempty"`
	// Ours: no other system shares the buckets, and homes are hosts of ours, by name or
	// address. What belongs to one that there is not goes where the shares want it.
	Ours bool `cbor:"3,keyasint,omitempty"`
}

// MaxForeign is the most foreign hosts. Their slots come after those of ours, for
// no set of hosts has one of them: they drain nothing and hold no promise.
const MaxForeign = 32

var (
	errForeign     = errors.New("the node is another system's, which this cluster does not rule")
	errForeignOwns = errors.New("nodes of another system own buckets of the service; take them over first, `onevoice takeover NODE`")
	errNotForeign  = errors.New("the node is one of this cluster; `onevoice drain` gives its buckets away")
	errSharing     = fmt.Errorf("cluster: a service has 1 to %d buckets, and at most as many homes", hashing.Buckets)
)

func (s *Sharing) check() error {
	switch {
	case s == nil:
		return nil
	case s.Buckets == 0 || s.Buckets > hashing.Buckets || len(s.Homes) > int(s.Buckets):
		return errSharing
	case slices.ContainsFunc(s.Homes, func(name string) bool { return len(name) > maxText }):
		return errSharing
	}
	return nil
}

// home is the name of whom a bucket belongs to, "" for nobody.
func (s *Sharing) home(bucket int) string {
	if s == nil || bucket >= len(s.Homes) {
		return ""
	}
	return s.Homes[bucket]
}

// buckets is how many buckets a mapping has.
func (m *Mapping) buckets() int {
	if m.Sharing == nil {
		return hashing.Buckets
	}
	return int(m.Sharing.Buckets)
}

// hostsNamed finds hosts by name: one of ours, and a foreign one.
func (t *Table) hostsNamed(name string) (ours, foreign *Host) {
	for i := range t.Hosts {
		switch h := &t.Hosts[i]; {
		case h.Name != name || h.Witness:
		case h.Foreign:
			foreign = h
		case ours == nil:
			ours = h
		}
	}
	return ours, foreign
}

// foreignID is the id that all hosts give to another system's node. Hosts of ours
// have odd ones.
func foreignID(name string) uint64 {
	sum := sha256.Sum256([]byte("foreign\x00" + name))
	return max(binary.LittleEndian.Uint64(sum[:])&^1, 2)
}

// addForeign adds an owner that is no host of ours, in the lowest free slot.
func (t *Table) addForeign(id uint64, name string) bool {
	slot := uint8(MaxHosts)
	for t.at(slot+1) != nil {
		slot++
	}
	if slot >= MaxHosts+MaxForeign || t.host(id) != nil {
		return false
	}
	t.insert(Host{ID: id, Slot: slot, Name: name, Address: "0.0.0.0", Foreign: true, In: true, Percent: 100})
	return true
}

// homeHost is the host of ours that a bucket of a service belongs to, nil when there
// is none.
func (t *Table) homeHost(s *Service, bucket int) *Host {
	m := s.Mapping.Sharing
	name := m.home(bucket)
	if name == "" {
		return nil
	}
	if h, _ := t.hostsNamed(name); h != nil || !m.Ours {
		return h
	}
	for i := range t.Hosts {
		if h := &t.Hosts[i]; h.Address == name && !h.Foreign && !h.Witness {
			return h
		}
	}
	return nil
}

// meetForeign adds the foreign hosts that a mapping names. False when there is no
// room for all of them; then nothing has changed.
func (t *Table) meetForeign(m *Mapping) bool {
	if m.Sharing == nil || m.Sharing.Ours {
		return true
	}
	before := slices.Clone(t.Hosts)
	for _, name := range m.Sharing.Homes {
		if ours, foreign := t.hostsNamed(name); name != "" && ours == nil && foreign == nil && !t.addForeign(foreignID(name), name) {
			t.Hosts = before
			return false
		}
	}
	return true
}

// layOut begins a mapping's rows: those that it does not have are nobody's, and those
// of foreign hosts are theirs. Whoever had them has released them.
func (t *Table) layOut(s *Service) {
	m := &s.Mapping
	for b := range s.Rows {
		r := &s.Rows[b]
		home := m.Sharing.home(b)
		ours, foreign := t.hostsNamed(home)
		switch {
		case b >= m.buckets():
			r.Owner, r.To, r.Pinned = 0, 0, 0
		case home != "" && ours == nil && foreign != nil && !m.Sharing.Ours:
			r.Owner, r.To = foreign.Slot+1, 0
		}
	}
}

// foreignOwned reports whether another system's node owns a bucket of a service.
func (t *Table) foreignOwned(s *Service) bool {
	return slices.ContainsFunc(s.Rows[:], func(r Row) bool {
		h := t.at(r.Owner)
		return h != nil && h.Foreign
	})
}

// full: no further host of ours has room.
func (t *Table) full() bool {
	n := 0
	for i := range t.Hosts {
		if !t.Hosts[i].Foreign {
			n++
		}
	}
	return n >= MaxHosts
}

// next is the table of a service for shares with the fewest changes from cur, none of them
// in rows that stay with an owner who has a share. Of a service that is shared as another
// system does it, buckets of foreign hosts stay, and those that have a home are there.
func (t *Table) next(s *Service, cur hashing.Table, shares []hashing.Share, stays func(b int) bool) (hashing.Table, error) {
	m := &s.Mapping
	kept := make([]bool, m.buckets())
	for b := range kept {
		if stays(b) {
			kept[b] = slices.ContainsFunc(shares, func(x hashing.Share) bool { return x.Node == cur[b] })
		}
		if m.Sharing == nil {
			continue
		}
		if owner := t.at(uint8(cur[b])); owner != nil && owner.Foreign {
			kept[b] = true
		} else if h := t.homeOf(s, b, shares); h != 0 {
			cur[b], kept[b] = h, true
		}
	}
	return hashing.NextOf(cur, shares, len(kept), kept)
}

// homeOf is who of those with a share a bucket belongs to, by an operator's wish or
// by the file; 0 for nobody.
func (t *Table) homeOf(s *Service, bucket int, shares []hashing.Share) hashing.NodeID {
	home := s.Rows[bucket].Pinned
	if home == 0 {
		if h := t.homeHost(s, bucket); h != nil {
			home = h.Slot + 1
		}
	}
	for _, share := range shares {
		if home != 0 && share.Node == hashing.NodeID(home) {
			return share.Node
		}
	}
	return 0
}

// Takeover gives the buckets of a foreign host, in all services, to hosts of ours.
// The operator vouches that it does not answer any more.
type Takeover struct {
	// Node is the foreign host.
	Node string
	// To is who gets its buckets; "" for the hosts of ours that they belong to by
	// name.
	To string
}

func (w Takeover) command(t *Table) (*command, error) {
	from, err := t.resolveForeign(w.Node)
	if err != nil {
		return nil, err
	}
	var to *Host
	if w.To != "" {
		if to, err = t.resolve(w.To); err != nil {
			return nil, err
		}
		if to.Foreign {
			return nil, errForeign
		}
	}
	var moves []move
	for i := range t.Services {
		s := &t.Services[i]
		for b := range s.Rows {
			if s.Rows[b].Owner != from.Slot+1 {
				continue
			}
			taker := to
			if taker == nil {
				taker, _ = t.hostsNamed(s.Mapping.Sharing.home(b))
			}
			if taker == nil {
				return nil, fmt.Errorf("no node of this cluster is called %q; say who is to have its buckets", from.Name)
			}
			moves = append(moves, move{Service: s.Name, Bucket: uint8(b), To: taker.ID})
		}
	}
	if len(moves) == 0 {
		return nil, fmt.Errorf("%q has no buckets left", from.Name)
	}
	return &command{Kind: kindMove, Moves: moves}, nil
}

// ForeignPrefix, before a name, says that a foreign host is meant, where one of ours
// has the same.
const ForeignPrefix = "kernel:"

// resolveForeign finds the foreign host that an operator means.
func (t *Table) resolveForeign(name string) (*Host, error) {
	name = strings.TrimPrefix(name, ForeignPrefix)
	ours, foreign := t.hostsNamed(name)
	switch {
	case foreign != nil:
		return foreign, nil
	case ours != nil:
		return nil, errNotForeign
	}
	return nil, fmt.Errorf("%w of another system called %q", errNoHost, name)
}
