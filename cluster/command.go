package cluster

import "fmt"

// kind says what an entry of the log does.
type kind uint8

const (
	kindJoin     kind = iota + 1 // a node is in, under an epoch
	kindEvict                    // it is out: its rows are given away
	kindOrphaned                 // and taken for dead
	kindMove                     // owners are to release rows
	kindReleased                 // and have
	kindDrained                  // no flow of these rows is held any more
	kindHealth                   // a service of a node is up or down
	kindSettled                  // no lease rests on an older voter set
	kindSet                      // an operator's wish about a host
	kindPin                      // an operator's wish about a row
	kindDefine                   // a service is new, or mapped in another way
	kindRemap                    // a holder has released a service that is to be mapped anew
	kindRetime                   // another timing
	kindEnd                      // a host is to end the flows that it drains
	kindForget                   // a host is to be removed
	kindForeign                  // an owner that is no host of ours is there
	kindReady                    // a host that waited may get rows
	kinds
)

// command is an entry of the log. What a kind needs is in the fields that it
// names; the rest is empty.
type command struct {
	Kind kind `cbor:"1,keyasint"`
	// Request is the operator's request that it answers, 0 for none; From is who
	// proposed it.
	Request uint64 `cbor:"2,keyasint,omitempty"`
	From    uint64 `cbor:"3,keyasint,omitempty"`
	// ID and Epoch are the host's that it is about.
	ID    uint64 `cbor:"4,keyasint,omitempty"`
	Epoch uint64 `cbor:"5,keyasint,omitempty"`
	// Index: released, settled, remap: the entry that it answers. drained: the
	// last entry that the proposer had applied when it looked.
	Index uint64 `cbor:"6,keyasint,omitempty"`
	// Flows: a join keeps them.
	Flows bool `cbor:"7,keyasint,omitempty"`
	// Withdrew: an evict rests on these voters.
	Withdrew []uint64 `cbor:"8,keyasint,omitempty"`
	Moves    []move   `cbor:"9,keyasint,omitempty"`
	Service  string   `cbor:"10,keyasint,omitempty"`
	Buckets  buckets  `cbor:"11,keyasint,omitempty"`
	Up       bool     `cbor:"12,keyasint,omitempty"`
	// Set: what an operator, or the host's own file, says.
	Weight  *uint32  `cbor:"13,keyasint,omitempty"`
	Drain   *bool    `cbor:"14,keyasint,omitempty"`
	Bucket  uint8    `cbor:"15,keyasint,omitempty"`
	Mapping *Mapping `cbor:"16,keyasint,omitempty"`
	Timing  *Timing  `cbor:"17,keyasint,omitempty"`
	Name    string   `cbor:"18,keyasint,omitempty"`
	Percent *uint8   `cbor:"19,keyasint,omitempty"`
	Votes   *string  `cbor:"30,keyasint,omitempty"`
	Leave   bool     `cbor:"20,keyasint,omitempty"`
}

// move is a row that is to go to a host.
type move struct {
	_       struct{} `cbor:",toarray"`
	Service string
	Bucket  uint8
	To      uint64
}

// buckets is a set of buckets.
type buckets [4]uint64

func (b *buckets) has(i uint8) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b *buckets) set(i uint8)      { b[i/64] |= 1 << (i % 64) }
func (b *buckets) empty() bool      { return *b == buckets{} }

// command decodes an entry; what is refused changes nothing.
func (c codec) command(b []byte) (*command, error) {
	cmd := &command{}
	if err := c.dec.Unmarshal(b, cmd); err != nil {
		return nil, fmt.Errorf("cluster: an entry that this version cannot read: %w", err)
	}
	switch {
	case cmd.Kind == 0 || cmd.Kind >= kinds:
		return nil, fmt.Errorf("cluster: entry of unknown kind %d; this version is older than the one that wrote it", cmd.Kind)
	case len(cmd.Service) > maxText || len(cmd.Name) > maxText:
		return nil, fmt.Errorf("cluster: a name is at most %d bytes", maxText)
	case cmd.Mapping != nil && cmd.Mapping.Sharing.check() != nil:
		return nil, errSharing
	}
	return cmd, nil
}
