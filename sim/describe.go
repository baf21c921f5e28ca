package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Describe is a frame in a few words, for traces. It looks at what it shows and
// checks nothing: lengths only as far as not to fail.
func Describe(frame []byte) string {
	if len(frame) < MinFrame {
		return fmt.Sprintf("%d bytes, no frame", len(frame))
	}
	head := macText(frame[6:]) + " > " + macText(frame[0:])
	body := frame[14:]
	if m, ok := parseMembership(frame); ok {
		return head + " " + m.String()
	}
	if MAC(frame) == treeMAC() {
		return head + " " + describeBPDU(frame)
	}
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == etherARP && len(body) >= arpBytes:
		return head + " " + describeARP(body)
	case kind == etherIPv4 && len(body) >= ipBytes:
		return head + " " + describeIP(body)
	default:
		return fmt.Sprintf("%s type %04x, %d bytes", head, kind, len(frame))
	}
}

func macText(b []byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

func describeARP(b []byte) string {
	from, to := netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	if binary.BigEndian.Uint16(b[6:]) == arpRequest {
		return fmt.Sprintf("arp who has %s, tell %s", to, from)
	}
	return fmt.Sprintf("arp %s is at %s", from, macText(b[8:]))
}

func describeIP(b []byte) string {
	src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	header := int(b[0]&0xf) * 4
	if header < ipBytes || len(b) < header {
		return fmt.Sprintf("ip %s > %s, broken", src, dst)
	}
	data := b[header:]
	switch {
	case b[9] == protoTCP && len(data) >= tcpBytes:
		return fmt.Sprintf("tcp %s:%d > %s:%d %s seq %d ack %d, %d bytes", src, binary.BigEndian.Uint16(data),
			dst, binary.BigEndian.Uint16(data[2:]), flagText(data[13]), binary.BigEndian.Uint32(data[4:]),
			binary.BigEndian.Uint32(data[8:]), max(0, len(data)-int(data[12]>>4)*4))
	case b[9] == protoUDP && len(data) >= 8:
		return fmt.Sprintf("udp %s:%d > %s:%d, %d bytes", src, binary.BigEndian.Uint16(data), dst, binary.BigEndian.Uint16(data[2:]), len(data)-8)
	case b[9] == protoICMP && len(data) >= 8:
		return fmt.Sprintf("icmp %s > %s type %d code %d", src, dst, data[0], data[1])
	case b[9] == protoVRRP && len(data) >= vrrpBytes:
		return fmt.Sprintf("vrrp %s group %d priority %d: %s", src, data[1], data[2], netip.AddrFrom4([4]byte(data[8:])))
	}
	return fmt.Sprintf("ip %s > %s protocol %d, %d bytes", src, dst, b[9], len(data))
}

// String is the message in a few words.
func (m membershipMessage) String() string {
	protocol := "igmp"
	if m.source.Is6() {
		protocol = "mld"
	}
	what := map[membershipKind]string{membershipQuery: "asks for", membershipReport: "joins", membershipLeave: "leaves"}[m.kind]
	if len(m.groups) == 0 {
		return fmt.Sprintf("%s %s %s all groups", protocol, m.source, what)
	}
	var names []string
	for _, g := range m.groups {
		names = append(names, g.String())
	}
	return fmt.Sprintf("%s %s %s %s", protocol, m.source, what, strings.Join(names, ", "))
}

func describeBPDU(frame []byte) string {
	m, ok := parseBPDU(frame)
	switch {
	case !ok:
		return "spanning tree, broken"
	case m == nil:
		return "spanning tree: it has changed"
	}
	return fmt.Sprintf("spanning tree: root %x, cost %d, says %x", m.root, m.cost, m.bridge)
}

func flagText(flags byte) string {
	var out strings.Builder
	for i, c := range "FSRPAU" {
		if flags&(1<<i) != 0 {
			out.WriteRune(c)
		}
	}
	return out.String()
}
