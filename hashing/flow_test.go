package hashing

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Cluster keys of the vectors, and clients of every kind.
func exampleKeys() [][]byte {
	return [][]byte{{}, {0}, []byte("cluster key one"), bytes.Repeat([]byte{0xff}, 32)}
}

func exampleClients() []string {
	return []string{
		"0.0.0.0", "10.77.0.101", "10.77.0.102", "192.0.2.255", "255.255.255.255",
		"2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::1%eth0", "::ffff:10.77.0.101",
	}
}

// The keys are derived once more by RFC 5869's two lines, written out.
func TestKeyVectors(t *testing.T) {
	var out strings.Builder
	fmt.Fprintln(&out, "# cluster key (- is empty), hash key")
	seen := map[Key]bool{}
	for _, k := range exampleKeys() {
		key := slowDeriveKey(k)
		if got := DeriveKey(k); got != key {
			t.Errorf("%x: %x, the slow one says %x", k, got, key)
		}
		seen[key] = true
		text := hex.EncodeToString(k)
		if text == "" {
			text = "-"
		}
		fmt.Fprintf(&out, "%s %x\n", text, key)
	}
	if len(seen) != len(exampleKeys()) {
		t.Errorf("%d keys of %d differ", len(seen), len(exampleKeys()))
	}
	golden(t, "keys.txt", out.String())
}

// The vectors are made by the slow implementation; the fast one must agree.
func TestBucketVectors(t *testing.T) {
	var out strings.Builder
	fmt.Fprintln(&out, "# hash key, affinity, client address, client port, service port, bucket")
	for _, k := range exampleKeys()[1:] {
		key := slowDeriveKey(k)
		for a := range affinityCount {
			for _, src := range exampleClients() {
				for _, ports := range [][2]uint16{{40000, 22}, {40001, 22}, {40000, 443}} {
					f := Flow{Src: netip.MustParseAddr(src), SrcPort: ports[0], DstPort: ports[1]}
					b := slowBucket(key, a, &f)
					if got := NewHasher(key).Bucket(a, &f); got != b {
						t.Errorf("%x %v %v: bucket %d, the slow one says %d", key, a, f, got, b)
					}
					fmt.Fprintf(&out, "%x %s %s %d %d %d\n", key, a, src, ports[0], ports[1], b)
				}
			}
		}
	}
	golden(t, "buckets.txt", out.String())
}

func TestBucketIsTheSlowOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t)
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "length")
		src, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address"))
		f := Flow{Src: src, SrcPort: rapid.Uint16().Draw(t, "port"), DstPort: rapid.Uint16().Draw(t, "service")}
		for a := range affinityCount {
			got, want := NewHasher(key).Bucket(a, &f), slowBucket(key, a, &f)
			if got != want {
				t.Fatalf("%v: bucket %d, want %d", a, got, want)
			}
		}
	})
}

// Clients that differ in what an affinity names reach every bucket, about as often: of
// buckets with 64 on average one in 8,000 has less than 36 or more than 96 by chance
// (Poisson), and of these none has.
func TestEveryBucketIsReached(t *testing.T) {
	h := NewHasher(DeriveKey([]byte("k")))
	for a := range affinityCount {
		var reached [Buckets]int
		for i := range 64 * Buckets {
			// Networks of /24 count for source-net.
			src := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
			reached[h.Bucket(a, &Flow{Src: src, SrcPort: 40000, DstPort: 22})]++
		}
		if least, most := slices.Min(reached[:]), slices.Max(reached[:]); least < 36 || most > 96 {
			t.Errorf("%v: between %d and %d clients of each bucket, want about 64", a, least, most)
		}
	}
}

// What an affinity leaves out does not matter, and what it names does.
func TestAffinityHashesWhatItNames(t *testing.T) {
	h := NewHasher(DeriveKey([]byte("k")))
	v4 := Flow{Src: netip.MustParseAddr("10.77.0.101"), Dst: netip.MustParseAddr("10.77.0.2"), SrcPort: 40000, DstPort: 22, Proto: 6}
	v6 := v4
	v6.Src = netip.MustParseAddr("2001:db8::1")
	octet := func(i int, b byte) func(f *Flow) {
		return func(f *Flow) {
			v := f.Src.AsSlice()
			v[i] = b
			f.Src, _ = netip.AddrFromSlice(v)
		}
	}
	// Which of source-ip, source-net, source-ip-port, source-ip-port-dest-port.
	all, none := [affinityCount]bool{true, true, true, true}, [affinityCount]bool{}
	notNet := [affinityCount]bool{true, false, true, true}
	for _, c := range []struct {
		name    string
		base    Flow
		change  func(b byte) func(f *Flow)
		matters [affinityCount]bool
	}{
		{"host", v4, func(b byte) func(*Flow) { return octet(3, b) }, notNet},
		{"last octet of the network", v4, func(b byte) func(*Flow) { return octet(2, b) }, all},
		{"first octet", v4, func(b byte) func(*Flow) { return octet(0, b) }, all},
		{"first octet of the IPv6 host", v6, func(b byte) func(*Flow) { return octet(8, b) }, notNet},
		{"last octet of the IPv6 host", v6, func(b byte) func(*Flow) { return octet(15, b) }, notNet},
		{"last octet of the IPv6 network", v6, func(b byte) func(*Flow) { return octet(7, b) }, all},
		{"source port", v4, func(b byte) func(*Flow) { return func(f *Flow) { f.SrcPort = uint16(b) } }, [...]bool{false, false, true, true}},
		{"service port", v6, func(b byte) func(*Flow) { return func(f *Flow) { f.DstPort = uint16(b) << 8 } }, [...]bool{false, false, false, true}},
		{"VIP", v4, func(b byte) func(*Flow) { return func(f *Flow) { f.Dst = netip.AddrFrom4([4]byte{10, 77, 1, b}) } }, none},
		{"protocol", v4, func(b byte) func(*Flow) { return func(f *Flow) { f.Proto = b } }, none},
	} {
		for a := range affinityCount {
			seen := map[uint8]bool{}
			for i := range 200 {
				f := c.base
				c.change(byte(i))(&f)
				seen[h.Bucket(a, &f)] = true
			}
			if (len(seen) > 1) != c.matters[a] {
				t.Errorf("%v: %d buckets when the %s changes", a, len(seen), c.name)
			}
		}
	}
}

// A dual-stack socket reports IPv4 clients as ::ffff:a.b.c.d; they are the same
// clients. The zone is this host's own name for a link.
func TestBucketOfTheSameClient(t *testing.T) {
	for _, c := range [][2]string{{"10.77.0.101", "::ffff:10.77.0.101"}, {"10.77.0.101", "::ffff:10.77.0.101%eth0"}, {"fe80::1", "fe80::1%eth0"}} {
		for a := range affinityCount {
			f, g := Flow{Src: netip.MustParseAddr(c[0]), SrcPort: 7}, Flow{Src: netip.MustParseAddr(c[1]), SrcPort: 7}
			for _, k := range exampleKeys() {
				if h := NewHasher(DeriveKey(k)); h.Bucket(a, &f) != h.Bucket(a, &g) {
					t.Errorf("%v: %s and %s have two buckets", a, c[0], c[1])
				}
			}
		}
	}
}

// Nothing that a caller can hand in makes Bucket panic.
func TestBucketTakesAnyFlow(t *testing.T) {
	h := NewHasher(Key{1})
	missing, zero := Flow{SrcPort: 1}, Flow{Src: netip.IPv6Unspecified(), SrcPort: 1}
	for a := range 256 {
		if h.Bucket(Affinity(a), &missing) != h.Bucket(Affinity(a), &zero) {
			t.Errorf("affinity %d: a missing address is not ::", a)
		}
		if a >= int(affinityCount) && h.Bucket(Affinity(a), &zero) != h.Bucket(SourceIP, &zero) {
			t.Errorf("affinity %d is not as source-ip", a)
		}
	}
}

func TestBucketAllocatesNothing(t *testing.T) {
	h := NewHasher(Key{1})
	for _, src := range exampleClients() {
		f := Flow{Src: netip.MustParseAddr(src), SrcPort: 1, DstPort: 2}
		for a := range affinityCount {
			if n := testing.AllocsPerRun(100, func() { h.Bucket(a, &f) }); n != 0 {
				t.Errorf("%v of %s: %v allocations", a, src, n)
			}
		}
	}
}

func TestAffinityNames(t *testing.T) {
	names := []string{"source-ip", "source-net", "source-ip-port", "source-ip-port-dest-port"}
	for i, name := range names {
		a, err := ParseAffinity(name)
		if err != nil || a != Affinity(i) || a.String() != name {
			t.Errorf("%s is read as %d, %q, %v", name, a, a, err)
		}
	}
	for _, wrong := range []string{"", "source", "Source-IP", "source-ip ", Affinity(200).String()} {
		_, err := ParseAffinity(wrong)
		if err == nil {
			t.Errorf("%q is taken", wrong)
			continue
		}
		for _, name := range names {
			if !strings.Contains(err.Error()+" ", name+" ") && !strings.Contains(err.Error(), name+",") {
				t.Errorf("%q: the error does not list %s: %v", wrong, name, err)
			}
		}
	}
}

func BenchmarkBucket(b *testing.B) {
	h := NewHasher(Key{1})
	for _, c := range []struct {
		src string
		a   Affinity
	}{
		{"10.77.0.101", SourceIP}, {"10.77.0.101", SourceIPPortDestPort},
		{"2001:db8::1", SourceIP}, {"2001:db8::1", SourceIPPortDestPort},
	} {
		f := Flow{Src: netip.MustParseAddr(c.src), SrcPort: 40000, DstPort: 22}
		b.Run(fmt.Sprintf("%s/%v", c.src, c.a), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Bucket(c.a, &f)
			}
		})
	}
}
