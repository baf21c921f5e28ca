package hashing

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// pattern is a way in which networks hand out addresses.
type pattern struct {
	name      string
	addresses int
	address   func(i uint32) netip.Addr
}

func v4(a uint32) netip.Addr { return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a))) }

func patterns() []pattern {
	return []pattern{
		{"a /24, whole", 256, func(i uint32) netip.Addr { return v4(10<<24 | 77<<16 | i) }},
		{"a /16, every 37th", 65536 / 37, func(i uint32) netip.Addr { return v4(10<<24 | 77<<16 | i*37) }},
		{"a /16, whole", 65536, func(i uint32) netip.Addr { return v4(172<<24 | 16<<16 | i) }},
		{"last octet 1", 65536, func(i uint32) netip.Addr { return v4(10<<24 | i<<8 | 1) }},
		{"last two octets 0.7", 65536, func(i uint32) netip.Addr { return v4(i<<16 | 7) }},
		{"IPv6 interface 1, 2, 3", 65536, func(i uint32) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		}},
		{"IPv6 network, interface 1", 65536, func(i uint32) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 6: byte(i >> 8), 7: byte(i), 15: 1})
		}},
	}
}

// chiSquare is the statistic of a pattern over the 256 buckets, rounded down:
// the sum of (count - n/256)² / (n/256), which is 256/n · sum of count² - n.
func chiSquare(p pattern, h Hasher) int {
	var count [Buckets]int64
	for i := range p.addresses {
		f := Flow{Src: p.address(uint32(i))}
		count[h.Bucket(SourceIP, &f)]++
	}
	squares, n := int64(0), int64(p.addresses)
	for _, c := range count {
		squares += c * c
	}
	return int(Buckets*squares/n - n)
}

// Addresses as networks hand them out fill the buckets as chance would. With 255
// degrees of freedom the statistic has mean 255 and standard deviation 22.6. It
// passes 370 once in 300,000 times and falls below 160 once in 1,600,000; the
// mean over 32 keys has a standard deviation of 4, and 235 to 275 is five of
// them. A hash that fills buckets in order would be near 0.
func TestBucketsAreFilledEvenly(t *testing.T) {
	const keys = 32
	var out strings.Builder
	fmt.Fprintf(&out, "chi-square of 256 buckets, %d keys; chance gives 255 on average\n", keys)
	fmt.Fprintln(&out, "pattern                    addresses  least  mean  most")
	for _, p := range patterns() {
		least, most, sum := 1<<30, 0, 0
		for k := range keys {
			c := chiSquare(p, NewHasher(DeriveKey([]byte{'b', byte(k)})))
			least, most, sum = min(least, c), max(most, c), sum+c
		}
		if mean := sum / keys; least < 160 || most > 370 || mean < 235 || mean > 275 {
			t.Errorf("%s: chi-square from %d to %d, mean %d", p.name, least, most, mean)
		}
		fmt.Fprintf(&out, "%-25s  %9d  %5d  %4d  %4d\n", p.name, p.addresses, least, sum/keys, most)
	}
	golden(t, "balance.txt", out.String())
}
