package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/admin"
	"onevoice/link"
	"onevoice/responder"
)

// wire is where a pair's client sends what no kernel would, and hears what comes of
// it. All of it is from one address that nobody has, unless a frame says otherwise.
type wire struct {
	*pair
	device *link.Packet
	mac    net.HardwareAddr
	rounds uint16
	// largest is the longest packet that has come, in bytes, as a wire would carry it:
	// super-segments cut.
	largest int
}

// nobody is an address on the LAN that no host has.
func nobody() netip.Addr { return netip.MustParseAddr("10.77.0.250") }

func newWire(p *pair, heard ...netip.Addr) *wire {
	p.t.Helper()
	w := &wire{pair: p}
	err := p.client.Do(func() (err error) {
		w.device, err = link.Open("cable", &link.Filter{Addresses: append(heard, nobody())})
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { w.device.Close() })
	w.mac = w.device.HardwareAddr()
	return w
}

// Places in a frame: the IPv4 header, and what it carries if it has no options.
const (
	atIP        = 14
	atTransport = 34
)

// segment is a TCP segment of nobody's to the VIP.
type segment struct {
	from, to      uint16
	seq, ack      uint32
	flags         byte
	window        uint16
	urgent        uint16
	options, data []byte
}

// Flags of a TCP header.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
	ece
	cwr
)

func (s segment) bytes() []byte {
	b := make([]byte, 20, 20+len(s.options)+len(s.data))
	binary.BigEndian.PutUint16(b, s.from)
	binary.BigEndian.PutUint16(b[2:], s.to)
	binary.BigEndian.PutUint32(b[4:], s.seq)
	binary.BigEndian.PutUint32(b[8:], s.ack)
	b[12], b[13] = byte(20+len(s.options))<<2, s.flags
	binary.BigEndian.PutUint16(b[14:], s.window)
	binary.BigEndian.PutUint16(b[18:], s.urgent)
	return append(append(b, s.options...), s.data...)
}

// packet is a frame to the cluster MAC with an IPv4 packet from nobody to the VIP.
func (w *wire) packet(proto byte, options, body []byte) []byte {
	b := slices.Concat([]byte{0x01, 0x00, 0x5e, 0x4d, 0x00, 0x02}, w.mac, []byte{0x08, 0x00}, make([]byte, 20), options, body)
	h := b[atIP:]
	h[0], h[8], h[9] = 0x45+byte(len(options)/4), 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
	copy(h[12:], nobody().AsSlice())
	copy(h[16:], netip.MustParseAddr(testVIP).AsSlice())
	return seal(b)
}

func (w *wire) segment(s segment) []byte {
	if s.window == 0 {
		s.window = 65535
	}
	return w.packet(unix.IPPROTO_TCP, nil, s.bytes())
}

func (w *wire) echo(id uint16) []byte {
	return w.packet(unix.IPPROTO_ICMP, nil, []byte{8, 0, 0, 0, byte(id >> 8), byte(id), 0, 1})
}

// arp is an ARP packet by broadcast: 1 asks, 2 tells.
func (w *wire) arp(op byte, mac net.HardwareAddr, sender, target string) []byte {
	ip := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	b := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, w.mac, []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, op})
	return slices.Concat(b, mac, ip(sender), make([]byte, 6), ip(target))
}

// changed is a copy of a frame with some of its bytes changed.
func changed(frame []byte, at int, to ...byte) []byte {
	frame = slices.Clone(frame)
	copy(frame[at:], to)
	return frame
}

// seal is a copy of a frame with its checksums made right, as far as it has the
// fields.
func seal(frame []byte) []byte {
	b := slices.Clone(frame)
	end := atIP + int(b[atIP]&0xf)*4
	if end < atTransport || end > len(b) {
		return b
	}
	put := func(at int, sum uint16) { binary.BigEndian.PutUint16(b[at:], ^sum) }
	put(atIP+10, 0xffff)
	put(atIP+10, responder.Sum(0, b[atIP:end]))
	body := b[end:]
	pseudo := responder.PseudoSum([4]byte(b[atIP+12:]), [4]byte(b[atIP+16:]), b[atIP+9], len(body))
	switch at := map[byte]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6, unix.IPPROTO_ICMP: 2}[b[atIP+9]]; {
	case at == 0 || len(body) < at+2:
	case b[atIP+9] == unix.IPPROTO_ICMP:
		put(end+at, 0xffff)
		put(end+at, responder.Sum(0, body))
	default:
		put(end+at, 0xffff)
		put(end+at, responder.Sum(pseudo, body))
	}
	return b
}

// send puts frames on the wire.
func (w *wire) send(frames ...[]byte) {
	w.t.Helper()
	vectors := make([]link.Vector, len(frames))
	for i := range frames {
		vectors[i].Pieces = frames[i : i+1]
	}
	if err := w.device.Send(vectors); err != nil {
		w.t.Fatal(err)
	}
}

// heard is what comes until enough says so; it has to come.
func (w *wire) heard(enough func(frame []byte) bool) (out [][]byte) {
	w.t.Helper()
	out, ok := w.heardWithin(patience, enough)
	if !ok {
		w.t.Fatalf("what is waited for has not come; %d frames have: %x", len(out), out)
	}
	return out
}

// heardWithin is the same, and reports whether it has come in time.
func (w *wire) heardWithin(d time.Duration, enough func(frame []byte) bool) (out [][]byte, ok bool) {
	w.t.Helper()
	frames := make([]link.Frame, link.MaxBatch)
	for deadline := time.Now().Add(d); ; {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.device.FD()), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			w.t.Fatal(err)
		}
		if n <= 0 && left == 0 {
			return out, false
		}
		got, err := w.device.Receive(frames)
		if err != nil {
			w.t.Fatal(err)
		}
		done := false
		for i := range frames[:got] {
			out = append(out, slices.Clone(frames[i].Data))
			w.largest = max(w.largest, onWire(&frames[i]))
			done = done || enough(frames[i].Data)
		}
		if done {
			return out, true
		}
	}
}

// onWire is how long the packets of a frame are on a wire.
func onWire(f *link.Frame) int {
	if o := &f.Offload; o.Segmentation != link.SegmentationNone {
		return int(o.HeaderBytes+o.SegmentBytes) - atIP
	}
	return len(f.Data) - atIP
}

// askAgain is when a question is asked again: the node may have been without a lease
// for a moment, as it is when this machine is busy with other things.
const askAgain = time.Second

// settled are the answers to what was sent before: two pings follow it, one after the
// other's answer, so that the node has turned in between. Answers to pings are left
// out.
func (w *wire) settled() (out [][]byte) {
	w.t.Helper()
	for range 2 {
		frames := w.asked(func() []byte {
			w.rounds++
			return w.echo(w.rounds)
		}, func(f []byte) bool {
			return kindOf(f) == "echo reply" && binary.BigEndian.Uint16(f[atTransport+4:]) == w.rounds
		})
		out = append(out, frames...)
	}
	return slices.DeleteFunc(out, func(f []byte) bool { return kindOf(f) == "echo reply" })
}

// asked sends a question until it is answered, and returns what came.
func (w *wire) asked(question func() []byte, answers func([]byte) bool) (out [][]byte) {
	w.t.Helper()
	for begun := time.Now(); time.Since(begun) < patience; {
		w.send(question())
		frames, ok := w.heardWithin(askAgain, answers)
		if out = append(out, frames...); ok {
			return out
		}
	}
	w.t.Fatalf("a question has no answer; %d frames have come: %x", len(out), out)
	return nil
}

// kindOf says what an answer is.
func kindOf(f []byte) string {
	switch {
	case len(f) < atTransport+8:
		return "a short frame"
	case binary.BigEndian.Uint16(f[12:]) == 0x0806:
		return fmt.Sprintf("ARP %d", f[21])
	case binary.BigEndian.Uint16(f[12:]) == 0x86dd:
		return kind6Of(f)
	case f[atIP+9] == unix.IPPROTO_ICMP && f[atTransport] == 0:
		return "echo reply"
	case f[atIP+9] == unix.IPPROTO_ICMP:
		return fmt.Sprintf("ICMP %d", f[atTransport])
	case f[atIP+9] != unix.IPPROTO_TCP:
		return fmt.Sprintf("protocol %d", f[atIP+9])
	}
	s := ""
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if f[atTransport+13]&(1<<i) != 0 {
			s += "-" + name
		}
	}
	return s[1:]
}

func kindsOf(frames [][]byte) []string {
	out := []string{}
	for _, f := range frames {
		out = append(out, kindOf(f))
	}
	return out
}

// payloadOf is what a TCP segment carries.
func payloadOf(f []byte) []byte {
	total := atIP + int(binary.BigEndian.Uint16(f[atIP+2:]))
	return f[atTransport+int(f[atTransport+12]>>4)*4 : total]
}

// verdicts are the node's counters now.
func (w *wire) verdicts() map[string]uint64 {
	w.t.Helper()
	s, err := admin.Ask(context.Background(), w.socket(), admin.Wanted{})
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Verdicts
}

// grown is by how much counters have grown, without the pings of settled. lapsed: the
// node had no lease for a moment, so that they say nothing.
func grown(before, after map[string]uint64) (out map[string]uint64, lapsed bool) {
	out = map[string]uint64{}
	for name, n := range after {
		if d := n - before[name]; d != 0 {
			out[name] = d
		}
	}
	delete(out, "answered-echo")
	return out, out["no-lease"]+out["stale"] > 0
}
