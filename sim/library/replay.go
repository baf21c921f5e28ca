package library

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"onevoice/responder"
	"onevoice/sim"
	"onevoice/sim/report"
	"onevoice/sim/scenario"
)

// replay feeds the frames of a capture to the cluster, each at its time, with the
// VIP, its port and its MAC put in. Behind a SYN-ACK of ours the client's
// acknowledgments are made to fit it, for the captured ones fit another server's
// numbers.
type replay struct {
	capture *Capture
	port    *sim.Port
	next    int
	isns    map[netip.AddrPort]uint32 // of our SYN-ACKs
	conns   map[netip.AddrPort]time.Duration
	pings   map[pingKey]time.Duration
	frames  map[netip.Addr]int
	// strayed counts segments of flows that began before the capture.
	strayed int
}

// replayStation is the name of the port that the frames come from.
const replayStation = "capture"

func (r *run) addReplay(c *Capture) {
	p := &replay{capture: c, isns: map[netip.AddrPort]uint32{}, conns: map[netip.AddrPort]time.Duration{}, pings: map[pingKey]time.Duration{}, frames: map[netip.Addr]int{}}
	p.port = r.network.lan.Attach(replayStation, nil, p.hear)
	p.port.Isolated = false
	r.replay = p
	r.cluster.World.At(usersCome, r.replayNext)
}

// hear takes what the cluster sends to the captured clients.
func (p *replay) hear(f []byte) {
	if s, ok := sim.ParseSegment(f); ok && s.Has(sim.SYN|sim.ACK) {
		p.isns[s.To] = s.Seq
	}
}

// replayNext sends what is due, and comes again for what follows.
func (r *run) replayNext() {
	p, w := r.replay, r.cluster.World
	for p.next < len(p.capture.frames) {
		f := &p.capture.frames[p.next]
		if at := usersCome + f.at; at > w.Now() {
			w.At(at, r.replayNext)
			return
		}
		p.next++
		p.send(w.Now(), f.frame, r.cluster.ClusterMAC())
		f.frame = nil
	}
}

// send rewrites a frame and sends it.
func (p *replay) send(now time.Duration, f []byte, cluster sim.MAC) {
	vip := scenario.VIP().As4()
	if binary.BigEndian.Uint16(f[12:]) == etherARP {
		copy(f[arpTarget:], vip[:])
		p.frames[address(f[arpSender:])]++
		p.port.Send(f)
		return
	}
	src := address(f[ipSource:])
	p.frames[src]++
	copy(f, cluster[:])
	copy(f[ipTarget:], vip[:])
	f = f[:sim.MinFrame+int(binary.BigEndian.Uint16(f[sim.MinFrame+2:]))]
	body := f[ipEnd:]
	switch f[ipProto] {
	case protoTCP:
		p.segment(now, netip.AddrPortFrom(src, 0), body)
	case protoICMP:
		if len(body) >= 8 && body[0] == 8 {
			p.pings[pingKey{src, binary.BigEndian.Uint16(body[4:]), binary.BigEndian.Uint16(body[6:])}] = now
		}
	}
	f[sim.MinFrame+10], f[sim.MinFrame+11] = 0, 0
	binary.BigEndian.PutUint16(f[sim.MinFrame+10:], ^responder.Sum(0, f[sim.MinFrame:ipEnd]))
	p.port.Send(f)
}

// segment makes a TCP segment one of the service's.
func (p *replay) segment(now time.Duration, from netip.AddrPort, b []byte) {
	if len(b) < 20 {
		return
	}
	from = netip.AddrPortFrom(from.Addr(), binary.BigEndian.Uint16(b))
	binary.BigEndian.PutUint16(b[2:], scenario.ServicePort)
	flags := b[13]
	if flags&(sim.SYN|sim.ACK) == sim.SYN {
		if _, again := p.conns[from]; !again {
			p.conns[from] = now
		}
	} else if isn, ok := p.isns[from]; ok && flags&sim.ACK != 0 {
		binary.BigEndian.PutUint32(b[8:], isn+1)
	} else {
		p.strayed++
	}
	b[16], b[17] = 0, 0
	sum := responder.PseudoSum(from.Addr().As4(), scenario.VIP().As4(), protoTCP, len(b))
	binary.BigEndian.PutUint16(b[16:], ^responder.Sum(sum, b))
}

// countReplay counts what the captured clients asked and who answered.
func (r *run) countReplay() {
	pings, conns := report.Answers{What: "pings"}, report.Answers{What: "connections"}
	for key, at := range r.replay.pings {
		if r.settled(at) {
			r.tallyNodes(&pings, r.watch.pings[key])
		}
	}
	for key, at := range r.replay.conns {
		if !r.settled(at) {
			continue
		}
		f := r.watch.flows[key]
		switch {
		case f == nil:
			tally(&conns, 0)
		case f.twice:
			tally(&conns, 2)
			r.doubled++
		default:
			tally(&conns, 1)
		}
	}
	r.report.Answers = append(r.report.Answers, pings, conns)
	r.listClients()
	if conns.None > 0 || pings.None > 0 {
		r.unanswered = conns.None + pings.None
	}
}

func (r *run) tallyNodes(a *report.Answers, nodes uint64) {
	tally(a, bits.OnesCount64(nodes))
	if bits.OnesCount64(nodes) > 1 {
		r.doubled++
	}
}

// listClients tells who answered whom, the busiest client first.
func (r *run) listClients() {
	by := map[netip.Addr]*report.Client{}
	for a, n := range r.replay.frames {
		by[a] = &report.Client{Address: a.String(), Frames: n, Nodes: []string{}}
	}
	hosts := r.nodes()
	for key := range r.replay.conns {
		c := by[key.Addr()]
		c.Connections++
		if f := r.watch.flows[key]; f != nil {
			if name := hosts[f.first].Name; !slices.Contains(c.Nodes, name) {
				c.Nodes = append(c.Nodes, name)
			}
		}
	}
	for key, nodes := range r.watch.pings {
		if c := by[key.to]; c != nil && c.Connections == 0 && nodes != 0 {
			c.Nodes = []string{hosts[bits.TrailingZeros64(nodes)].Name}
		}
	}
	for _, c := range by {
		slices.Sort(c.Nodes)
		r.report.Clients = append(r.report.Clients, *c)
	}
	slices.SortFunc(r.report.Clients, func(a, b report.Client) int {
		return cmp.Or(cmp.Compare(b.Frames, a.Frames), cmp.Compare(a.Address, b.Address))
	})
}

// replayLimits are what has to be said of a replay.
func (r *run) replayLimits() {
	c := r.replay.capture
	say := func(format string, args ...any) {
		r.report.Limits = append(r.report.Limits, fmt.Sprintf(format, args...))
	}
	say("%d frames to %v are replayed to the simulated VIP, with all TCP ports led to one service. A real cluster has another hash key, so that other clients meet, with the same shares.", len(c.frames), c.VIP)
	for _, why := range slices.Sorted(maps.Keys(c.Skipped)) {
		say("%d frames are left out: %s.", c.Skipped[why], why)
	}
	if r.replay.strayed > 0 {
		say("%d segments are of connections that began before the capture, or were not accepted: nobody knows those.", r.replay.strayed)
	}
}
