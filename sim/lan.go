package sim

import (
	"bytes"
	"fmt"
	"time"
)

// Bounds of a LAN.
const (
	MinFrame       = 14    // bytes; shorter ones have no Ethernet header
	MaxFrame       = 65535 // bytes; super-frames stay whole, as between hosts of one machine
	DefaultBacklog = 4096  // frames that wait for a paused host
)

// LAN is a broadcast domain: a hub, a switch, or several of them joined by trunks,
// and the hosts' ports. A frame goes over the sender's Up link to the switch that
// it is plugged into, from switch to switch as these decide, and over each
// receiver's Down link to the host.
type LAN struct {
	Faults
	// Tap, if set, sees every frame that crosses the LAN, where it comes in first,
	// before any cut and before the way down, as a sniffer in that switch would.
	// The frame is on loan. A switch's own frames come from a Port with its name
	// and the Index -1.
	Tap func(from *Port, frame []byte)

	w        *World
	ports    []*Port
	switches []*Switch
	trunks   []*Trunk
	storm    storm
	findings []Finding
	claims   claims
}

// Port is where one host is plugged in.
type Port struct {
	Name string
	// Index is the port's number on its LAN, for Faults.
	Index int
	// Up leads from the host to the medium, Down back to it.
	Up, Down Link
	// Receive gets each frame that arrives; the frame is the receiver's own.
	// nil: nobody is there. It may be set at any time.
	Receive func(frame []byte)
	// Wants, if set, is the filter of the host's network card: a frame that it
	// does not want is not delivered. It may only look at the frame.
	Wants func(frame []byte) bool
	// Backlog bounds the frames that wait while the host is paused.
	Backlog int
	// Isolated: the switch passes nothing from this port to another isolated one,
	// as Linux's bridge port option of that name. SwitchOptions.Isolated is for all.
	Isolated bool
	// BlockUnknown and BlockGroups keep from this port what the switch floods for
	// want of knowledge: frames for unknown single addresses, and for groups.
	BlockUnknown, BlockGroups bool

	lan      *LAN
	outlet   *outlet
	narrow   *Client // whose card it is, if it takes only what concerns the client
	up, down wire
	inbox    inbox
	arrived  time.Duration
}

func (w *World) newLAN() *LAN {
	l := &LAN{Faults: newFaults(), w: w}
	l.storm.lan = l
	return l
}

// Attach plugs a host into the first switch. While the host's clock is paused,
// frames wait for it; with a nil clock they never do. A port must be free.
func (l *LAN) Attach(name string, host *Clock, receive func(frame []byte)) *Port {
	return l.attach(l.switches[0], name, host, receive)
}

// AttachTo is Attach with a switch of the caller's choice.
func (l *LAN) AttachTo(sw, name string, host *Clock, receive func(frame []byte)) (*Port, error) {
	s := l.Switch(sw)
	if s == nil {
		return nil, fmt.Errorf("%s: there is no switch %q to plug it into", name, sw)
	}
	if s.room == 0 {
		return nil, fmt.Errorf("%s: switch %s has no free port; give it more than %d", name, sw, len(s.outlets))
	}
	return l.attach(s, name, host, receive), nil
}

func (l *LAN) attach(s *Switch, name string, host *Clock, receive func(frame []byte)) *Port {
	o := s.addOutlet()
	p := &Port{Name: name, Index: l.addPort(), Receive: receive, Backlog: DefaultBacklog, Isolated: s.isolated, lan: l, outlet: o, inbox: inbox{host: host}}
	o.host = p
	l.ports = append(l.ports, p)
	s.pluggedIn(o)
	return p
}

// Ports are all ports, by their Index.
func (l *LAN) Ports() []*Port { return l.ports }

// Heal ends every fault of the LAN, those of links included: loss,
// duplication, corruption and reordering, and pulled trunks. Delays and rates stay.
func (l *LAN) Heal() {
	l.Faults.Heal()
	for _, p := range l.ports {
		p.Up.Heal()
		p.Down.Heal()
	}
	for _, t := range l.trunks {
		t.Heal()
	}
}

// Arrived is the true time at which the frame that Receive is called with came
// to the host's network card: earlier than now if the host was paused.
func (p *Port) Arrived() time.Duration { return p.arrived }

// Send puts a frame on the wire. The bytes are copied and stay the caller's.
func (p *Port) Send(frame []byte) {
	l := p.lan
	l.count(p.Index, Sent)
	l.w.record(p.Name, ">", frame, Describe)
	if len(frame) < MinFrame || len(frame) > MaxFrame {
		l.count(p.Index, DroppedSize)
		return
	}
	if !l.mayLeave(p.Index) {
		return
	}
	l.w.carry(&p.Up, &p.up, bytes.Clone(frame), MinFrame, p.count, func(f []byte) { l.cross(p, f) })
}

func (p *Port) count(c Counter) { p.lan.count(p.Index, c) }

// Switch is the switch that the host is plugged into.
func (p *Port) Switch() *Switch { return p.outlet.sw }

// cross is the frame's moment in the switch that the sender is plugged into.
func (l *LAN) cross(from *Port, frame []byte) {
	if l.Tap != nil {
		l.Tap(from, frame)
	}
	s := from.outlet.sw
	s.receive(from.outlet, transit{from: from, path: 1 << s.number}, frame)
}

// toHost takes a copy of a frame to one host, past the faults between the two.
func (l *LAN) toHost(t transit, to *Port, frame []byte) {
	if to.narrow != nil && !to.narrow.concerns(frame) || to.Wants != nil && !to.Wants(frame) {
		to.count(UnwantedByFilter)
		return
	}
	between, ok := l.mayCross(t.from.Index, to.Index)
	if !ok {
		return
	}
	if between == nil || between.link == nil {
		to.comeDown(bytes.Clone(frame))
		return
	}
	l.w.carry(between.link, &between.wire, bytes.Clone(frame), MinFrame, l.countPair(between, to.Index), to.comeDown)
}

// comeDown takes a frame, which is the port's own, from the medium to the host.
func (p *Port) comeDown(frame []byte) {
	p.lan.w.carry(&p.Down, &p.down, frame, MinFrame, p.count, p.arrive)
}

// arrive is the frame's end: at the host's network card.
func (p *Port) arrive(frame []byte) {
	if !p.lan.mayArrive(p.Index) {
		return
	}
	if !p.inbox.put(p.lan.w.now, p.Backlog, func(at time.Duration) { p.deliver(at, frame) }) {
		p.count(DroppedBacklog)
	}
}

func (p *Port) deliver(arrived time.Duration, frame []byte) {
	if p.Receive == nil {
		p.count(DroppedNoHost)
		return
	}
	p.count(Delivered)
	p.lan.w.record(p.Name, "<", frame, Describe)
	p.arrived = arrived
	p.Receive(frame)
}
