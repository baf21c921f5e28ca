package responder

import (
	"fmt"
	"net"
	"net/netip"
)

// MAC is an IEEE 802 48-bit address in the order of the wire.
type MAC [6]byte

// Broadcast is ff:ff:ff:ff:ff:ff, every station of the LAN.
func Broadcast() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// String is the usual form: lower-case hexadecimal with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsGroup reports whether m names several stations: the lowest bit of the
// first byte, the I/G bit of IEEE 802. The broadcast address is one of them.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// IsZero reports whether m is 00:00:00:00:00:00, nobody's address.
func (m MAC) IsZero() bool { return m == MAC{} }

// isStation reports whether m can be one station's address.
func (m MAC) isStation() bool { return !m.IsGroup() && !m.IsZero() }

// hardwareAddr is m as the libraries want it: a slice of a copy of m.
func (m MAC) hardwareAddr() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// VIP is a shared address and the cluster MAC at which all nodes hear it.
type VIP struct {
	Addr netip.Addr
	MAC  MAC
}

// checkAddresses refuses own addresses with which frames would break the
// promises of this package: a source MAC that is no station's or is a cluster
// MAC, or an own address that is a VIP.
func checkAddresses(own MAC, ownAddr netip.Addr, vips []VIP) error {
	if !own.isStation() {
		return fmt.Errorf("the interface's MAC %v cannot be a source address; give the interface a unicast MAC", own)
	}
	if !isHost4(ownAddr) {
		return fmt.Errorf("the interface's address %v is not an IPv4 address of a host; give the interface one", ownAddr)
	}
	for _, v := range vips {
		switch {
		case !isHost4(v.Addr) && !isHost6(v.Addr):
			return fmt.Errorf("the VIP %v is not an address of a host", v.Addr)
		case v.MAC.IsZero() || v.MAC == Broadcast():
			return fmt.Errorf("the VIP %v has the cluster MAC %v, which cannot be one", v.Addr, v.MAC)
		case v.MAC == own:
			return fmt.Errorf("the interface's own MAC %v is the cluster MAC of the VIP %v; give the interface its own MAC", own, v.Addr)
		case v.Addr == ownAddr:
			return fmt.Errorf("the VIP %v is the interface's own address; take it off the interface", v.Addr)
		}
	}
	return nil
}

// isHost4 reports whether a can be the IPv4 address of one host on a network:
// not in 0.0.0.0/8 or 127.0.0.0/8 (RFC 1122 §3.2.1.3), not multicast, and not
// in 240.0.0.0/4, to which the limited broadcast address belongs.
func isHost4(a netip.Addr) bool { return a.Is4() && isHost4Bytes(a.As4()) }

func isHost4Bytes(a [4]byte) bool { return a[0] != 0 && a[0] != 127 && a[0] < 224 }
