package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func key(b byte) Key   { return Key(bytes.Repeat([]byte{b}, 32)) }
func salt(b byte) Salt { return Salt(bytes.Repeat([]byte{b}, 16)) }
func uuid(b byte) UUID { return UUID(bytes.Repeat([]byte{b}, 16)) }

// peer is one boot of one node.
type peer struct {
	*Sealer
	*Opener
}

func boot(id uint64, s byte) peer { return bootWith(Keyring{Current: key(1)}, id, uuid(7), s) }

func bootWith(k Keyring, id uint64, u UUID, s byte) peer {
	sealer := NewSealer(k, id, u, salt(s))
	return peer{sealer, NewOpener(sealer)}
}

func (p peer) whole(t testing.TB, payload string) []byte {
	t.Helper()
	b, err := p.Seal(nil, 9, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// expect opens a datagram and wants a verdict.
func (p peer) expect(t testing.TB, now time.Duration, b []byte, want Verdict) Message {
	t.Helper()
	m, got := p.Open(now, b)
	if got != want {
		t.Fatalf("verdict %v, want %v", got, want)
	}
	m.Reply, m.Payload = bytes.Clone(m.Reply), bytes.Clone(m.Payload)
	return m
}

// introduce proves a to b; the echo is returned.
func introduce(t testing.TB, now time.Duration, a, b peer) []byte {
	t.Helper()
	challenge := b.expect(t, now, a.whole(t, "hello"), Unproved).Reply
	echo := a.expect(t, now, challenge, Challenged).Reply
	if m := b.expect(t, now, echo, Proved); m.Reply != nil {
		t.Fatal("an echo was answered")
	}
	return echo
}

func TestOneMessageForAll(t *testing.T) {
	a, b, c := boot(1, 1), boot(2, 2), boot(3, 3)
	introduce(t, 0, a, b)
	introduce(t, 0, a, c)
	frame := []byte("ethernet")
	frame, err := a.Seal(frame, 42, []byte("heartbeat"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(frame, []byte("ethernet")) || bytes.Contains(frame, []byte("heartbeat")) || len(frame) != 8+Overhead+9 {
		t.Fatalf("frame %q", frame)
	}
	for _, p := range []peer{b, c} {
		m := p.expect(t, 0, frame[8:], OK)
		if m.From != 1 || m.Boot != salt(1) || m.UUID != uuid(7) || m.Kind != 42 || string(m.Payload) != "heartbeat" || m.Reply != nil {
			t.Errorf("message %+v", m)
		}
	}
}

// The layout, made a second time out of RFC 5869, RFC 2104 and doc.go.
func TestLayoutIsWhatTheDocSays(t *testing.T) {
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	k, s, u := key(1), salt(5), uuid(7)
	tagger, err := aes.NewCipher(mac(mac(make([]byte, 32), k[:]), []byte("onevoice control key tag v1"), []byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	tag := make([]byte, 16)
	tagger.Encrypt(tag, s[:])
	tag = tag[:4]
	senderKey := mac(mac(s[:], k[:]), []byte("onevoice control v1"), []byte{1})
	want := append([]byte("1v"), 1, 1, 9)
	want = binary.BigEndian.AppendUint64(want, 0xabcdef)
	want = append(append(append(want, s[:]...), u[:]...), tag...)
	want = binary.BigEndian.AppendUint64(want, 1)
	block, err := aes.NewCipher(senderKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := append(bytes.Clone(tag), 0, 0, 0, 0, 0, 0, 0, 1)
	want = gcm.Seal(want, nonce, []byte("payload"), bytes.Clone(want))
	if got := boot(0xabcdef, 5).whole(t, "payload"); !bytes.Equal(got, want) {
		t.Errorf("sealed\n%x, want\n%x", got, want)
	}
}

func TestEveryVerdict(t *testing.T) {
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	seen := map[Verdict]bool{}
	for _, c := range []struct {
		name string
		make func(t *testing.T, a, b peer) []byte // a datagram for b, which knows a
		want Verdict
	}{
		{"good", func(t *testing.T, a, b peer) []byte { return a.whole(t, "x") }, OK},
		{"no payload", func(t *testing.T, a, b peer) []byte { return a.whole(t, "") }, OK},
		{"other key", func(t *testing.T, a, b peer) []byte {
			b.SetKeys(Keyring{Current: key(2), Other: key(1)})
			return a.whole(t, "x")
		}, OtherKey},
		{"nothing", func(t *testing.T, a, b peer) []byte { return nil }, Short},
		{"one byte", func(t *testing.T, a, b peer) []byte { return []byte("1") }, Short},
		{"cut", func(t *testing.T, a, b peer) []byte { return a.whole(t, "")[:Overhead-1] }, Short},
		{"alien", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 0) }, Alien},
		{"alien, short", func(t *testing.T, a, b peer) []byte { return []byte("abc") }, Alien},
		{"long", func(t *testing.T, a, b peer) []byte {
			return append(a.whole(t, strings.Repeat("x", MaxPayload)), 0)
		}, Long},
		{"version", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 2) }, WrongVersion},
		{"version, shorter than ours", func(t *testing.T, a, b peer) []byte { return []byte("1v\x02") }, WrongVersion},
		{"form 0", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 3) }, BadForm},
		{"form 5", func(t *testing.T, a, b peer) []byte { return a.seal(nil, 5, 0, nil) }, BadForm},
		{"challenge of another length", func(t *testing.T, a, b peer) []byte { return a.seal(nil, formChallenge, 0, []byte("x")) }, BadForm},
		{"cluster", func(t *testing.T, a, b peer) []byte {
			return bootWith(Keyring{Current: key(1)}, 1, uuid(8), 1).whole(t, "x")
		}, WrongCluster},
		{"key", func(t *testing.T, a, b peer) []byte {
			return bootWith(Keyring{Current: key(3)}, 1, uuid(7), 1).whole(t, "x")
		}, WrongKey},
		{"key no longer accepted", func(t *testing.T, a, b peer) []byte { b.SetKeys(Keyring{Current: key(2)}); return a.whole(t, "x") }, WrongKey},
		{"kind forged", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 4) }, Forged},
		{"sender forged", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 12) }, Forged},
		{"salt forged", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 13) }, WrongKey},
		{"counter forged", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), 55) }, Forged},
		{"blank forged", func(t *testing.T, a, b peer) []byte {
			d := a.whole(t, "x")
			clear(d[29:45])
			return d
		}, Forged},
		{"payload forged", func(t *testing.T, a, b peer) []byte { return flip(a.whole(t, "x"), headerBytes) }, Forged},
		{"tag forged", func(t *testing.T, a, b peer) []byte { d := a.whole(t, "x"); return flip(d, len(d)-1) }, Forged},
		{"longer", func(t *testing.T, a, b peer) []byte { return append(a.whole(t, "x"), 0) }, Forged},
		{"own", func(t *testing.T, a, b peer) []byte { return b.whole(t, "x") }, Own},
		{"same id", func(t *testing.T, a, b peer) []byte {
			twin := boot(2, 99)
			introduce(t, 0, twin, b)
			return twin.whole(t, "x")
		}, SameID},
		{"replayed", func(t *testing.T, a, b peer) []byte {
			d := a.whole(t, "x")
			b.expect(t, 0, d, OK)
			return d
		}, Replayed},
		{"older than the echo", func(t *testing.T, a, b peer) []byte {
			c := boot(3, 3)
			d := c.whole(t, "x")
			introduce(t, 0, c, b)
			return d
		}, Replayed},
		{"unproved", func(t *testing.T, a, b peer) []byte { return boot(3, 3).whole(t, "x") }, Unproved},
		{"unproved fragment", func(t *testing.T, a, b peer) []byte { return boot(3, 3).seal(nil, formFragment, 0, nil) }, Unproved},
		{"challenged by a stranger", func(t *testing.T, a, b peer) []byte {
			return boot(3, 3).expect(t, 0, b.whole(t, "x"), Unproved).Reply
		}, Challenged},
		{"challenged by one it knows", func(t *testing.T, a, b peer) []byte {
			return a.expect(t, 0, b.whole(t, "x"), Unproved).Reply
		}, Challenged},
		{"echo of another's challenge", func(t *testing.T, a, b peer) []byte {
			c, d := boot(3, 3), boot(4, 4)
			return introduce(t, 0, c, d)
		}, StaleEcho},
		{"stale echo of one it knows", func(t *testing.T, a, b peer) []byte { return a.seal(nil, formEcho, 0, []byte("x")) }, StaleEcho},
		{"echo again", func(t *testing.T, a, b peer) []byte { return a.seal(nil, formEcho, 0, b.challenge()) }, Proved},
		{"fragment", func(t *testing.T, a, b peer) []byte { return fragments(t, a, MaxPayload+1)[0] }, Partial},
		{"fragment without an end", func(t *testing.T, a, b peer) []byte { return a.seal(nil, formFragment, 0, nil) }, FragmentBad},
		{"too much of unknown boots", func(t *testing.T, a, b peer) []byte {
			d := boot(3, 3).whole(t, "x")
			for range AnswersPerSecond {
				b.expect(t, 0, d, Unproved)
			}
			return d
		}, Busy},
		{"too many senders", func(t *testing.T, a, b peer) []byte {
			crowd(t, 0, b)
			c := boot(3, 3)
			return c.expect(t, 0, b.expect(t, 0, c.whole(t, "x"), Unproved).Reply, Challenged).Reply
		}, TooManySenders},
		{"fragments of too many bytes", func(t *testing.T, a, b peer) []byte {
			hoard(t, b, a)
			return fragments(t, a, MaxMessage)[0]
		}, FragmentBounds},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := boot(1, 1), boot(2, 2)
			introduce(t, 0, a, b)
			d := c.make(t, a, b)
			before, kept := b.Counts(), bytes.Clone(d)
			senders, pending := fmt.Sprint(b.Senders()), b.Opener.senders.pending
			m := b.expect(t, 0, d, c.want)
			seen[c.want] = true
			after := b.Counts()
			if after[c.want] != before[c.want]+1 {
				t.Error("not counted")
			}
			after[c.want]--
			if after != before {
				t.Error("something else was counted")
			}
			if !bytes.Equal(kept, d) {
				t.Error("the datagram was changed")
			}
			if c.want.Refused() && (m.Payload != nil || fmt.Sprint(b.Senders()) != senders || b.Opener.senders.pending != pending) {
				t.Error("a refused datagram changed something")
			}
			if (m.Reply != nil) != (c.want == Unproved || c.want == Challenged) {
				t.Errorf("reply %x", m.Reply)
			}
			if c.want.Accepted() == c.want.Refused() && c.want != Partial && c.want != Proved && c.want != Challenged {
				t.Error("neither accepted nor refused")
			}
		})
	}
	for v := range Verdicts {
		if !seen[v] {
			t.Errorf("no test of %v", v)
		}
	}
}

// Every byte of a datagram is guarded.
func TestEveryByteCounts(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	d := a.whole(t, "payload")
	for i := range d {
		for bit := range 8 {
			bad := bytes.Clone(d)
			bad[i] ^= 1 << bit
			if _, v := b.Open(time.Duration(i)*time.Second, bad); !v.Refused() || v == Unproved {
				t.Fatalf("byte %d bit %d changed: %v", i, bit, v)
			}
		}
	}
	b.expect(t, 0, d, OK)
}

// A receiver that restarts takes nothing that was sealed before its boot, and
// takes the living sender after one exchange.
func TestRestartedReceiverTakesNoReplay(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	var record [][]byte
	record = append(record, a.whole(t, "first"))
	record = append(record, introduce(t, 0, a, b))
	for range 3 {
		record = append(record, a.whole(t, "data"))
		b.expect(t, 0, record[len(record)-1], OK)
	}
	b = boot(2, 22)
	for range 2 {
		for _, d := range record {
			if _, v := b.Open(0, d); !v.Refused() {
				t.Fatalf("%v for a recorded datagram", v)
			}
		}
		if len(b.Senders()) != 0 {
			t.Fatal("a recording proved a boot")
		}
	}
	introduce(t, 0, a, b)
	for _, d := range record {
		b.expect(t, 0, d, Replayed)
	}
	b.expect(t, 0, a.whole(t, "new"), OK)
}

// The same for a receiver that forgot the boot since, and for a boot that ended.
func TestForgottenBootIsNotProvedByARecording(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	echo := introduce(t, 0, a, b)
	data := a.whole(t, "data")
	crowd(t, time.Hour, b)
	if got := b.Senders(); len(got) != MaxSenders || got[0].From != 1 {
		t.Fatalf("%d senders, the first %d", len(got), got[0].From)
	}
	late := boot(3, 3)
	now := time.Hour + time.Second // for the budget; the crowd was heard just now
	challenge := b.expect(t, now, late.whole(t, "x"), Unproved).Reply
	b.expect(t, now, late.expect(t, now, challenge, Challenged).Reply, Proved)
	if got := b.Senders(); len(got) != MaxSenders || got[0].From == 1 {
		t.Fatal("the boot silent for longest was not the one forgotten")
	}
	b.expect(t, now, echo, StaleEcho)
	b.expect(t, now, data, Unproved)
	introduce(t, time.Hour+SenderIdle, a, b)
}

// crowd fills b's table with boots heard now.
func crowd(t testing.TB, now time.Duration, b peer) {
	t.Helper()
	for i := 0; len(b.Senders()) < MaxSenders; i++ {
		introduce(t, now, boot(uint64(1000+i), byte(i)), b)
	}
}

func TestSilentBootMakesRoom(t *testing.T) {
	for _, c := range []struct {
		silent time.Duration
		want   Verdict
	}{{SenderIdle - 1, TooManySenders}, {SenderIdle, Proved}} {
		b, late := boot(2, 2), boot(3, 3)
		crowd(t, 0, b)
		challenge := b.expect(t, c.silent, late.whole(t, "x"), Unproved).Reply
		b.expect(t, c.silent, late.expect(t, 0, challenge, Challenged).Reply, c.want)
	}
}

// A member that starts again and again leaves nothing behind: its next boot takes the
// place of those that have been silent, and what was recorded of them proves nothing.
func TestNextBootTakesThePlaceOfTheLast(t *testing.T) {
	other, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, other, b)
	var echo, data []byte
	for i := range 3 * MaxSenders {
		now := time.Duration(i) * SenderIdle
		own := salt(byte(i))
		own[0] = 3 + byte(i>>8)
		next := peer{Sealer: NewSealer(Keyring{Current: key(1)}, 3, uuid(7), own)}
		next.Opener = NewOpener(next.Sealer)
		recorded := introduce(t, now, next, b)
		if n := len(b.Senders()); i > 0 && n != 2 {
			t.Fatalf("start %d: %d boots are known, want that of the other member and the last", i, n)
		}
		if i > 0 {
			b.expect(t, now, echo, StaleEcho)
			b.expect(t, now, data, Unproved)
		}
		b.expect(t, now, other.whole(t, "x"), OK)
		echo, data = recorded, next.whole(t, "data")
	}
	// One that has ended a moment ago is kept: it may be a twin.
	now := (3*MaxSenders-1)*SenderIdle + SenderIdle - 1
	introduce(t, now, boot(3, 1), b)
	if n := len(b.Senders()); n != 3 {
		t.Errorf("%d boots are known, want that of the other member and two", n)
	}
}

// A boot that is not known is answered out of a budget of its own, which fills
// again; known boots never need it, and other boots neither.
func TestKnownBootsAreNotDelayedByStrangers(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	stranger := boot(3, 3).whole(t, "x")
	looked := 0
	for i := range 100 * AnswersPerSecond {
		if _, v := b.Open(time.Second+time.Duration(i)*time.Second/(100*AnswersPerSecond), stranger); v == Unproved {
			looked++
		}
	}
	if looked < 2*AnswersPerSecond-1 || looked > 2*AnswersPerSecond+1 {
		t.Errorf("%d of a second's flood were answered, want the burst and a second's share: %d", looked, 2*AnswersPerSecond)
	}
	b.expect(t, time.Second, a.whole(t, "x"), OK)
	introduce(t, 2*time.Second, boot(4, 4), b)
}

// A boot that somebody invents takes nothing out of any budget: however many there
// are, who has just started is proved at once.
func TestInventedBootsCostNothing(t *testing.T) {
	b := boot(2, 2)
	for i := range 100 * UnknownPerSecond {
		d := boot(3, 3).whole(t, "x")
		binary.BigEndian.PutUint64(d[13:], uint64(i))
		b.expect(t, 0, d, WrongKey)
	}
	introduce(t, 0, boot(1, 1), b)
}

// The boots that are not known yet are bounded, and so are their derivations.
func TestStrangersAreBounded(t *testing.T) {
	b := boot(2, 2)
	nth := func(i int) []byte {
		sealer := NewSealer(Keyring{Current: key(1)}, 3, uuid(7), Salt{3, byte(i), byte(i >> 8)})
		return peer{sealer, nil}.whole(t, "x")
	}
	for i := range UnknownPerSecond {
		b.expect(t, 0, nth(i), Unproved)
	}
	b.expect(t, 0, nth(UnknownPerSecond), Busy)
	if n := len(b.strangers); n != MaxStrangers {
		t.Errorf("%d are kept, want %d", n, MaxStrangers)
	}
	introduce(t, time.Second, boot(1, 1), b)
}

func TestRotation(t *testing.T) {
	old, next := key(1), key(2)
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	before := a.whole(t, "before")
	b.expect(t, 0, before, OK)
	for _, step := range []struct {
		name string
		ring Keyring
	}{
		{"accept the new", Keyring{old, next}}, {"seal with the new", Keyring{next, old}}, {"forget the old", Keyring{Current: next}},
	} {
		for _, p := range []peer{a, b} {
			p.SetKeys(step.ring)
			if m, v := b.Open(0, a.whole(t, step.name)); !v.Accepted() || string(m.Payload) != step.name {
				t.Fatalf("%s: %v", step.name, v)
			}
		}
	}
	if c := b.Counts(); c[OtherKey] != 1 {
		t.Errorf("%d datagrams with the other key, want 1: a had changed and b not", c[OtherKey])
	}
	b.expect(t, 0, before, WrongKey)
	b.SetKeys(Keyring{next, old})
	b.expect(t, 0, before, Replayed)
}

func TestBlankNodeJoinsOnce(t *testing.T) {
	member := boot(1, 1)
	blank := bootWith(Keyring{Current: key(1)}, 2, UUID{}, 2)
	introduce(t, 0, blank, member)
	introduce(t, 0, member, blank)
	if m := member.expect(t, 0, blank.whole(t, "may I"), OK); m.UUID != (UUID{}) {
		t.Errorf("UUID %x", m.UUID)
	}
	if m := blank.expect(t, 0, member.whole(t, "you may"), OK); m.UUID != uuid(7) {
		t.Errorf("UUID %x", m.UUID)
	}
	for _, n := range []int{10, 3000} {
		var m Message
		v := Short
		if err := member.SealBlankMessage(1, pattern(n), func(d []byte) error { m, v = blank.Open(0, d); return nil }); err != nil || v != OK || m.UUID != (UUID{}) || len(m.Payload) != n {
			t.Errorf("%d bytes to a blank node: %v, %v, UUID %x", n, err, v, m.UUID)
		}
	}
	if err := blank.Adopt(UUID{}); err == nil {
		t.Error("adopted no cluster")
	}
	for range 2 {
		if err := blank.Adopt(uuid(7)); err != nil {
			t.Error(err)
		}
	}
	if err := blank.Adopt(uuid(8)); err == nil || blank.UUID() != uuid(7) {
		t.Errorf("a member changed its cluster: %v", err)
	}
	if m := member.expect(t, 0, blank.whole(t, "here I am"), OK); m.UUID != uuid(7) {
		t.Errorf("UUID %x", m.UUID)
	}
	blank.expect(t, 0, bootWith(Keyring{Current: key(1)}, 3, uuid(8), 3).whole(t, "x"), WrongCluster)
}

func TestTwinsAreSeen(t *testing.T) {
	a, twin, b := boot(1, 1), boot(1, 11), boot(2, 2)
	introduce(t, 0, a, b)
	introduce(t, time.Second, twin, b)
	twin.expect(t, time.Second, b.whole(t, "x"), Unproved)
	// A late datagram of a boot that ended is no twin.
	b.expect(t, 2*time.Second, a.whole(t, "x"), OK)
	if got := b.Twins(2 * time.Second); got != nil {
		t.Errorf("twins %v after a restart", got)
	}
	b.expect(t, 2*time.Second+1, a.whole(t, "x"), OK)
	if got := b.Twins(2*time.Second + 1); len(got) != 1 || got[0] != 1 {
		t.Errorf("twins %v", got)
	}
	if got := b.Twins(time.Second + SenderIdle); got != nil {
		t.Errorf("twins %v after the newer has fallen silent", got)
	}
	b.expect(t, 8*time.Second, twin.whole(t, "x"), OK)
	if got := b.Twins(8 * time.Second); got != nil {
		t.Errorf("twins %v after the older has fallen silent", got)
	}
}

func TestSentences(t *testing.T) {
	for v, want := range map[Verdict]string{
		WrongVersion: "speaks version 2 of the control messages and this program version 1", WrongCluster: "0707", WrongKey: "same key file", SameID: "our id 5",
		TooManySenders: "128", Forged: "", OK: "",
	} {
		got := Sentence(Message{From: 5, Version: 2, UUID: uuid(7)}, v)
		if !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%v: %q", v, got)
		}
	}
	names := map[string]bool{}
	for v := range Verdicts {
		names[v.String()] = true
	}
	if len(names) != int(Verdicts) || names[""] {
		t.Errorf("names %v", names)
	}
}

func TestTooLongIsRefused(t *testing.T) {
	a := boot(1, 1)
	if b, err := a.Seal([]byte("x"), 0, make([]byte, MaxPayload+1)); err == nil || string(b) != "x" {
		t.Errorf("sealed %d bytes, %v", len(b), err)
	}
	if err := a.SealMessage(0, make([]byte, MaxMessage+1), func([]byte) error { t.Error("sent"); return nil }); err == nil {
		t.Error("no error")
	}
	full, err := a.Seal(nil, 0, make([]byte, MaxPayload))
	if err != nil || len(full) != MaxDatagram {
		t.Errorf("%d bytes, %v", len(full), err)
	}
}

// Sealing is for many goroutines: no counter is used twice.
func TestSealersOfManyGoroutines(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	var all [4][][]byte
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			for range 200 {
				d, err := a.Seal(nil, 1, []byte("x"))
				if err != nil {
					t.Error(err)
				}
				all[i] = append(all[i], d)
			}
		})
	}
	wait.Go(func() {
		for range 20 {
			a.SetKeys(Keyring{Current: key(1), Other: key(2)})
		}
	})
	wait.Wait()
	for _, ds := range all {
		for _, d := range ds {
			b.expect(t, 0, d, OK)
		}
	}
}

func TestNoAllocationInTheSteadyState(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	buf := make([]byte, 0, MaxDatagram)
	payload := make([]byte, 900)
	if n := testing.AllocsPerRun(200, func() {
		d, _ := a.Seal(buf, 1, payload)
		if _, v := b.Open(0, d); v != OK {
			t.Fatal(v)
		}
		d[60] ^= 1
		d[56] ^= 1
		if _, v := b.Open(0, d); v != Forged && v != Replayed {
			t.Fatal(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSealOpen(b *testing.B) {
	s, r := boot(1, 1), boot(2, 2)
	introduce(b, 0, s, r)
	buf, payload := make([]byte, 0, MaxDatagram), make([]byte, 900)
	for b.Loop() {
		d, _ := s.Seal(buf, 1, payload)
		if _, v := r.Open(0, d); v != OK {
			b.Fatal(v)
		}
	}
}

// What the datagram of a boot that somebody invents costs.
func BenchmarkForgedBoot(b *testing.B) {
	r, d := boot(2, 2), boot(1, 1).whole(b, "x")
	now := time.Duration(0)
	for b.Loop() {
		now += time.Millisecond
		d[20]++
		if _, v := r.Open(now, d); v != WrongKey && v != Unproved {
			b.Fatal(v)
		}
	}
}
