package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

var (
	client6 = netip.MustParseAddr("2001:db8::101")
	vip6    = netip.MustParseAddr("2001:db8::2")
)

// taken is a dispatcher that keeps what netstack would get.
type taken struct{ packets [][]byte }

func (d *taken) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, p *netstack.PacketBuffer) {
	v := p.ToView()
	d.packets = append(d.packets, bytes.Clone(v.AsSlice()))
	v.Release()
}
func (d *taken) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *netstack.PacketBuffer) {}

func newTaken() (*Stack, *taken) {
	d := &taken{}
	s := &Stack{link: newLinkEndpoint(mtu, func() {})}
	s.link.Attach(d)
	s.link.six.Attach(d)
	return s, d
}

// piece is one segment of a test, with what may differ in it.
type piece struct {
	port        uint16
	seq         uint32
	size        int
	flags       header.TCPFlags
	window, tos int
	ack, stamp  uint32
	// hops are taken off the time to live, ipFlags are those of fragments, and
	// options are words of IP header and of TCP header beyond the usual.
	hops, ipFlags       uint8
	ipOptions, tcpWords int
	six                 bool
}

func (p piece) packet() []byte {
	options, ipBytes := 12+4*p.tcpWords, 20+4*p.ipOptions
	if p.six {
		ipBytes = 40
	}
	b := make([]byte, ipBytes+20+options+p.size)
	if p.six {
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(b) - 40), TrafficClass: uint8(p.tos), TransportProtocol: 6, HopLimit: 64 - p.hops, SrcAddr: toAddress(client6), DstAddr: toAddress(vip6)})
	} else {
		p.header4(b, ipBytes)
	}
	tcp := header.TCP(b[ipBytes:])
	tcp.Encode(&header.TCPFields{SrcPort: p.port, DstPort: 22, SeqNum: p.seq, AckNum: 7 + p.ack, DataOffset: uint8(20 + options), Flags: p.flags | header.TCPFlagAck, WindowSize: uint16(500 + p.window)})
	copy(tcp[20:], []byte{1, 1, 8, 10})
	binary.BigEndian.PutUint32(tcp[24:], 99+p.stamp)
	for i := range p.size {
		b[ipBytes+20+options+i] = byte((p.seq + uint32(i)) * 31)
	}
	return b
}

func (p piece) header4(b []byte, ipBytes int) {
	header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64 - p.hops, TOS: uint8(p.tos), Flags: p.ipFlags, Protocol: 6, SrcAddr: toAddress(client), DstAddr: toAddress(vip), ID: uint16(p.seq)})
	b[0] = 0x45 + byte(p.ipOptions)
	for i := 20; i < ipBytes; i++ {
		b[i] = 1 // no operation
	}
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
}

// Segments that follow each other become one; what differs in anything else does
// not join, and no flow's segments change their order.
func TestGather(t *testing.T) {
	const a, b = 1000, 2000
	full := func(seq uint32) piece { return piece{port: a, seq: seq, size: 100} }
	for _, tt := range []struct {
		name string
		in   []piece
		want string // port:number+bytes of what netstack gets
	}{
		{"a run", []piece{full(0), full(100), full(200)}, "1000:0+300"},
		{"two flows", []piece{full(0), {port: b, seq: 5, size: 50}, full(100), {port: b, seq: 55, size: 50}}, "1000:0+200 2000:5+100"},
		{"a gap", []piece{full(0), full(200)}, "1000:0+100 1000:200+100"},
		{"the same twice", []piece{full(0), full(0)}, "1000:0+100 1000:0+100"},
		{"backwards", []piece{full(100), full(0), full(100)}, "1000:100+100 1000:0+200"},
		{"a short one ends it", []piece{full(0), {port: a, seq: 100, size: 40}, full(140)}, "1000:0+140 1000:140+100"},
		{"a push ends it", []piece{full(0), {port: a, seq: 100, size: 100, flags: header.TCPFlagPsh}, full(200)}, "1000:0+200P 1000:200+100"},
		{"a longer one", []piece{{port: a, seq: 0, size: 50}, full(50)}, "1000:0+50 1000:50+100"},
		{"another acknowledgment", []piece{full(0), {port: a, seq: 100, size: 100, ack: 1}}, "1000:0+100 1000:100+100"},
		{"another window", []piece{full(0), {port: a, seq: 100, size: 100, window: 1}}, "1000:0+100 1000:100+100"},
		{"another time stamp", []piece{full(0), {port: a, seq: 100, size: 100, stamp: 1}}, "1000:0+100 1000:100+100"},
		{"another type of service", []piece{full(0), {port: a, seq: 100, size: 100, tos: 3}}, "1000:0+100 1000:100+100"},
		{"a FIN after data", []piece{full(0), {port: a, seq: 100, size: 100, flags: header.TCPFlagFin}}, "1000:0+100 1000:100+100"},
		{"a pure acknowledgment between", []piece{full(0), {port: a, seq: 100}, full(100)}, "1000:0+100 1000:100+0 1000:100+100"},
		{"urgent", []piece{full(0), {port: a, seq: 100, size: 100, flags: header.TCPFlagUrg}}, "1000:0+100 1000:100+100"},
		{"a push begins it", []piece{{port: a, seq: 0, size: 100, flags: header.TCPFlagPsh}, full(100), full(200)}, "1000:0+100P 1000:100+200"},
		{"more options", []piece{full(0), {port: a, seq: 100, size: 100, tcpWords: 1}}, "1000:0+100 1000:100+100"},
		{"less to live", []piece{full(0), {port: a, seq: 100, size: 100, hops: 1}}, "1000:0+100 1000:100+100"},
		{"must not be cut", []piece{full(0), {port: a, seq: 100, size: 100, ipFlags: header.IPv4FlagDontFragment}}, "1000:0+100 1000:100+100"},
		{"IP options between", []piece{full(0), {port: a, seq: 100, size: 100, ipOptions: 1}, full(200)}, "1000:0+100 1000:100+100 1000:200+100"},
		{"three flows, one of them broken", []piece{full(0), {port: b, size: 10}, {port: 3, size: 10}, full(500)}, "1000:0+100 2000:0+10 3:0+10 1000:500+100"},
	} {
		for _, six := range []bool{false, true} {
			s, d := newTaken()
			for _, p := range tt.in {
				if p.six = six; six && (p.ipOptions > 0 || p.ipFlags > 0) {
					continue
				}
				s.Gather(p.packet())
			}
			s.Flush()
			if got := d.describe(t); got != tt.want && !(six && strings.Contains("must not be cut, IP options between", tt.name)) {
				t.Errorf("%s, IPv6 %v: netstack gets %q, want %q", tt.name, six, got, tt.want)
			}
		}
	}
}

// Flows of both families do not join, nor does what has extension headers, which
// comes in its turn.
func TestGatherBothFamilies(t *testing.T) {
	s, d := newTaken()
	six, four := piece{port: 1, size: 100, six: true}, piece{port: 1, size: 100}
	chained := func(p piece) []byte {
		b := p.packet()
		b = slices.Insert(b, 40, 6, 0, 1, 4, 0, 0, 0, 0)
		b[6] = 60
		header.IPv6(b).SetPayloadLength(uint16(len(b) - 40))
		return b
	}
	s.Gather(six.packet())
	s.Gather(four.packet())
	six.seq, four.seq = 100, 100
	s.Gather(four.packet())
	s.Gather(chained(six))
	six.seq = 200
	s.Gather(six.packet())
	s.Flush()
	var got []string
	for _, p := range d.packets {
		got = append(got, fmt.Sprintf("%d:%d", p[0]>>4, len(p)))
	}
	if want := "6:172 4:252 6:180 6:172"; strings.Join(got, " ") != want {
		t.Errorf("netstack gets %v, want %s", got, want)
	}
}

// describe checks each packet and tells of it.
func (d *taken) describe(t *testing.T) string {
	t.Helper()
	var out []byte
	for _, p := range d.packets {
		ip := header.IPv4(p)
		tcp := header.TCP(p[40:])
		if p[0]>>4 == 4 {
			tcp = header.TCP(p[ip.HeaderLength():])
		}
		if p[0]>>4 == 4 && (!ip.IsChecksumValid() || int(ip.TotalLength()) != len(p)) || p[0]>>4 == 6 && int(header.IPv6(p).PayloadLength()) != len(p)-40 {
			t.Errorf("a header that is wrong: %x", p[:20])
		}
		data := tcp[tcp.DataOffset():]
		for i, b := range data {
			if b != byte((tcp.SequenceNumber()+uint32(i))*31) {
				t.Errorf("byte %d of %d behind number %d is another's", i, len(data), tcp.SequenceNumber())
				break
			}
		}
		out = fmt.Appendf(out, " %d:%d+%d", tcp.SourcePort(), tcp.SequenceNumber(), len(data))
		if tcp.Flags()&header.TCPFlagPsh != 0 {
			out = append(out, 'P')
		}
	}
	return string(bytes.TrimPrefix(out, []byte(" ")))
}

// However segments come, each flow's are delivered in the order in which they
// came, whole, and none is longer than a packet may be.
func TestGatherKeepsOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s, d := newTaken()
		want, next := map[uint16][]uint32{}, map[uint16]uint32{}
		for range 300 {
			p := piece{port: uint16(1000 + r.IntN(2*maxGathered)), size: r.IntN(1400), window: r.IntN(20) / 19}
			if r.IntN(30) == 0 {
				p.size = 0
			}
			if p.seq = next[p.port]; r.IntN(20) == 0 {
				p.seq += uint32(r.IntN(3000))
			}
			next[p.port] = p.seq + uint32(p.size)
			want[p.port] = appendBytes(want[p.port], p.seq, p.size)
			s.Gather(p.packet())
			if n := len(s.gathering.open); n > maxGathered {
				t.Fatalf("%d flows are gathered", n)
			}
			if r.IntN(40) == 0 {
				s.Flush()
			}
		}
		s.Flush()
		d.describe(t)
		got := map[uint16][]uint32{}
		for _, p := range d.packets {
			tcp := header.TCP(p[20:])
			got[tcp.SourcePort()] = appendBytes(got[tcp.SourcePort()], tcp.SequenceNumber(), len(tcp)-int(tcp.DataOffset()))
		}
		for port := range want {
			if fmt.Sprint(got[port]) != fmt.Sprint(want[port]) {
				t.Fatalf("port %d: delivered %v, came %v", port, got[port], want[port])
			}
		}
	}
}

// appendBytes appends the numbers of a segment's bytes as ranges, joined where
// they follow each other.
func appendBytes(ranges []uint32, seq uint32, size int) []uint32 {
	if size == 0 {
		return ranges
	}
	if n := len(ranges); n > 0 && ranges[n-1] == seq {
		ranges[n-1] = seq + uint32(size)
		return ranges
	}
	return append(ranges, seq, seq+uint32(size))
}

// A run is no longer than an IPv4 packet may be, RFC 791 §3.1.
func TestGatherIsBounded(t *testing.T) {
	s, d := newTaken()
	for i := range uint32(100) {
		s.Gather(piece{port: 1, seq: i * 1400, size: 1400}.packet())
	}
	s.Flush()
	if len(d.packets) != 3 || len(d.packets[0]) != 52+46*1400 {
		t.Errorf("140,000 bytes came as %s", d.describe(t))
	}
}
