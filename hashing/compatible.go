package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Compatible is the hash of another system, by which that system's nodes share the
// clients. With it a cluster can be moved over node by node: a flow has the same owner
// with them and with us.
type Compatible struct {
	System System
	// Seed is CLUSTERIP's --hash-init, xt_cluster's --cluster-hash-seed, and nft's
	// seed; the others have none.
	Seed uint32
	// Nodes is how many nodes share the clients, and so how many buckets there are.
	Nodes int
}

// System says whose hash it is.
type System uint8

// Systems. Ports of CLUSTERIP's are hashed as they lie in the memory of a machine
// that puts the low byte first, as all do that anybody has had a cluster of.
const (
	// ClusterIPSource is CLUSTERIP --hashmode sourceip, IPv4 alone.
	ClusterIPSource System = iota
	// ClusterIPSourcePort is CLUSTERIP --hashmode sourceip-sourceport.
	ClusterIPSourcePort
	// ClusterIPBothPorts is CLUSTERIP --hashmode sourceip-sourceport-destport.
	ClusterIPBothPorts
	// XTCluster is iptables -m cluster. Of IPv6 addresses it hashes the first 32 bits
	// alone, as the kernel does: NF_CT_TUPLE_L3SIZE / sizeof(u32) is one word.
	XTCluster
	// NFTHash is nft's `jhash ip saddr mod N seed S`, and of IPv6 `jhash ip6 saddr`.
	NFTHash
	// Netmask is a rule by the low bits of the client's address.
	Netmask
	// CARP is OpenBSD's `balancing ip`.
	CARP

	systemCount
)

// String is the system's name.
func (s System) String() string {
	names := [systemCount]string{"clusterip-sourceip", "clusterip-sourceip-sourceport", "clusterip-sourceip-sourceport-destport",
		"xt-cluster", "nft-jhash", "netmask", "carp"}
	if s < systemCount {
		return names[s]
	}
	return "unknown"
}

// Check reports what of the parameters the other system would not take.
func (c *Compatible) Check() error {
	most := Buckets
	switch c.System {
	case ClusterIPSource, ClusterIPSourcePort, ClusterIPBothPorts:
		most = 16
	case XTCluster, CARP:
		most = 32
	case Netmask:
		if c.Nodes&(c.Nodes-1) != 0 {
			return fmt.Errorf("hashing: a netmask rule of %d nodes; write a power of two", c.Nodes)
		}
	case NFTHash:
	default:
		return errors.New("hashing: an unknown system")
	}
	if c.Nodes < 1 || c.Nodes > most {
		return fmt.Errorf("hashing: %s of %d nodes; write from 1 to %d", c.System, c.Nodes, most)
	}
	return nil
}

// Bucket is which node the flow belongs to, from 0 on: CLUSTERIP, which counts from 1,
// calls it one more. False for what the system does not know: CLUSTERIP has no IPv6.
// The parameters are those that Check takes. It allocates nothing.
func (c *Compatible) Bucket(f *Flow) (uint8, bool) {
	src := f.Src.Unmap()
	n := uint32(c.Nodes)
	if src.Is4() {
		return uint8(c.bucket4(src.As4(), f, n)), true
	}
	var w [4]uint32
	words(&w, src)
	switch c.System {
	case XTCluster:
		return uint8(scale(jhashWords(w[:1], c.Seed), n)), true
	case NFTHash:
		return uint8(scale(jhashWords(w[:], c.Seed), n)), true
	case Netmask:
		b := src.As16()
		return b[15] & uint8(n-1), true
	case CARP:
		return uint8(fold(f) % n), true
	}
	return 0, false
}

func (c *Compatible) bucket4(src [4]byte, f *Flow, n uint32) int {
	address := binary.BigEndian.Uint32(src[:])
	switch w := [3]uint32{address, asInMemory(f.SrcPort), asInMemory(f.DstPort)}; c.System {
	case ClusterIPSource:
		return scale(jhashWords(w[:1], c.Seed), n)
	case ClusterIPSourcePort:
		return scale(jhashWords(w[:2], c.Seed), n)
	case ClusterIPBothPorts:
		return scale(jhashWords(w[:], c.Seed), n)
	case Netmask:
		return int(address & (n - 1))
	case CARP:
		return int(fold(f) % n)
	default:
		w[0] = binary.LittleEndian.Uint32(src[:])
		return scale(jhashWords(w[:1], c.Seed), n)
	}
}

// asInMemory is a port of the wire as a machine reads it that puts the low byte first.
func asInMemory(port uint16) uint32 { return uint32(port<<8 | port>>8) }

// words are an address of IPv6 as such a machine reads them.
func words(w *[4]uint32, a netip.Addr) {
	b := a.As16()
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
}

// fold is what CARP takes the remainder of: all words of both addresses, one over the
// other.
func fold(f *Flow) uint32 {
	var sum uint32
	for _, a := range [2]netip.Addr{f.Src.Unmap(), f.Dst.Unmap()} {
		if a.Is4() {
			b := a.As4()
			sum ^= binary.BigEndian.Uint32(b[:])
			continue
		}
		b := a.As16()
		for i := 0; i < len(b); i += 4 {
			sum ^= binary.BigEndian.Uint32(b[i:])
		}
	}
	return sum
}
