package sealed

import (
	"errors"
	"fmt"
	"sync/atomic"
)

var (
	errOtherCluster = errors.New("this node belongs to another cluster already")
	errNoCluster    = errors.New("an all-zero UUID names no cluster")
)

// Sealer makes the datagrams of one boot of one node. All methods are for any
// goroutine, without a lock, so that whoever sends raft messages cannot delay a
// heartbeat. There must be one Sealer for a salt: two would use a nonce twice.
type Sealer struct {
	self     uint64
	salt     Salt
	keys     atomic.Pointer[keySet]
	uuid     atomic.Pointer[UUID]
	counter  atomic.Uint64
	messages atomic.Uint64
}

// NewSealer returns the sealer of a node with id self. The salt must be random
// and new for each boot.
func NewSealer(keys Keyring, self uint64, uuid UUID, salt Salt) *Sealer {
	s := &Sealer{self: self, salt: salt}
	s.keys.Store(newKeySet(keys, salt))
	s.uuid.Store(&uuid)
	return s
}

// SetKeys changes the keys, for Openers of this Sealer too. Counters go on.
func (s *Sealer) SetKeys(keys Keyring) { s.keys.Store(newKeySet(keys, s.salt)) }

// UUID is the cluster's, or all zero.
func (s *Sealer) UUID() UUID { return *s.uuid.Load() }

// Adopt makes a blank node a member of a cluster, for Openers of this Sealer
// too. It can be done once.
func (s *Sealer) Adopt(uuid UUID) error {
	if uuid == (UUID{}) {
		return errNoCluster
	}
	old := s.uuid.Load()
	if *old == uuid {
		return nil
	}
	if *old != (UUID{}) || !s.uuid.CompareAndSwap(old, &uuid) {
		return fmt.Errorf("adopt cluster %x: %w (%x)", uuid, errOtherCluster, s.UUID())
	}
	return nil
}

// Seal appends a whole datagram to dst. One datagram may go to many listeners.
// The error is a payload longer than MaxPayload.
func (s *Sealer) Seal(dst []byte, kind byte, payload []byte) ([]byte, error) {
	if len(payload) > MaxPayload {
		return dst, fmt.Errorf("seal a datagram of kind %d: %d bytes, at most %d", kind, len(payload), MaxPayload)
	}
	return s.seal(dst, formWhole, kind, payload), nil
}

func (s *Sealer) seal(dst []byte, f form, kind byte, payload []byte) []byte {
	return s.sealAs(dst, *s.uuid.Load(), f, kind, payload)
}

func (s *Sealer) sealAs(dst []byte, uuid UUID, f form, kind byte, payload []byte) []byte {
	keys := s.keys.Load()
	h := header{f, kind, s.self, s.salt, uuid, keys.tag, s.counter.Add(1)}
	at := len(dst)
	dst = h.appendTo(dst)
	head := dst[at:]
	// The nonce lies in the header, where it costs no allocation.
	return keys.own.Seal(dst, head[nonceAt:headerBytes], payload, head)
}
