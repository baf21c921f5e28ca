package library

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/internal/pcap"
	"onevoice/sim"
	"onevoice/sim/report"
)

// conversation is a client's connection and ping to 192.0.2.10, as tcpdump would
// have seen it, with the server's initial sequence number 5000.
func conversation(client string, port uint16) [][]byte {
	from, to := netip.AddrPortFrom(netip.MustParseAddr(client), port), netip.MustParseAddrPort("192.0.2.10:22")
	mac := sim.MAC{2, 0, 0, 7, 7, byte(port)}
	segment := func(flags byte, seq, ack uint32, data string) []byte {
		s := sim.Segment{FromMAC: mac, ToMAC: sim.MAC{2, 9, 9, 9, 9, 9}, From: from, To: to, Seq: seq, Ack: ack, Flags: flags, Window: 65535, Data: []byte(data)}
		return s.Frame()
	}
	return [][]byte{segment(sim.SYN, 100, 0, ""), segment(sim.ACK, 101, 5001, ""), segment(sim.PSH|sim.ACK, 101, 5001, "hello")}
}

func capture(gap time.Duration, frames ...[]byte) []byte {
	var b bytes.Buffer
	w := pcap.NewWriter(&b)
	for i, f := range frames {
		w.Frame(time.Hour+time.Duration(i)*gap, f)
	}
	_ = w.Flush()
	return b.Bytes()
}

func tagged(f []byte) []byte { return slices.Insert(slices.Clone(f), 12, 0x81, 0, 0, 7) }

// TestReplayIsAnswered: captured clients, with a VLAN tag or without, are accepted
// by one node each, and their data with them, for their acknowledgments are made
// to fit.
func TestReplayIsAnswered(t *testing.T) {
	var frames [][]byte
	for _, f := range conversation("198.51.100.1", 40001) {
		frames = append(frames, tagged(f))
	}
	frames = append(frames, conversation("198.51.100.2", 40002)...)
	c, err := ReadCapture(bytes.NewReader(capture(50*time.Millisecond, frames...)), netip.Addr{})
	if err != nil || c.VIP != netip.MustParseAddr("192.0.2.10") || c.Frames() != 6 {
		t.Fatalf("%+v, %v", c, err)
	}
	s := New()
	s.ForReplay(c)
	acknowledged := 0
	r, err := Run(context.Background(), s, Options{Replay: c, Frames: func(_ time.Duration, f []byte) {
		if s, ok := sim.ParseSegment(f); ok && s.From.Port() != s.To.Port() && s.Ack == 106 && s.From.Addr() == netip.AddrFrom4([4]byte{10, 77, 0, 2}) {
			acknowledged++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.AsExpected || len(r.Clients) != 2 || len(r.Clients[0].Nodes) != 1 || len(r.Clients[1].Nodes) != 1 {
		t.Error(text(t, r))
	}
	if acknowledged != 2 {
		t.Errorf("%d clients' data is acknowledged", acknowledged)
	}
	if all := strings.Join(r.Limits, "\n"); strings.Contains(all, "segments are of connections") {
		t.Errorf("some acknowledgments did not fit:\n%s", all)
	}
}

// TestWhatIsLeftOut: frames that cannot be replayed are counted, by why.
func TestWhatIsLeftOut(t *testing.T) {
	ok := conversation("198.51.100.1", 40001)[0]
	change := func(at int, b byte) []byte {
		f := slices.Clone(ok)
		f[at] = b
		return f
	}
	six := slices.Clone(ok)
	binary.BigEndian.PutUint16(six[12:], 0x86dd)
	c, err := ReadCapture(bytes.NewReader(capture(time.Millisecond, ok, change(ipProto, 17), change(sim.MinFrame, 0x46), change(sim.MinFrame+6, 0x20),
		change(sim.MinFrame+2, 0xff), six, ok[:10], change(ipTarget, 8))), netip.MustParseAddr("192.0.2.10"))
	if err != nil || c.Frames() != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, why := range []string{"neither TCP nor ICMP, and this version serves no other", "broken IPv4", "neither IPv4 nor ARP", "no Ethernet frame", "not to 192.0.2.10"} {
		if c.Skipped[why] != 1 {
			t.Errorf("%d are left out as %q", c.Skipped[why], why)
		}
	}
	if n := c.Skipped["IPv4 with options, or a fragment"]; n != 2 {
		t.Errorf("%d with options or in fragments", n)
	}
}

// TestCaptureIsBounded: by frames and by bytes.
func TestCaptureIsBounded(t *testing.T) {
	syn := conversation("198.51.100.1", 40001)[0]
	b := capture(time.Millisecond, syn, syn, syn)
	for _, c := range []struct {
		most, bytes int
		fits        bool
	}{{3, 3 * len(syn), true}, {2, 3 * len(syn), false}, {3, 3*len(syn) - 1, false}} {
		_, err := readCapture(bytes.NewReader(b), netip.Addr{}, c.most, c.bytes)
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), "take a part of it") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestDrawingIsBounded: what is beyond maxSamples is not drawn.
func TestDrawingIsBounded(t *testing.T) {
	r := &run{report: &report.Report{}, gapSince: -1}
	for i := range maxSamples + 2 {
		r.owned = []int{i % 2}
		r.draw(time.Duration(i) * time.Millisecond)
	}
	if len(r.report.Samples) != maxSamples {
		t.Errorf("%d samples", len(r.report.Samples))
	}
}

func TestCapturesThatCannotBeReplayed(t *testing.T) {
	syn := conversation("198.51.100.1", 40001)[0]
	ack := conversation("198.51.100.1", 40001)[1]
	for says, b := range map[string][]byte{
		"nobody opens a TCP connection":  capture(time.Millisecond, ack),
		"at most 59m53s can be replayed": capture(time.Hour, syn, syn),
		"it is compressed":               {0x1f, 0x8b, 8, 0},
	} {
		if _, err := ReadCapture(bytes.NewReader(b), netip.Addr{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
