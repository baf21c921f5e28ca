package reassembly

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// packet is a whole IP datagram: IPv4 with options, or IPv6 with an extension
// header.
func packet(r *rand.Rand, six bool, data int) (ip []byte, header int) {
	const optionBytes = 8
	if six {
		header = 40 + optionBytes
	} else {
		header = 20 + optionBytes
	}
	ip = make([]byte, header+data)
	for i := range ip {
		ip[i] = byte(r.Uint32())
	}
	if six {
		ip[0], ip[6], ip[40], ip[41] = 0x60, 60, 17, 0 // destination options, then UDP
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		return ip, header
	}
	ip[0], ip[9] = 0x40|byte(header/4), 17
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6], ip[7], ip[10], ip[11] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^slowSum(ip[:header]))
	return ip, header
}

func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// part is the packet with the bytes of its data from one offset to another.
func part(ip []byte, header, from, to int, more bool) []byte {
	field := uint16(from)
	if ip[0]>>4 == 6 {
		if more {
			field |= 1
		}
		p := slices.Clone(ip[:header])
		p[40] = 44
		p = append(p, ip[40], 0, byte(field>>8), byte(field), 1, 2, 3, 4)
		p = append(p, ip[header+from:header+to]...)
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		return p
	}
	field /= 8
	if more {
		field |= 0x2000
	}
	p := append(slices.Clone(ip[:header]), ip[header+from:header+to]...)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[6:], field)
	return p
}

// read is the fragment in a packet that part has made.
func read(t *testing.T, p []byte) *Fragment {
	t.Helper()
	var f Fragment
	var ok bool
	if p[0]>>4 == 6 {
		f, ok = IPv6(p, 48, 40)
	} else {
		f, ok = IPv4(p, int(p[0]&0xf)*4)
	}
	if !ok {
		t.Fatal("not read as a fragment")
	}
	return &f
}

// cut cuts the data of a packet at random multiples of 8.
func cut(r *rand.Rand, ip []byte, header, pieces int) (out [][]byte) {
	data := len(ip) - header
	at := []int{0, data}
	for range pieces - 1 {
		if n := 8 * (1 + r.IntN(max(data/8-1, 1))); n < data {
			at = append(at, n)
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for i := 1; i < len(at); i++ {
		out = append(out, part(ip, header, at[i-1], at[i], at[i] < data))
	}
	return out
}

// Any cut of a datagram, in any order, with any of its pieces twice, is the
// datagram, once, with its last missing piece.
func TestAnyCutInAnyOrderIsTheDatagram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 4000 {
		six := round%2 == 1
		ip, header := packet(r, six, 16+r.IntN(5000))
		pieces := cut(r, ip, header, 2+r.IntN(12))
		if len(pieces) < 2 {
			continue
		}
		table := New(Bounds{})
		order := append(slices.Clone(pieces), pieces[r.IntN(len(pieces))])
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		missing, seen := len(pieces), map[string]bool{}
		for i, p := range order {
			dst, stamp, o := table.Add(time.Second, time.Duration(100+i), read(t, p), []byte("before"))
			want := Held
			if seen[string(p)] {
				want = Duplicate
			} else if missing--; missing == 0 {
				want = Whole
			}
			seen[string(p)] = true
			if o != want {
				t.Fatalf("round %d, piece %d of %d: %v, want %v", round, i, len(order), o, want)
			}
			if o != Whole {
				continue
			}
			if !bytes.Equal(dst, append([]byte("before"), ip...)) {
				t.Fatalf("round %d: another datagram came out", round)
			}
			if stamp != 100 {
				t.Errorf("round %d: the stamp is that of piece %d", round, stamp-100)
			}
			break
		}
		if missing != 0 || table.Counters().Waiting != 0 || table.Counters().Bytes != 0 {
			t.Fatalf("round %d: %d missing, left %+v", round, missing, table.Counters())
		}
	}
}

// With an overlap nothing comes out, whatever comes before and after it.
func TestAnOverlapYieldsNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 4000 {
		ip, header := packet(r, round%2 == 1, 64+r.IntN(2000))
		pieces := cut(r, ip, header, 3+r.IntN(5))
		data := len(ip) - header
		// One more that differs from all: it begins or ends within another.
		from := 8 * r.IntN(data/8)
		to := min(from+8*(1+r.IntN(data/8)), data)
		forged := part(ip, header, from, to, to < data)
		if slices.ContainsFunc(pieces, func(p []byte) bool { return bytes.Equal(p, forged) }) || len(pieces) < 2 || to-from == data {
			continue
		}
		if from > 0 && r.IntN(2) == 0 {
			// Or it says that the datagram ends elsewhere.
			forged = part(ip, header, from, from+8, false)
			if from+8 >= data {
				continue
			}
		}
		// It meets the one that it overlaps before the datagram is whole.
		order := slices.Clone(pieces)
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		met := slices.IndexFunc(order, func(p []byte) bool {
			f := read(t, p)
			return f.Offset < from+len(read(t, forged).Data) && from < f.Offset+len(f.Data)
		})
		order[0], order[met] = order[met], order[0]
		order = slices.Insert(order, r.IntN(2), forged)
		table, overlaps := New(Bounds{}), 0
		for _, p := range order {
			switch _, _, o := table.Add(0, 0, read(t, p), nil); o {
			case Whole:
				t.Fatalf("round %d: a datagram came out", round)
			case Overlap:
				overlaps++
			}
		}
		if overlaps == 0 {
			t.Fatalf("round %d: no overlap was seen", round)
		}
		if c := table.Counters(); c.Waiting != 1 || c.Bytes != datagramBytes {
			t.Errorf("round %d: a refused datagram keeps %+v", round, c)
		}
		if table.Expire(Timeout) != 0 || table.Counters().Waiting != 0 {
			t.Errorf("round %d: a refused datagram is not forgotten, or was counted twice", round)
		}
	}
}

func v4(src string, id uint16, offset, n int, more bool) *Fragment {
	return &Fragment{
		Key:   Key{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.77.0.2"), ID: uint32(id), Proto: 17},
		Upper: 17, Offset: offset, More: more, Data: make([]byte, n), Header: append([]byte{0x45}, make([]byte, 19)...), Next: 9,
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	tcp := func(f *Fragment) *Fragment { f.Upper, f.Proto = 6, 6; return f }
	long := v4("10.0.0.1", 1, 0, 8, true)
	long.Header = append([]byte{0x60}, make([]byte, maxHeaderBytes)...)
	for _, c := range []struct {
		name string
		f    *Fragment
		want Outcome
	}{
		{"no bytes", v4("10.0.0.1", 1, 0, 0, true), Bad},
		{"7 bytes and more to come", v4("10.0.0.1", 1, 8, 7, true), Bad},
		{"beyond the longest datagram", v4("10.0.0.1", 1, 65528, 8, false), Bad},
		{"up to the longest datagram", v4("10.0.0.1", 1, 65504, 11, false), Held},
		{"a TCP header of 8 bytes", tcp(v4("10.0.0.1", 2, 0, 8, true)), Tiny},
		{"a TCP header of 16 bytes", tcp(v4("10.0.0.1", 2, 0, 16, true)), Held},
		{"into a TCP header", tcp(v4("10.0.0.1", 3, 8, 8, true)), Tiny},
		{"behind 8 bytes of UDP", v4("10.0.0.1", 4, 8, 8, true), Held},
		{"headers without end", long, Bad},
		{"whole by itself", v4("10.0.0.1", 5, 0, 3, false), Whole},
	} {
		if _, _, o := New(Bounds{}).Add(0, 0, c.f, nil); o != c.want {
			t.Errorf("%s: %v, want %v", c.name, o, c.want)
		}
	}
}

// What lies behind the end, or says that the end is elsewhere, spoils the datagram,
// though it covers nothing twice.
func TestTheEndIsTheEnd(t *testing.T) {
	for name, parts := range map[string][]*Fragment{
		"behind the last":             {v4("10.0.0.1", 1, 0, 8, true), v4("10.0.0.1", 1, 16, 8, false), v4("10.0.0.1", 1, 24, 8, true)},
		"the last before another":     {v4("10.0.0.1", 1, 0, 8, true), v4("10.0.0.1", 1, 24, 8, true), v4("10.0.0.1", 1, 16, 8, false)},
		"two that are the last":       {v4("10.0.0.1", 1, 0, 8, true), v4("10.0.0.1", 1, 16, 8, false), v4("10.0.0.1", 1, 8, 8, false)},
		"two last ones, farther away": {v4("10.0.0.1", 1, 0, 8, true), v4("10.0.0.1", 1, 16, 8, false), v4("10.0.0.1", 1, 32, 8, false)},
	} {
		table := New(Bounds{})
		for i, f := range parts {
			want := Held
			if i == len(parts)-1 {
				want = Overlap
			}
			if _, _, o := table.Add(0, 0, f, nil); o != want {
				t.Errorf("%s, part %d: %v, want %v", name, i, o, want)
			}
		}
		if _, _, o := table.Add(0, 0, v4("10.0.0.1", 1, 8, 8, true), nil); o != Overlap {
			t.Errorf("%s: what was missing: %v", name, o)
		}
	}
}

func TestDatagramsDoNotMix(t *testing.T) {
	table := New(Bounds{})
	other := v4("10.0.0.1", 7, 8, 8, false)
	other.Proto = 1
	for _, f := range []*Fragment{v4("10.0.0.1", 7, 0, 8, true), v4("10.0.0.2", 7, 8, 8, false), v4("10.0.0.1", 8, 8, 8, false), other} {
		if _, _, o := table.Add(0, 0, f, nil); o != Held {
			t.Errorf("%v: %v", f.Key, o)
		}
	}
	if _, _, o := table.Add(0, 0, v4("10.0.0.1", 7, 8, 8, false), nil); o != Whole {
		t.Errorf("the right one: %v", o)
	}
}

func TestFragmentsAreWaitedForSoLong(t *testing.T) {
	table := New(Bounds{})
	table.Add(time.Second, 0, v4("10.0.0.1", 1, 0, 8, true), nil)
	table.Add(30*time.Second, 0, v4("10.0.0.1", 2, 0, 8, true), nil)
	if n := table.Expire(time.Second + Timeout - 1); n != 0 {
		t.Errorf("%d given up too soon", n)
	}
	if n := table.Expire(time.Second + Timeout); n != 1 || table.Counters().TimedOut != 1 {
		t.Errorf("%d given up, want 1; %+v", n, table.Counters())
	}
	if _, _, o := table.Add(time.Second+Timeout, 0, v4("10.0.0.1", 1, 8, 8, false), nil); o != Held {
		t.Errorf("a fragment after the time: %v", o)
	}
	if _, _, o := table.Add(time.Second+Timeout, 0, v4("10.0.0.1", 2, 8, 8, false), nil); o != Whole {
		t.Errorf("a fragment in time: %v", o)
	}
}

// A source that sends much loses its own oldest, and others nothing; many sources
// lose the oldest of all.
func TestBoundsAreKept(t *testing.T) {
	for name, b := range map[string]Bounds{
		"datagrams of a source": {DatagramsOfSource: 10},
		"bytes of a source":     {BytesOfSource: 10 * (datagramBytes + pieceBytes + 1024)},
	} {
		table := New(b)
		table.Add(0, 0, v4("10.0.0.9", 1, 0, 8, true), nil)
		for i := range 1000 {
			table.Add(time.Duration(i), 0, v4("10.0.0.1", uint16(i), 8, 1024, true), nil)
		}
		if c := table.Counters(); c.Waiting != 11 || c.GivenUp != 990 {
			t.Errorf("%s: %+v", name, c)
		}
		if _, _, o := table.Add(0, 0, v4("10.0.0.9", 1, 8, 8, false), nil); o != Whole {
			t.Errorf("%s: another source's: %v", name, o)
		}
		if _, _, o := table.Add(0, 0, v4("10.0.0.1", 999, 0, 8, true), nil); o != Held || table.Counters().Waiting < 9 {
			t.Errorf("%s: its newest: %v, %+v", name, o, table.Counters())
		}
	}
	for name, b := range map[string]Bounds{
		"datagrams": {Datagrams: 10},
		"bytes":     {Bytes: 10 * (datagramBytes + pieceBytes + 1024)},
	} {
		table := New(b)
		for i := range 1000 {
			src := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			table.Add(time.Duration(i), 0, v4(src.String(), 1, 8, 1024, true), nil)
			if c := table.Counters(); c.Waiting > 10 {
				t.Fatalf("%s: %+v", name, c)
			}
		}
		if c := table.Counters(); c.Waiting != 10 || c.GivenUp != 990 || len(table.sources) != 10 || len(table.datagrams) != 10 {
			t.Errorf("%s: %+v, %d sources", name, c, len(table.sources))
		}
	}
	// The hosts of an IPv6 /64 are one source.
	table := New(Bounds{DatagramsOfSource: 10})
	for i := range 1000 {
		f := v4("10.0.0.1", 1, 8, 8, true)
		f.Src = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 8: byte(i >> 8), 9: byte(i)})
		table.Add(0, 0, f, nil)
	}
	if c := table.Counters(); c.Waiting != 10 {
		t.Errorf("a /64: %+v", c)
	}
}

func TestADatagramInTooManyPieces(t *testing.T) {
	table := New(Bounds{})
	for i := range MaxFragments {
		if _, _, o := table.Add(0, 0, v4("10.0.0.1", 1, 16*i, 8, true), nil); o != Held {
			t.Fatalf("piece %d: %v", i, o)
		}
	}
	if _, _, o := table.Add(0, 0, v4("10.0.0.1", 1, 16*MaxFragments, 8, true), nil); o != TooMany {
		t.Errorf("one more: %v", o)
	}
	if c := table.Counters(); c.Bytes != datagramBytes {
		t.Errorf("%d bytes are kept of it", c.Bytes)
	}
}

// FuzzAdd: whatever comes, what is whole has no gap and no overlap, and the bounds
// hold. Each fragment is 4 bytes: datagram, offset, length, flags.
func FuzzAdd(f *testing.F) {
	f.Add([]byte{1, 0, 1, 1, 1, 1, 1, 0})
	f.Add([]byte{1, 1, 1, 0, 1, 0, 2, 1, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		table := New(Bounds{Datagrams: 4, Bytes: 8 << 10, DatagramsOfSource: 3, BytesOfSource: 6 << 10})
		now, known := time.Duration(0), true
		got := map[Key]map[int]bool{} // 8 bytes each
		for ; len(script) >= 4; script = script[4:] {
			fr := v4("10.0.0.1", uint16(script[0]%5), 8*int(script[1]%32), 8*int(script[2]%32), script[3]&1 != 0)
			now += time.Duration(script[3]>>4) * time.Second
			for i := range fr.Data {
				fr.Data[i] = byte((fr.Offset + i) / 8)
			}
			if got[fr.Key] == nil {
				got[fr.Key] = map[int]bool{}
			}
			whole, _, o := table.Add(now, 0, fr, nil)
			single := fr.Offset == 0 && !fr.More
			c := table.Counters()
			if c.Waiting > 4 || c.Bytes > 8<<10+600 {
				t.Fatalf("%+v", c)
			}
			// Which datagrams went then is the table's to say.
			known = known && c.GivenUp+c.TimedOut == 0
			if single {
				continue
			}
			if o == Overlap {
				delete(got, fr.Key)
			}
			if o == Held || o == Whole {
				for at := fr.Offset; at < fr.Offset+len(fr.Data); at += 8 {
					if known && got[fr.Key][at] {
						t.Fatalf("offset %d was taken twice", at)
					}
					got[fr.Key][at] = true
				}
			}
			if o == Whole {
				for at := range len(whole[20:]) / 8 {
					if known && !got[fr.Key][8*at] {
						t.Fatalf("offset %d never came", 8*at)
					}
					if whole[20+8*at] != byte(at) {
						t.Fatalf("offset %d has the bytes of %d", 8*at, 8*int(whole[20+8*at]))
					}
				}
				delete(got, fr.Key)
			}
		}
	})
}
