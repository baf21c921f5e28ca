package sim

import (
	"bytes"
	"time"
)

// Bounds of a LAN.
const (
	MinFrame       = 14    // bytes; shorter ones have no Ethernet header
	MaxFrame       = 65535 // bytes; super-frames stay whole, as between hosts of one machine
	DefaultBacklog = 4096  // frames that wait for a paused host
)

// LAN is one medium, a hub or a switch, and its ports. A frame goes over the
// sender's Up link to the medium, which says to which ports it goes on, and over
// each of these ports' Down link to the host.
type LAN struct {
	Faults
	// Tap, if set, sees every frame that crosses the medium, before any cut
	// and before the way down, as a sniffer in the switch would. The frame is
	// on loan.
	Tap func(from *Port, frame []byte)

	w      *World
	ports  []*Port
	medium medium
	out    []int // room for what the medium answers
}

// medium says where a frame goes on: it appends the ports to out. The frame has
// at least MinFrame bytes.
type medium interface {
	forward(l *LAN, in int, frame []byte, out []int) []int
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

	lan      *LAN
	up, down wire
	inbox    inbox
	arrived  time.Duration
}

// NewHub makes a LAN where every frame reaches all other ports.
func (w *World) NewHub() *LAN { return w.newLAN(hub{}) }

func (w *World) newLAN(m medium) *LAN { return &LAN{Faults: newFaults(), w: w, medium: m} }

// Attach plugs a host in. While the host's clock is paused, frames wait for it;
// with a nil clock they never do.
func (l *LAN) Attach(name string, host *Clock, receive func(frame []byte)) *Port {
	p := &Port{Name: name, Index: l.addPort(), Receive: receive, Backlog: DefaultBacklog, lan: l, inbox: inbox{host: host}}
	l.ports = append(l.ports, p)
	return p
}

// Ports are all ports, by their Index.
func (l *LAN) Ports() []*Port { return l.ports }

// Heal ends every fault of the LAN, those of links included: loss,
// duplication, corruption and reordering. Delays and rates stay.
func (l *LAN) Heal() {
	l.Faults.Heal()
	for _, p := range l.ports {
		p.Up.Heal()
		p.Down.Heal()
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

// cross is the frame's moment on the medium.
func (l *LAN) cross(from *Port, frame []byte) {
	if l.Tap != nil {
		l.Tap(from, frame)
	}
	l.out = l.medium.forward(l, from.Index, frame, l.out[:0])
	for _, i := range l.out {
		to := l.ports[i]
		if to.Wants != nil && !to.Wants(frame) {
			to.count(UnwantedByFilter)
			continue
		}
		between, ok := l.mayCross(from.Index, i)
		if !ok {
			continue
		}
		if between == nil || between.link == nil {
			to.comeDown(bytes.Clone(frame))
			continue
		}
		l.w.carry(between.link, &between.wire, bytes.Clone(frame), MinFrame, l.countPair(between, i), to.comeDown)
	}
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

// hub sends every frame to every other port.
type hub struct{}

func (hub) forward(l *LAN, in int, _ []byte, out []int) []int { return l.others(in, out) }

func (l *LAN) others(in int, out []int) []int {
	for i := range l.ports {
		if i != in {
			out = append(out, i)
		}
	}
	return out
}
