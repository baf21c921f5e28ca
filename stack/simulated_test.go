package stack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"onevoice/internal/poller"
	"onevoice/proxy"
)

// echoPoller is a loop's poller that also has events of connections in memory.
type echoPoller struct {
	*poller.Poller
	echo   *echo
	events []poller.Event
}

func (p *echoPoller) AddEdge(fd int, token uint64) error {
	if fd != p.echo.FD() {
		return p.Poller.AddEdge(fd, token)
	}
	p.echo.token = token
	p.events = append(p.events, poller.Event{Token: token, Writable: true})
	p.Wake()
	return nil
}

func (p *echoPoller) Wait(timeout time.Duration) ([]poller.Event, error) {
	if len(p.events) > 0 {
		timeout = 0
	}
	real, err := p.Poller.Wait(timeout)
	out := append(p.events, real...)
	p.events = nil
	return out, err
}

// echo is a backend in memory that sends back what it gets, once it has the end.
type echo struct {
	poller   *echoPoller
	token    uint64
	from     netip.AddrPort
	got      []byte
	finished bool
	closed   bool
}

var _ Local = (*echo)(nil)

func (e *echo) FD() int            { return -7 }
func (e *echo) Connected() error   { return nil }
func (e *echo) Ready(_, _, _ bool) {}
func (e *echo) Flush() error       { return nil }
func (e *echo) Urgent()            {}
func (e *echo) Queued() int        { return len(e.got) }
func (e *echo) Close()             { e.closed = true }
func (e *echo) Abort()             { e.closed = true }
func (e *echo) Write(p []byte) (int, error) {
	e.got = append(e.got, p...)
	return len(p), nil
}

func (e *echo) Read(p []byte) (int, error) {
	switch {
	case !e.finished:
		return 0, proxy.ErrAgain
	case len(e.got) == 0:
		return 0, io.EOF
	}
	n := copy(p, e.got)
	e.got = e.got[n:]
	return n, nil
}

func (e *echo) CloseWrite() error {
	e.finished = true
	e.poller.events = append(e.poller.events, poller.Event{Token: e.token, Readable: true, PeerClosed: true})
	return nil
}

// A simulation's own backend stands where the host's does: no descriptor, the
// same bytes, the same ends.
func TestABackendOfASimulation(t *testing.T) {
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		t.Fatal(err)
	}
	wait := &echoPoller{Poller: p, echo: &echo{}}
	wait.echo.poller = wait
	w := startWorld(t, p, wait, Service{Name: "echo", Listen: netip.AddrPortFrom(vip, 22), Dial: func(client netip.AddrPort) (Local, error) {
		wait.echo.from = client
		return wait.echo, nil
	}})
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	back, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("%d bytes came back, %v; want the %d that were sent", len(back), err, len(data))
	}
	w.do(func() {
		if wait.echo.from.Addr() != client || !wait.echo.closed {
			t.Errorf("the backend was dialled for %v, closed %v", wait.echo.from, wait.echo.closed)
		}
	})
}

// waker is a poller for a stack whose flows never come so far as to dial.
type waker struct{ woken chan struct{} }

func (w waker) AddEdge(int, uint64) error { return nil }
func (w waker) Wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// locked is chance for several goroutines, from a seed.
type locked struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (l *locked) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// The clock and the chance that a simulation gives are all that netstack has: two
// stacks with the same answer a SYN with the same bytes, one with another chance
// with others.
func TestSameChanceSameAnswer(t *testing.T) {
	answer := func(seed string) []byte {
		w := waker{make(chan struct{}, 1)}
		s, err := New(Config{
			MTU: mtu, Addresses: []netip.Addr{vip}, Poller: w,
			Clock: faketime.NewManualClock(), Random: &locked{r: rand.NewChaCha8(sha256.Sum256([]byte(seed)))},
			Services: []Service{{Name: "echo", Listen: netip.AddrPortFrom(vip, 22)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Deliver(synFrom(client, 40000))
		for {
			if out := s.Egress(0); len(out) > 0 {
				defer s.Release()
				return bytes.Join(out[0].Vector.Pieces, nil)[EthernetBytes:]
			}
			<-w.woken
		}
	}
	one, same, other := answer("a"), answer("a"), answer("b")
	if header.TCP(one[20:]).Flags() != header.TCPFlagSyn|header.TCPFlagAck {
		t.Fatalf("a SYN is answered by %x", one)
	}
	if !bytes.Equal(one, same) {
		t.Errorf("the same seed answers\n%x\n%x", one, same)
	}
	if bytes.Equal(one, other) {
		t.Error("another seed gives the same answer")
	}
}

// synFrom is a SYN to the service.
func synFrom(from netip.Addr, port uint16) []byte {
	b := make([]byte, 40)
	header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: 40, TTL: 64, Protocol: 6, SrcAddr: toAddress(from), DstAddr: toAddress(vip)})
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	tcp := header.TCP(b[20:])
	tcp.Encode(&header.TCPFields{SrcPort: port, DstPort: 22, SeqNum: 1000, DataOffset: 20, Flags: header.TCPFlagSyn, WindowSize: 65535})
	sum := header.PseudoHeaderChecksum(6, toAddress(from), toAddress(vip), 20)
	binary.BigEndian.PutUint16(tcp[16:], ^checksum.Checksum(tcp, sum))
	return b
}
