package main

import (
	"encoding/binary"
	"flag"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var udpFlows = flag.Int("udp-flows", 1000, "how many UDP flows there are at a time")

// questionOf is a datagram of the i-th of many clients, of 5,000 addresses off the LAN:
// it asks for 100 bytes.
func (w *wire) questionOf(i int) []byte {
	const clients = 5000
	b := []byte{0, 0, 5000 >> 8, 5000 & 0xff, 0, 12, 0, 0, 0, 0, 0, 100}
	binary.BigEndian.PutUint16(b, uint16(1024+i/clients))
	f := w.packet(unix.IPPROTO_UDP, nil, b)
	copy(f[atIP+12:], []byte{198, 18, byte(i % clients >> 8), byte(i % clients)})
	return seal(f)
}

// What is left for flows where a process may not have many files.
func TestDescriptorsAreShared(t *testing.T) {
	for descriptors, want := range map[int][2]int{1024: {leastFlows, leastFlows}, 20_000: {9488, 9488}, 100_000: {49_488, 49_488}, 150_000: {50_000, 74_488}, 182_096: {50_000, 131_072}, 524_288: {50_000, 131_072}} {
		if flows, datagrams := flowsOf(descriptors, true); [2]int{flows, datagrams} != want {
			t.Errorf("%d and %d of %d descriptors, want %d", flows, datagrams, descriptors, want)
		}
	}
	for descriptors, want := range map[int]int{1024: leastFlows, 20_000: 18_976, 51_024: 50_000, 524_288: 50_000} {
		if flows, datagrams := flowsOf(descriptors, false); flows != want || datagrams != 0 {
			t.Errorf("without UDP %d and %d of %d descriptors, want %d", flows, datagrams, descriptors, want)
		}
	}
}

// As many flows at a time as are asked for, each with its own socket, each answered;
// what they took is given back.
func TestManyUDPFlows(t *testing.T) {
	p := newPair(t)
	p.configure(strings.Replace(measured, "backend", "idle_timeout = \"1h\"\nbackend", 1))
	p.measures("127.0.0.1:5001")
	p.start().until("answering: this node holds a lease")
	w := newWire(p)
	began, before := time.Now(), p.status().Workers[0].Process
	// The service's own queue has room for so many.
	const batch = 100
	for sent := 0; sent < *udpFlows; {
		var frames [][]byte
		for range min(batch, *udpFlows-sent) {
			frames = append(frames, w.questionOf(sent))
			sent++
		}
		w.send(frames...)
		// The answers are awaited, so that no queue runs over; a lost one is asked again.
		for tries := 0; int(p.status().Datagrams.DatagramsDown) < sent; tries++ {
			if time.Since(began) > time.Minute*time.Duration(1+*udpFlows/20_000) {
				t.Fatalf("%+v after %d: %v", p.status().Datagrams, sent, p.status().Verdicts)
			}
		}
	}
	s := p.status()
	if s.Datagrams.Flows != *udpFlows || int(s.Datagrams.Begun) != *udpFlows || s.Datagrams.NoSocket+s.Datagrams.LetGo+s.Datagrams.LostUp != 0 ||
		int(s.Verdicts["deliver-datagram"]) != *udpFlows {
		t.Errorf("%+v", s.Datagrams)
	}
	after := s.Workers[0].Process
	t.Logf("%d flows in %v: %d descriptors more, %d bytes of heap each", s.Datagrams.Flows, time.Since(began).Round(time.Millisecond),
		after.FDs-before.FDs, (int64(after.HeapBytes)-int64(before.HeapBytes))/int64(*udpFlows))
	// A TCP session is served beside them.
	p.session()
}
