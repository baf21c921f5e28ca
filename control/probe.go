package control

import (
	"encoding/binary"
	"fmt"
	"time"

	"onevoice/cluster"
	"onevoice/link"
	"onevoice/responder"
)

// A probe is a frame to a cluster MAC that a node sends because another one asked: it
// is switched as clients' frames are, and half of them are as long as the interface
// lets them be. Who asked counts what arrives.
const (
	// probeFrames is how many short ones, and how many long ones, are sent on a path.
	probeFrames = 8
	// probeBytes is a probe's payload: the number of what it answers, the path, and
	// whether it is a long one.
	probeBytes = 8 + 1 + 1
	// probeAgain bounds how often a node sends probes to the same asker.
	probeAgain = time.Second
	// maxProbePaths is how many paths are probed; a byte tells them apart.
	maxProbePaths = 64
)

// sentProbe is what was sent on a path, in the order of the paths.
type sentProbe struct {
	Short int `json:"short"`
	Long  int `json:"long"`
	// Bytes is the length of the IP packets of the long ones.
	Bytes int `json:"bytes"`
}

// Probe is what came of the frames that a node sent on a path because this one asked.
type Probe struct {
	// ID is the node that sent, as in NodeStatus.
	ID string `json:"id"`
	// Path is "eth0 01:00:5e:4d:00:02": the interface and the cluster MAC.
	Path string `json:"path"`
	// Short and Long frames were sent, of which ShortHeard and LongHeard came. Bytes
	// is the length of a long one's IP packet.
	Short      int `json:"short"`
	ShortHeard int `json:"short_heard"`
	Long       int `json:"long"`
	LongHeard  int `json:"long_heard"`
	Bytes      int `json:"bytes"`
}

// probePayload is what a probe says.
func probePayload(ask uint64, path int, long bool) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, probeBytes), ask)
	b = append(b, byte(path), 0)
	if long {
		b[probeBytes-1] = 1
	}
	return b
}

// sendProbes sends the probes that an asker wants, on all paths.
func (l *Loop) sendProbes(ask uint64) (sent []sentProbe) {
	for path, lan := range l.LANs[:min(len(l.LANs), maxProbePaths)] {
		one := sentProbe{}
		for i := range 2 * probeFrames {
			long := i%2 == 1
			b, err := l.Transport.SealProbe(l.sealed[:0], probePayload(ask, path, long))
			l.sealed = b
			size := 0
			if long {
				size = lan.longest()
			}
			if err != nil || long && size == 0 || lan.sendPadded(b, size) != nil {
				continue
			}
			if long {
				one.Long, one.Bytes = one.Long+1, size
			} else {
				one.Short++
			}
		}
		sent = append(sent, one)
	}
	return sent
}

// longest is the length of the longest IP packet whose probe can be told from a
// heartbeat with bytes behind it; 0 where there is none. Behind the datagram of IPv6
// is no room, for its length is that of the packet.
func (l *LAN) longest() int {
	if l.vip.Is6() {
		return 0
	}
	return l.device.MTU()
}

// sendPadded sends a sealed payload in an IP packet of size bytes; 0 is as many as it
// needs. What is behind the UDP datagram is zero, and nobody reads it.
func (l *LAN) sendPadded(payload []byte, size int) error {
	pad := size - (ipv4Bytes + udpBytes + len(payload))
	if size == 0 || pad <= 0 {
		return l.send(payload)
	}
	l.buffer = append(l.appendFrame(l.buffer[:0], payload), make([]byte, pad)...)
	header := l.buffer[ethernetBytes : ethernetBytes+ipv4Bytes]
	binary.BigEndian.PutUint16(header[2:], uint16(size))
	binary.BigEndian.PutUint16(header[10:], 0)
	binary.BigEndian.PutUint16(header[10:], ^responder.Sum(0, header))
	return l.device.Send([]link.Vector{{Pieces: [][]byte{l.buffer}}})
}

// String names the path.
func (l *LAN) String() string { return fmt.Sprintf("%s %s", l.name, l.to) }

// SealProbe appends a probe's datagram to dst.
func (t *Transport) SealProbe(dst, data []byte) ([]byte, error) {
	return t.sealer.Seal(dst, kindProbe, data)
}

// TakeProbes sets what gets the payloads of probes, with the member that sent them.
func (t *Transport) TakeProbes(take func(from uint64, payload []byte)) { t.probes = take }

// TakeCards sets what gets messages about hosts, with the member that sent them. A
// message is valid until it returns.
func (t *Transport) TakeCards(take func(now time.Duration, from uint64, message []byte)) {
	t.cards = take
}

// SendCard sends such a message to a member.
func (t *Transport) SendCard(now time.Duration, to uint64, message []byte) error {
	return t.send(now, cluster.Datagram{To: to, Data: message}, kindCards)
}
