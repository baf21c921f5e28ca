package main

import (
	"bytes"
	"encoding/binary"
	"maps"
	"testing"
)

// flow is a connection of nobody's to the service, made by hand.
type flow struct {
	*wire
	from     uint16
	seq, ack uint32
	// stamp is the flow's own time stamp option, and answer the SYN-ACK.
	stamp, answer []byte
}

// stamps is a Timestamps option as most systems lay it out.
func stamps(value uint32) []byte {
	b := []byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[4:], value)
	return b
}

// open makes the handshake with options in its SYN.
func (w *wire) open(from uint16, flags byte, options ...byte) *flow {
	w.t.Helper()
	s := opening(from)
	s.flags, s.options = flags|syn, options
	frames := w.asked(func() []byte { return w.segment(s) }, func(f []byte) bool {
		return kindOf(f)[:3] == "SYN" && binary.BigEndian.Uint16(f[atTransport+2:]) == from
	})
	answer := frames[len(frames)-1]
	f := &flow{wire: w, from: from, seq: 1001, ack: binary.BigEndian.Uint32(answer[atTransport+4:]) + 1, answer: answer}
	if bytes.Contains(options, []byte{8, 10}) {
		f.stamp = stamps(2)
	}
	w.send(f.segment(ack, f.stamp, ""))
	return f
}

// segment is one of the flow's.
func (f *flow) segment(flags byte, options []byte, data string) []byte {
	s := segment{from: f.from, to: 7, seq: f.seq, ack: f.ack, flags: flags, options: options, data: []byte(data)}
	if flags&urg != 0 {
		s.urgent = uint16(len(data))
	}
	return f.wire.segment(s)
}

// echoes says something in a frame of its own, and wants to hear it again, whole. It
// returns the segments in which it came.
func (f *flow) echoes(frame []byte, data string) (segments [][]byte) {
	f.t.Helper()
	f.seq += uint32(len(data))
	f.send(frame)
	got := map[uint32][]byte{}
	bytesHeard := func() (out []byte) {
		for next := f.ack; len(got[next]) > 0; next += uint32(len(got[next])) {
			out = append(out, got[next]...)
		}
		return out
	}
	f.heard(func(frame []byte) bool {
		if frame[atIP+9] != 6 || binary.BigEndian.Uint16(frame[atTransport+2:]) != f.from {
			return false
		}
		if p := payloadOf(frame); len(p) > 0 {
			got[binary.BigEndian.Uint32(frame[atTransport+4:])] = bytes.Clone(p)
			segments = append(segments, bytes.Clone(frame))
			// What is not acknowledged is not sent on.
			f.send(f.wire.segment(segment{from: f.from, to: 7, seq: f.seq, ack: f.ack + uint32(len(bytesHeard())), flags: ack, options: f.stamp}))
		}
		return len(bytesHeard()) >= len(data)
	})
	if all := bytesHeard(); string(all) != data {
		f.t.Errorf("port %d: %q came back as %q", f.from, data, all)
	}
	f.ack += uint32(len(data))
	return segments
}

// end resets the flow.
func (f *flow) end() { f.send(f.segment(rst, nil, "")) }

// counted is what a frame is counted as and answered by, of which nothing is under way
// any more.
func (w *wire) counted(frame []byte) (counts map[string]uint64, answers []string) {
	w.t.Helper()
	w.settled()
	frames, counts := w.judged(frame)
	return counts, kindsOf(frames)
}

// Bad input within a connection: it is dropped by name or does no harm, and the
// connection goes on.
func TestBadInputWithinAFlow(t *testing.T) {
	p := newPair(t)
	p.start().until("answering: this node holds a lease")
	w := newWire(p)

	// RFC 7323 §3.2: no time stamps after agreeing on them; a reset needs none.
	f := w.open(60001, 0, stamps(1)...)
	f.echoes(f.segment(ack|psh, f.stamp, "with"), "with")
	if counts, answers := w.counted(f.segment(ack|psh, nil, "none")); !maps.Equal(counts, map[string]uint64{"unstamped": 1}) || len(answers) > 0 {
		t.Errorf("a segment without time stamps: counted as %v, answered by %q", counts, answers)
	}
	f.echoes(f.segment(ack|psh, f.stamp, "with again"), "with again")
	if counts, _ := w.counted(f.segment(rst, nil, "")); !maps.Equal(counts, map[string]uint64{"deliver-held": 1}) {
		t.Errorf("a reset without time stamps: counted as %v", counts)
	}

	// RFC 3168 §6.1.1: who offers ECN is told by the answer that there is none; marks
	// that come all the same harm nothing.
	f = w.open(60002, ece|cwr)
	if kind := kindOf(f.answer); kind != "SYN-ACK" {
		t.Errorf("a SYN that offers ECN is answered by %s", kind)
	}
	marked := seal(changed(f.segment(ack|psh|ece|cwr, nil, "marked"), atIP+1, 3))
	for _, s := range f.echoes(marked, "marked") {
		if s[atIP+1]&3 != 0 || s[atTransport+13]&(ece|cwr) != 0 {
			t.Errorf("an answer has ECN bits: %x", s)
		}
	}
	f.end()

	// An MSS of 0 or 1 is no reason to send a thousand packets for a thousand bytes;
	// Linux has the same least (net.ipv4.tcp_min_snd_mss).
	for i, mss := range []byte{0, 1} {
		const leastBytes = 36
		f = w.open(60003+uint16(i), 0, 2, 4, 0, mss)
		said := string(bytes.Repeat([]byte("0123456789"), 40))
		segments := f.echoes(f.segment(ack|psh, nil, said), said)
		for _, s := range segments[:len(segments)-1] {
			if n := len(payloadOf(s)); n < leastBytes {
				t.Errorf("MSS %d: a segment of %d bytes", mss, n)
			}
		}
		f.end()
	}

	// RFC 7323 §2.3: a shift above 14 counts as 14; without our own there is none.
	f = w.open(60005, 0, 3, 3, 255, 0)
	f.echoes(f.segment(ack|psh, nil, "scaled"), "scaled")
	f.echoes(f.segment(ack|psh, []byte{3, 3, 9, 0}, "an option of SYNs"), "an option of SYNs")

	// Urgent data is data (RFC 6093 §3.2), also where the pointer points nowhere.
	f.echoes(f.segment(ack|psh|urg, nil, "urgent"), "urgent")
	wild := seal(changed(f.segment(ack|psh|urg, nil, "wild"), atTransport+18, 0xff, 0xff))
	f.echoes(wild, "wild")

	// A segment far outside the windows is answered by where the flow stands (RFC 9293
	// §3.10.7.4), and so is a SYN (RFC 5961 §4).
	far := f.segment(ack|psh, nil, "far")
	binary.BigEndian.PutUint32(far[atTransport+4:], f.seq+1<<30)
	if counts, answers := w.counted(seal(far)); !maps.Equal(counts, map[string]uint64{"deliver-held": 1}) || len(answers) > 1 {
		t.Errorf("far outside the window: counted as %v, answered by %q", counts, answers)
	}
	if _, answers := w.counted(f.segment(syn, nil, "")); len(answers) != 1 || answers[0] != "ACK" {
		t.Errorf("a SYN into an open flow: answered by %q", answers)
	}
	f.echoes(f.segment(ack|psh, nil, "still there"), "still there")
	f.end()
}
