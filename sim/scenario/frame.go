package scenario

import (
	"encoding/binary"

	"onevoice/cluster"
	"onevoice/responder"
	"onevoice/sim"
)

// A heartbeat on a path, as control sends it (OWNERSHIP.md R6): a UDP datagram to
// the VIP in a frame to the cluster MAC, so that a switch that looks at IP
// destinations does with it what it does with clients' frames. The payload is not
// sealed here.
//
//	0               14                       34                              42
//	| Ethernet      | IPv4, TTL 1, to the VIP | UDP, from and to heartbeatPort | payload
const (
	heartbeatPort   = 7177
	heartbeatHeader = sim.MinFrame + 20 + 8
	etherIPv4       = 0x0800
	protoUDP        = 17
)

// heartbeat puts one into a frame.
func (h *Host) heartbeat(b cluster.PathMessage) []byte {
	to, from := h.c.clusterMAC(b.Path), h.mac(b.Path)
	f := make([]byte, 0, heartbeatHeader+len(b.Data))
	f = append(append(f, to[:]...), from[:]...)
	f = binary.BigEndian.AppendUint16(f, etherIPv4)
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(20+8+len(b.Data)))
	f = append(f, 0, 0, 0x40, 0, 1, protoUDP, 0, 0)
	f = append(append(f, h.addr.AsSlice()...), VIP().AsSlice()...)
	binary.BigEndian.PutUint16(f[sim.MinFrame+10:], ^responder.Sum(0, f[sim.MinFrame:]))
	f = binary.BigEndian.AppendUint16(f, heartbeatPort)
	f = binary.BigEndian.AppendUint16(f, heartbeatPort)
	f = binary.BigEndian.AppendUint16(f, uint16(8+len(b.Data)))
	f = append(f, 0, 0) // no checksum, as RFC 768 allows over IPv4
	return append(f, b.Data...)
}

// heartbeatIn is the payload of a heartbeat's frame.
func heartbeatIn(frame []byte) ([]byte, bool) {
	if len(frame) < heartbeatHeader || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 || frame[sim.MinFrame] != 0x45 ||
		frame[sim.MinFrame+9] != protoUDP || binary.BigEndian.Uint16(frame[sim.MinFrame+22:]) != heartbeatPort {
		return nil, false
	}
	return frame[heartbeatHeader:], true
}

// frame is one that came in on a path: heartbeats are for the control process, the
// rest for the worker.
func (h *Host) frame(path int, frame []byte) {
	if len(frame) < sim.MinFrame {
		return
	}
	h.noteSYN(frame)
	boots, arrived := h.boots, h.clock.Now()
	if body, ok := heartbeatIn(frame); ok {
		h.clock.Do(func() {
			if h.boots == boots {
				h.step(cluster.Heard{Path: path, Data: body})
			}
		})
		return
	}
	if h.kernel != nil && h.kernel.frame(frame) {
		return
	}
	if s := h.worker.gate; s != nil {
		s.frame(frame, arrived)
	}
}
