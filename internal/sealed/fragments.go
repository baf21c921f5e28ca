package sealed

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Bounds of messages of more than one datagram.
const (
	// MaxMessage is the largest message, in bytes.
	MaxMessage = 4 << 20
	// FragmentBytes is what a fragment carries of it.
	FragmentBytes = 1200
	// MaxPartials and MaxPartialBytes bound a sender's unfinished messages; at
	// the bound its oldest is given up.
	MaxPartials     = 4
	MaxPartialBytes = 8 << 20
	// MaxPendingBytes bounds those of all senders; at the bound the fragment is
	// refused.
	MaxPendingBytes = 32 << 20
	// PartialTimeout is how long a message may stay unfinished.
	PartialTimeout = 2 * time.Second
)

// fragmentHeader is message 8, index 2, count 2, length of the message 4.
const fragmentHeader = 16

// FragmentCounts counts unfinished messages that were dropped.
type FragmentCounts struct {
	// Expired were not finished within PartialTimeout; GivenUp made room for
	// others of the same sender.
	Expired, GivenUp uint64
}

// Fragments are the unfinished messages dropped so far.
func (o *Opener) Fragments() FragmentCounts { return o.senders.fragments }

// Expire frees unfinished messages that took too long. Fragments that come do so
// too; without any, somebody must ask now and then.
func (o *Opener) Expire(now time.Duration) { o.senders.expireAll(now) }

// SealMessage hands each datagram of a message to send, which must not keep it,
// and stops at its first error. A message that fits one datagram is one.
func (s *Sealer) SealMessage(kind byte, message []byte, send func(datagram []byte) error) error {
	return s.sealMessageAs(s.UUID(), kind, message, send)
}

// SealBlankMessage is SealMessage under the all-zero UUID, for what a member and
// a blank node say to each other.
func (s *Sealer) SealBlankMessage(kind byte, message []byte, send func(datagram []byte) error) error {
	return s.sealMessageAs(UUID{}, kind, message, send)
}

func (s *Sealer) sealMessageAs(uuid UUID, kind byte, message []byte, send func(datagram []byte) error) error {
	if len(message) > MaxMessage {
		return fmt.Errorf("seal a message of kind %d: %d bytes, at most %d", kind, len(message), MaxMessage)
	}
	buf := make([]byte, 0, MaxDatagram)
	if len(message) <= MaxPayload {
		return send(s.sealAs(buf, uuid, formWhole, kind, message))
	}
	plain := make([]byte, fragmentHeader, fragmentHeader+FragmentBytes)
	binary.BigEndian.PutUint64(plain, s.messages.Add(1))
	binary.BigEndian.PutUint16(plain[10:], uint16(fragmentsOf(len(message))))
	binary.BigEndian.PutUint32(plain[12:], uint32(len(message)))
	index := 0
	for part := range slices.Chunk(message, FragmentBytes) {
		binary.BigEndian.PutUint16(plain[8:], uint16(index))
		if err := send(s.sealAs(buf, uuid, formFragment, kind, append(plain[:fragmentHeader], part...))); err != nil {
			return err
		}
		index++
	}
	return nil
}

func fragmentsOf(length int) int { return (length + FragmentBytes - 1) / FragmentBytes }

// partial is an unfinished message.
type partial struct {
	id    uint64
	kind  byte
	began time.Duration
	data  []byte
	seen  []bool
	left  int
}

// fragment keeps a fragment and returns its message once that is complete.
func (t *senders) fragment(now time.Duration, s *sender, kind byte, b []byte) ([]byte, Verdict) {
	if len(b) <= fragmentHeader {
		return nil, FragmentBad
	}
	id, part := binary.BigEndian.Uint64(b), b[fragmentHeader:]
	index, count := int(binary.BigEndian.Uint16(b[8:])), int(binary.BigEndian.Uint16(b[10:]))
	length := int(binary.BigEndian.Uint32(b[12:]))
	at := index * FragmentBytes
	if length > MaxMessage || count != fragmentsOf(length) || index >= count || len(part) != min(FragmentBytes, length-at) {
		return nil, FragmentBad
	}
	t.expire(now, s)
	p, v := t.partial(now, s, id, kind, length)
	if v != OK {
		return nil, v
	}
	if p.seen[index] {
		return nil, FragmentBad
	}
	p.seen[index] = true
	p.left--
	copy(p.data[at:], part)
	if p.left > 0 {
		return nil, Partial
	}
	t.drop(s, slices.Index(s.partials, p))
	return p.data, OK
}

// partial finds the unfinished message that a fragment belongs to, or makes room
// for it.
func (t *senders) partial(now time.Duration, s *sender, id uint64, kind byte, length int) (*partial, Verdict) {
	held := 0
	for _, p := range s.partials {
		if p.id == id {
			if p.kind != kind || len(p.data) != length {
				return nil, FragmentBad
			}
			return p, OK
		}
		held += len(p.data)
	}
	for len(s.partials) > 0 && (len(s.partials) >= MaxPartials || held+length > MaxPartialBytes) {
		held -= len(s.partials[0].data)
		t.drop(s, 0)
		t.fragments.GivenUp++
	}
	if t.pending+length > MaxPendingBytes {
		t.expireAll(now)
	}
	if t.pending+length > MaxPendingBytes {
		return nil, FragmentBounds
	}
	p := &partial{id: id, kind: kind, began: now, data: make([]byte, length), seen: make([]bool, fragmentsOf(length)), left: fragmentsOf(length)}
	s.partials = append(s.partials, p)
	t.pending += length
	return p, OK
}

// expire drops a sender's messages that took too long; the oldest is first.
func (t *senders) expire(now time.Duration, s *sender) {
	for len(s.partials) > 0 && now-s.partials[0].began >= PartialTimeout {
		t.drop(s, 0)
		t.fragments.Expired++
	}
}

func (t *senders) expireAll(now time.Duration) {
	for _, s := range t.known {
		t.expire(now, s)
	}
}

func (t *senders) drop(s *sender, i int) {
	t.pending -= len(s.partials[i].data)
	s.partials = slices.Delete(s.partials, i, i+1)
}
