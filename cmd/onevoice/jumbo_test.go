package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// stretch gives both ends of the cable another MTU.
func (p *pair) stretch(mtu int) {
	p.t.Helper()
	p.link("eth0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, mtu) })
	err := p.client.Do(func() error {
		l, err := netlink.LinkByName("cable")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(l, mtu)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// With an MTU of 9,000 packets are as long both ways, until a router says that the path
// is narrower.
func TestJumboFrames(t *testing.T) {
	p := newPair(t)
	p.stretch(9000)
	p.start().until("answering: this node holds a lease")
	w := newWire(p)
	const mss = 8960
	f := w.open(60001, 0, 2, 4, mss>>8, mss&0xff)
	if o := optionOf(f.answer, 2); len(o) != 2 || binary.BigEndian.Uint16(o) != mss {
		t.Errorf("the node's MSS is %d, want %d", o, mss)
	}
	said := string(bytes.Repeat([]byte("jumbo"), 1000))
	w.largest = 0
	f.echoes(f.segment(ack|psh, nil, said), said)
	if w.largest != 40+len(said) {
		t.Errorf("5,000 bytes came in packets of %d", w.largest)
	}
	// RFC 1191 §4: fragmentation is needed, and the next hop's MTU is 1500.
	quoted := changed(f.segment(ack, nil, ""), atIP+12, 10, 77, 0, 2, 10, 77, 0, 250)
	binary.BigEndian.PutUint16(quoted[atTransport:], 7)
	binary.BigEndian.PutUint16(quoted[atTransport+2:], f.from)
	binary.BigEndian.PutUint32(quoted[atTransport+4:], f.ack-1)
	narrower := w.packet(unix.IPPROTO_ICMP, nil, slices.Concat([]byte{3, 4, 0, 0, 0, 0, 1500 >> 8, 1500 & 0xff}, quoted[atIP:][:28]))
	if counts, answers := w.counted(narrower); !maps.Equal(counts, map[string]uint64{"deliver-error": 1}) || len(answers) > 0 {
		t.Errorf("what the router says: counted as %v, answered by %q", counts, answers)
	}
	w.largest = 0
	f.echoes(f.segment(ack|psh, nil, said), said)
	if w.largest > 1500 || w.largest < 1400 {
		t.Errorf("after it packets are of %d bytes", w.largest)
	}
	f.end()
	// The client's own kernel, with all that it offers.
	p.session()
	big := strings.Repeat("0123456789", 100_000)
	c := p.session()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Write([]byte(big)) }()
	got := make([]byte, 0, len(big))
	for len(got) < len(big) {
		part := make([]byte, 1<<16)
		n, err := c.Read(part)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got = append(got, part[:n]...)
	}
	if string(got) != big {
		t.Error("bytes came back as others")
	}
}

// optionOf is what an option of a TCP segment carries, nil without it.
func optionOf(frame []byte, kind byte) []byte {
	b := frame[atTransport+20 : atTransport+int(frame[atTransport+12]>>4)*4]
	for len(b) > 1 && b[0] != 0 {
		switch {
		case b[0] == 1:
			b = b[1:]
			continue
		case b[0] == kind:
			return b[2:b[1]]
		}
		b = b[b[1]:]
	}
	return nil
}

// Three VIPs with three services each, on one worker: each leads to its own backend,
// and each VIP answers to ARP and ping.
func TestManyVIPsAndServices(t *testing.T) {
	p := newPair(t)
	var file strings.Builder
	vips := []string{testVIP, "10.77.0.3", "10.77.0.4"}
	for i, vip := range vips {
		if i > 0 {
			fmt.Fprintf(&file, "[[vip]]\naddress = \"%s/24\"\n", vip)
		}
		for port := range 3 {
			fmt.Fprintf(&file, "[[service]]\nname = \"s%d%d\"\nlisten = \"%s:%d\"\nbackend = \"127.0.0.1:9%d0%d\"\n", i, port, vip, 80+port, i, port)
			p.greets(fmt.Sprintf("127.0.0.1:9%d0%d", i, port))
		}
	}
	p.configure(file.String())
	p.start().until("answering: this node holds a lease")
	for i, vip := range vips {
		for port := range 3 {
			if said, err := p.asksAt(p.client, vip, 0, 80+port); err != nil || said != fmt.Sprintf("127.0.0.1:9%d0%d", i, port) {
				t.Errorf("%s:%d says %q, %v", vip, 80+port, said, err)
			}
		}
	}
	w := newWire(p)
	for _, vip := range vips {
		before := w.verdicts()
		w.asked(func() []byte { return w.arp(1, w.mac, nobody().String(), vip) }, func(f []byte) bool {
			return kindOf(f) == "ARP 2" && net.IP(f[28:32]).String() == vip
		})
		to := netip.MustParseAddr(vip).As4()
		group := []byte{0x01, 0x00, 0x5e, to[1] & 0x7f, to[2], to[3]}
		w.asked(func() []byte { return seal(changed(changed(w.echo(7), 0, group...), atIP+16, to[:]...)) }, func(f []byte) bool {
			return kindOf(f) == "echo reply" && net.IP(f[atIP+12:atIP+16]).String() == vip
		})
		if got, _ := grown(before, w.verdicts()); got["answered-arp"] == 0 {
			t.Errorf("%s: counted as %v", vip, got)
		}
	}
	if s := p.status(); len(s.Workers) != 1 || len(s.VIPs) != 3 || len(s.Services) != 10 {
		t.Errorf("%d workers, %d VIPs, %d services", len(s.Workers), len(s.VIPs), len(s.Services))
	}
}
