package hashing

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dchest/siphash"
	"pgregory.net/rapid"
)

func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the golden files")
	os.Exit(m.Run())
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if update() {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", path, got, want)
	}
}

// The first and the last of the 64 vectors of the SipHash authors' reference
// implementation (vectors.h, key 00..0f, message 00..n-1), and the paper's own
// of Appendix A, hold for the library and for the slow implementation; so do
// they for each other at every length between.
func TestSipHashIsSipHash(t *testing.T) {
	key := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	known := map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 15: 0xa129ca6149be45e5, 63: 0x958a324ceb064572}
	var m []byte
	for n := range 64 {
		h := NewHasher(key)
		fast, slow := siphash.Hash(h.k0, h.k1, m), slowSipHash(key, m)
		if fast != slow {
			t.Errorf("length %d: %#x and %#x", n, fast, slow)
		}
		if want, ok := known[n]; ok && fast != want {
			t.Errorf("length %d: %#x, want %#x", n, fast, want)
		}
		m = append(m, byte(n))
	}
}

// The vectors are made by the slow implementation; the fast one must agree.
func TestBucketVectors(t *testing.T) {
	var out strings.Builder
	fmt.Fprintln(&out, "# key, affinity, client address, client port, service port, bucket")
	for _, k := range [][]byte{{0}, []byte("cluster key one"), bytes.Repeat([]byte{0xff}, 32)} {
		key := DeriveKey(k)
		for a := range affinityCount {
			for _, src := range []string{"10.77.0.101", "10.77.0.102", "192.0.2.255", "0.0.0.0", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:10.77.0.101"} {
				for _, ports := range [][2]uint16{{40000, 22}, {40001, 22}, {40000, 443}} {
					f := Flow{Src: netip.MustParseAddr(src), SrcPort: ports[0], DstPort: ports[1]}
					b := slowBucket(key, a, &f)
					if got := NewHasher(key).Bucket(a, &f); got != b {
						t.Errorf("%x %v %v: bucket %d, the slow one says %d", key, a, f, got, b)
					}
					fmt.Fprintf(&out, "%s %s %s %d %d %d\n", hex.EncodeToString(key[:]), a, src, ports[0], ports[1], b)
				}
			}
		}
	}
	golden(t, "buckets.txt", out.String())
}

func TestBucketIsTheSlowOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := Key(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "length")
		src, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address"))
		f := Flow{Src: src, SrcPort: rapid.Uint16().Draw(t, "port"), DstPort: rapid.Uint16().Draw(t, "service")}
		a := Affinity(rapid.IntRange(0, int(affinityCount)-1).Draw(t, "affinity"))
		if got, want := NewHasher(key).Bucket(a, &f), slowBucket(key, a, &f); got != want {
			t.Fatalf("bucket %d, want %d", got, want)
		}
	})
}

// What an affinity leaves out does not matter, and what it names does.
func TestAffinityHashesWhatItNames(t *testing.T) {
	h := NewHasher(DeriveKey([]byte("k")))
	base := Flow{Src: netip.MustParseAddr("10.77.0.101"), SrcPort: 40000, DstPort: 22}
	for _, c := range []struct {
		name    string
		change  func(f *Flow, i int)
		matters [affinityCount]bool
	}{
		{"host", func(f *Flow, i int) { f.Src = netip.AddrFrom4([4]byte{10, 77, 0, byte(i)}) }, [...]bool{true, false, true, true}},
		{"network", func(f *Flow, i int) { f.Src = netip.AddrFrom4([4]byte{10, byte(i), 0, 101}) }, [...]bool{true, true, true, true}},
		{"source port", func(f *Flow, i int) { f.SrcPort = uint16(i) }, [...]bool{false, false, true, true}},
		{"service port", func(f *Flow, i int) { f.DstPort = uint16(i) }, [...]bool{false, false, false, true}},
		{"VIP", func(f *Flow, i int) { f.Dst = netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}) }, [...]bool{false, false, false, false}},
	} {
		for a := range affinityCount {
			seen := map[uint8]bool{}
			for i := range 200 {
				f := base
				c.change(&f, i)
				seen[h.Bucket(a, &f)] = true
			}
			if (len(seen) > 1) != c.matters[a] {
				t.Errorf("%v: %d buckets when the %s changes", a, len(seen), c.name)
			}
		}
	}
}

func TestBucketAllocatesNothing(t *testing.T) {
	h := NewHasher(Key{1})
	for _, src := range []string{"10.77.0.101", "2001:db8::1"} {
		f := Flow{Src: netip.MustParseAddr(src), SrcPort: 1, DstPort: 2}
		for a := range affinityCount {
			if n := testing.AllocsPerRun(100, func() { h.Bucket(a, &f) }); n != 0 {
				t.Errorf("%v of %s: %v allocations", a, src, n)
			}
		}
	}
}

// Addresses as networks hand them out fill the buckets evenly: the chi-square
// statistic over 256 buckets (255 degrees of freedom) stays below 360, which
// chance exceeds once in 50,000.
func TestBucketsAreFilledEvenly(t *testing.T) {
	patterns := map[string]func(i int) netip.Addr{
		"one network after the other": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}) },
		"same last byte":              func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}) },
		"every 256th":                 func(i int) netip.Addr { return netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 0, 7}) },
		"IPv6 interface numbers":      func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)}) },
	}
	for name, address := range patterns {
		h := NewHasher(DeriveKey([]byte("even")))
		const n = 1 << 16
		var count [Buckets]float64
		for i := range n {
			f := Flow{Src: address(i)}
			count[h.Bucket(SourceIP, &f)]++
		}
		chi, expected := 0.0, float64(n)/Buckets
		for _, c := range count {
			chi += (c - expected) * (c - expected) / expected
		}
		if chi > 360 {
			t.Errorf("%s: chi-square %.0f", name, chi)
		}
	}
}

func TestAffinityNames(t *testing.T) {
	for a := range affinityCount {
		if got, err := ParseAffinity(a.String()); err != nil || got != a {
			t.Errorf("%v reads back as %v, %v", a, got, err)
		}
	}
	if _, err := ParseAffinity("source"); err == nil || !strings.Contains(err.Error(), "source-ip-port-dest-port") {
		t.Errorf("a wrong name gives %v", err)
	}
}

func BenchmarkBucket(b *testing.B) {
	h := NewHasher(Key{1})
	f := Flow{Src: netip.MustParseAddr("10.77.0.101"), SrcPort: 40000, DstPort: 22}
	b.ReportAllocs()
	for b.Loop() {
		h.Bucket(SourceIP, &f)
	}
}
