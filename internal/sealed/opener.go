package sealed

import (
	"encoding/binary"
	"time"
)

// Bounds of what a stranger can make an Opener do.
const (
	// UnknownPerSecond bounds the key derivations for boots not known yet. Only a
	// boot that had the key costs one; known boots are not delayed.
	UnknownPerSecond = 1000
	// AnswersPerSecond bounds the answers to each boot that is not known yet.
	AnswersPerSecond = 50
	// unknownBurst of either may come at once.
	unknownBurst = time.Second
	// MaxStrangers bounds the boots not known yet whose keys are kept.
	MaxStrangers = 64
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
	// strangers are boots not known yet that had the key once: they may be
	// recorded. Each has a budget of its own, so that none keeps another out.
	strangers map[Salt]*stranger
	unknown   budget
	scratch   []byte
	reply     []byte
	counts    [Verdicts]uint64
}

// stranger is a boot that is not known yet. Its id is not either.
type stranger struct {
	sender
	answers budget
}

// budget is when it is full again.
type budget time.Duration

// spend takes one out of a budget of so many a second.
func (b *budget) spend(now time.Duration, perSecond int) bool {
	due := max(time.Duration(*b), now)
	if due-now >= unknownBurst {
		return false
	}
	*b = budget(due + time.Second/time.Duration(perSecond))
	return true
}

// NewOpener returns an opener with the sealer's keys, UUID and id, also when
// they change.
func NewOpener(s *Sealer) *Opener {
	return &Opener{sealer: s, senders: newSenders(), strangers: map[Salt]*stranger{}, scratch: make([]byte, 0, MaxDatagram), reply: make([]byte, 0, MaxDatagram)}
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
	s := o.senders.get(h.from, h.salt)
	key := keys.index(h.tag, s, h.salt)
	switch {
	case key < 0:
		return m, WrongKey
	case h.from == o.sealer.self && h.salt == o.sealer.salt:
		return m, Own
	case s != nil:
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
	s := o.stranger(now, h.salt)
	if s == nil {
		return m, Busy
	}
	plain, ok := o.open(&s.sender, keys, key, b)
	switch {
	case !ok:
		return m, Forged
	case h.form == formEcho && !o.provedBy(plain):
		return m, StaleEcho
	case h.form == formEcho:
		known := &sender{from: h.from, salt: h.salt, first: now, last: now, keys: s.keys, tags: s.tags, aeads: s.aeads}
		// What was sealed before the echo is not proved by it.
		known.window.startAfter(h.counter)
		if !o.senders.add(now, known) {
			return m, TooManySenders
		}
		delete(o.strangers, h.salt)
		return m, Proved
	case !s.answers.spend(now, AnswersPerSecond):
		return m, Busy
	case h.form == formChallenge:
		return o.answer(plain, m)
	}
	m.Reply = o.sealer.seal(o.reply[:0], formChallenge, 0, o.challenge())
	return m, Unproved
}

// stranger is the entry of a boot that is not known yet, made in place of the one
// silent for longest if need be; nil when too many are made.
func (o *Opener) stranger(now time.Duration, salt Salt) *stranger {
	s := o.strangers[salt]
	if s == nil {
		if !o.unknown.spend(now, UnknownPerSecond) {
			return nil
		}
		if len(o.strangers) >= MaxStrangers {
			var oldest *stranger
			for _, x := range o.strangers {
				if oldest == nil || x.last < oldest.last {
					oldest = x
				}
			}
			delete(o.strangers, oldest.salt)
		}
		s = &stranger{sender: sender{salt: salt}}
		o.strangers[salt] = s
	}
	s.last = now
	return s
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
