package health

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// A program that has the port is found without a datagram to it, whether it has one
// address or all.
func TestProbeUDP(t *testing.T) {
	for name, listen := range map[string]string{"one address": "127.0.0.1:0", "all addresses": ":0", "IPv6": "[::1]:0"} {
		c, err := net.ListenPacket("udp", listen)
		if err != nil {
			if name == "IPv6" {
				continue // this host has none
			}
			t.Fatal(err)
		}
		at := c.LocalAddr().(*net.UDPAddr)
		target := *at
		if at.IP.IsUnspecified() {
			target.IP = net.IPv4(127, 0, 0, 1)
		}
		check := Check{Kind: UDP, Target: target.AddrPort().String(), Timeout: 5 * time.Second}
		if name == "all addresses" {
			check.Target = "127.0.0.1" + check.Target[strings.LastIndex(check.Target, ":"):]
		}
		if err := check.Probe(context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := check.Probe(context.Background()); err == nil || !strings.Contains(err.Error(), "no program has UDP port") {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
}

// The program hears nothing of it.
func TestProbeUDPSendsNothing(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check := Check{Kind: UDP, Target: c.LocalAddr().String(), Timeout: 5 * time.Second}
	if err := check.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	// What comes on loopback is there when the call has returned.
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := c.ReadFrom(make([]byte, 1)); err == nil {
		t.Errorf("it was sent a datagram of %d bytes", n)
	}
}

// Another host is asked by a datagram; one that nobody answers is as good as an
// answer.
func TestKnock(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := knock(context.Background(), at); err != nil {
		t.Errorf("a port that is open: %v", err)
	}
	c.Close()
	if err := knock(context.Background(), at); err == nil {
		t.Error("a port that is closed is taken for open")
	}
}
