package stack

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// spoken is a packet that netstack emits in a test.
type spoken struct {
	port     uint16
	seq, ack uint32
	size     int
	flags    header.TCPFlags
	options  int // bytes
	window   uint16
	partial  bool
	six      bool
}

func (s spoken) packet() *netstack.PacketBuffer {
	p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{
		ReserveHeaderBytes: 100, Payload: buffer.MakeWithData(make([]byte, s.size)),
	})
	tcp := header.TCP(p.TransportHeader().Push(header.TCPMinimumSize + s.options))
	tcp.Encode(&header.TCPFields{SrcPort: 22, DstPort: s.port, SeqNum: s.seq, AckNum: s.ack, DataOffset: uint8(20 + s.options), Flags: s.flags | header.TCPFlagAck, WindowSize: s.window})
	if s.partial {
		p.GSOOptions = netstack.GSO{Type: netstack.GSOTCPv4, NeedsCsum: true, MSS: 1448}
	} else {
		tcp.SetChecksum(^checksum.Checksum(tcp, s.pseudo(p)))
	}
	if s.six {
		ip := header.IPv6(p.NetworkHeader().Push(header.IPv6MinimumSize))
		ip.Encode(&header.IPv6Fields{PayloadLength: uint16(len(tcp) + s.size), HopLimit: 64, TransportProtocol: 6, SrcAddr: toAddress(vip6), DstAddr: toAddress(client6)})
		return p
	}
	ip := header.IPv4(p.NetworkHeader().Push(header.IPv4MinimumSize))
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(20 + len(tcp) + s.size), TTL: 64, Protocol: 6, SrcAddr: toAddress(vip), DstAddr: toAddress(client)})
	return p
}

func (s spoken) pseudo(p *netstack.PacketBuffer) uint16 {
	if s.six {
		return header.PseudoHeaderChecksum(6, toAddress(vip6), toAddress(client6), uint16(len(p.TransportHeader().Slice())+p.Data().Size()))
	}
	return header.PseudoHeaderChecksum(6, toAddress(vip), toAddress(client), uint16(len(p.TransportHeader().Slice())+p.Data().Size()))
}

// batch is what netstack emits before one Egress, and after is when that is.
type batch struct {
	after   time.Duration
	packets []spoken
}

const (
	opens  = header.TCPFlagSyn
	ends   = header.TCPFlagFin
	resets = header.TCPFlagRst
	pushes = header.TCPFlagPsh
)

// What need not be said in a packet of its own is said in another, within
// ackDelay, and everything else leaves at once and in order.
func TestDelayedACKs(t *testing.T) {
	start := batch{0, []spoken{{ack: 100, flags: opens}}}
	ack := func(n uint32) spoken { return spoken{seq: 1, ack: n} }
	for _, tt := range []struct {
		name    string
		batches []batch
		want    string // what leaves: seq/ack+bytes, batches apart by |
	}{
		{"data carries it", []batch{start, {1, []spoken{ack(150)}}, {2, []spoken{{seq: 1, ack: 150, size: 10, flags: pushes}}}}, "0/100S | - | 1/150+10"},
		{"nothing carries it", []batch{start, {1, []spoken{ack(150)}}, {1 + ackDelay - 1, nil}, {1 + ackDelay, nil}, {time.Second, nil}}, "0/100S | - | - | 1/150 | -"},
		{"two small ones wait together", []batch{start, {1, []spoken{ack(150)}}, {2, []spoken{ack(200)}}, {1 + ackDelay, nil}}, "0/100S | - | - | 1/200"},
		{"two full segments wait", []batch{start, {1, []spoken{ack(100 + 2*(mtu-40))}}}, "0/100S | -"},
		{"more do not", []batch{start, {1, []spoken{ack(101 + 2*(mtu-40))}}}, "0/100S | 1/3021"},
		{"more in two steps do not", []batch{start, {1, []spoken{ack(2000)}}, {2, []spoken{ack(4000)}}, {time.Second, nil}}, "0/100S | - | 1/4000 | -"},
		{"a duplicate", []batch{start, {1, []spoken{ack(100)}}}, "0/100S | 1/100"},
		{"selective blocks", []batch{start, {1, []spoken{{seq: 1, ack: 150, options: 24}}}}, "0/100S | 1/150"},
		{"time stamps alone", []batch{start, {1, []spoken{{seq: 1, ack: 150, options: 12}}}}, "0/100S | -"},
		{"a window that opens", []batch{start, {1, []spoken{ack(150)}}, {2, []spoken{{seq: 1, ack: 150, window: 9}, {seq: 1, ack: 100, window: 9}}}}, "0/100S | - | 1/150 1/100"},
		{"a FIN of the client is answered at once", []batch{start, {1, []spoken{{seq: 1, ack: 150, flags: ends}}}, {2, []spoken{{seq: 2, ack: 151}}}}, "0/100S | 1/150F | 2/151"},
		{"a reset", []batch{start, {1, []spoken{ack(150)}}, {2, []spoken{{seq: 1, ack: 150, flags: resets}}}, {time.Second, nil}}, "0/100S | - | 1/150R | -"},
		{"an unknown flow", []batch{{1, []spoken{ack(150)}}}, "1/150"},
		{"two flows", []batch{start, {0, []spoken{{port: 9, ack: 5, flags: opens}}}, {1, []spoken{ack(150), {port: 9, seq: 1, ack: 6}}}, {2, []spoken{{port: 9, seq: 1, ack: 6, size: 1}}}, {1 + ackDelay, nil}}, "0/100S | 0/5S | - | 1/6+1 | 1/150"},
		{"a FIN joins data", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 11, ack: 150, flags: ends}}}}, "0/100S | 1/150+10F"},
		{"and what waits is in it", []batch{start, {1, []spoken{ack(150)}}, {2, []spoken{{seq: 1, ack: 150, size: 10, partial: true}, {seq: 11, ack: 150, flags: ends}}}, {time.Second, nil}}, "0/100S | - | 1/150+10F | -"},
		{"not data of another batch", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}}}, {2, []spoken{{seq: 11, ack: 150, flags: ends}}}}, "0/100S | 1/150+10 | 11/150F"},
		{"not behind a gap", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 12, ack: 150, flags: ends}}}}, "0/100S | 1/150+10 12/150F"},
		{"not with another acknowledgment", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 11, ack: 160, flags: ends}}}}, "0/100S | 1/150+10 11/160F"},
		{"not with another window", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 11, ack: 150, flags: ends, window: 5}}}}, "0/100S | 1/150+10 11/150F"},
		{"not behind what is said in between", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 11, ack: 150, options: 24}, {seq: 11, ack: 150, flags: ends}}}}, "0/100S | 1/150+10 11/150 11/150F"},
		{"nothing waits behind a FIN that joined", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 11, ack: 150, flags: ends}}}, {2, []spoken{{seq: 12, ack: 151}}}}, "0/100S | 1/150+10F | 12/151"},
		{"each waits for its own time", []batch{start, {1, []spoken{ack(150)}}, {2, []spoken{{seq: 1, ack: 150, size: 10}, {seq: 11, ack: 200}}}, {1 + ackDelay, nil}, {2 + ackDelay, nil}}, "0/100S | - | 1/150+10 | - | 11/200"},
		{"not another flow's", []batch{start, {1, []spoken{{seq: 1, ack: 150, size: 10}, {port: 9, seq: 11, ack: 150, flags: ends}}}}, "0/100S | 1/150+10 11/150F"},
	} {
		for _, six := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", IPv6 ", six), func(t *testing.T) {
				d := delayedACKs{most: ackSegments * (mtu - headerBytes)}
				var got []string
				for _, b := range tt.batches {
					for i := range b.packets {
						b.packets[i].six = six
					}
					got = append(got, leave(t, &d, b))
				}
				if s := strings.Join(got, " | "); s != tt.want {
					t.Errorf("left %q, want %q", s, tt.want)
				}
				d.discard()
			})
		}
	}
}

// leave is one Egress, and what leaves in it.
func leave(t *testing.T, d *delayedACKs, b batch) string {
	t.Helper()
	d.batch++
	var out []*netstack.PacketBuffer
	for _, s := range b.packets {
		out = d.pass(b.after, s.packet(), out)
	}
	out = d.due(b.after, out)
	if at, ok := d.next(); ok && at <= b.after {
		t.Errorf("something is due at %v, and it is %v", at, b.after)
	}
	var said []string
	for _, p := range out {
		tcp := header.TCP(p.TransportHeader().Slice())
		s := fmt.Sprintf("%d/%d", tcp.SequenceNumber(), tcp.AckNumber())
		if n := p.Data().Size(); n > 0 {
			s += fmt.Sprintf("+%d", n)
		}
		for flag, letter := range map[header.TCPFlags]string{opens: "S", ends: "F", resets: "R"} {
			if tcp.Flags()&flag != 0 {
				s += letter
			}
		}
		family := spoken{six: len(p.NetworkHeader().Slice()) == header.IPv6MinimumSize}
		sum := checksum.Checksum(tcp, checksum.Combine(family.pseudo(p), p.Data().Checksum()))
		if partial(p) {
			sum = ^tcp.Checksum()
		}
		if sum != 0xffff {
			t.Errorf("%s has a checksum that is wrong", s)
		}
		said = append(said, s)
		p.DecRef()
	}
	if len(said) == 0 {
		return "-"
	}
	return strings.Join(said, " ")
}

// Two IPv6 flows with the same ends of their addresses are two.
func TestDelayedACKsOfNearAddresses(t *testing.T) {
	d := delayedACKs{most: 100}
	near := func(s spoken, at int) *netstack.PacketBuffer {
		s.six = true
		p := s.packet()
		p.NetworkHeader().Slice()[at] ^= 1
		return p
	}
	for _, at := range []int{8, 19, 24, 35} {
		out := d.pass(1, spoken{ack: 100, flags: opens, six: true}.packet(), nil)
		out = d.pass(1, spoken{seq: 1, ack: 150, six: true}.packet(), out)
		if len(out) != 1 {
			t.Fatalf("%d packets left", len(out))
		}
		// What another flow says takes the slot, and carries nothing of the first.
		if out = d.pass(2, near(spoken{seq: 1, ack: 150, size: 10}, at), out); len(out) != 3 || d.sparedACKs != 0 {
			t.Errorf("byte %d differs: %d packets left, %d spared", at, len(out), d.sparedACKs)
		}
		for _, p := range out {
			p.DecRef()
		}
	}
}

// What has left is nobody's: a slot holds no packet for a flow that says nothing more, or
// the heap of a worker would grow by one for each slot, as it did for hours.
func TestDelayedACKsHoldNoPacketThatHasLeft(t *testing.T) {
	d := delayedACKs{most: 100}
	var left []weak.Pointer[netstack.PacketBuffer]
	for port := range uint16(100) {
		d.batch++
		for _, p := range d.pass(0, spoken{port: port, seq: 1, ack: 100, size: 10}.packet(), nil) {
			left = append(left, weak.Make(p))
			p.DecRef()
		}
		if port%10 == 9 {
			// Netstack's pool, which hands a packet out again, loses its own in two.
			runtime.GC()
			runtime.GC()
		}
	}
	held := map[*netstack.PacketBuffer]bool{}
	for _, w := range left {
		if p := w.Value(); p != nil {
			held[p] = true
		}
	}
	runtime.KeepAlive(&d)
	if len(left) != 100 || len(held) > 0 {
		t.Errorf("%d packets left, and %d of them are still held", len(left), len(held))
	}
}

// Flows that share a slot cost each other nothing but what waits.
func TestDelayedACKsAreACache(t *testing.T) {
	d := delayedACKs{most: 100}
	const flows = 4 * delaySlots
	left := 0
	count := func(out []*netstack.PacketBuffer) {
		for _, p := range out {
			p.DecRef()
		}
		left += len(out)
	}
	for _, s := range []spoken{{ack: 100, flags: opens}, {seq: 1, ack: 150}} {
		for port := range uint16(flows) {
			s.port = port
			count(d.pass(1, s.packet(), nil))
		}
	}
	count(d.due(time.Second, nil))
	if left != 2*flows {
		t.Errorf("%d packets left, want each of the %d", left, 2*flows)
	}
	if _, ok := d.next(); ok {
		t.Error("something still waits")
	}
	if d.sparedACKs != 0 {
		t.Errorf("%d count as spared", d.sparedACKs)
	}
}
