package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// pingBytes is the payload of an echo request: as ping(8) sends, so that
// nothing on the way finds it odd.
const pingBytes = 56

// maxPingReads bounds how many foreign packets a raw socket looks at for one
// answer.
const maxPingReads = 1024

var errPingCrowd = errors.New("too many foreign ICMP packets came instead of an answer")

// Ping sends one echo request over IPv4 and returns the round-trip time. It
// uses a ping socket where sysctl net.ipv4.ping_group_range allows it, and else
// a raw socket, which needs CAP_NET_RAW.
func Ping(ctx context.Context, host netip.Addr, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !host.Is4() {
		return 0, fmt.Errorf("%v is no IPv4 address to ping", host)
	}
	conn, to, err := openPing(host)
	if err != nil {
		return 0, fmt.Errorf("ping needs CAP_NET_RAW or a place in net.ipv4.ping_group_range: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	rtt, err := echo(conn, host, to)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, fmt.Errorf("no echo from %v within %v", host, timeout)
	}
	return rtt, err
}

func openPing(host netip.Addr) (*icmp.PacketConn, net.Addr, error) {
	ip := net.IP(host.AsSlice())
	conn, err := icmp.ListenPacket("udp4", "0.0.0.0")
	if err == nil {
		return conn, &net.UDPAddr{IP: ip}, nil
	}
	conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, nil, err
	}
	// A filter that cannot be set costs only wake-ups.
	var filter ipv4.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv4.ICMPTypeEchoReply)
	conn.IPv4PacketConn().SetICMPFilter(&filter)
	return conn, &net.IPAddr{IP: ip}, nil
}

// echo sends a request and waits for its own answer, known by its payload: the
// identifier is the kernel's with a ping socket.
func echo(conn *icmp.PacketConn, host netip.Addr, to net.Addr) (time.Duration, error) {
	request := &icmp.Echo{ID: rand.IntN(1 << 16), Seq: rand.IntN(1 << 16), Data: make([]byte, pingBytes)}
	for i := range 16 {
		request.Data[i] = byte(rand.Uint32())
	}
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: request}
	packet, err := message.Marshal(nil)
	if err != nil {
		return 0, err
	}
	sent := time.Now()
	if _, err := conn.WriteTo(packet, to); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for range maxPingReads {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return 0, err
		}
		rtt := time.Since(sent)
		if address(from) == host && answers(buf[:n], request) {
			return rtt, nil
		}
	}
	return 0, errPingCrowd
}

// answers reports whether a message is the echo reply to a request.
func answers(message []byte, request *icmp.Echo) bool {
	m, err := icmp.ParseMessage(1, message) // 1: ICMP for IPv4
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
		return false
	}
	reply, ok := m.Body.(*icmp.Echo)
	return ok && reply.Seq == request.Seq && bytes.Equal(reply.Data, request.Data)
}

func address(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
