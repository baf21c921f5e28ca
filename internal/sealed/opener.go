package sealed

import (
	"encoding/binary"
	"time"
)

// Bounds of what a stranger can make an Opener do.
const (
	// UnknownPerSecond bounds the datagrams of boots not known yet that are
	// looked into, for each costs a key derivation; known boots are not delayed.
	UnknownPerSecond = 1000
	// unknownBurst of them may come at once.
	unknownBurst = time.Second
)

// Message is what a datagram said. Payload and Reply are valid until the next
// Open. With a refusing verdict the fields that are set are claims.
type Message struct {
	From    uint64
	Boot    Salt
	UUID    UUID
	Version byte
	Kind    byte
	Payload []byte
	// Reply, if any, is to be sent to the control port of the address that the
	// datagram came from.
	Reply []byte
}

// Opener judges datagrams. It is for one goroutine.
type Opener struct {
	sealer  *Sealer
	senders senders
	// unknownDue is when the budget for unknown boots is full again.
	unknownDue time.Duration
	scratch    []byte
	reply      []byte
	counts     [Verdicts]uint64
}

// NewOpener returns an opener with the sealer's keys, UUID and id, also when
// they change.
func NewOpener(s *Sealer) *Opener {
	return &Opener{sealer: s, senders: newSenders(), scratch: make([]byte, 0, MaxDatagram), reply: make([]byte, 0, MaxDatagram)}
}

// Counts are the verdicts so far.
func (o *Opener) Counts() [Verdicts]uint64 { return o.counts }

// Open judges a datagram, which it does not keep or change. A refused one
// changes nothing but its counter.
func (o *Opener) Open(now time.Duration, datagram []byte) (Message, Verdict) {
	m, v := o.judge(now, datagram)
	o.counts[v]++
	return m, v
}

func (o *Opener) judge(now time.Duration, b []byte) (Message, Verdict) {
	h, version, v := parse(b)
	m := Message{From: h.from, Boot: h.salt, UUID: h.uuid, Version: version, Kind: h.kind}
	if v != OK {
		return m, v
	}
	// A blank node takes any cluster's word, and a member a blank node's: what
	// they may say to each other is for the caller to judge by Message.UUID.
	if ours := o.sealer.UUID(); h.uuid != ours && h.uuid != (UUID{}) && ours != (UUID{}) {
		return m, WrongCluster
	}
	keys := o.sealer.keys.Load()
	key := keys.index(h.tag)
	if key < 0 {
		return m, WrongKey
	}
	if h.from == o.sealer.self && h.salt == o.sealer.salt {
		return m, Own
	}
	if s := o.senders.get(h.from, h.salt); s != nil {
		return o.judgeKnown(now, s, keys, key, &h, b, m)
	}
	return o.judgeUnknown(now, keys, key, &h, b, m)
}

// open decrypts into the scratch buffer.
func (o *Opener) open(s *sender, keys *keySet, key int, b []byte) ([]byte, bool) {
	plain, err := s.aead(keys, key).Open(o.scratch[:0], b[nonceAt:headerBytes], b[headerBytes:], b[:headerBytes])
	return plain, err == nil
}

func (o *Opener) judgeKnown(now time.Duration, s *sender, keys *keySet, key int, h *header, b []byte, m Message) (Message, Verdict) {
	if !s.window.isNew(h.counter) {
		return m, Replayed
	}
	plain, ok := o.open(s, keys, key, b)
	if !ok {
		return m, Forged
	}
	s.window.take(h.counter)
	s.last = now
	switch h.form {
	case formChallenge:
		return o.answer(plain, m)
	case formEcho:
		if !o.provedBy(plain) {
			return m, StaleEcho
		}
		return m, Proved
	}
	if h.from == o.sealer.self {
		return m, SameID
	}
	if h.form == formFragment {
		var v Verdict
		if m.Payload, v = o.senders.fragment(now, s, h.kind, plain); v != OK {
			return m, v
		}
	} else {
		m.Payload = plain
	}
	if key > 0 {
		return m, OtherKey
	}
	return m, OK
}

func (o *Opener) judgeUnknown(now time.Duration, keys *keySet, key int, h *header, b []byte, m Message) (Message, Verdict) {
	if !o.spend(now) {
		return m, Busy
	}
	s := &sender{from: h.from, salt: h.salt, first: now, last: now}
	plain, ok := o.open(s, keys, key, b)
	if !ok {
		return m, Forged
	}
	switch h.form {
	case formChallenge:
		return o.answer(plain, m)
	case formEcho:
		if !o.provedBy(plain) {
			return m, StaleEcho
		}
		// What was sealed before the echo is not proved by it.
		s.window.startAfter(h.counter)
		if !o.senders.add(now, s) {
			return m, TooManySenders
		}
		return m, Proved
	}
	m.Reply = o.sealer.seal(o.reply[:0], formChallenge, 0, o.challenge())
	return m, Unproved
}

// answer echoes a challenge. It keeps nothing, for the challenge may be old.
func (o *Opener) answer(challenge []byte, m Message) (Message, Verdict) {
	if len(challenge) != challengeBytes {
		return m, BadForm
	}
	m.Reply = o.sealer.seal(o.reply[:0], formEcho, 0, challenge)
	return m, Challenged
}

const challengeBytes = len(Salt{}) + 8

// challenge is what only this boot, since it last forgot a sender, has asked.
func (o *Opener) challenge() []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, challengeBytes), o.sealer.salt[:]...), o.senders.forgotten)
}

func (o *Opener) provedBy(echo []byte) bool { return string(echo) == string(o.challenge()) }

// spend takes one unknown boot's datagram out of the budget.
func (o *Opener) spend(now time.Duration) bool {
	due := max(o.unknownDue, now)
	if due-now >= unknownBurst {
		return false
	}
	o.unknownDue = due + time.Second/UnknownPerSecond
	return true
}
