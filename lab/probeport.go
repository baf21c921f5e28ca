package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// closedPort is a UDP port of the VIP that no service has.
const closedPort = 5999

// ProbeClosedPort sends a datagram to a closed UDP port of the VIP from every address
// of a client and counts the ICMP errors that each gets.
func ProbeClosedPort(h *Host) (Answers, error) {
	return probe(h, func(from netip.Addr) []byte { return datagramTo(h.cluster, h.MAC, from, closedPort) }, func(f []byte) (netip.Addr, bool) {
		// A port unreachable from the VIP, RFC 792.
		if binary.BigEndian.Uint16(f[12:]) != 0x0800 || len(f) < 42 || f[23] != 1 || f[34] != 3 || f[35] != 3 || netip.AddrFrom4([4]byte(f[26:30])) != VIP() {
			return netip.Addr{}, false
		}
		return netip.AddrFrom4([4]byte(f[30:34])), true
	})
}

// datagramTo is a datagram to a port of the VIP, without a checksum of its own.
func datagramTo(cluster, mac net.HardwareAddr, from netip.Addr, port uint16) []byte {
	b := append(append(append([]byte{}, cluster...), mac...), 0x08, 0x00)
	ip := []byte{0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, protoUDP, 0, 0}
	ip = append(append(ip, from.AsSlice()...), VIP().AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], ^foldedSum(0, ip))
	udp := binary.BigEndian.AppendUint16([]byte{0x9c, 0x40}, port)
	return append(append(append(b, ip...), udp...), 0, 16, 0, 0, 'o', 'n', 'e', 'v', 'o', 'i', 'c', 'e')
}
