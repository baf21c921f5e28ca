package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/responder"
)

const testVIP6 = "2001:db8::2"

// nobody6 is an address on the LAN that no host has.
func nobody6() netip.Addr { return netip.MustParseAddr("2001:db8::250") }

// groupMAC is the MAC of an IPv6 group.
func groupMAC(a netip.Addr) []byte { m := responder.GroupMAC(a); return m[:] }

// packet6 is a frame with an IPv6 packet: to the cluster MAC, or to a group's.
func (w *wire) packet6(src, dst netip.Addr, next, hops byte, body []byte) []byte {
	to := []byte{0x33, 0x33, 0x80, 0, 0, 2}
	if dst.IsMulticast() {
		to = groupMAC(dst)
	}
	b := slices.Concat(to, w.mac, []byte{0x86, 0xdd, 0x60, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), next, hops}, src.AsSlice(), dst.AsSlice(), body)
	if at := map[byte]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6, unix.IPPROTO_ICMPV6: 2}[next]; at != 0 && len(body) > at+1 {
		sum6(b, 54, next, at)
	}
	return b
}

// sum6 makes a transport's checksum right, which begins at an offset of the frame.
func sum6(b []byte, transport int, proto byte, at int) {
	src, dst := [16]byte(b[22:]), [16]byte(b[38:])
	copy(b[transport+at:], []byte{0, 0})
	sum := responder.Sum(responder.PseudoSum6(&src, &dst, proto, len(b)-transport), b[transport:])
	binary.BigEndian.PutUint16(b[transport+at:], ^sum)
}

func (w *wire) segment6(s segment) []byte {
	s.window = 65535
	return w.packet6(nobody6(), netip.MustParseAddr(testVIP6), unix.IPPROTO_TCP, 64, s.bytes())
}

// ndp is a message of neighbour discovery.
func (w *wire) ndp(src, dst string, kind byte, body ...byte) []byte {
	return w.packet6(netip.MustParseAddr(src), netip.MustParseAddr(dst), unix.IPPROTO_ICMPV6, 255, append([]byte{kind, 0, 0, 0}, body...))
}

// kind6Of is kindOf for IPv6.
func kind6Of(f []byte) string {
	switch next := f[20]; next {
	case unix.IPPROTO_ICMPV6:
		return fmt.Sprintf("ICMPv6 %d", f[54])
	case unix.IPPROTO_TCP:
		// The flags are where IPv4 has them, 20 bytes on.
		return kindOf(slices.Concat(f[:12], []byte{0x08, 0x00}, make([]byte, 9), []byte{next}, make([]byte, 10), f[54:]))
	default:
		return fmt.Sprintf("next header %d", next)
	}
}

// TestBadInputOverIPv6 is TestBadInput for IPv6.
func TestBadInputOverIPv6(t *testing.T) {
	p := newPair(t)
	p.configure("[[vip]]\naddress = \"" + testVIP6 + "/64\"\n[[service]]\nname = \"echo6\"\nlisten = \"[" + testVIP6 + "]:7\"\nbackend = \"127.0.0.1:7000\"\nsource = \"plain\"\n")
	p.start().until("answering: this node holds a lease")
	w := newWire(p, nobody6())
	for _, c := range slices.Concat(w.badIPv6(), w.badChains(), w.badNDP()) {
		frames, counted := w.judged(c.frame)
		isAnswer := func(f []byte) bool { return kindOf(f) == c.answer }
		if c.answer != "" && !slices.ContainsFunc(frames, isAnswer) {
			frames = append(frames, w.heard(isAnswer)...)
		}
		answers := []string{}
		for _, f := range frames {
			// The kernels on this wire speak IPv6 too.
			if to := net.HardwareAddr(f[:6]); to.String() == w.mac.String() {
				answers = append(answers, kindOf(f))
			}
		}
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
		delete(counted, "other-ndp")
		if !maps.Equal(counted, counts) {
			t.Errorf("%s: counted as %v, want %v", c.name, counted, counts)
		}
	}
	w.routersMTU()
}

func (w *wire) badIPv6() []hostile {
	good := w.segment6(opening(50000))
	from := func(a string) []byte {
		b := slices.Clone(good)
		copy(b[22:], netip.MustParseAddr(a).AsSlice())
		sum6(b, 54, unix.IPPROTO_TCP, 16)
		return b
	}
	echo := w.packet6(nobody6(), netip.MustParseAddr(testVIP6), unix.IPPROTO_ICMPV6, 64, []byte{128, 0, 0, 0, 0, 1, 0, 1, 'x'})
	return []hostile{
		{"half an IPv6 header", good[:40], "", ""},
		{"version 4 under IPv6's type", changed(good, 14, 0x45), "bad-ip-version", ""},
		{"a payload of 0 bytes", changed(good, 18, 0, 0), "bad-ip-length", ""},
		{"more bytes than there are", changed(good, 18, 1), "bad-ip-length", ""},
		{"land: from the VIP itself", from(testVIP6), "martian-source", ""},
		{"from ::", from("::"), "martian-source", ""},
		{"from loopback", from("::1"), "martian-source", ""},
		{"from a group", from("ff02::5"), "martian-source", ""},
		{"from an IPv4-mapped address", from("::ffff:10.77.0.250"), "martian-source", ""},
		{"from the cluster MAC", changed(good, 6, good[:6]...), "cluster-mac-source", ""},
		{"to the VIP in a frame to all nodes", slices.Concat(groupMAC(responder.AllNodes()), good[6:]), "", ""},
		{"a wrong TCP checksum", changed(good, 54+16, ^good[54+16]), "bad-tcp-checksum", ""},
		{"SYN with FIN", w.segment6(segment{from: 50001, to: 7, flags: syn | fin}), "bad-tcp-flags", ""},
		{"null: no flags", w.segment6(segment{from: 50001, to: 7}), "bad-tcp-flags", ""},
		{"UDP without a checksum", changed(w.packet6(nobody6(), netip.MustParseAddr(testVIP6), 17, 64, []byte{200, 0, 0, 53, 0, 8, 0, 0}), 60, 0, 0), "bad-udp", ""},
		{"a wrong ICMPv6 checksum", changed(echo, 54+8, 'y'), "bad-icmp", ""},
		{"a closed port", w.segment6(segment{from: 50002, to: 9, seq: 5, flags: syn}), "closed-port", "RST-ACK"},
		{"an error about nobody's flow", w.packet6(nobody6(), netip.MustParseAddr(testVIP6), unix.IPPROTO_ICMPV6, 64, slices.Concat([]byte{2, 0, 0, 0, 0, 0, 5, 0}, good[14:])), "unknown-quote", ""},
	}
}

func (w *wire) badChains() []hostile {
	good := w.segment6(opening(50010))
	chain := func(kinds []byte, headers ...[]byte) []byte {
		b := slices.Clone(good[:54])
		next := append(slices.Clone(kinds), good[20])
		b[20] = next[0]
		for i, h := range headers {
			b = append(append(b, next[i+1]), h[1:]...)
		}
		b = append(b, good[54:]...)
		binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
		return b
	}
	pad, route := []byte{0, 0, 1, 4, 0, 0, 0, 0}, []byte{0, 0, 0, 1, 0, 0, 0, 0}
	return []hostile{
		{"routing type 0", chain([]byte{43}, route), "routing-header", ""},
		{"segments left", chain([]byte{43}, []byte{0, 0, 2, 1, 0, 0, 0, 0}), "routing-header", ""},
		{"hop-by-hop options behind others", chain([]byte{60, 0}, pad, pad), "bad-extension", ""},
		{"an extension header that overruns", chain([]byte{60}, []byte{0, 99, 1, 4, 0, 0, 0, 0}), "bad-extension", ""},
		{"a jumbo payload", chain([]byte{0}, []byte{0, 0, 0xc2, 4, 0, 1, 0, 0}), "bad-extension", ""},
		{"five extension headers", chain([]byte{0, 60, 60, 60, 60}, pad, pad, pad, pad, pad), "extensions-full", ""},
	}
}

func (w *wire) badNDP() []hostile {
	vip, nobody := netip.MustParseAddr(testVIP6).AsSlice(), nobody6().String()
	group := responder.SolicitedNode(netip.MustParseAddr(testVIP6)).String()
	own := append([]byte{1, 1}, w.mac...)
	ask := func(options ...byte) []byte {
		return w.ndp(nobody, group, 135, slices.Concat(make([]byte, 4), vip, options)...)
	}
	claim := func(dst string, flags byte) []byte {
		return w.ndp(nobody, dst, 136, slices.Concat([]byte{flags, 0, 0, 0}, vip, []byte{2, 1}, w.mac)...)
	}
	cluster := slices.Concat([]byte{flagsOverride, 0, 0, 0}, vip, []byte{2, 1, 0x33, 0x33, 0x80, 0, 0, 2})
	router := func(src string, mtu ...byte) []byte {
		return w.ndp(src, "ff02::1", 134, slices.Concat(make([]byte, 12), []byte{5, 1, 0, 0}, mtu)...)
	}
	code := ask(own...)
	code[55] = 1
	sum6(code, 54, unix.IPPROTO_ICMPV6, 2)
	hops := changed(ask(own...), 21, 254)
	return []hostile{
		{"a solicitation", ask(own...), "answered-ndp", "ICMPv6 136"},
		{"one through a router", hops, "bad-hop-limit", ""},
		{"one with a code", code, "bad-ndp", ""},
		{"one of 20 bytes", w.ndp(nobody, group, 135, make([]byte, 16)...), "bad-ndp", ""},
		{"one with an option of no length", ask(1, 0, 0, 0, 0, 0, 0, 0), "bad-ndp", ""},
		{"one with an option that overruns", ask(1, 2, 0, 0, 0, 0, 0, 0), "bad-ndp", ""},
		{"one for a group", w.ndp(nobody, group, 135, slices.Concat(make([]byte, 4), responder.AllNodes().AsSlice())...), "bad-ndp", ""},
		{"one that names a group MAC", ask(1, 1, 0x33, 0x33, 1, 2, 3, 4), "bad-ndp", ""},
		{"a probe that names a MAC", w.ndp("::", group, 135, slices.Concat(make([]byte, 4), vip, own)...), "bad-ndp", ""},
		{"a probe to a host", w.ndp("::", testVIP6, 135, slices.Concat(make([]byte, 4), vip)...), "bad-ndp", ""},
		{"a forged advertisement", claim("ff02::1", flagsOverride), "stranger-claim", ""},
		{"a solicited one to all", claim("ff02::1", flagsSolicited), "bad-ndp", ""},
		{"another node's", w.ndp(nobody, "ff02::1", 136, cluster...), "", ""},
		{"an MTU below 1,280", router("fe80::1", 0, 0, 4, 0xff), "bad-ndp", ""},
		{"an MTU above the interface's", router("fe80::1", 0, 0, 0x10, 0), "bad-ndp", ""},
		{"a router that is not on the LAN", router(nobody, 0, 0, 5, 0), "bad-ndp", ""},
		{"a redirect", w.ndp("fe80::1", testVIP6, 137, slices.Concat(make([]byte, 4), nobody6().AsSlice(), nobody6().AsSlice())...), "strange-router", ""},
	}
}

// Flags of a neighbour advertisement.
const (
	flagsSolicited = 0x40
	flagsOverride  = 0x20
)

// routersMTU: what the router says is the LAN's MTU bounds the segments that the VIP
// asks for.
func (w *wire) routersMTU() {
	w.t.Helper()
	if n := w.largestSegment6(50100); n != 1440 {
		w.t.Errorf("segments of %d bytes at first, want 1440", n)
	}
	_, counted := w.judged(w.ndp("fe80::1", "ff02::1", 134, slices.Concat(make([]byte, 12), []byte{5, 1, 0, 0, 0, 0, 5, 120})...))
	if counted["learned-mtu"] != 1 {
		w.t.Errorf("the router's MTU is counted as %v", counted)
	}
	if n := w.largestSegment6(50101); n != 1340 {
		w.t.Errorf("segments of %d bytes with an MTU of 1400, want 1340", n)
	}
}

// largestSegment6 is the largest that the VIP asks for of a client's port.
func (w *wire) largestSegment6(from uint16) int {
	w.t.Helper()
	answers := func(f []byte) bool { return kindOf(f) == "SYN-ACK" }
	frames := w.asked(func() []byte { return w.segment6(opening(from)) }, answers)
	f := frames[slices.IndexFunc(frames, answers)]
	w.send(w.segment6(segment{from: from, to: 7, seq: 1001, flags: rst}))
	// The first option is the maximum segment size (RFC 9293 section 3.2).
	if f[74] != 2 || f[75] != 4 {
		w.t.Fatalf("options %x", f[74:])
	}
	return int(binary.BigEndian.Uint16(f[76:]))
}

// A cluster whose VIPs are all of IPv6 serves as any other does; its service may be
// on IPv4.
func TestIPv6Alone(t *testing.T) {
	p := newPair(t)
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	s := strings.NewReplacer(testVIP+"/24", testVIP6+"/64", testVIP+":7", "["+testVIP6+"]:7").Replace(string(text)) + "source = \"plain\"\n"
	if err := os.WriteFile(p.file, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
	// As a router has told the host.
	if err := p.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/mtu", []byte("1400"), 0) }); err != nil {
		t.Skipf("needs IPv6: %v", err)
	}
	c := p.start()
	c.until("answering: this node holds a lease")
	if n := newWire(p, nobody6()).largestSegment6(50000); n != 1340 {
		t.Errorf("segments of %d bytes, want 1340, for the router said 1,400 before", n)
	}
	var answer [5]byte
	err = p.client.Do(func() error {
		l, err := netlink.LinkByName("cable")
		if err != nil {
			return err
		}
		own := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8::101"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(l, own); err != nil {
			return fmt.Errorf("%w: is there no IPv6 here?", err)
		}
		conn, err := net.DialTimeout("tcp6", "["+testVIP6+"]:7", patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, answer[:])
		return err
	})
	if err != nil || string(answer[:]) != "hello" {
		t.Errorf("%q, %v", answer, err)
	}
	c.end(syscall.SIGTERM)
	c.untilAllEnd()
}
