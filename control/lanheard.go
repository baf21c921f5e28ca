package control

import (
	"errors"

	"onevoice/link"
	"onevoice/link/ingress"
)

// heard is a device that sends by a socket, and hears heartbeats by a program in the kernel.
type heard struct {
	*link.Packet
	heartbeats *ingress.Heartbeats
	// memory is of the frames that were handed out last.
	memory          [link.MaxBatch][]byte
	received, calls uint64
}

var _ link.Device = (*heard)(nil)

// HeardOpener is the Opener of devices that hear heartbeats as ingress.Heartbeats does; in
// pins are the pins of the direct path's programs, "" for none. Where the kernel has no such
// programs or takes none from this process, which without is told, they are packet sockets.
// Errors are those of both packages.
func HeardOpener(pins string, without func(name string, err error)) Opener {
	return func(name string, filter *link.Filter) (link.Device, error) {
		device, err := openHeard(name, filter, pins)
		if errors.Is(err, ingress.ErrUnsupported) || errors.Is(err, ingress.ErrNotPermitted) {
			without(name, err)
			return OpenSocket(name, filter)
		}
		return device, err
	}
}

func openHeard(name string, filter *link.Filter, pins string) (link.Device, error) {
	mute := *filter
	mute.Mute = true
	socket, err := link.Open(name, &mute)
	if err != nil {
		return nil, err
	}
	h := &heard{Packet: socket}
	if h.heartbeats, err = ingress.HearHeartbeats(name, pins, ingress.HeartbeatConfig{Addresses: filter.Addresses, Port: filter.Port}); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return h, nil
}

// FD implements link.Device.
func (h *heard) FD() int { return h.heartbeats.FD() }

// Receive implements link.Device.
func (h *heard) Receive(frames []link.Frame) (n int, err error) {
	h.calls++
	for ; n < min(len(frames), len(h.memory)); n++ {
		b, err := h.heartbeats.Receive(&h.memory[n])
		if b == nil {
			return n, err
		}
		frames[n] = link.Frame{Data: b}
		h.received++
	}
	return n, nil
}

// Release implements link.Device: what Receive hands out are copies.
func (h *heard) Release() {}

// Stats implements link.Device.
func (h *heard) Stats() link.Stats {
	s := h.Packet.Stats()
	s.ReceivedFrames, s.ReceiveCalls, s.KernelDropped = h.received, h.calls, h.heartbeats.Lost()
	return s
}

// Close implements link.Device.
func (h *heard) Close() error { return errors.Join(h.heartbeats.Close(), h.Packet.Close()) }
