package stack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"onevoice/internal/poller"
	"onevoice/proxy"
)

// segmentTo makes a client's segment without data in an IPv4 packet.
func segmentTo(flags header.TCPFlags, seq, ack uint32) []byte {
	const size = header.IPv4MinimumSize + header.TCPMinimumSize
	b := make([]byte, size)
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{TotalLength: size, TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: toAddress(client), DstAddr: toAddress(vip)})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip.Payload())
	tcp.Encode(&header.TCPFields{SrcPort: 40000, DstPort: 22, SeqNum: seq, AckNum: ack, DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: 65535})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, toAddress(client), toAddress(vip), header.TCPMinimumSize)
	tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(nil, sum)))
	return b
}

// BenchmarkDeliver is what a segment of an open flow costs netstack, from the
// loop's call to the end of what its own goroutine does with it.
func BenchmarkDeliver(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	p, err := poller.New(poller.ByKernel)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	backend := proxy.Backend{Addr: netip.MustParseAddrPort(l.Addr().String())}
	s, err := New(Config{MTU: mtu, Addresses: []netip.Addr{vip}, Poller: p, Services: []Service{{Name: "x", Listen: netip.AddrPortFrom(vip, 22), Backend: backend}}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const first = 1000
	answer := untilEmits(b, s, p, segmentTo(header.TCPFlagSyn, first, 0))
	next := binary.BigEndian.Uint32(answer[EthernetBytes+header.IPv4MinimumSize+4:]) + 1
	ack := segmentTo(header.TCPFlagAck, first+1, next)
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver(ack)
		s.Turn(0)
		for range s.Egress(0) {
		}
		s.Release()
	}
}

// untilEmits delivers a packet and returns the first that netstack emits.
func untilEmits(b *testing.B, s *Stack, p *poller.Poller, ip []byte) []byte {
	b.Helper()
	s.Deliver(ip)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		for _, out := range s.Egress(0) {
			answer := append([]byte(nil), out.Vector.Pieces[0]...)
			s.Release()
			return answer
		}
		if _, err := p.Wait(time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
	b.Fatal("netstack emits nothing")
	return nil
}
