package scenario

import (
	"net"
	"sync/atomic"
	"time"

	"onevoice/internal/poller"
	"onevoice/link"
	"onevoice/responder"
)

// device is a host's interface on the simulated LAN, as its worker has it. What
// the kernel would do with a frame that is sent, it does: cut super-segments and
// finish checksums.
type device struct {
	send  func(frame []byte)
	mac   responder.MAC
	inbox []link.Frame
	stats link.Stats
}

var _ link.Device = (*device)(nil)

// maxInbox is how many frames the kernel keeps for a worker that does not take
// them.
const maxInbox = 4096

// deviceFD is the device's in the poller; backends' are above it.
const deviceFD = 1

// put takes a frame, which is the device's own from here on.
func (d *device) put(frame []byte, stamp time.Duration) bool {
	if len(d.inbox) >= maxInbox {
		d.stats.KernelDropped++
		return false
	}
	d.inbox = append(d.inbox, link.Frame{Data: frame, Stamp: stamp})
	return true
}

// Receive implements link.Device.
func (d *device) Receive(frames []link.Frame) (int, error) {
	n := copy(frames, d.inbox)
	d.inbox = d.inbox[n:]
	d.stats.ReceiveCalls++
	d.stats.ReceivedFrames += uint64(n)
	return n, nil
}

// Release implements link.Device: frames are not used again.
func (d *device) Release() {}

// Send implements link.Device.
func (d *device) Send(vectors []link.Vector) error {
	d.stats.SendCalls++
	for i := range vectors {
		for _, frame := range wireFrames(&vectors[i]) {
			d.stats.SentFrames++
			d.send(frame)
		}
	}
	return nil
}

// FD implements link.Device.
func (d *device) FD() int { return deviceFD }

// HardwareAddr implements link.Device.
func (d *device) HardwareAddr() net.HardwareAddr { return d.mac[:] }

// MTU implements link.Device.
func (d *device) MTU() int { return mtu }

// Present implements link.Device.
func (d *device) Present() bool { return true }

// Stats implements link.Device.
func (d *device) Stats() link.Stats { return d.stats }

// Close implements link.Device.
func (d *device) Close() error { return nil }

// loopPoller is what the loop of a whole worker waits with: waiting gives the turn
// back to the world.
type loopPoller struct {
	w      *whole
	yield  func(time.Duration) bool
	tokens map[int]uint64 // by descriptor
	events []poller.Event
	woken  atomic.Bool
}

// AddLevel implements node.Poller. Only the device is told by level.
func (p *loopPoller) AddLevel(fd int, token uint64) error {
	p.tokens[fd] = token
	return nil
}

// AddEdge implements stack.Poller.
func (p *loopPoller) AddEdge(fd int, token uint64) error {
	p.tokens[fd] = token
	p.w.backend.added(fd)
	return nil
}

// edge tells a change of a backend's connection, if the loop waits for it.
func (p *loopPoller) edge(fd int, readable, writable, closed bool) {
	if token, ok := p.tokens[fd]; ok {
		p.events = append(p.events, poller.Event{Token: token, Readable: readable, Writable: writable, PeerClosed: closed})
		p.w.wakeIn(turnTakes)
	}
}

// Wake implements stack.Poller.
func (p *loopPoller) Wake() { p.woken.Store(true) }

// Sleep implements node.Poller: woken is looked at after every turn.
func (p *loopPoller) Sleep() {}

// due reports whether a Wait would return at once.
func (p *loopPoller) due() bool {
	return p.woken.Load() || len(p.events) > 0 || len(p.w.device.inbox) > 0
}

// Wait implements node.Poller.
func (p *loopPoller) Wait(timeout time.Duration) ([]poller.Event, error) {
	if !p.yield(timeout) {
		return nil, errLoopStopped
	}
	p.woken.Store(false)
	events := p.events
	p.events = nil
	if len(p.w.device.inbox) > 0 {
		events = append(events, poller.Event{Token: p.tokens[deviceFD], Readable: true})
	}
	return events, nil
}
