package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"onevoice/hashing"
)

// Bounds of a table.
const (
	// MaxHosts is the most members, and the number of slots.
	MaxHosts = 32
	// MaxServices is the most services, those of VIPs included.
	MaxServices = 128
	// MaxVoters is the most members that vote, a witness among them.
	MaxVoters = 5
	// MaxWeight is the heaviest weight of a host.
	MaxWeight = hashing.MaxWeight / 1048
	maxText   = 255
)

// Digest tells two definitions of a service apart: what is listened on, and how
// clients are mapped to buckets, without the hash key.
type Digest [16]byte

// Key is the replicated hash key.
type Key [16]byte

// slots is a set of members by slot.
type slots uint32

func (s slots) has(slot uint8) bool { return s&(1<<slot) != 0 }

func bit(slot uint8) slots { return 1 << slot }

// Host is a member of the cluster: one state directory. A host that lost its
// state is another one.
type Host struct {
	ID uint64 `cbor:"1,keyasint"`
	// Slot is its place in sets of hosts. A slot is used again only after no row
	// names it.
	Slot    uint8  `cbor:"2,keyasint"`
	Name    string `cbor:"3,keyasint"`
	Address string `cbor:"4,keyasint"`
	// Order decides who votes: the lower first.
	Order uint32 `cbor:"5,keyasint"`
	// Witness votes and owns nothing.
	Witness bool `cbor:"6,keyasint"`
	// Epoch is the one that it last joined with; In says that it still is in:
	// its rows are bound to that epoch.
	Epoch uint64 `cbor:"7,keyasint"`
	In    bool   `cbor:"8,keyasint"`
	// Orphaned: it was evicted, and is taken for dead: others may reset its
	// flows.
	Orphaned bool `cbor:"9,keyasint"`
	// Bare: it joined when its flows had been given up, so that it has to forget
	// what flows it may still hold.
	Bare bool `cbor:"10,keyasint"`
	// Waits: it was out, and gets rows again only after it has held a lease for a
	// while (R7).
	Waits bool `cbor:"30,keyasint,omitempty"`
	// Weight is its share of the buckets, relative to the others'.
	Weight uint32 `cbor:"11,keyasint"`
	// Draining by an operator's wish: it keeps its flows and is to own nothing.
	Draining bool `cbor:"12,keyasint"`
	// Votes: "" as the order says, else "yes" or "no" as its file says.
	Votes string `cbor:"13,keyasint"`
	// Health of services, by name, sorted; one that is not here is up.
	Health []Health `cbor:"14,keyasint"`
	// Percent of its weight that counts, by its own load; 0 takes nothing new.
	Percent uint8 `cbor:"15,keyasint"`
	// Ends is the entry that last told it to end the flows that it drains.
	Ends uint64 `cbor:"16,keyasint,omitempty"`
	// Leaving: it is about to stop, and gives its rows away first. A join ends it.
	Leaving bool `cbor:"17,keyasint,omitempty"`
	// Forgotten: an operator wants it out of the table, once it is out.
	Forgotten bool `cbor:"18,keyasint,omitempty"`
	// Foreign: it is no host of ours, such as a kernel node of a compatible
	// mapping. It holds no lease and is never evicted; rows pass to and from it by
	// an operator's word alone (R21).
	Foreign bool `cbor:"19,keyasint,omitempty"`
}

// Health is what a host says of a service of its own.
type Health struct {
	Service string `cbor:"1,keyasint"`
	Up      bool   `cbor:"2,keyasint"`
}

// Row is the state of a bucket. Hosts are named by slot + 1; 0 is nobody.
type Row struct {
	_     struct{} `cbor:",toarray"`
	Owner uint8
	// To is where a pending move leads: Owner accepts nothing new any more.
	To uint8
	// Moved is the index of the entry that began the last move; Since of the last
	// that made the owner a drainer.
	Moved, Since uint64
	// Pinned is the host that the row is to stay at.
	Pinned uint8
	// Drainers may hold flows of the bucket and are alive; Grace are hosts that
	// were evicted and may be.
	Drainers, Grace slots
}

// Mapping is how a service's clients are mapped to buckets.
type Mapping struct {
	Generation uint64 `cbor:"1,keyasint"`
	Digest     Digest `cbor:"2,keyasint"`
	Key        Key    `cbor:"3,keyasint"`
	// Sharing is nil where the buckets are hashing.Buckets and go by weight.
	Sharing *Sharing `cbor:"4,keyasint,omitempty"`
}

// Service is a service's part of the table.
type Service struct {
	Name    string  `cbor:"1,keyasint"`
	Mapping Mapping `cbor:"2,keyasint"`
	// Next is a mapping that waits until Holders, who own rows under the old
	// one, have all released or been evicted. NextIndex is its entry's.
	Next      *Mapping             `cbor:"3,keyasint"`
	NextIndex uint64               `cbor:"4,keyasint"`
	Holders   slots                `cbor:"5,keyasint"`
	Rows      [hashing.Buckets]Row `cbor:"6,keyasint"`
}

// VoterSet is who votes from the entry with that index on.
type VoterSet struct {
	Index  uint64   `cbor:"1,keyasint"`
	Voters []uint64 `cbor:"2,keyasint"`
}

// Table is the replicated state. Hosts are sorted by ID, services by name.
type Table struct {
	UUID    [16]byte `cbor:"1,keyasint"`
	Cluster string   `cbor:"2,keyasint"`
	Timing  Timing   `cbor:"3,keyasint"`
	// LongestTTL was ever in force.
	LongestTTL time.Duration `cbor:"4,keyasint"`
	Hosts      []Host        `cbor:"5,keyasint"`
	Services   []Service     `cbor:"6,keyasint"`
	// Sets are the voter sets that a lease may rest on; the last is raft's own.
	Sets []VoterSet `cbor:"7,keyasint"`
	// Preferred: it was founded with two_nodes = "preferred". No rule needs it, see
	// wantVoters; tables in journals have it.
	Preferred bool `cbor:"8,keyasint"`
	// Index is the last entry applied.
	Index uint64 `cbor:"9,keyasint"`
}

func (t *Table) host(id uint64) *Host {
	i, ok := slices.BinarySearchFunc(t.Hosts, id, func(h Host, id uint64) int { return cmp.Compare(h.ID, id) })
	if !ok {
		return nil
	}
	return &t.Hosts[i]
}

// at is the host of a slot + 1, nil for nobody.
func (t *Table) at(slotPlusOne uint8) *Host {
	for i := range t.Hosts {
		if slotPlusOne != 0 && t.Hosts[i].Slot == slotPlusOne-1 {
			return &t.Hosts[i]
		}
	}
	return nil
}

func (t *Table) service(name string) *Service {
	i, ok := slices.BinarySearchFunc(t.Services, name, func(s Service, n string) int { return cmp.Compare(s.Name, n) })
	if !ok {
		return nil
	}
	return &t.Services[i]
}

// voters is the present set; its index is what answers carry.
func (t *Table) voters() *VoterSet { return &t.Sets[len(t.Sets)-1] }

// votes reports whether a lease may rest on a host: it votes, or did in a set that
// is not settled.
func (t *Table) votes(id uint64) bool {
	return slices.ContainsFunc(t.Sets, func(s VoterSet) bool { return s.has(id) })
}

func (s *VoterSet) has(id uint64) bool { return slices.Contains(s.Voters, id) }

func (s *VoterSet) majority() int { return len(s.Voters)/2 + 1 }

// blocked reports whether those who withdrew leave no majority.
func (s *VoterSet) blocked(withdrew func(uint64) bool) bool {
	n := 0
	for _, v := range s.Voters {
		if !withdrew(v) {
			n++
		}
	}
	return n < s.majority()
}

// addHost gives a host the lowest free slot.
func (t *Table) addHost(h Host) bool {
	if t.host(h.ID) != nil {
		return false
	}
	used := t.namedSlots()
	for h.Slot = 0; used.has(h.Slot); h.Slot++ {
		if h.Slot == MaxHosts-1 {
			return false
		}
	}
	t.insert(h)
	return true
}

func (t *Table) insert(h Host) {
	i, _ := slices.BinarySearchFunc(t.Hosts, h.ID, func(h Host, id uint64) int { return cmp.Compare(h.ID, id) })
	t.Hosts = slices.Insert(t.Hosts, i, h)
}

// namedSlots are the slots that a host or a row names.
func (t *Table) namedSlots() slots {
	var used slots
	for i := range t.Hosts {
		used |= bit(t.Hosts[i].Slot)
	}
	for i := range t.Services {
		s := &t.Services[i]
		used |= s.Holders
		for b := range s.Rows {
			used |= s.Rows[b].Drainers | s.Rows[b].Grace
		}
	}
	return used
}

// serves reports a host that is to own rows.
func (h *Host) serves() bool {
	return h.In && !h.Waits && !h.Witness && !h.Foreign && !h.Draining && !h.Leaving
}

func (t *Table) healthy(h *Host, service string) bool {
	i, ok := slices.BinarySearchFunc(h.Health, service, func(x Health, n string) int { return cmp.Compare(x.Service, n) })
	return !ok || h.Health[i].Up
}

// shares are the claims to a service's buckets. weigh may lower a weight. When
// nobody healthy is left all claim by their weight, and keep what they have.
func (t *Table) shares(service string, weigh func(*Host) uint32) []hashing.Share {
	var out []hashing.Share
	for i := range t.Hosts {
		h := &t.Hosts[i]
		if w := weigh(h); h.serves() && w > 0 && t.healthy(h, service) {
			out = append(out, hashing.Share{Node: hashing.NodeID(h.Slot) + 1, Weight: w})
		}
	}
	return out
}

// fullWeight is in thousandths, so that a percentage of one is still a number.
func fullWeight(h *Host) uint32 { return h.Weight * 10 * uint32(h.Percent) }

// owners is a service's table as hashing knows it.
func (s *Service) owners() hashing.Table {
	var t hashing.Table
	for b := range s.Rows {
		t[b] = hashing.NodeID(s.Rows[b].Owner)
	}
	return t
}

// encoding is deterministic, so that equal tables are equal bytes.
func encoding() cbor.EncMode {
	// These options are known to be valid.
	m, _ := cbor.CoreDetEncOptions().EncMode()
	return m
}

// decoding refuses what no encoder of ours makes.
func decoding() cbor.DecMode {
	m, _ := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 8, MaxArrayElements: 1 << 17, MaxMapPairs: 64}.DecMode()
	return m
}

// codec encodes and decodes everything that leaves the core.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() codec { return codec{encoding(), decoding()} }

// marshal cannot fail: all our types can be encoded.
func (c codec) marshal(v any) []byte {
	b, err := c.enc.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cluster: encode %T: %v", v, err))
	}
	return b
}

var errTable = errors.New("cluster: the table is damaged")

func (c codec) table(b []byte) (*Table, error) {
	t := &Table{}
	if err := c.dec.Unmarshal(b, t); err != nil {
		return nil, fmt.Errorf("%w: %w", errTable, err)
	}
	return t, t.check()
}

// check holds what apply and the leases rely on.
func (t *Table) check() error {
	switch {
	case len(t.Hosts) > MaxHosts+MaxForeign || len(t.Services) > MaxServices || len(t.Sets) == 0 || !t.Timing.valid():
		return errTable
	case t.LongestTTL < t.Timing.TTL || t.LongestTTL > maxTTL || len(t.Cluster) > maxText:
		return errTable
	case !ascending(t.Hosts, func(a, b Host) int { return cmp.Compare(a.ID, b.ID) }):
		return errTable
	case !ascending(t.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) }):
		return errTable
	case !ascending(t.Sets, func(a, b VoterSet) int { return cmp.Compare(a.Index, b.Index) }):
		return errTable
	}
	var used [MaxHosts + MaxForeign]bool
	for i := range t.Hosts {
		h := &t.Hosts[i]
		if h.ID == 0 || int(h.Slot) >= len(used) || (h.Slot >= MaxHosts) != h.Foreign || used[h.Slot] || h.check() != nil {
			return errTable
		}
		used[h.Slot] = true
	}
	for i := range t.Sets {
		if v := t.Sets[i].Voters; len(v) == 0 || len(v) > MaxHosts || !ascending(v, cmp.Compare[uint64]) {
			return errTable
		}
	}
	return t.checkRows(func(slotPlusOne uint8) bool {
		return slotPlusOne == 0 || int(slotPlusOne) <= len(used) && used[slotPlusOne-1]
	})
}

// checkRows: a row names hosts of the table.
func (t *Table) checkRows(named func(slotPlusOne uint8) bool) error {
	for i := range t.Services {
		s := &t.Services[i]
		if s.Name == "" || len(s.Name) > maxText {
			return errTable
		}
		if s.Mapping.Sharing.check() != nil || s.Next != nil && s.Next.Sharing.check() != nil {
			return errTable
		}
		for b := range s.Rows {
			if r := &s.Rows[b]; !named(r.Owner) || !named(r.To) || !named(r.Pinned) {
				return errTable
			}
		}
	}
	return nil
}

// check holds for each host, and for one that asks to be in.
func (h *Host) check() error {
	if _, err := netip.ParseAddr(h.Address); err != nil || h.Weight > MaxWeight || h.Percent > 100 || len(h.Health) > MaxServices {
		return errTable
	}
	if len(h.Name) > maxText || !validVotes(h.Votes) || !ascending(h.Health, func(a, b Health) int { return cmp.Compare(a.Service, b.Service) }) {
		return errTable
	}
	return nil
}

// validVotes: see Host.Votes.
func validVotes(v string) bool { return v == "" || v == "yes" || v == "no" }

// ascending: sorted, and no two are the same.
func ascending[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}
