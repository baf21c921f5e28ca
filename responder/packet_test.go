package responder

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// ipFrame writes an Ethernet frame with an IPv4 packet by hand, checksum right.
func ipFrame(to, from MAC, src, dst netip.Addr, proto byte, options, body []byte) []byte {
	b := append(append([]byte{}, to[:]...), from[:]...)
	b = append(b, 0x08, 0x00, byte(0x45+len(options)/4), 0, 0, 0, 0x12, 0x34, 0, 0, 17, proto, 0, 0)
	binary.BigEndian.PutUint16(b[16:], uint16(20+len(options)+len(body)))
	s, d := src.As4(), dst.As4()
	b = append(append(append(b, s[:]...), d[:]...), options...)
	fixIP(b)
	return append(b, body...)
}

// fixIP puts the right checksum into the IPv4 header of a frame.
func fixIP(f []byte) {
	header := f[14 : 14+int(f[14]&0xf)*4]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^slowSum(header))
}

// deservesPacket says from the raw bytes whether a frame holds a whole,
// sound IPv4 packet of a protocol, from a host to another; and its payload.
func deservesPacket(f []byte, proto byte) (body []byte, ok bool) {
	if len(f) < 34 || !bytes.Equal(f[12:14], []byte{8, 0}) || f[14]>>4 != 4 {
		return nil, false
	}
	from := MAC(f[6:12])
	if from.IsGroup() || from.IsZero() || from == ownMAC || MAC(f[0:6]) == Broadcast() {
		return nil, false
	}
	ip := f[14:]
	header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < 20 || total < header || total > len(ip) || slowSum(ip[:header]) != 0xffff {
		return nil, false
	}
	host := func(a []byte) bool { return a[0] != 0 && a[0] != 127 && a[0] < 0xe0 }
	if !host(ip[12:]) || !host(ip[16:]) || bytes.Equal(ip[12:16], ip[16:20]) {
		return nil, false
	}
	if ip[6]&0x3f != 0 || ip[7] != 0 || ip[9] != proto || !soundOptions(ip[20:header]) {
		return nil, false
	}
	return ip[header:total], true
}

// soundOptions walks options by recursion.
func soundOptions(o []byte) bool {
	if len(o) == 0 || o[0] == 0 {
		return true
	}
	if o[0] == 1 {
		return soundOptions(o[1:])
	}
	if o[0] == 0x83 || o[0] == 0x89 || len(o) == 1 || o[1] < 2 || int(o[1]) > len(o) {
		return false
	}
	return soundOptions(o[o[1]:])
}

// checkAnswer is what must hold of every packet that leaves in answer to frame:
// it is well-formed by itself, from our own MAC to the next hop, and its
// addresses are the question's the other way round. It returns the payload.
func checkAnswer(t testing.TB, frame, reply []byte, to MAC, proto byte) []byte {
	t.Helper()
	if len(reply) < 34 || MAC(reply[0:6]) != to || MAC(reply[6:12]) != ownMAC || !bytes.Equal(reply[12:14], []byte{8, 0}) {
		t.Fatalf("answer %x is not IPv4 from us to the next hop", reply)
	}
	ip := reply[14:]
	if ip[0] != 0x45 || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
		t.Fatalf("answer %x: header or total length", reply)
	}
	if slowSum(ip[:20]) != 0xffff {
		t.Fatalf("answer %x: header checksum", reply)
	}
	if !bytes.Equal(ip[4:9], []byte{0, 0, 0x40, 0, 64}) || ip[9] != proto {
		t.Fatalf("answer %x: not an atomic packet with TTL 64 of protocol %d", reply, proto)
	}
	if ip[1] != frame[15]&0xfc {
		t.Fatalf("answer %x: DSCP not kept, or ECN set", reply)
	}
	if !bytes.Equal(ip[12:16], frame[30:34]) || !bytes.Equal(ip[16:20], frame[26:30]) {
		t.Fatalf("answer %x: addresses", reply)
	}
	return ip[20:]
}

func TestOnesSum(t *testing.T) {
	// The example of RFC 1071 §3.
	if got := Sum(0, []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != 0xddf2 {
		t.Errorf("%04x, want ddf2", got)
	}
	b := make([]byte, 67)
	for i := range b {
		b[i] = byte(i*151 + 200)
	}
	for n := range len(b) {
		if got, want := Sum(0, b[:n]), slowSum(b[:n]); got != want {
			t.Errorf("%d bytes: %04x, want %04x", n, got, want)
		}
		if n%2 == 0 { // a sum goes on only behind whole words
			if got, want := Sum(Sum(0, b[:n]), b[n:]), slowSum(b); got != want {
				t.Errorf("%d bytes and the rest: %04x, want %04x", n, got, want)
			}
		}
	}
	ones := bytes.Repeat([]byte{0xff}, 1<<16)
	if got := Sum(0xffff, ones); got != 0xffff {
		t.Errorf("all ones: %04x", got)
	}
}

// Headers without options, which have a sum of their own.
func TestSumOfHeaders(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]byte, 22)
	for round := range 10_000 {
		for i := range all {
			all[i] = byte(random.Uint32())
			if round%4 == 0 {
				all[i] |= 0xf0 // carries
			}
		}
		initial := binary.BigEndian.Uint16(all)
		if got, want := Sum(initial, all[2:]), slowSum(all); got != want {
			t.Fatalf("%x on top of %04x: %04x, want %04x", all[2:], initial, got, want)
		}
	}
	for i := range all {
		all[i] = 0xff
	}
	if got := Sum(0xffff, all[2:]); got != 0xffff {
		t.Errorf("all ones: %04x", got)
	}
	// It carries once more when it is almost folded.
	last := [20]byte{0xff, 0xff, 0xff, 0xff, 0, 1}
	if got, want := Sum(0, last[:]), slowSum(last[:]); got != want {
		t.Errorf("%x: %04x, want %04x", last, got, want)
	}
}

// TestPacketFaults hands every fault of the frame and the IPv4 header to both
// functions.
func TestPacketFaults(t *testing.T) {
	for _, tc := range []struct {
		name string
		want Outcome
		edit func(f []byte) []byte
	}{
		{"empty", Runt, func([]byte) []byte { return nil }},
		{"runt", Runt, func(f []byte) []byte { return f[:33] }},
		{"VLAN tag", OtherEtherType, func(f []byte) []byte { f[12], f[13] = 0x81, 0; return f }},
		{"IPv6", OtherEtherType, func(f []byte) []byte { f[12], f[13] = 0x86, 0xdd; return f }},
		{"our own frame", OwnMAC, func(f []byte) []byte { copy(f[6:], ownMAC[:]); return f }},
		{"from a group", BadSourceMAC, func(f []byte) []byte { copy(f[6:], clusterMAC[:]); return f }},
		{"from zero", BadSourceMAC, func(f []byte) []byte { copy(f[6:], make([]byte, 6)); return f }},
		{"to everybody", BroadcastMAC, func(f []byte) []byte { b := Broadcast(); copy(f, b[:]); return f }},
		{"version", BadIPHeader, func(f []byte) []byte { f[14] = 0x65; return f }},
		{"header of 16 bytes", BadIPHeader, func(f []byte) []byte { f[14] = 0x44; fixIP(f); return f }},
		{"header beyond the packet", BadIPHeader, func(f []byte) []byte { f[14] = 0x4f; return f }},
		{"total below the header", BadIPHeader, func(f []byte) []byte { f[16], f[17] = 0, 19; fixIP(f); return f }},
		{"total beyond the frame", BadIPHeader, func(f []byte) []byte { f[17]++; fixIP(f); return f }},
		{"header checksum", BadIPChecksum, func(f []byte) []byte { f[24] ^= 1; return f }},
		{"from loopback", MartianAddress, func(f []byte) []byte { f[26] = 127; fixIP(f); return f }},
		{"from 0.0.0.0/8", MartianAddress, func(f []byte) []byte { f[26] = 0; fixIP(f); return f }},
		{"from multicast", MartianAddress, func(f []byte) []byte { f[26] = 224; fixIP(f); return f }},
		{"from broadcast", MartianAddress, func(f []byte) []byte { copy(f[26:], "\xff\xff\xff\xff"); fixIP(f); return f }},
		{"to multicast", MartianAddress, func(f []byte) []byte { f[30] = 239; fixIP(f); return f }},
		{"from the VIP to the VIP", MartianAddress, func(f []byte) []byte { copy(f[26:30], f[30:34]); fixIP(f); return f }},
		{"first fragment", Fragment, func(f []byte) []byte { f[20] = 0x20; fixIP(f); return f }},
		{"last fragment", Fragment, func(f []byte) []byte { f[21] = 1; fixIP(f); return f }},
		{"UDP", OtherProtocol, func(f []byte) []byte { f[23] = 17; fixIP(f); return f }},
		{"source route", SourceRoute, withOptions(131, 7, 4, 10, 0, 0, 1, 0)},
		{"strict source route behind others", SourceRoute, withOptions(1, 68, 4, 5, 0x10, 137, 3, 4)},
		{"option without length", BadIPOptions, withOptions(1, 1, 1, 7)},
		{"option of length 1", BadIPOptions, withOptions(7, 1, 0, 0)},
		{"option of length 0", BadIPOptions, withOptions(7, 0, 0, 0)},
		{"option beyond the header", BadIPOptions, withOptions(7, 9, 4, 0, 0, 0, 0, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			prefix := []byte("what was there")
			for name, call := range map[string]func([]byte) ([]byte, Outcome){
				"echo":  func(f []byte) ([]byte, Outcome) { return AppendEchoReply(prefix, f, ownMAC, clientMAC, 1500) },
				"reset": func(f []byte) ([]byte, Outcome) { return AppendReset(prefix, f, ownMAC, clientMAC, false) },
			} {
				f := tc.edit(map[string][]byte{"echo": echoFrame(7, 1, []byte("abc")), "reset": tcpFrame(flagSYN, 1, 0, nil)}[name])
				if got, o := call(f); o != tc.want || !bytes.Equal(got, prefix) {
					t.Errorf("%s: outcome %v, want %v, answer %q", name, o, tc.want, got)
				}
			}
		})
	}
}

// withOptions puts options into the frame's IPv4 header.
func withOptions(options ...byte) func([]byte) []byte {
	return func(f []byte) []byte {
		return ipFrame(MAC(f[0:6]), MAC(f[6:12]), netip.AddrFrom4([4]byte(f[26:30])), netip.AddrFrom4([4]byte(f[30:34])), f[23], options, f[34:])
	}
}

func TestUnsendable(t *testing.T) {
	echo, syn := echoFrame(7, 1, nil), tcpFrame(flagSYN, 1, 0, nil)
	for _, tc := range []struct {
		name    string
		own, to MAC
	}{
		{"from a group", clusterMAC, clientMAC}, {"from zero", MAC{}, clientMAC},
		{"to a group", ownMAC, clusterMAC}, {"to everybody", ownMAC, Broadcast()},
		{"to zero", ownMAC, MAC{}}, {"to ourselves", ownMAC, ownMAC},
	} {
		if got, o := AppendEchoReply(nil, echo, tc.own, tc.to, 1500); o != Unsendable || got != nil {
			t.Errorf("echo %s: %v, %x", tc.name, o, got)
		}
		if got, o := AppendReset(nil, syn, tc.own, tc.to, false); o != Unsendable || got != nil {
			t.Errorf("reset %s: %v, %x", tc.name, o, got)
		}
	}
	for mtu, want := range map[int]Outcome{-1: Unsendable, 0: Unsendable, minMTU - 1: Unsendable, minMTU: EchoAnswered} {
		if _, o := AppendEchoReply(nil, echo, ownMAC, clientMAC, mtu); o != want {
			t.Errorf("MTU %d: %v, want %v", mtu, o, want)
		}
	}
}
