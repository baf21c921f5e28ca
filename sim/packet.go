package sim

import (
	"encoding/binary"
	"net/netip"
)

// MAC is an Ethernet address.
type MAC = [6]byte

// The Ethernet header, 14 bytes: destination 0, source 6, type 12.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
)

func broadcast() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func appendEthernet(b []byte, dst, src MAC, kind uint16) []byte {
	b = append(append(b, dst[:]...), src[:]...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// The ARP packet of RFC 826 for IPv4 over Ethernet:
//
//	0        2          4      5      6           8             14           18            24           28
//	| 1 = Eth | 0x0800 | 6 | 4 | operation | sender MAC | sender IP | target MAC | target IP |
const (
	arpBytes   = 28
	arpRequest = 1
	arpReply   = 2
)

type arpPacket struct {
	operation            uint16
	senderMAC, targetMAC MAC
	sender, target       netip.Addr
}

func (a *arpPacket) frame(dst, src MAC) []byte {
	b := appendEthernet(make([]byte, 0, 60), dst, src, etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.operation)
	b = append(append(b, a.senderMAC[:]...), a.sender.AsSlice()...)
	b = append(append(b, a.targetMAC[:]...), a.target.AsSlice()...)
	return append(b, make([]byte, 18)...) // up to the shortest Ethernet frame
}

func parseARP(frame []byte) (a arpPacket, ok bool) {
	if len(frame) < MinFrame+arpBytes || binary.BigEndian.Uint16(frame[12:]) != etherARP {
		return a, false
	}
	b := frame[MinFrame:]
	if [6]byte(b) != [6]byte{0, 1, 8, 0, 6, 4} {
		return a, false
	}
	a.operation = binary.BigEndian.Uint16(b[6:])
	a.senderMAC, a.targetMAC = MAC(b[8:]), MAC(b[18:])
	a.sender, a.target = netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	return a, a.operation == arpRequest || a.operation == arpReply
}

// The IPv4 header of RFC 791 without options.
const (
	ipBytes   = 20
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

func appendIPv4(b []byte, src, dst netip.Addr, proto byte, payload int) []byte {
	at := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipBytes+payload))
	b = append(b, 0, 0, 0x40, 0, 64, proto, 0, 0) // not to be fragmented, 64 hops
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[at+10:], ^onesSum(0, b[at:]))
	return b
}

// parseIPv4 returns the payload of a whole packet with a right checksum.
func parseIPv4(frame []byte) (src, dst netip.Addr, proto byte, payload []byte, ok bool) {
	if len(frame) < MinFrame+ipBytes || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return
	}
	b := frame[MinFrame:]
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < ipBytes || total < header || total > len(b) || onesSum(0, b[:header]) != 0xffff {
		return
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // a fragment
		return
	}
	return netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[9], b[header:total], true
}

// onesSum is the ones' complement sum of RFC 1071 on top of initial. Over bytes
// with their right checksum in them it is 0xffff.
func onesSum(initial uint16, b []byte) uint16 {
	sum := uint32(initial)
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// pseudoSum is the sum over the pseudo-header of RFC 9293 §3.1.
func pseudoSum(src, dst netip.Addr, proto byte, length int) uint16 {
	var b [12]byte
	copy(b[0:], src.AsSlice())
	copy(b[4:], dst.AsSlice())
	b[9] = proto
	binary.BigEndian.PutUint16(b[10:], uint16(length))
	return onesSum(0, b[:])
}

// The echo message of RFC 792: type, code, checksum, identifier, sequence
// number, data.
const (
	echoBytes   = 8
	echoRequest = 8
	echoReply   = 0
)

func echoFrame(dst, src MAC, from, to netip.Addr, kind byte, id, seq uint16, data []byte) []byte {
	b := appendEthernet(make([]byte, 0, MinFrame+ipBytes+echoBytes+len(data)), dst, src, etherIPv4)
	b = appendIPv4(b, from, to, protoICMP, echoBytes+len(data))
	at := len(b)
	b = append(b, kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[at+2:], ^onesSum(0, b[at:]))
	return b
}

// honestARP says whether the frame is no whole ARP packet, or one whose sender MAC
// is its own source.
func honestARP(frame []byte) bool {
	return binary.BigEndian.Uint16(frame[12:]) != etherARP || len(frame) < MinFrame+arpBytes || MAC(frame[MinFrame+8:]) == MAC(frame[6:])
}

// setIPSum gives an IPv4 header its checksum.
func setIPSum(header []byte) {
	n := int(header[0]&0xf) * 4
	binary.BigEndian.PutUint16(header[10:], 0)
	binary.BigEndian.PutUint16(header[10:], ^onesSum(0, header[:n]))
}

// groupMAC is where frames for a multicast address go (RFC 1112 §6.4, RFC 2464 §7).
func groupMAC(ip netip.Addr) MAC {
	if ip.Is4() {
		b := ip.As4()
		return MAC{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := ip.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// groupFrame is an IPv4 packet to a group.
func groupFrame(src MAC, from, to netip.Addr, proto, hops byte, body []byte) []byte {
	b := appendEthernet(make([]byte, 0, MinFrame+ipBytes+len(body)), groupMAC(to), src, etherIPv4)
	b = appendIPv4(b, from, to, proto, len(body))
	b[MinFrame+8] = hops
	setIPSum(b[MinFrame:])
	return append(b, body...)
}

// udpFrame is a datagram of RFC 768 in a frame.
func udpFrame(dst, src MAC, from, to netip.AddrPort, data []byte) []byte {
	n := 8 + len(data)
	b := appendEthernet(make([]byte, 0, MinFrame+ipBytes+n), dst, src, etherIPv4)
	b = appendIPv4(b, from.Addr(), to.Addr(), protoUDP, n)
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(append(b, 0, 0), data...)
	sum := ^onesSum(pseudoSum(from.Addr(), to.Addr(), protoUDP, n), b[at:])
	if sum == 0 {
		sum = 0xffff // 0 means none
	}
	binary.BigEndian.PutUint16(b[at+6:], sum)
	return b
}
