package library

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// kernelNode is the node, from 1, to which CLUSTERIP in its mode sourceip sends
// an address when there are so many: jhash_1word of the address in host order,
// scaled (net/ipv4/netfilter/ipt_CLUSTERIP.c, clusterip_hashfn; include/linux/
// jhash.h). xt_cluster scales the same hash of the address's other byte order.
func kernelNode(ip netip.Addr, nodes int) int {
	b := ip.As4()
	return int(uint64(jhash1(binary.BigEndian.Uint32(b[:])))*uint64(nodes)>>32) + 1
}

// jhash1 is the kernel's jhash_1word with initval 0: lookup3's final mix.
func jhash1(a uint32) uint32 {
	const initial = 0xdeadbeef + 1<<2
	b, c := uint32(initial), uint32(initial)
	a += initial
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	return (c ^ b) - bits.RotateLeft32(b, 24)
}
