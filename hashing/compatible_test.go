package hashing

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// The vectors of lookup3's own self-test.
func TestJHash(t *testing.T) {
	text := []byte("Four score and seven years ago")
	if got := jhash(text, 0); got != 0x17770551 {
		t.Errorf("%08x", got)
	}
	if got := jhash(text, 1); got != 0xcd628161 {
		t.Errorf("with seed 1: %08x", got)
	}
	// Of whole words both say the same.
	for n := range 9 {
		b, w := make([]byte, 4*n), make([]uint32, n)
		for i := range w {
			w[i] = uint32(i+1) * 0x9e3779b9
			binary.LittleEndian.PutUint32(b[4*i:], w[i])
		}
		if x, y := jhash(b, 7), jhashWords(w, 7); x != y {
			t.Errorf("%d words: %08x and %08x", n, x, y)
		}
	}
}

func TestCompatibleVectors(t *testing.T) {
	flow := func(src string, sport, dport uint16) Flow {
		return Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.77.0.2"), SrcPort: sport, DstPort: dport}
	}
	for _, c := range []struct {
		name   string
		system System
		flow   Flow
		hash   uint32
		bucket uint8
	}{
		{"CLUSTERIP", ClusterIPSource, flow("192.168.0.1", 0, 0), 0x141c753e, 0},
		{"CLUSTERIP", ClusterIPSource, flow("10.0.0.2", 0, 0), 0x6ec73995, 1},
		{"CLUSTERIP with the source port", ClusterIPSourcePort, flow("10.0.0.1", 40000, 0), 0x3c4b95fd, 0},
		{"CLUSTERIP with both", ClusterIPBothPorts, flow("10.0.0.1", 40000, 22), 0x6bc81091, 1},
		{"xt_cluster", XTCluster, flow("192.168.0.1", 1, 2), 0x67d0c770, 1},
		{"nft", NFTHash, flow("192.168.0.1", 1, 2), 0x67d0c770, 1},
		{"nft, IPv6", NFTHash, flow("2001:db8::1", 1, 2), 0x0e5b0adb, 0},
	} {
		for _, n := range []int{4, 16, 3, 1} {
			want := uint8(scale(c.hash, uint32(n)))
			if n == 4 && want != c.bucket {
				t.Errorf("%s: the hash %08x is bucket %d of 4, not %d", c.name, c.hash, want, c.bucket)
			}
			system := Compatible{System: c.system, Nodes: n}
			if err := system.Check(); err != nil {
				t.Error(err)
			}
			if got, ok := system.Bucket(&c.flow); !ok || got != want {
				t.Errorf("%s of %d: bucket %d, %v, want %d", c.name, n, got, ok, want)
			}
		}
	}
}

func TestCompatibleOfWholeNetworks(t *testing.T) {
	bucket := func(c Compatible, src, dst string) uint8 {
		b, ok := c.Bucket(&Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)})
		if !ok {
			t.Fatalf("%s does not know %s", c.System, src)
		}
		return b
	}
	// xt_cluster hashes the first word of an IPv6 address.
	xt := Compatible{System: XTCluster, Nodes: 32}
	if a, b := bucket(xt, "2001:db8::1", "::"), bucket(xt, "2001:db8:ffff::9", "::"); a != b {
		t.Errorf("one /32 has buckets %d and %d", a, b)
	}
	mask := Compatible{System: Netmask, Nodes: 8}
	for src, want := range map[string]uint8{"10.0.0.9": 1, "10.1.2.7": 7, "2001:db8::1f": 7, "::ffff:10.0.0.9": 1} {
		if got := bucket(mask, src, "10.77.0.2"); got != want {
			t.Errorf("netmask: %s has bucket %d, want %d", src, got, want)
		}
	}
	carp := Compatible{System: CARP, Nodes: 3}
	// 10.0.0.9 ^ 10.77.0.2 = 0x004d000b
	if got := bucket(carp, "10.0.0.9", "10.77.0.2"); got != 0x004d000b%3 {
		t.Errorf("CARP: bucket %d", got)
	}
	// 2001:db8::1 ^ 2001:db8::2, word for word, is 3.
	if got := bucket(carp, "2001:db8::1", "2001:db8::2"); got != 0 {
		t.Errorf("CARP: bucket %d", got)
	}
}

func TestCompatibleBounds(t *testing.T) {
	for _, c := range []struct {
		system System
		nodes  int
		ok     bool
	}{
		{ClusterIPSource, 16, true}, {ClusterIPSource, 17, false}, {ClusterIPBothPorts, 0, false}, {XTCluster, 32, true}, {XTCluster, 33, false},
		{NFTHash, 256, true}, {NFTHash, 257, false}, {Netmask, 8, true}, {Netmask, 6, false}, {Netmask, 256, true}, {Netmask, 512, false},
		{CARP, 32, true}, {CARP, -1, false}, {systemCount, 4, false},
	} {
		if err := (&Compatible{System: c.system, Nodes: c.nodes}).Check(); (err == nil) != c.ok {
			t.Errorf("%s of %d: %v", c.system, c.nodes, err)
		}
	}
	six := Flow{Src: netip.MustParseAddr("2001:db8::1")}
	if _, ok := (&Compatible{System: ClusterIPSource, Nodes: 4}).Bucket(&six); ok {
		t.Error("CLUSTERIP knows IPv6")
	}
	names := map[string]bool{}
	for s := range systemCount + 1 {
		names[s.String()] = true
	}
	if len(names) != int(systemCount)+1 {
		t.Errorf("names %v", names)
	}
	c, four := Compatible{System: ClusterIPBothPorts, Nodes: 4}, Flow{Src: netip.MustParseAddr("10.0.0.1")}
	if n := testing.AllocsPerRun(100, func() { c.Bucket(&four); c.Bucket(&six) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
