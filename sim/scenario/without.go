package scenario

import (
	"encoding/binary"

	"onevoice/sim"
)

// Without are rules of the cluster that are switched off, so that one can see
// what each is for. The cores stay as they are.
type Without struct {
	// ICMPOwner: every node answers echo requests, as with a rule that forgets
	// ICMP. ARPOwner: every node answers ARP requests.
	ICMPOwner, ARPOwner bool
	// Failover: after FixOwners nothing that the cluster agrees on reaches the
	// workers: they answer for what they had, for ever, and nobody takes it over.
	Failover bool
	// Lists: no node lists the flows that it drains for others. It is of the direct path.
	Lists bool
	// LastSYN: a SYN-ACK may answer a SYN from before its node's right, where the TCP is a
	// model.
	LastSYN bool
}

const (
	etherARP    = 0x0806
	protoICMP   = 1
	echoRequest = 8
)

// covers tells whether a frame is one that every node answers.
func (w Without) covers(frame []byte) bool {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return w.ARPOwner
	case etherIPv4:
		return w.ICMPOwner && len(frame) > sim.MinFrame+20 && frame[sim.MinFrame+9] == protoICMP && frame[sim.MinFrame+20] == echoRequest
	}
	return false
}

// FixOwners makes the present owners those of all time, if Without says so.
func (c *Cluster) FixOwners() { c.fixed = c.o.Without.Failover }
