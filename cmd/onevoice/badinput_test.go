package main

import (
	"encoding/binary"
	"maps"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// hostile is a frame that no honest client sends, what it has to be counted as, and
// the one answer that it deserves.
type hostile struct {
	name    string
	frame   []byte
	verdict string // "": the kernel's filter keeps it out
	answer  string // "": none
}

// Bad input is a counted verdict: each frame grows one counter of a real daemon by one,
// and nothing comes of it but what it deserves.
func TestBadInput(t *testing.T) {
	p := newPair(t)
	p.start().until("answering: this node holds a lease")
	w := newWire(p)
	for _, c := range slices.Concat(w.badIPv4(), w.badTCP(), w.badOthers(), w.badARP()) {
		frames, counted := w.judged(c.frame)
		if c.answer != "" && len(frames) == 0 {
			frames = w.heard(func([]byte) bool { return true })
		}
		answers := kindsOf(frames)
		want := []string{}
		if c.answer != "" {
			want = append(want, c.answer)
		}
		if !slices.Equal(answers, want) {
			t.Errorf("%s: answered by %q, want %q", c.name, answers, want)
		}
		counts := map[string]uint64{}
		if c.verdict != "" {
			counts[c.verdict] = 1
		}
		if !maps.Equal(counted, counts) {
			t.Errorf("%s: counted as %v, want %v", c.name, counted, counts)
		}
		if c.answer == "SYN-ACK" && len(frames) > 0 {
			w.hangUp(frames[0])
		}
	}
	if late := kindsOf(w.settled()); len(late) > 0 {
		t.Errorf("late answers: %q", late)
	}
	if _, err := p.dial(patience); err != nil {
		t.Errorf("after all of it: %v", err)
	}
}

// judged sends a frame, and returns what comes of it and what it is counted as.
func (w *wire) judged(frame []byte) (answers [][]byte, counted map[string]uint64) {
	w.t.Helper()
	for lapsed := true; lapsed; {
		before := w.verdicts()
		w.send(frame)
		answers = w.settled()
		counted, lapsed = grown(before, w.verdicts())
	}
	return answers, counted
}

// hangUp resets a flow that was answered, or its SYN-ACK would come again.
func (w *wire) hangUp(answer []byte) {
	w.t.Helper()
	w.send(w.segment(segment{
		from: binary.BigEndian.Uint16(answer[atTransport+2:]), to: 7,
		seq: binary.BigEndian.Uint32(answer[atTransport+8:]), flags: rst,
	}))
	w.settled()
}

// opening is a SYN for the service from a port of its own for each case.
func opening(from uint16) segment { return segment{from: from, to: 7, seq: 1000, flags: syn} }

func (w *wire) badIPv4() []hostile {
	good := w.segment(opening(50000))
	source := func(a ...byte) []byte { return seal(changed(good, atIP+12, a...)) }
	option := func(o ...byte) []byte { return w.packet(unix.IPPROTO_TCP, o, good[atTransport:]) }
	return []hostile{
		{"nothing behind the Ethernet header", good[:atIP+12], "", ""},
		{"half an IPv4 header", good[:atIP+19], "", ""},
		{"version 6 under IPv4's type", seal(changed(good, atIP, 0x65)), "bad-ip-version", ""},
		{"a header of 16 bytes", changed(good, atIP, 0x44), "bad-ip-header-length", ""},
		{"a header beyond the packet", changed(good, atIP, 0x4f), "bad-ip-header-length", ""},
		{"more bytes than there are", seal(changed(good, atIP+2, 1)), "bad-ip-length", ""},
		{"fewer bytes than the header", seal(changed(good, atIP+3, 19)), "bad-ip-length", ""},
		{"a wrong header checksum", changed(good, atIP+10, ^good[atIP+10]), "bad-ip-checksum", ""},
		{"an option that overruns", option(7, 40, 4, 0), "bad-ip-options", ""},
		{"an option of length 1", option(7, 1, 4, 0), "bad-ip-options", ""},
		{"a loose source route", option(131, 7, 4, 10, 77, 0, 1, 0), "source-route", ""},
		{"a strict source route", option(137, 7, 4, 10, 77, 0, 1, 0), "source-route", ""},
		{"options that ask for nothing", option(1, 1, 1, 0), "deliver-syn", "SYN-ACK"},
		{"a SYN that records its route", w.packet(unix.IPPROTO_TCP, []byte{7, 7, 4, 0, 0, 0, 0, 0}, seal(w.segment(opening(50001)))[atTransport:]), "deliver-syn", "SYN-ACK"},
		{"land: from the VIP itself", source(10, 77, 0, 2), "martian-source", ""},
		{"from this host's own address", source(10, 77, 0, 11), "martian-source", ""},
		{"from loopback", source(127, 0, 0, 1), "martian-source", ""},
		{"from 0.0.0.0", source(0, 0, 0, 0), "martian-source", ""},
		{"from a group", source(224, 0, 0, 1), "martian-source", ""},
		{"from a reserved address", source(240, 0, 0, 1), "martian-source", ""},
		{"from the limited broadcast", source(255, 255, 255, 255), "martian-source", ""},
		{"from the LAN's broadcast", source(10, 77, 0, 255), "martian-source", ""},
		{"from the LAN's own address", source(10, 77, 0, 0), "martian-source", ""},
		{"from the cluster MAC", changed(good, 6, good[:6]...), "cluster-mac-source", ""},
		{"from a group MAC", changed(good, 6, 0x01, 0x00, 0x5e, 1, 2, 3), "cluster-mac-source", ""},
		{"to the VIP by broadcast", changed(good, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "", ""},
		{"with a VLAN tag", slices.Concat(good[:12], []byte{0x81, 0, 0, 7}, good[12:]), "vlan-tag", ""},
	}
}

func (w *wire) badTCP() []hostile {
	port := uint16(51000)
	with := func(flags byte, options ...byte) []byte {
		port++
		s := opening(port)
		s.flags, s.options = flags, options
		return w.segment(s)
	}
	short := w.packet(unix.IPPROTO_TCP, nil, with(syn)[atTransport:atTransport+19])
	sum := with(syn)
	return []hostile{
		{"half a TCP header", short, "runt", ""},
		{"a header of 16 bytes", seal(changed(with(syn), atTransport+12, 0x40)), "bad-tcp-offset", ""},
		{"a header beyond the segment", seal(changed(with(syn), atTransport+12, 0xf0)), "bad-tcp-offset", ""},
		{"a wrong TCP checksum", changed(sum, atTransport+16, ^sum[atTransport+16]), "bad-tcp-checksum", ""},
		{"from port 0", seal(changed(with(syn), atTransport, 0, 0)), "bad-tcp-port", ""},
		{"to port 0", seal(changed(with(syn), atTransport+2, 0, 0)), "bad-tcp-port", ""},
		{"SYN with FIN", with(syn | fin), "bad-tcp-flags", ""},
		{"SYN with RST", with(syn | rst), "bad-tcp-flags", ""},
		{"null: no flags", with(0), "bad-tcp-flags", ""},
		{"xmas: FIN, PSH and URG", with(fin | psh | urg), "bad-tcp-flags", ""},
		{"all flags", with(0xff), "bad-tcp-flags", ""},
		{"FIN alone", with(fin), "bad-tcp-flags", ""},
		{"an option that overruns", with(syn, 2, 40, 5, 180), "bad-tcp-options", ""},
		{"an option of length 0", with(syn, 8, 0, 0, 0), "bad-tcp-options", ""},
		{"an option cut off at its kind", with(syn, 1, 1, 1, 8), "bad-tcp-options", ""},
		{"a SYN-ACK that nobody asked for", with(syn | ack), "stray-answered", "RST"},
		{"an ACK of a flow of nobody", with(ack), "stray-answered", "RST"},
		{"a FIN scan", with(fin | ack), "stray-answered", "RST"},
		{"a reset of a flow of nobody", with(rst), "stray-reset", ""},
		{"a SYN that offers ECN", with(syn | ece | cwr), "deliver-syn", "SYN-ACK"},
		{"a SYN with an unknown option", with(syn, 254, 4, 1, 2), "deliver-syn", "SYN-ACK"},
		{"a SYN with an MSS of 0", with(syn, 2, 4, 0, 0), "deliver-syn", "SYN-ACK"},
		{"a SYN with a window scale of 255", with(syn, 3, 3, 255, 0), "deliver-syn", "SYN-ACK"},
		{"a SYN with an MSS of 3 bytes", with(syn, 2, 3, 5, 0), "deliver-syn", "SYN-ACK"},
		{"a SYN for a closed port", w.segment(segment{from: 52000, to: 9, seq: 1, flags: syn}), "closed-port", "RST-ACK"},
		{"a SYN with urgent data", w.segment(segment{from: 52001, to: 7, seq: 1000, flags: syn | urg, urgent: 9}), "deliver-syn", "SYN-ACK"},
	}
}

func (w *wire) badOthers() []hostile {
	echo := w.echo(0)
	datagram := w.packet(unix.IPPROTO_UDP, nil, []byte{0, 99, 0, 53, 0, 9, 0, 0, 'x'})
	about := w.packet(unix.IPPROTO_ICMP, nil, slices.Concat([]byte{3, 1, 0, 0, 0, 0, 0, 0}, w.quoted()))
	return []hostile{
		{"half an ICMP header", w.packet(unix.IPPROTO_ICMP, nil, []byte{8, 0, 0, 0}), "runt", ""},
		{"a wrong ICMP checksum", changed(echo, atTransport+7, 9), "bad-icmp", ""},
		{"a redirect", seal(changed(echo, atTransport, 5)), "other-icmp", ""},
		{"a redirect with a wrong checksum", changed(seal(changed(echo, atTransport, 5)), atTransport+7, 9), "bad-icmp", ""},
		{"a source quench", seal(changed(echo, atTransport, 4)), "other-icmp", ""},
		{"a router's advertisement", seal(changed(echo, atTransport, 9)), "other-icmp", ""},
		{"an echo reply that nobody asked for", seal(changed(echo, atTransport, 0)), "other-icmp", ""},
		{"an error about a flow of nobody", about, "unknown-quote", ""},
		{"an error that quotes nothing", seal(changed(echo, atTransport, 3)), "unknown-quote", ""},
		{"half a UDP header", w.packet(unix.IPPROTO_UDP, nil, make([]byte, 7)), "runt", ""},
		{"a UDP length of 4", changed(datagram, atTransport+5, 4), "bad-udp", ""},
		{"a UDP length beyond the packet", changed(datagram, atTransport+5, 200), "bad-udp", ""},
		{"a wrong UDP checksum", changed(datagram, atTransport+6, ^datagram[atTransport+6]), "bad-udp", ""},
		{"an unknown protocol", w.packet(99, nil, make([]byte, 8)), "no-service", ""},
	}
}

// quoted is the beginning of a packet that no node has sent.
func (w *wire) quoted() []byte {
	f := changed(w.segment(segment{from: 7, to: 53000, flags: ack}), atIP+12, 10, 77, 0, 2, 10, 77, 0, 250)
	return f[atIP:][:28]
}

func (w *wire) badARP() []hostile {
	other := net.HardwareAddr{0x02, 0, 0, 0, 0, 0x99}
	ask := w.arp(1, w.mac, nobody().String(), testVIP)
	return []hostile{
		{"ARP for another kind of hardware", changed(ask, 15, 6), "bad-arp", ""},
		{"ARP with addresses of 8 bytes", changed(ask, 18, 8), "bad-arp", ""},
		{"ARP that is neither request nor reply", changed(ask, 21, 9), "bad-arp", ""},
		{"ARP from a group MAC", w.arp(1, net.HardwareAddr{0x03, 0, 0, 0, 0, 1}, nobody().String(), testVIP), "bad-arp", ""},
		{"ARP from the LAN's broadcast", w.arp(1, w.mac, "255.255.255.255", testVIP), "bad-arp", ""},
		{"half an ARP packet", ask[:28], "bad-arp", ""},
		{"a duplicate address: a stranger tells that the VIP is his", w.arp(2, other, testVIP, testVIP), "stranger-claim", ""},
		{"a duplicate address: a stranger asks from the VIP", w.arp(1, other, testVIP, "10.77.0.1"), "stranger-claim", ""},
		{"a stranger has this host's own address", w.arp(2, other, "10.77.0.11", "10.77.0.11"), "stranger-claim", ""},
		{"ARP about others", w.arp(1, w.mac, nobody().String(), "10.77.0.1"), "other-arp", ""},
	}
}
