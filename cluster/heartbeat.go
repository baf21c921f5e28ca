package cluster

import (
	"errors"
	"fmt"
	"time"
)

// Version is that of messages and entries. Nodes of different versions refuse
// each other, and say so.
const Version = 1

// heartbeat is what a node says every interval on each path, as a datagram to
// the VIP in a frame to the cluster MAC, so that it is switched as clients'
// frames are.
type heartbeat struct {
	Version uint16 `cbor:"1,keyasint"`
	From    uint64 `cbor:"2,keyasint"`
	// Path is the cluster MAC that the frame went to; empty between a witness
	// and a node.
	Path string `cbor:"3,keyasint"`
	// Low to High are the epochs that a promise is asked for: one, but while an
	// epoch is renewed.
	Low  uint64 `cbor:"4,keyasint"`
	High uint64 `cbor:"5,keyasint"`
	// Sent is on the sender's clock and means nothing to others: they echo it.
	Sent time.Duration `cbor:"6,keyasint"`
	// Leased: the sender holds a lease on some path.
	Leased bool `cbor:"7,keyasint"`
	// Set is the voter set that the sender has applied, in which its answers
	// count; Rests is the oldest that its lease may rest on.
	Set   uint64 `cbor:"8,keyasint"`
	Rests uint64 `cbor:"9,keyasint"`
	// Applied is the last entry that the sender has applied.
	Applied uint64 `cbor:"10,keyasint"`
	// Hears are the slots of the nodes that the sender has heard on the path
	// within a TTL.
	Hears slots `cbor:"11,keyasint"`
	// Clients counts the client frames that the sender has heard on the path;
	// Gateway: the gateway answers it. A witness judges by them.
	Clients uint64 `cbor:"12,keyasint"`
	Gateway bool   `cbor:"13,keyasint"`
	// Promises are the sender's answers, when it votes.
	Promises []promise `cbor:"14,keyasint"`
	// Withdrawn are the epochs that the sender will never support again.
	Withdrawn []withdrawal `cbor:"15,keyasint"`
	// Leased is of the sender itself; Live are the slots of the nodes from which
	// it has heard the same in the last two heartbeats.
	Live slots `cbor:"30,keyasint"`
	// Alarm: a client acknowledged to the sender what was never sent (R22).
	Alarm bool `cbor:"16,keyasint"`
	// Claims are told while there is an alarm, of one service after the other.
	Claims *claims `cbor:"17,keyasint,omitempty"`
	// Behind: the sender does not follow the log, and asks for no promise.
	Behind bool `cbor:"18,keyasint,omitempty"`
	// Gone are hosts that speak and were removed.
	Gone []uint64 `cbor:"19,keyasint,omitempty"`
}

// promise answers the heartbeat that To sent at Sent: its sender gives To's
// buckets to nobody until TTL after it heard that, in any epoch from Low to Low + More.
type promise struct {
	_  struct{} `cbor:",toarray"`
	To uint64
	// Low to Low + More are the epochs.
	Low, More uint64
	Sent      time.Duration
	// TTL is in milliseconds.
	TTL uint16
}

// withdrawal says that no epoch below Below of a host will be supported.
type withdrawal struct {
	_     struct{} `cbor:",toarray"`
	Host  uint64
	Below uint64
}

// ErrVersion is met by a message of another version.
var ErrVersion = errors.New("another version")

var errMessage = errors.New("cluster: not a message of ours")

func (c codec) heartbeat(b []byte) (*heartbeat, error) {
	h := &heartbeat{}
	if err := c.dec.Unmarshal(b, h); err != nil {
		return nil, errMessage
	}
	switch {
	case h.Version != Version:
		return nil, fmt.Errorf("%w: it speaks version %d, we speak version %d", ErrVersion, h.Version, Version)
	case h.From == 0 || h.Low == 0 || h.High < h.Low || len(h.Path) > maxText ||
		len(h.Promises) > MaxHosts || len(h.Withdrawn) > MaxHosts || len(h.Gone) > maxGone:
		return nil, errMessage
	}
	return h, nil
}
