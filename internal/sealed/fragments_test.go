package sealed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// fragments seals a message of n bytes and returns its datagrams.
func fragments(t testing.TB, p peer, n int) (out [][]byte) {
	t.Helper()
	if err := p.SealMessage(3, pattern(n), func(d []byte) error { out = append(out, bytes.Clone(d)); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// hoard fills the room for unfinished messages at b; of a, one message less than
// its share.
func hoard(t testing.TB, b, a peer) {
	t.Helper()
	for i := 0; b.Opener.senders.pending < MaxPendingBytes; i++ {
		p := boot(uint64(500+i), byte(200+i))
		introduce(t, 0, p, b)
		for range MaxPartialBytes / MaxMessage {
			b.expect(t, 0, fragments(t, p, MaxMessage)[0], Partial)
		}
	}
}

func TestMessagesOfEverySizeArrive(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	order := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, MaxPayload, MaxPayload + 1, 2 * FragmentBytes, 2*FragmentBytes + 1, 100_000, MaxMessage} {
		ds := fragments(t, a, n)
		if want := fragmentsOf(n); n > MaxPayload && len(ds) != want || n <= MaxPayload && len(ds) != 1 {
			t.Errorf("%d bytes are %d datagrams", n, len(ds))
		}
		order.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
		for i, d := range ds {
			if len(d) > MaxDatagram {
				t.Fatalf("a datagram of %d bytes", len(d))
			}
			want := Partial
			if i == len(ds)-1 {
				want = OK
			}
			if m := b.expect(t, 0, d, want); want == OK && (!bytes.Equal(m.Payload, pattern(n)) || m.Kind != 3) {
				t.Fatalf("%d bytes: another message arrived", n)
			}
			b.expect(t, 0, d, Replayed)
		}
		if b.Opener.senders.pending != 0 {
			t.Fatalf("%d bytes are pending after all has arrived", b.Opener.senders.pending)
		}
	}
}

func TestFragmentsUnderTheOtherKey(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	ds := fragments(t, a, 2*FragmentBytes)
	b.expect(t, 0, ds[0], Partial)
	b.SetKeys(Keyring{Current: key(2), Other: key(1)})
	b.expect(t, 0, ds[1], OtherKey)
}

func TestUnfinishedMessagesEnd(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	ds := fragments(t, a, 3*FragmentBytes)
	b.expect(t, 0, ds[0], Partial)
	b.expect(t, PartialTimeout-1, ds[1], Partial)
	b.expect(t, PartialTimeout, ds[2], Partial) // begins anew, for the rest is gone
	if got := b.Fragments(); got != (FragmentCounts{Expired: 1}) {
		t.Errorf("%+v", got)
	}
	b.Expire(2*PartialTimeout - 1)
	if b.Opener.senders.pending == 0 {
		t.Error("expired too early")
	}
	b.Expire(2 * PartialTimeout)
	if got := b.Fragments(); got != (FragmentCounts{Expired: 2}) || b.Opener.senders.pending != 0 {
		t.Errorf("%+v, %d pending", got, b.Opener.senders.pending)
	}
}

func TestOldestMessageMakesRoom(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	var all [][][]byte
	for range MaxPartials + 1 {
		ds := fragments(t, a, 2*FragmentBytes)
		b.expect(t, 0, ds[0], Partial)
		all = append(all, ds)
	}
	if got := b.Fragments(); got != (FragmentCounts{GivenUp: 1}) {
		t.Errorf("%+v", got)
	}
	for _, ds := range all[1:] {
		b.expect(t, 0, ds[1], OK)
	}
	for range 3 {
		b.expect(t, 0, fragments(t, a, MaxMessage)[0], Partial)
	}
	if got := b.Opener.senders.pending; got != MaxPartialBytes {
		t.Errorf("%d bytes pending, want the bound %d", got, MaxPartialBytes)
	}
}

func TestForgottenBootTakesNoRoom(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	b.expect(t, 0, fragments(t, a, 5000)[0], Partial)
	crowd(t, time.Hour, b)
	introduce(t, time.Hour+SenderIdle-1-time.Second, boot(3, 3), b)
	if len(b.Senders()) != MaxSenders || b.Opener.senders.pending != 0 {
		t.Errorf("%d bytes pending", b.Opener.senders.pending)
	}
}

// Room taken by others is free again once their messages took too long.
func TestRoomComesBack(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	hoard(t, b, a)
	b.expect(t, PartialTimeout-1, fragments(t, a, 2*FragmentBytes)[0], FragmentBounds)
	b.expect(t, PartialTimeout, fragments(t, a, 2*FragmentBytes)[0], Partial)
	if b.Opener.senders.pending != 2*FragmentBytes {
		t.Errorf("%d bytes pending", b.Opener.senders.pending)
	}
}

func fragment(id uint64, index, count uint16, length uint32, part int) []byte {
	b := binary.BigEndian.AppendUint64(nil, id)
	b = binary.BigEndian.AppendUint16(b, index)
	b = binary.BigEndian.AppendUint16(b, count)
	return append(binary.BigEndian.AppendUint32(b, length), make([]byte, part)...)
}

func TestBadFragments(t *testing.T) {
	a, b := boot(1, 1), boot(2, 2)
	introduce(t, 0, a, b)
	b.expect(t, 0, a.seal(nil, formFragment, 3, fragment(1, 0, 2, 2000, 1200)), Partial)
	pending := b.Opener.senders.pending
	for name, f := range map[string][]byte{
		"empty":             fragment(2, 0, 0, 0, 0),
		"length 0":          fragment(2, 0, 0, 0, 1),
		"too long":          fragment(2, 0, 3496, MaxMessage+1, 1200),
		"longest of 32 bit": fragment(2, 0, 1, 1<<32-1, 1200),
		"index past end":    fragment(2, 2, 2, 2000, 800),
		"count too high":    fragment(2, 0, 3, 2000, 1200),
		"count too low":     fragment(2, 0, 1, 2000, 1200),
		"first too short":   fragment(2, 0, 2, 2000, 1199),
		"last too long":     fragment(2, 1, 2, 2000, 801),
		"again":             fragment(1, 0, 2, 2000, 1200),
		"other length":      fragment(1, 1, 2, 1999, 799),
	} {
		if _, v := b.Open(0, a.seal(nil, formFragment, 3, f)); v != FragmentBad {
			t.Errorf("%s: %v", name, v)
		}
	}
	b.expect(t, 0, a.seal(nil, formFragment, 4, fragment(1, 1, 2, 2000, 800)), FragmentBad) // other kind
	if b.Opener.senders.pending != pending {
		t.Error("a bad fragment took room")
	}
	b.expect(t, 0, a.seal(nil, formFragment, 3, fragment(1, 1, 2, 2000, 800)), OK)
}

func TestSendErrorEndsTheMessage(t *testing.T) {
	full := errors.New("full")
	sent := 0
	if err := boot(1, 1).SealMessage(0, make([]byte, 10*FragmentBytes), func([]byte) error {
		if sent++; sent == 3 {
			return full
		}
		return nil
	}); err != full || sent != 3 {
		t.Errorf("%v after %d datagrams", err, sent)
	}
}

// The window against a set of what was taken.
func TestWindowAgainstASet(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		var w window
		taken, start, newest := map[uint64]bool{}, r.Uint64N(3*WindowSize), uint64(0)
		if r.IntN(2) == 0 {
			w.startAfter(start)
			newest = start
		} else {
			start = 0
		}
		for range 5000 {
			var c uint64
			switch r.IntN(10) {
			case 0:
				c = newest + r.Uint64N(3*WindowSize)
			case 1:
				c = r.Uint64N(newest + 2)
			case 2:
				c = newest - min(newest, WindowSize-2+r.Uint64N(4))
			default:
				c = newest + 130 - min(newest, r.Uint64N(200))
			}
			want := c > start && !taken[c] && (c > newest || newest-c < WindowSize)
			if got := w.isNew(c); got != want {
				t.Fatalf("counter %d is new: %v, want %v; newest %d, start %d", c, got, want, newest, start)
			}
			if want {
				w.take(c)
				taken[c] = true
				newest = max(newest, c)
			}
		}
	}
}

// FuzzOpen: whatever comes is one counted verdict and is never used, for the
// fuzzer has not the key; recorded datagrams are its seeds.
func FuzzOpen(f *testing.F) {
	a, b := boot(1, 1), boot(2, 2)
	f.Add([]byte{})
	f.Add(introduce(f, 0, a, b))
	d := a.whole(f, "data")
	b.expect(f, 0, d, OK)
	f.Add(d)
	f.Add(boot(3, 3).whole(f, "unproved"))
	for _, d := range fragments(f, boot(3, 3), 3000) {
		f.Add(d)
	}
	now := time.Duration(0)
	f.Fuzz(func(t *testing.T, d []byte) {
		now += time.Millisecond
		before := b.Counts()
		m, v := b.Open(now, d)
		if !v.Refused() || m.Payload != nil {
			t.Errorf("%v", v)
		}
		before[v]++
		if b.Counts() != before || len(b.Senders()) != 1 || b.Opener.senders.pending != 0 {
			t.Error("more than one counter changed")
		}
	})
}

// FuzzFragment: an authenticated sender may send any fragments; room stays within
// its bounds, and what is complete has the length that it claimed.
func FuzzFragment(f *testing.F) {
	f.Add(fragment(1, 0, 2, 2000, 1200), fragment(1, 1, 2, 2000, 800), uint16(0))
	f.Add(fragment(1, 0, 2, 2000, 1200), fragment(2, 0, 3496, MaxMessage, 1200), uint16(2000))
	f.Add([]byte{}, fragment(1, 0, 1, 5, 5), uint16(1))
	f.Fuzz(func(t *testing.T, x, y []byte, pause uint16) {
		a, b := boot(1, 1), boot(2, 2)
		introduce(t, 0, a, b)
		now := time.Duration(0)
		for i := range 6 {
			plain := x
			if i%2 == 1 {
				plain = y
			}
			if i > 1 && len(plain) > 0 {
				plain = bytes.Clone(plain)
				plain[0] += byte(i / 2) // other messages of the same kind
			}
			if len(plain) > MaxPayload {
				plain = plain[:MaxPayload]
			}
			now += time.Duration(pause) * time.Millisecond
			m, v := b.Open(now, a.seal(nil, formFragment, 3, plain))
			if v != OK && v != Partial && v != FragmentBad {
				t.Errorf("%v", v)
			}
			if v == OK && len(m.Payload) != int(binary.BigEndian.Uint32(plain[12:])) {
				t.Errorf("a message of %d bytes", len(m.Payload))
			}
		}
		if n := b.Opener.senders.pending; n < 0 || n > MaxPartialBytes {
			t.Errorf("%d bytes pending", n)
		}
		b.Expire(now + PartialTimeout)
		if n := b.Opener.senders.pending; n != 0 {
			t.Errorf("%d bytes pending after the timeout", n)
		}
	})
}
