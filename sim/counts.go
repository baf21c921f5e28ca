package sim

import (
	"fmt"
	"strings"
)

// Counter is one thing that can happen to a frame or datagram.
type Counter int

// What can happen. The Dropped ones end its way to that port.
const (
	Sent Counter = iota
	Delivered
	Flooded    // a switch did not know where to, or the address is a group
	Lost       // by a link's Loss
	Duplicated // by a link's Dup
	Overtook   // came before one that was sent earlier, by a link's Reorder
	Corrupted  // by a link's Corrupt

	DroppedMute
	DroppedDeaf
	DroppedUnplugged
	DroppedCut
	DroppedPartition
	DroppedQueue     // a link's queue was full
	DroppedBacklog   // a paused host's backlog was full
	DroppedNoHost    // nobody listens at the port
	DroppedSize      // too short or too long
	DroppedSamePort  // a switch's answer to a frame for the port it came from
	DroppedReserved  // for an address that a switch does not forward
	DroppedSource    // from a group address or none, at a switch
	UnwantedByFilter // a port's filter did not want it

	LearnedNot // a switch's table was full

	DroppedIsolated     // both ports are isolated
	DroppedUnknown      // flooded, but not to a port that blocks what is
	DroppedUnregistered // for a group that nobody behind the switch has joined
	DroppedInspection   // ARP whose sender MAC is not its frame's source
	DroppedBlocked      // by the spanning tree
	DroppedStorm        // went in circles, or met a trunk that was full of such
	Moved               // an address spoke from another port than before
	counters
)

func (c Counter) String() string {
	names := [counters]string{"sent", "delivered", "flooded", "lost", "duplicated", "overtook", "corrupted",
		"dropped: mute", "dropped: deaf", "dropped: unplugged", "dropped: cut", "dropped: partition", "dropped: queue full",
		"dropped: backlog full", "dropped: no host", "dropped: size", "dropped: same port", "dropped: reserved address", "dropped: source",
		"unwanted", "not learned", "dropped: isolated", "dropped: not flooded here", "dropped: group without members",
		"dropped: ARP inspection", "dropped: spanning tree", "dropped: storm", "moved"}
	if c < 0 || c >= counters {
		return fmt.Sprintf("counter %d", int(c))
	}
	return names[c]
}

// Counts has a number for each Counter.
type Counts [counters]uint64

// String names what is not 0.
func (c Counts) String() string {
	var out []string
	for i, n := range c {
		if n > 0 {
			out = append(out, fmt.Sprintf("%s %d", Counter(i), n))
		}
	}
	return strings.Join(out, ", ")
}
