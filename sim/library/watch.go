package library

import (
	"encoding/binary"
	"net/netip"
	"time"

	"onevoice/sim"
)

// watch is a sniffer in the nodes' LAN: who answered what.
type watch struct {
	nodes map[string]int // by port name
	asks  []ask
	last  map[netip.Addr][]int // an asker's newest in asks
	flows map[netip.AddrPort]*answered
	// syns is when a client's SYN came last.
	syns  map[netip.AddrPort]time.Duration
	pings map[pingKey]uint64
	// strange are frames that no honest node sends.
	strange string
	cluster sim.MAC
	vip     netip.Addr
	// record, if set, gets every frame.
	record func(frame []byte)
}

// ask is an ARP request for the VIP, and the nodes that answered.
type ask struct {
	at    time.Duration
	nodes uint64
}

// answered is a flow's SYN-ACKs.
type answered struct {
	first int // the node that answered first
	at    time.Duration
	// last is who answered last, and when.
	last   int
	lastAt time.Duration
	// twice: two nodes answered one SYN. A client that has no answer says it again, and
	// that one may be another's.
	twice bool
}

type pingKey struct {
	to      netip.Addr
	id, seq uint16
}

func newWatch(vip netip.Addr, cluster sim.MAC) *watch {
	return &watch{nodes: map[string]int{}, last: map[netip.Addr][]int{}, flows: map[netip.AddrPort]*answered{}, syns: map[netip.AddrPort]time.Duration{}, pings: map[pingKey]uint64{}, vip: vip, cluster: cluster}
}

// Offsets in a frame of ARP or IPv4 over Ethernet.
const (
	etherIPv4    = 0x0800
	etherARP     = 0x0806
	arpOperation = sim.MinFrame + 6
	arpSender    = sim.MinFrame + 14
	arpTarget    = sim.MinFrame + 24
	arpEnd       = sim.MinFrame + 28
	ipProto      = sim.MinFrame + 9
	ipSource     = sim.MinFrame + 12
	ipTarget     = sim.MinFrame + 16
	ipEnd        = sim.MinFrame + 20
	protoICMP    = 1
	protoTCP     = 6
)

func address(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }

// frame is one that crosses the LAN.
func (w *watch) frame(now time.Duration, from *sim.Port, f []byte) {
	if w.record != nil {
		w.record(f)
	}
	node, isNode := w.nodes[from.Name]
	if isNode && sim.MAC(f[6:]) == w.cluster && w.strange == "" {
		w.strange = from.Name + " sends a frame from the cluster MAC"
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case etherARP:
		w.arp(now, node, isNode, f)
	case etherIPv4:
		switch {
		case len(f) < ipEnd+8 || f[sim.MinFrame] != 0x45:
		case isNode && address(f[ipSource:]) == w.vip:
			w.answer(now, node, f)
		case !isNode && address(f[ipTarget:]) == w.vip && synOf(f) == sim.SYN:
			w.syns[netip.AddrPortFrom(address(f[ipSource:]), binary.BigEndian.Uint16(f[ipEnd:]))] = now
		}
	}
}

func (w *watch) arp(now time.Duration, node int, isNode bool, f []byte) {
	if len(f) < arpEnd {
		return
	}
	sender, target := address(f[arpSender:]), address(f[arpTarget:])
	switch f[arpOperation+1] {
	case 1:
		if !isNode && target == w.vip {
			w.last[sender] = append(w.last[sender], len(w.asks))
			w.asks = append(w.asks, ask{at: now})
		}
	case 2:
		if isNode && sender == w.vip {
			w.answerARP(now, node, target)
		}
	}
}

// answerARP counts an answer for the asker's oldest request of the last second
// that this node has not answered.
func (w *watch) answerARP(now time.Duration, node int, asker netip.Addr) {
	open := w.last[asker]
	for len(open) > 0 && now-w.asks[open[0]].at > time.Second {
		open = open[1:]
	}
	w.last[asker] = open
	for _, i := range open {
		if a := &w.asks[i]; a.nodes&(1<<node) == 0 {
			a.nodes |= 1 << node
			return
		}
	}
}

// answer is an IPv4 packet of a node with the VIP as its source.
func (w *watch) answer(now time.Duration, node int, f []byte) {
	to := address(f[ipTarget:])
	switch body := f[ipEnd:]; {
	case f[ipProto] == protoICMP && body[0] == 0:
		w.pings[pingKey{to, binary.BigEndian.Uint16(body[4:]), binary.BigEndian.Uint16(body[6:])}] |= 1 << node
	case synOf(f) == sim.SYN|sim.ACK:
		key := netip.AddrPortFrom(to, binary.BigEndian.Uint16(body[2:]))
		a := w.flows[key]
		if a == nil {
			a = &answered{first: node, at: now, last: node}
			w.flows[key] = a
		}
		a.twice = a.twice || a.last != node && w.syns[key] <= a.lastAt
		a.last, a.lastAt = node, now
	}
}

// synOf are SYN and ACK of an IPv4 packet's TCP segment; 0 if it is none.
func synOf(f []byte) byte {
	if f[ipProto] != protoTCP || len(f) < ipEnd+20 {
		return 0
	}
	return f[ipEnd+13] & (sim.SYN | sim.ACK)
}
