package sealed

import (
	"cmp"
	"crypto/cipher"
	"slices"
	"time"
)

// Bounds of the table of senders.
const (
	// MaxSenders bounds the known boots: 32 members, a witness, and boots of
	// theirs that ended lately.
	MaxSenders = 128
	// SenderIdle is how long a boot must have been silent before a new one may
	// take its place; one of the same sender does.
	SenderIdle = 5 * time.Second
	// twinAfter is how long datagrams may be under way: an older boot that is
	// heard that long after a newer one was proved lives beside it.
	twinAfter = time.Second
)

// senderKey is one boot of one sender.
type senderKey struct {
	from uint64
	salt Salt
}

// sender is a boot that has proved that it lives.
type sender struct {
	from        uint64
	salt        Salt
	first, last time.Duration
	window      window
	keys        *keySet
	tags        [2]keyTag
	aeads       [2]cipher.AEAD
	partials    []*partial
}

// use makes the sender's tags and ciphers those of a set of keys.
func (s *sender) use(keys *keySet) {
	if s.keys == keys {
		return
	}
	s.keys, s.aeads = keys, [2]cipher.AEAD{}
	for i := range keys.n {
		s.tags[i] = keys.tagOf(i, s.salt)
	}
}

func (s *sender) tag(keys *keySet, i int) keyTag {
	s.use(keys)
	return s.tags[i]
}

// aead is the cipher for one of the keys, derived when it is first needed.
func (s *sender) aead(keys *keySet, i int) cipher.AEAD {
	s.use(keys)
	if s.aeads[i] == nil {
		s.aeads[i] = senderAEAD(keys.keys[i], s.salt)
	}
	return s.aeads[i]
}

type senders struct {
	known map[senderKey]*sender
	// forgotten counts the boots that were put out of the table. It is part of
	// the challenge, so that an echo from before proves nothing afterwards.
	forgotten uint64
	fragments FragmentCounts
	// pending is the size of all unfinished messages, in bytes.
	pending int
}

func newSenders() senders { return senders{known: make(map[senderKey]*sender)} }

func (t *senders) get(from uint64, salt Salt) *sender { return t.known[senderKey{from, salt}] }

// add makes a boot known, in place of those of the same sender that have ended, and of
// the one silent for longest if need be.
func (t *senders) add(now time.Duration, s *sender) bool {
	for _, was := range t.known {
		if was.from == s.from && now-was.last >= SenderIdle {
			t.forget(was)
		}
	}
	if len(t.known) >= MaxSenders && !t.makeRoom(now) {
		return false
	}
	t.known[senderKey{s.from, s.salt}] = s
	return true
}

// makeRoom forgets the boot silent for longest, if that is long enough.
func (t *senders) makeRoom(now time.Duration) bool {
	var oldest *sender
	for _, s := range t.known {
		if oldest == nil || s.last < oldest.last {
			oldest = s
		}
	}
	if now-oldest.last < SenderIdle {
		return false
	}
	t.forget(oldest)
	return true
}

// forget takes a boot out of the table, and with it the challenge that it has answered.
func (t *senders) forget(s *sender) {
	for len(s.partials) > 0 {
		t.drop(s, 0)
	}
	delete(t.known, senderKey{s.from, s.salt})
	t.forgotten++
}

// Sender is a boot that has proved that it lives.
type Sender struct {
	From uint64
	Boot Salt
	// First is when it was proved, Last when it was last heard.
	First, Last time.Duration
}

// Senders are the known boots, by id and then in the order in which they were
// proved.
func (o *Opener) Senders() []Sender {
	out := make([]Sender, 0, len(o.senders.known))
	for _, s := range o.senders.known {
		out = append(out, Sender{s.from, s.salt, s.first, s.last})
	}
	slices.SortFunc(out, func(a, b Sender) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.First, b.First), slices.Compare(a.Boot[:], b.Boot[:]))
	})
	return out
}

// Twins are the ids that two living boots used at the same time within the last
// SenderIdle: a state directory was copied.
func (o *Opener) Twins(now time.Duration) []uint64 {
	var out []uint64
	all := o.Senders()
	for i, newer := range all {
		for _, older := range all[:i] {
			if older.From == newer.From && older.Last > newer.First+twinAfter && now-older.Last < SenderIdle && now-newer.Last < SenderIdle {
				out = append(out, newer.From)
			}
		}
	}
	return slices.Compact(out)
}
