package hashing

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/dchest/siphash"
)

// Buckets is the number of buckets of a table.
const Buckets = 256

// Flow is one conversation as the client began it: Src is the client and Dst
// the VIP. Ports are 0 where the protocol has none.
type Flow struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Affinity says which fields of a flow are hashed, and so which flows of a
// client stay together on a node.
type Affinity uint8

// Affinities.
const (
	// SourceIP keeps all flows of an address together.
	SourceIP Affinity = iota
	// SourceNet keeps a network together: /24 of IPv4, /64 of IPv6.
	SourceNet
	// SourceIPPort spreads the flows of an address.
	SourceIPPort
	// SourceIPPortDestPort spreads them by the service's port as well.
	SourceIPPortDestPort

	affinityCount
)

// String is the affinity's name in the configuration.
func (a Affinity) String() string {
	names := [affinityCount]string{"source-ip", "source-net", "source-ip-port", "source-ip-port-dest-port"}
	if a < affinityCount {
		return names[a]
	}
	return "unknown"
}

// ParseAffinity reads a name of the configuration.
func ParseAffinity(name string) (Affinity, error) {
	for a := range affinityCount {
		if a.String() == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("hashing: %q is not an affinity; write source-ip, source-net, source-ip-port or source-ip-port-dest-port", name)
}

// Key is a hash key. It belongs to the mapping, apart from the keys of the
// control traffic.
type Key [16]byte

// keyInfo separates the hash key from everything else derived from the cluster
// key (RFC 5869 §3.2).
const keyInfo = "onevoice hash key v1"

// DeriveKey makes the hash key that is used before there is a replicated
// mapping: 16 bytes of HKDF-SHA-256 (RFC 5869) of the cluster key, without salt
// and with keyInfo as info. Any length is taken, but under GODEBUG=fips140=only
// Go refuses keys below 14 bytes, and then this panics; a cluster key has 32.
func DeriveKey(clusterKey []byte) Key {
	b, err := hkdf.Key(sha256.New, clusterKey, nil, keyInfo, len(Key{}))
	if err != nil {
		// Our own mistake: the length asked for is a constant, and the key
		// was checked when its file was read.
		panic(err)
	}
	return Key(b)
}

// Hasher hashes flows under one key.
type Hasher struct{ k0, k1 uint64 }

// NewHasher makes a hasher. The key's halves are little-endian, as in the
// SipHash paper.
func NewHasher(k Key) Hasher {
	return Hasher{binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:])}
}

// Key is the key that the hasher was made with.
func (h Hasher) Key() (k Key) {
	binary.LittleEndian.PutUint64(k[:8], h.k0)
	binary.LittleEndian.PutUint64(k[8:], h.k1)
	return k
}

// Bucket is the bucket of a flow: SipHash-2-4 of the affinity's fields, in
// network byte order one behind the other, modulo Buckets. An address takes 4
// bytes, or 16 for IPv6; a network 4 bytes with the last cleared, or the first 8
// for IPv6. An IPv4-mapped IPv6 address (::ffff:0:0/96) counts as the IPv4
// address in it, and a zone does not count. No flow is refused: an unknown
// affinity counts as SourceIP and a missing address as ::. It allocates nothing.
func (h Hasher) Bucket(a Affinity, f *Flow) uint8 {
	var b [20]byte
	n := source(&b, a, f.Src)
	if a == SourceIPPort || a == SourceIPPortDestPort {
		binary.BigEndian.PutUint16(b[n:], f.SrcPort)
		n += 2
	}
	if a == SourceIPPortDestPort {
		binary.BigEndian.PutUint16(b[n:], f.DstPort)
		n += 2
	}
	return uint8(siphash.Hash(h.k0, h.k1, b[:n]) % Buckets)
}

// source writes the client's address, or its network, and reports its length.
func source(b *[20]byte, a Affinity, src netip.Addr) int {
	if src = src.Unmap(); src.Is4() {
		v := src.As4()
		if a == SourceNet {
			v[3] = 0
		}
		return copy(b[:], v[:])
	}
	v := src.As16()
	if a == SourceNet {
		return copy(b[:], v[:8])
	}
	return copy(b[:], v[:])
}
