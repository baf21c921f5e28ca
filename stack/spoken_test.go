package stack

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	"onevoice/hashing"
	"onevoice/internal/poller"
	"onevoice/proxy"
)

// tardy is a backend of which the poller has said nothing yet. Writing to it meets err.
type tardy struct {
	err     error
	got     []byte
	aborted bool
}

var _ Local = (*tardy)(nil)

func (b *tardy) FD() int                  { return 7 }
func (b *tardy) Connected() error         { return nil }
func (b *tardy) Ready(_, _, _ bool)       {}
func (b *tardy) Flush() error             { return nil }
func (b *tardy) Urgent()                  {}
func (b *tardy) Queued() int              { return 0 }
func (b *tardy) CloseWrite() error        { return nil }
func (b *tardy) Close()                   {}
func (b *tardy) Abort()                   { b.aborted = true }
func (b *tardy) Read([]byte) (int, error) { return 0, proxy.ErrAgain }
func (b *tardy) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.got = append(b.got, p...)
	return len(p), nil
}

const greeting = "hello"

// spokenFlow is a stack, at the turn that accepts a client which has said greeting
// with the end of its handshake.
func spokenFlow(t *testing.T, b *tardy) *Stack {
	t.Helper()
	w := waker{make(chan struct{}, 1)}
	s, err := New(Config{
		MTU: mtu, Addresses: []netip.Addr{vip}, Poller: w,
		Services: []Service{{Name: "echo", Listen: netip.AddrPortFrom(vip, 22), Dial: func(netip.AddrPort) (Local, error) { return b, nil }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Deliver(segmentTo(header.TCPFlagSyn, 1000, 0))
	var isn uint32
	for isn == 0 {
		for _, p := range s.Egress(0) {
			isn = binary.BigEndian.Uint32(p.Vector.Pieces[0][EthernetBytes+header.IPv4MinimumSize+4:])
		}
		s.Release()
		runtime.Gosched()
	}
	said := append(segmentTo(header.TCPFlagAck|header.TCPFlagPsh, 1001, isn+1), greeting...)
	header.IPv4(said).SetTotalLength(uint16(len(said)))
	s.Deliver(segmentTo(header.TCPFlagAck, 1001, isn+1))
	s.Deliver(said)
	f := hashing.Flow{Src: client, Dst: vip, SrcPort: 40000, DstPort: 22, Proto: 6}
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		if ep := s.endpoint(&f); ep != nil && ep.Readiness(waiter.ReadableEvents) != 0 && s.services[0].pending.Load() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("netstack does not take what the client says")
		}
	}
	s.Turn(0)
	return s
}

// What a client has said by the time that it is accepted goes to the backend in the
// same turn, before the poller has said that this is connected.
func TestSpokenBytesGoAtOnce(t *testing.T) {
	b := &tardy{}
	s := spokenFlow(t, b)
	if string(b.got) != greeting {
		t.Errorf("in the turn that accepts the client the backend gets %q", b.got)
	}
	if f := s.Flows(0, 1); len(f) != 1 || f[0].State != "open" || f[0].BytesUp != uint64(len(greeting)) {
		t.Errorf("the flow is %+v", f)
	}
	// The poller's word comes after it.
	s.Ready(&poller.Event{Token: s.lastID, Writable: true}, 0)
	// It has connected long before this time is over.
	s.Turn(connectTimeout)
	if string(b.got) != greeting || b.aborted || s.FlowCount() != 1 {
		t.Errorf("after it the backend has %q, aborted %v, %d flows", b.got, b.aborted, s.FlowCount())
	}
}

// A backend that does not take the bytes yet gets them when the poller says so.
func TestSpokenBytesWaitForTheBackend(t *testing.T) {
	b := &tardy{err: proxy.ErrAgain}
	s := spokenFlow(t, b)
	if f := s.Flows(0, 1); len(f) != 1 || f[0].State != "connecting" {
		t.Errorf("the flow is %+v", f)
	}
	b.err = nil
	s.Ready(&poller.Event{Token: s.lastID, Writable: true}, 0)
	if string(b.got) != greeting {
		t.Errorf("connected, the backend gets %q", b.got)
	}
}

// One that refuses meanwhile is doubted, as one that refuses later.
func TestSpokenBytesMeetARefusal(t *testing.T) {
	b := &tardy{err: unix.ECONNREFUSED}
	s := spokenFlow(t, b)
	// It is dialled without a client.
	doubted := s.services[0].probe != nil
	if !b.aborted || s.FlowCount() != 0 || s.Counters().Refused != 1 || !doubted {
		t.Errorf("aborted %v, %d flows, %d refused, doubted %v", b.aborted, s.FlowCount(), s.Counters().Refused, doubted)
	}
}
