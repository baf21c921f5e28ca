package sim

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Bounds of a translator (RFC 3022 §2.2).
const (
	firstTranslated = 1024  // ports from here on
	MaxTranslations = 64512 // of each protocol: all ports from there on
	// translationIdle is after what silence an entry may be used for another flow:
	// 2 h 4 min is what RFC 5382 wants for TCP (REQ-5); UDP and ICMP have less.
	translationIdleTCP   = 2*time.Hour + 4*time.Minute
	translationIdleOther = 2 * time.Minute // RFC 4787, REQ-5
)

// translator maps flows to the ports of one address. A flow keeps its own port if
// that is free.
type translator struct {
	address netip.Addr
	out4    map[natKey]*translation
	back4   map[natPort]*translation
	next    uint16
}

// natKey is a flow's inside; one port serves all that it talks to (RFC 4787 REQ-1).
type natKey struct {
	proto byte
	from  netip.AddrPort
}

type natPort struct {
	proto byte
	port  uint16
}

type translation struct {
	natKey
	port uint16
	used time.Duration
}

func newTranslator(address netip.Addr) *translator {
	return &translator{address: address, out4: map[natKey]*translation{}, back4: map[natPort]*translation{}, next: firstTranslated}
}

// portAt is where a packet has its source port, or its destination port, and its
// checksum: of an echo the identifier stands for both ports.
func portAt(proto byte, source bool) (port, sum int, ok bool) {
	switch {
	case proto == protoTCP && source:
		return 0, 16, true
	case proto == protoTCP:
		return 2, 16, true
	case proto == protoUDP && source:
		return 0, 6, true
	case proto == protoUDP:
		return 2, 6, true
	case proto == protoICMP:
		return 4, 2, true
	}
	return 0, 0, false
}

// out rewrites what leaves and says whether there was an entry or room for one.
func (t *translator) out(frame []byte, now time.Duration) bool {
	src, _, proto, body, ok := parseIPv4(frame)
	at, sum, known := portAt(proto, true)
	if !ok || !known || len(body) < sum+2 || proto == protoICMP && body[0] != echoRequest {
		return false
	}
	key := natKey{proto, netip.AddrPortFrom(src, binary.BigEndian.Uint16(body[at:]))}
	e := t.out4[key]
	if e == nil {
		if e = t.enter(key, now); e == nil {
			return false
		}
	}
	e.used = now
	rewrite(frame, body, proto, 12, t.address, at, e.port, sum)
	return true
}

// back rewrites what comes in for a masked flow, and says for whom it is.
func (t *translator) back(frame []byte, now time.Duration) (netip.Addr, bool) {
	_, _, proto, body, ok := parseIPv4(frame)
	at, sum, known := portAt(proto, false)
	if !ok || !known || len(body) < sum+2 || proto == protoICMP && body[0] != echoReply {
		return netip.Addr{}, false
	}
	e := t.back4[natPort{proto, binary.BigEndian.Uint16(body[at:])}]
	if e == nil {
		return netip.Addr{}, false
	}
	e.used = now
	rewrite(frame, body, proto, 16, e.from.Addr(), at, e.from.Port(), sum)
	return e.from.Addr(), true
}

// enter makes an entry with the flow's own port, or with the next that is free or
// long unused.
func (t *translator) enter(key natKey, now time.Duration) *translation {
	port := key.from.Port()
	for tries := 0; !t.free(natPort{key.proto, port}, now); tries++ {
		if tries == MaxTranslations {
			return nil
		}
		port = t.next
		if t.next++; t.next < firstTranslated {
			t.next = firstTranslated
		}
	}
	e := &translation{key, port, now}
	t.out4[key], t.back4[natPort{key.proto, port}] = e, e
	return e
}

// free says whether a port may be given away, and takes it from who left it.
func (t *translator) free(p natPort, now time.Duration) bool {
	e := t.back4[p]
	if e == nil {
		return p.port >= firstTranslated
	}
	idle := translationIdleOther
	if p.proto == protoTCP {
		idle = translationIdleTCP
	}
	if now-e.used < idle {
		return false
	}
	delete(t.out4, e.natKey)
	delete(t.back4, p)
	return true
}

// rewrite puts an address and a port into a packet and mends its checksums.
func rewrite(frame, body []byte, proto byte, addrAt int, ip netip.Addr, portAt int, port uint16, sumAt int) {
	header := frame[MinFrame:]
	copy(header[addrAt:], ip.AsSlice())
	setIPSum(header)
	binary.BigEndian.PutUint16(body[portAt:], port)
	if proto == protoUDP && binary.BigEndian.Uint16(body[sumAt:]) == 0 {
		return // without a checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(body[sumAt:], 0)
	initial := uint16(0)
	if proto != protoICMP {
		initial = pseudoSum(netip.AddrFrom4([4]byte(header[12:])), netip.AddrFrom4([4]byte(header[16:])), proto, len(body))
	}
	binary.BigEndian.PutUint16(body[sumAt:], ^onesSum(initial, body))
}
