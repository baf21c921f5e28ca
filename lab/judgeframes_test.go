package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"onevoice/responder"
)

// A story is a list of frames in words, a line each, in the order of the wire:
//
//	client1 SYN 1000          a SYN with that sequence number, to the VIP's port 22
//	n1 SYNACK 5000 1001       sequence and acknowledgement number
//	client1 ACK 1001 5001     also FIN, RST, RSTACK and DATA, which carries 10 bytes
//	client1 who-has           an ARP request for the VIP; n1 is-at answers it
//	client1 ping 7            an echo request, n1 pong 7 its reply
//	n1 beat                   a heartbeat, and n1 raft a control datagram
//	n1 dies                   also starts, cut, whole: what the judge is told,
//	lan moving                also settled
//
// After these, words change the frame or its sender:
//
//	port=23 cport=40001 addr=102    the ports and the client's address
//	mac=… from=…                    the MAC inside ARP, the Ethernet source
//	sum ipsum                       a wrong TCP, ICMP or IP checksum
//	overrun ipoverrun route         a bad TCP or IP option, a source route
//	loopback                        the client is 127.0.0.101
//	vouched cut tagged fragment     what the kernel or the capture says
//	+5s                             so much later
type story struct {
	now    time.Duration
	frames []told
}

type told struct {
	line    string
	at      time.Duration
	sender  Sender
	capture Capture
	// fate is what the judge is told instead of a frame.
	fate func(j *Judge, node string, at time.Duration)
}

// feed gives the judge what the line says.
func (f *told) feed(j *Judge, later time.Duration) {
	if f.fate != nil {
		f.fate(j, f.sender.Host, f.at+later)
		return
	}
	j.Frame(f.at+later, f.sender, &f.capture)
}

// fates are the lines of what was done to a node, or to the LAN.
func fates() map[string]func(j *Judge, node string, at time.Duration) {
	return map[string]func(*Judge, string, time.Duration){
		"dies": (*Judge).Dead, "starts": (*Judge).Alive, "cut": (*Judge).Cut, "whole": (*Judge).Whole,
		"moving":  func(j *Judge, _ string, at time.Duration) { j.Moving(at) },
		"settled": func(j *Judge, _ string, at time.Duration) { j.Settled(at) },
	}
}

func testVIP() netip.Addr     { return netip.MustParseAddr("10.77.0.2") }
func testMAC() responder.MAC  { return responder.MAC{0x01, 0, 0x5e, 0x4d, 0, 2} }
func testSSH() netip.AddrPort { return netip.AddrPortFrom(testVIP(), 22) }
func newTestJudge() *Judge {
	return NewJudge([]JudgedAddress{{testVIP(), testMAC()}}, []netip.AddrPort{testSSH()})
}
func macOf(host string) [6]byte { return [6]byte{2, 0, 0, host[0], 0, host[len(host)-1]} }

// tell makes the frames of a story.
func tell(text string) []told {
	s := &story{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			s.frames = append(s.frames, s.frame(line))
		}
	}
	return s.frames
}

// options are the words of a line that change its frame.
type options struct {
	words   map[string]bool
	port    uint16
	cport   uint16
	addr    netip.Addr
	mac     *responder.MAC
	from    *responder.MAC
	numbers []uint32
}

func (s *story) options(words []string) *options {
	o := &options{words: map[string]bool{}, port: 22, cport: 40000, addr: netip.MustParseAddr("10.77.0.101")}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		n, err := strconv.ParseUint(w, 10, 32)
		switch {
		case err == nil:
			o.numbers = append(o.numbers, uint32(n))
		case name == "port" || name == "cport":
			v, _ := strconv.ParseUint(value, 10, 16)
			*map[string]*uint16{"port": &o.port, "cport": &o.cport}[name] = uint16(v)
		case name == "addr":
			o.addr = netip.MustParseAddr("10.77.0." + value)
		case name == "mac" || name == "from":
			m := map[string]responder.MAC{"cluster": testMAC(), "group": {1, 2, 3, 4, 5, 6}, "other": {2, 9, 9, 9, 9, 9}, "vmac": {0, 0, 0x5e, 0, 1, 1}}[value]
			*map[string]**responder.MAC{"mac": &o.mac, "from": &o.from}[name] = &m
		case strings.HasPrefix(w, "+"):
			d, err := time.ParseDuration(w[1:])
			if err != nil {
				panic(err)
			}
			s.now += d
		default:
			o.words[w] = true
		}
	}
	return o
}

func (s *story) frame(line string) told {
	words := strings.Fields(line)
	host, what := words[0], words[1]
	o := s.options(words[2:])
	s.now += time.Millisecond
	node := strings.HasPrefix(host, "n")
	var b []byte
	if fate := fates()[what]; fate != nil {
		return told{line: line, at: s.now, sender: Sender{host, node}, fate: fate}
	}
	switch what {
	case "beat", "raft":
		b = o.udp(host, what)
	case "who-has", "is-at":
		b = o.arp(host, what, node)
	case "ping", "pong":
		b = o.echo(host, what)
	default:
		b = o.tcp(host, what, node)
	}
	if o.from != nil {
		copy(b[6:], o.from[:])
	}
	c := Capture{Data: b, Bytes: len(b), Vouched: o.words["vouched"], Tagged: o.words["tagged"]}
	if o.words["cut"] {
		c.Data = c.Data[:len(b)-1]
	}
	return told{line: line, at: s.now, sender: Sender{host, node}, capture: c}
}

func ethernet(to, from [6]byte, etherType uint16, payload []byte) []byte {
	b := append(append([]byte{}, to[:]...), from[:]...)
	return append(binary.BigEndian.AppendUint16(b, etherType), payload...)
}

// arp is a request of a host for the VIP, or the answer to the client's.
func (o *options) arp(host, what string, node bool) []byte {
	mac, client := responder.MAC(macOf(host)), macOf("client1")
	sender, target, targetMAC, op := o.addr, testVIP(), [6]byte{}, byte(1)
	if what == "is-at" {
		mac, sender, target, targetMAC, op = testMAC(), testVIP(), o.addr, client, 2
	} else if node {
		sender = netip.MustParseAddr("10.77.0.11")
	}
	if o.words["as-vip"] {
		sender, target = testVIP(), o.addr
	}
	if o.mac != nil {
		mac = *o.mac
	}
	p := []byte{0, 1, 8, 0, 6, 4, 0, op}
	p = append(append(p, mac[:]...), sender.AsSlice()...)
	p = append(append(p, targetMAC[:]...), target.AsSlice()...)
	if o.words["short"] {
		p = p[:20]
	}
	return ethernet([6]byte{255, 255, 255, 255, 255, 255}, macOf(host), 0x0806, p)
}

func (o *options) ip(host string, proto byte, fromVIP bool, payload []byte) []byte {
	src, dst := o.addr, testVIP()
	if fromVIP {
		src, dst = dst, src
	}
	h := make([]byte, 20)
	switch {
	case o.words["ipoverrun"]:
		h = append(h, 7, 40, 4, 0)
	case o.words["route"]:
		h = append(h, 131, 3, 4, 0)
	}
	h[0], h[8], h[9] = 0x40+byte(len(h)/4), 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	if o.words["fragment"] {
		h[6] = 0x20
	}
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	if o.words["loopback"] {
		client := h[12:]
		if fromVIP {
			client = h[16:]
		}
		client[0], client[1] = 127, 0
	}
	binary.BigEndian.PutUint16(h[10:], ^foldedSum(0, h))
	if o.words["ipsum"] {
		h[10] ^= 1
	}
	return ethernet([6]byte(testMAC()), macOf(host), 0x0800, append(h, payload...))
}

func (o *options) echo(host, what string) []byte {
	kind := map[string]byte{"ping": 8, "pong": 0}[what]
	m := []byte{kind, 0, 0, 0, 0, 9, 0, byte(o.numbers[0]), 'h', 'i'}
	binary.BigEndian.PutUint16(m[2:], ^foldedSum(0, m))
	if o.words["sum"] {
		m[2] ^= 1
	}
	return o.ip(host, 1, what == "pong", m)
}

// udp is a datagram of a node's own address: to the VIP at the cluster MAC, or
// to another node.
func (o *options) udp(host, what string) []byte {
	u := []byte{0, 9, 0, 9, 0, 12, 0, 0, 'b', 'e', 'a', 't'}
	if what == "raft" {
		binary.BigEndian.PutUint16(u[2:], controlPort)
	}
	if o.words["short"] {
		u = u[:10]
	}
	b := o.ip(host, 17, false, u)
	b[29] = 11
	if what == "raft" {
		copy(b, []byte{2, 'O', 'V', 0, 0, 12})
		b[33] = 12
	}
	binary.BigEndian.PutUint16(b[24:], 0)
	binary.BigEndian.PutUint16(b[24:], ^foldedSum(0, b[14:34]))
	return b
}

func (o *options) tcp(host, what string, fromVIP bool) []byte {
	flags, ok := map[string]byte{
		"SYN": tcpSYN, "SYNACK": tcpSYN | tcpACK, "ACK": tcpACK, "DATA": tcpACK | tcpPSH,
		"FIN": tcpFIN | tcpACK, "SYNFIN": tcpSYN | tcpFIN, "RST": tcpRST, "RSTACK": tcpRST | tcpACK, "BAREFIN": tcpFIN,
	}[what]
	if !ok {
		panic(fmt.Sprintf("what is %q?", what))
	}
	t := make([]byte, 20)
	src, dst := o.cport, o.port
	if o.words["impostor"] {
		fromVIP = true
	}
	if fromVIP {
		src, dst = dst, src
	}
	binary.BigEndian.PutUint16(t, src)
	binary.BigEndian.PutUint16(t[2:], dst)
	for i, n := range o.numbers {
		binary.BigEndian.PutUint32(t[4+4*i:], n)
	}
	if o.words["overrun"] {
		t = append(t, 2, 40, 5, 180)
	}
	t[12], t[13] = byte(len(t))<<2, flags
	if what == "DATA" {
		t = append(t, "0123456789"...)
	}
	b := o.ip(host, 6, fromVIP, t)
	p := packet{Sight: Sight{Src: Endpoint{addr: [4]byte(b[26:30])}, Dst: Endpoint{addr: [4]byte(b[30:34])}}}
	at := len(b) - len(t)
	binary.BigEndian.PutUint16(b[at+16:], ^foldedSum(p.pseudoSum(len(t)), b[at:]))
	if o.words["sum"] {
		b[at+16] ^= 1
	}
	return b
}
