package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/link"
)

// A flood in a round of TortureFlood: each node has so many SYNs a second in its own
// buckets that its kernel answers them, and each has a source of its own, which does not
// exist and never answers.
const (
	// floodPerNode SYNs come in a second for each node. From 5,000 of its own on the
	// kernel of a node answers.
	floodPerNode = 7_000
	// floodMost bounds the rate of all, so that the sniffer can judge them.
	floodMost = 28_000
	// floodTurn is how often those are sent that are due, at most as many as are in
	// longestTurn: what a machine that stood still has missed does not come at once.
	floodTurn     = 2 * time.Millisecond
	longestTurn   = 20 * time.Millisecond
	shortestFlood = 800 * time.Millisecond
	longestFlood  = 1400 * time.Millisecond
	// cookieMemory is for how long after a flood strays of buckets that have moved may have
	// no answer (OWNERSHIP.md R14): a minute after the last cookie, which are sent until the
	// last half-open connections of the flood are given up, and the lists after it.
	cookieMemory = 75 * time.Second
)

// synFlood sends SYNs to a service until it is closed.
type synFlood struct {
	device *link.Packet
	to     netip.AddrPort
	// cluster and mac are the Ethernet addresses.
	cluster, mac net.HardwareAddr
	// rate is how many SYNs there are in a second, first the number of the first one and
	// next that of the next.
	rate, first, next int
	stop, done        chan struct{}
}

// newSYNFlood begins a flood from a client, of so many SYNs a second. The sources of
// floods with other numbers are other ones.
func newSYNFlood(h *Host, to netip.AddrPort, rate, number int) (*synFlood, error) {
	f := &synFlood{to: to, cluster: h.cluster, mac: h.MAC, rate: rate, stop: make(chan struct{}), done: make(chan struct{})}
	f.first = number * int(time.Duration(rate)*longestFlood/time.Second)
	f.next = f.first
	// It hears nothing.
	err := h.Do(func() (err error) { f.device, err = link.Open(hostDevice, &link.Filter{}); return err })
	if err != nil {
		return nil, fmt.Errorf("lab: flood from %s: %w", h.Name, err)
	}
	go f.run()
	return f, nil
}

// run is the goroutine `lab.synFlood.run`; it ends with close.
func (f *synFlood) run() {
	defer close(f.done)
	ticker := time.NewTicker(floodTurn)
	defer ticker.Stop()
	vectors := make([]link.Vector, f.rate*int(longestTurn/time.Millisecond)/1000)
	for last := time.Now(); ; {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
		}
		now := time.Now()
		due := min(int(now.Sub(last)*time.Duration(f.rate)/time.Second), len(vectors))
		last = now
		for i := range vectors[:due] {
			vectors[i].Pieces = [][]byte{f.syn(f.next)}
			f.next++
		}
		// What the cable does not take is lost, as it would be.
		_ = f.device.Send(vectors[:due])
	}
}

// syn is the SYN with a number, as clients send it: every other one has time stamps. Its
// source is of 198.18.0.0/15, which is for tests (RFC 2544).
func (f *synFlood) syn(number int) []byte {
	b := append(append(append(make([]byte, 0, 74), f.cluster...), f.mac...), 0x08, 0)
	b = append(b, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protoTCP, 0, 0, 198, 18+byte(number>>16&1), byte(number>>8), byte(number))
	b = append(b, f.to.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, uint16(1024+number>>17%60_000))
	b = binary.BigEndian.AppendUint16(b, f.to.Port())
	b = binary.BigEndian.AppendUint32(b, uint32(number)*2654435761)
	options := []byte{2, 4, 5, 180} // a segment of at most 1,460 bytes
	if number%2 == 0 {
		options = append(binary.BigEndian.AppendUint32(append(options, 4, 2, 8, 10), uint32(number)), 0, 0, 0, 0)
	}
	b = append(b, 0, 0, 0, 0, byte(20+len(options))<<2, tcpSYN, 0xff, 0xff, 0, 0, 0, 0)
	b = append(b, options...)
	binary.BigEndian.PutUint16(b[atIP+2:], uint16(len(b)-atIP))
	return seal(b)
}

// close ends the flood and tells how many SYNs it had.
func (f *synFlood) close() (sent int, err error) {
	close(f.stop)
	<-f.done
	return f.next - f.first, f.device.Close()
}

// flood is a round's, from one client after the other.
func (t *torture) flood() (undo func() error, err error) {
	clients := t.LAN.Clients()
	if err := t.routeToNobody(); err != nil {
		return nil, err
	}
	before := t.answeredInKernels()
	f, err := newSYNFlood(clients[t.floods%len(clients)], beatService(), min(floodPerNode*len(t.Daemons), floodMost), t.floods)
	if err != nil {
		return nil, err
	}
	t.floods++
	return func() error {
		sent, err := f.close()
		t.flooded = time.Now()
		t.result.FloodSYNs += sent
		t.result.AnsweredInKernels += max(0, t.answeredInKernels()-before)
		return err
	}, nil
}

// routeToNobody gives the nodes a route to the sources of floods, without which their own
// TCP would answer none, by way of the first client, who forwards nothing.
func (t *torture) routeToNobody() error {
	if t.floods > 0 {
		return nil
	}
	route := netlink.Route{Dst: &net.IPNet{IP: net.IPv4(198, 18, 0, 0), Mask: net.CIDRMask(15, 32)}, Gw: t.LAN.Clients()[0].Addrs[0].AsSlice()}
	for _, h := range t.LAN.Nodes() {
		if err := h.Do(func() error { return netlink.RouteAdd(&route) }); err != nil {
			return fmt.Errorf("lab: a route for floods at %s: %w", h.Name, err)
		}
	}
	return nil
}

// answeredInKernels is how many SYNs the nodes' kernels have answered so far. It is for
// the report, so that a node that does not say it is none.
func (t *torture) answeredInKernels() (sum int) {
	ctx, cancel := context.WithTimeout(context.Background(), orderTimeout)
	defer cancel()
	for _, d := range t.Daemons {
		var s struct {
			Filtered struct {
				Answered int `json:"syns_answered_by_tcx"`
			} `json:"filtered"`
		}
		if err := d.Ask(ctx, &s); err == nil {
			sum += s.Filtered.Answered
		}
	}
	return sum
}
