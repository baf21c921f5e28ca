package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// server is a TCP server of a few lines: it takes data in order, sends each
// piece back, and closes when the client has.
type server struct {
	t     *testing.T
	w     *World
	port  *Port
	flows map[netip.AddrPort]*served
	is    MAC // what it says is the VIP's MAC
	// resetsAreFine: clients reset on purpose.
	resetsAreFine bool
	pings         int
}

type served struct {
	s              *server
	to             netip.AddrPort
	toMAC          MAC // where its last segment came from
	isn, irs       uint32
	rcv, una, nxt  uint32
	echo           []byte // all that was received, to be sent back
	finIn, finSent bool
	done           bool
	timer          Timer
}

func newServer(t *testing.T, l *LAN) *server {
	s := &server{t: t, w: l.w, flows: map[netip.AddrPort]*served{}, is: clusterMAC()}
	s.port = l.Attach("server", nil, s.receive)
	return s
}

func (s *server) receive(f []byte) {
	if a, ok := parseARP(f); ok && a.operation == arpRequest && a.target == theVIP() {
		r := arpPacket{operation: arpReply, senderMAC: s.is, sender: theVIP(), targetMAC: a.senderMAC, target: a.sender}
		s.port.Send(r.frame(a.senderMAC, nodeMAC(1)))
	}
	if src, dst, proto, b, ok := parseIPv4(f); ok && dst == theVIP() && proto == protoICMP && b[0] == echoRequest {
		s.pings++
		s.port.Send(echoFrame(MAC(f[6:]), nodeMAC(1), theVIP(), src, echoReply, binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), b[8:]))
	}
	seg, ok := ParseSegment(f)
	if !ok || seg.To.Addr() != theVIP() {
		return
	}
	fl := s.flows[seg.From]
	switch {
	case seg.Has(SYN) && (fl == nil || fl.done && before(fl.rcv, seg.Seq)):
		fl = &served{s: s, to: seg.From, isn: s.w.Rand().Uint32(), irs: seg.Seq, rcv: seg.Seq + 1}
		fl.una, fl.nxt = fl.isn, fl.isn+1
		s.flows[seg.From] = fl
		fl.toMAC = seg.FromMAC
		fl.again()
	case fl != nil:
		fl.toMAC = seg.FromMAC
		fl.take(&seg)
	}
}

func (f *served) send(flags byte, seq uint32, data []byte) {
	seg := Segment{FromMAC: nodeMAC(1), ToMAC: f.toMAC, From: netip.AddrPortFrom(theVIP(), 22), To: f.to,
		Flags: flags, Seq: seq, Ack: f.rcv, Window: 8000, Data: data}
	f.s.port.Send(seg.Frame())
}

func (f *served) take(s *Segment) {
	switch {
	case s.Has(SYN) && s.Seq == f.irs && f.una == f.isn:
		f.send(SYN|ACK, f.isn, nil)
		return
	case s.Has(SYN):
		f.send(ACK, f.nxt, nil)
		return
	case s.Has(RST):
		f.done = true
		f.timer.Stop()
		if f.s.resetsAreFine {
			return
		}
		f.s.t.Errorf("%v: the client reset at %d, %d is expected", f.to, s.Seq, f.rcv)
		return
	}
	if before(f.una, s.Ack) && !before(f.nxt, s.Ack) {
		f.una = s.Ack
		f.done = f.finSent && f.una == f.nxt
	}
	if f.done {
		f.timer.Stop()
		return
	}
	if s.Seq == f.rcv && !f.finIn {
		for i, b := range s.Data {
			if want := DataAt(uint64(len(f.echo) + i)); b != want {
				f.s.t.Fatalf("byte %d is %x, want %x", len(f.echo)+i, b, want)
			}
		}
		f.echo = append(f.echo, s.Data...)
		f.rcv += s.Length()
		f.finIn = s.Has(FIN)
	}
	if s.Length() > 0 {
		f.send(ACK, f.nxt, nil)
	}
	f.more()
}

// more sends what is new, one piece at a time.
func (f *served) more() {
	if f.una != f.nxt || f.una == f.isn {
		return
	}
	if sent := f.nxt - f.isn - 1; int(sent) < len(f.echo) {
		f.nxt += uint32(min(700, len(f.echo)-int(sent)))
		f.again()
	} else if f.finIn && !f.finSent {
		f.finSent = true
		f.nxt++
		f.again()
	}
}

// again sends the piece that is not acknowledged, until it is.
func (f *served) again() {
	f.timer.Stop()
	switch {
	case f.una == f.nxt:
		return
	case f.una == f.isn:
		f.send(SYN|ACK, f.isn, nil)
	case f.finSent:
		f.send(ACK|FIN, f.una, nil)
	default:
		f.send(ACK, f.una, f.echo[f.una-f.isn-1:f.nxt-f.isn-1])
	}
	f.timer = f.s.w.After(300*time.Millisecond, f.again)
}

// Over a bad line the client gets all its bytes there and back, in order, and
// both sides say goodbye; then the tuple is used again.
func TestClientOverABadLine(t *testing.T) {
	for seed := range uint64(30) {
		w := New(seed)
		l, _ := w.NewSwitch()
		s := newServer(t, l)
		c := NewClient(l, ClientOptions{Name: "client", MAC: clientMAC(), IP: theClient(), VIP: theVIP()})
		for _, p := range l.Ports() {
			p.Down = Link{DelayMin: ms, DelayMax: 30 * ms, Loss: 0.1, Dup: 0.1, Reorder: 0.1, HoldBack: 100 * ms, Corrupt: 0.05}
		}
		for range 3 {
			n := c.Open(4000, 22)
			var back []byte
			n.Data = func(b []byte) { back = append(back, b...) }
			n.Chat(100*ms, 400)
			w.Run(w.Now() + 20*time.Second)
			n.Close()
			w.Run(w.Now() + 3*time.Minute)
			if n.State != Closed {
				t.Fatalf("seed %d: %v; %+v", seed, n.State, n)
			}
			if len(n.ISNs()) != 1 || len(n.Speakers) != 1 || n.AckOfUnsent != 0 || len(n.Resets) != 0 {
				t.Fatalf("seed %d: ISNs %v, speakers %v, resets %v", seed, n.ISNs(), n.Speakers, n.Resets)
			}
			sent := uint64(0)
			for _, a := range n.Acked {
				sent += uint64(a.Length)
			}
			if sent -= 2; sent < 10000 || n.Received != sent || uint64(len(back)) != sent {
				t.Fatalf("seed %d: sent %d, received %d", seed, sent, n.Received)
			}
			for i, b := range back {
				if b != DataAt(uint64(i)) {
					t.Fatalf("seed %d: byte %d came back as %x", seed, i, b)
				}
			}
			if !s.flows[netip.AddrPortFrom(theClient(), 4000)].done {
				t.Fatalf("seed %d: the server is not done", seed)
			}
		}
		if c.Unwelcome == 0 {
			t.Errorf("seed %d: no corrupted frame came", seed)
		}
	}
}

// Many clients repeat byte for byte.
func TestClientsAreDeterministic(t *testing.T) {
	run := func() (uint64, uint64) {
		w := New(99)
		l := w.NewHub()
		newServer(t, l)
		for i := range 20 {
			c := NewClient(l, ClientOptions{Name: fmt.Sprint("c", i), MAC: MAC{2, 0, 0, 0, 2, byte(i)},
				IP: netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}), VIP: theVIP()})
			c.Port().Down.DelayMax = 5 * ms
			w.After(w.between(0, time.Second), func() { c.Open(uint16(5000+i), 22) })
		}
		w.Run(10 * time.Second)
		return w.TraceHash(), w.Events()
	}
	a, n := run()
	if b, m := run(); a != b || n != m || n < 200 {
		t.Errorf("%x after %d events, then %x after %d", a, n, b, m)
	}
}
