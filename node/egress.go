package node

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Address writes the Ethernet header of a packet that netstack sends: from our
// own MAC, never the cluster's, to where the client was last heard. False when
// that is not known.
func (n *Node) Address(now time.Duration, to netip.Addr, header []byte) bool {
	mac, ok := n.neighbours.Next(now, to)
	if !ok {
		return false
	}
	copy(header[0:6], mac[:])
	copy(header[6:12], n.own[:])
	binary.BigEndian.PutUint16(header[12:], etherTypeIPv4)
	return true
}

// Ask makes an ARP request for the next hop that Address lacked, from this
// node's own address; nil when one was sent a moment ago.
func (n *Node) Ask(now time.Duration, to netip.Addr) []byte { return n.neighbours.Ask(now, to) }
