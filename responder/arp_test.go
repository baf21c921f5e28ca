package responder

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// Golden frames: who has 10.77.0.2, tell 10.77.0.101; and the answer, which has
// our own MAC outside and the cluster MAC inside.
const (
	goldenRequest = `
		ffffffffffff 020000000065 0806
		0001 0800 06 04 0001
		020000000065 0a4d0065 000000000000 0a4d0002
		000000000000000000000000000000000000`
	goldenReply = `
		020000000065 02000000000b 0806
		0001 0800 06 04 0002
		01005e4d0002 0a4d0002 020000000065 0a4d0065
		000000000000000000000000000000000000`
	goldenAsk = `
		ffffffffffff 02000000000b 0806
		0001 0800 06 04 0001
		02000000000b 0a4d000b 000000000000 0a4d0001
		000000000000000000000000000000000000`
)

// arpBytesOf writes an ARP frame by hand, without the libraries that the
// responder uses.
func arpBytesOf(to, from MAC, op uint16, sender MAC, senderAddr netip.Addr, target MAC, targetAddr netip.Addr) []byte {
	b := append(append([]byte{}, to[:]...), from[:]...)
	b = append(b, 0x08, 0x06, 0, 1, 8, 0, 6, 4, byte(op>>8), byte(op))
	sa, ta := senderAddr.As4(), targetAddr.As4()
	b = append(append(b, sender[:]...), sa[:]...)
	return append(append(b, target[:]...), ta[:]...)
}

func request(sender MAC, senderAddr, target netip.Addr) []byte {
	return arpBytesOf(Broadcast(), sender, 1, sender, senderAddr, MAC{}, target)
}

func newTestARP(t testing.TB) *ARP {
	t.Helper()
	a, err := NewARP(ownMAC, ownAddr, vips())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func all(netip.Addr, netip.Addr) bool     { return true }
func nothing(netip.Addr, netip.Addr) bool { return false }

func TestARPGolden(t *testing.T) {
	r := newTestARP(t).Handle(0, unhex(t, goldenRequest), all)
	if want := unhex(t, goldenReply); !bytes.Equal(r.Reply, want) {
		t.Errorf("reply\n%x\nwant\n%x", r.Reply, want)
	}
	if r.Outcome != ARPAnswered || r.VIP != vipAddr || r.Peer != clientAddr || r.MAC != clientMAC || r.From != clientMAC {
		t.Errorf("result %+v", r)
	}
}

func TestARPOutcomes(t *testing.T) {
	zero := netip.IPv4Unspecified()
	plain := request(clientMAC, clientAddr, vipAddr)
	edit := func(at int, b ...byte) []byte {
		f := bytes.Clone(plain)
		copy(f[at:], b)
		return f
	}
	padded := func(f []byte) []byte { return append(f, make([]byte, 18)...) }
	tagged := append(append(bytes.Clone(plain[:12]), 0x81, 0, 0, 5), plain[12:]...)
	for _, tc := range []struct {
		name  string
		frame []byte
		owns  func(vip, asker netip.Addr) bool
		want  ARPOutcome
	}{
		{"request for a VIP of ours", plain, all, ARPAnswered},
		{"padded beyond reason", append(bytes.Clone(plain), make([]byte, 9000)...), all, ARPAnswered},
		{"request for the VIP, another node's asker", plain, nothing, ARPNotOurs},
		{"request for the second VIP", request(clientMAC, clientAddr, vip2Addr), all, ARPAnswered},
		{"probe", request(clientMAC, zero, vipAddr), all, ARPProbeAnswered},
		{"probe, another node's", request(clientMAC, zero, vipAddr), nothing, ARPProbeNotOurs},
		{"unicast request that keeps an entry fresh", arpBytesOf(ownMAC, clientMAC, 1, clientMAC, clientAddr, clusterMAC, vipAddr), all, ARPAnswered},
		{"sender behind a shared MAC", arpBytesOf(Broadcast(), peerMAC, 1, clientMAC, clientAddr, MAC{}, vipAddr), all, ARPAnswered},

		{"stranger asks as the VIP", request(clientMAC, vipAddr, gatewayAddr), all, ARPStranger},
		{"stranger announces the VIP", request(clientMAC, vipAddr, vipAddr), all, ARPStranger},
		{"stranger answers for the VIP", arpBytesOf(ownMAC, clientMAC, 2, clientMAC, vipAddr, ownMAC, ownAddr), all, ARPStranger},
		{"stranger announces by reply", arpBytesOf(Broadcast(), clientMAC, 2, clientMAC, vipAddr, Broadcast(), vipAddr), all, ARPStranger},
		{"the other VIP's MAC is a stranger's too", arpBytesOf(clientMAC, peerMAC, 2, unicastMAC, vipAddr, clientMAC, clientAddr), all, ARPStranger},
		{"stranger with a group MAC", arpBytesOf(clientMAC, peerMAC, 2, Broadcast(), vipAddr, clientMAC, clientAddr), all, ARPStranger},
		{"another node answers", arpBytesOf(clientMAC, peerMAC, 2, clusterMAC, vipAddr, clientMAC, clientAddr), all, ARPOurs},
		{"another node answers, unicast mode", arpBytesOf(clientMAC, peerMAC, 2, unicastMAC, vip2Addr, clientMAC, clientAddr), all, ARPOurs},

		{"somebody has our own address", request(clientMAC, ownAddr, vipAddr), all, ARPOwnAddressClaim},
		{"answer to us", arpBytesOf(ownMAC, gatewayMAC, 2, gatewayMAC, gatewayAddr, ownMAC, ownAddr), all, ARPLearned},
		{"answer to us with a group MAC", arpBytesOf(ownMAC, gatewayMAC, 2, MAC{0x01, 0, 0x5e, 1, 2, 3}, gatewayAddr, ownMAC, ownAddr), all, ARPBadSenderMAC},
		{"answer to us naming our own MAC", arpBytesOf(ownMAC, gatewayMAC, 2, ownMAC, gatewayAddr, ownMAC, ownAddr), all, ARPOwnMAC},
		{"answer to us naming a cluster MAC", arpBytesOf(ownMAC, gatewayMAC, 2, unicastMAC, gatewayAddr, ownMAC, ownAddr), all, ARPBadSenderMAC},
		{"answer from 0.0.0.0", arpBytesOf(ownMAC, gatewayMAC, 2, gatewayMAC, zero, ownMAC, ownAddr), all, ARPBadSenderAddress},
		{"answer to another", arpBytesOf(clientMAC, gatewayMAC, 2, gatewayMAC, gatewayAddr, clientMAC, clientAddr), all, ARPIgnored},
		{"request for us", request(clientMAC, clientAddr, ownAddr), all, ARPIgnored},
		{"request for the gateway", request(clientMAC, clientAddr, gatewayAddr), all, ARPIgnored},

		{"our own frame", request(ownMAC, clientAddr, vipAddr), all, ARPOwnMAC},
		{"from the cluster MAC", arpBytesOf(Broadcast(), clusterMAC, 1, clientMAC, clientAddr, MAC{}, vipAddr), all, ARPBadSource},
		{"from a unicast cluster MAC", arpBytesOf(Broadcast(), unicastMAC, 1, clientMAC, clientAddr, MAC{}, vipAddr), all, ARPBadSource},
		{"from zero", arpBytesOf(Broadcast(), MAC{}, 1, clientMAC, clientAddr, MAC{}, vipAddr), all, ARPBadSource},
		{"group asker", arpBytesOf(Broadcast(), clientMAC, 1, Broadcast(), clientAddr, MAC{}, vipAddr), all, ARPBadSenderMAC},
		{"zero asker", arpBytesOf(Broadcast(), clientMAC, 1, MAC{}, clientAddr, MAC{}, vipAddr), all, ARPBadSenderMAC},
		{"asker at a cluster MAC", arpBytesOf(Broadcast(), clientMAC, 1, unicastMAC, clientAddr, MAC{}, vipAddr), all, ARPBadSenderMAC},
		{"multicast asker", request(clientMAC, addr("224.0.0.1"), vipAddr), all, ARPBadSenderAddress},
		{"broadcast asker", request(clientMAC, addr("255.255.255.255"), vipAddr), all, ARPBadSenderAddress},
		{"loopback asker", request(clientMAC, addr("127.0.0.1"), vipAddr), all, ARPBadSenderAddress},

		{"empty", nil, all, ARPTruncated},
		{"runt", plain[:13], all, ARPTruncated},
		{"cut", plain[:41], all, ARPTruncated},
		{"header alone", plain[:14], all, ARPTruncated},
		{"VLAN tag", tagged, all, ARPVLANTag},
		{"VLAN id 0xfff", edit(12, 0x81, 0, 0x0f, 0xff), all, ARPVLANTag},
		{"not ARP", edit(12, 0x08, 0x00), all, ARPOtherEtherType},
		{"hardware type", edit(14, 0, 6), all, ARPBadHardwareType},
		{"protocol type", edit(16, 0x86, 0xdd), all, ARPBadProtocolType},
		{"hardware length", edit(18, 8), all, ARPBadLengths},
		{"hardware length 8, read from the padding", padded(edit(18, 8)), all, ARPBadLengths},
		{"hardware length 4", padded(edit(18, 4)), all, ARPBadLengths},
		{"hardware length beyond the frame", edit(18, 255), all, ARPBadLengths},
		{"protocol length", edit(19, 16), all, ARPBadLengths},
		{"protocol length 16, read from the padding", padded(padded(edit(19, 16))), all, ARPBadLengths},
		{"lengths swapped, same sum", edit(18, 4, 6), all, ARPBadLengths},
		{"no lengths", edit(18, 0, 0), all, ARPBadLengths},
		{"operation 0", edit(20, 0, 0), all, ARPBadOperation},
		{"reverse ARP", edit(20, 0, 3), all, ARPBadOperation},
		{"operation 257", edit(20, 1, 1), all, ARPBadOperation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := bytes.Clone(tc.frame)
			r := newTestARP(t).Handle(time.Second, tc.frame, tc.owns)
			if r.Outcome != tc.want {
				t.Errorf("outcome %v, want %v", r.Outcome, tc.want)
			}
			checkARPResult(t, tc.frame, &r)
			if !bytes.Equal(before, tc.frame) {
				t.Error("the frame was changed")
			}
		})
	}
}

// TestARPReports holds what a caller needs to warn of a stranger.
func TestARPReports(t *testing.T) {
	f := arpBytesOf(Broadcast(), peerMAC, 2, clientMAC, vip2Addr, Broadcast(), vip2Addr)
	r := newTestARP(t).Handle(0, f, all)
	if r.Outcome != ARPStranger || r.VIP != vip2Addr || r.MAC != clientMAC || r.From != peerMAC || !r.SourceDiffers() {
		t.Errorf("result %+v", r)
	}
}

// TestARPOwnerIsAskedOnce: ownership is a matter of the VIP and the asker, and
// of nobody else's frames.
func TestARPOwnerIsAskedOnce(t *testing.T) {
	for _, asker := range []netip.Addr{clientAddr, netip.IPv4Unspecified()} {
		calls := 0
		owns := func(v, a netip.Addr) bool {
			calls++
			if v != vip2Addr || a != asker {
				t.Errorf("asked about %v for %v", v, a)
			}
			return true
		}
		newTestARP(t).Handle(0, request(clientMAC, asker, vip2Addr), owns)
		newTestARP(t).Handle(0, request(clientMAC, asker, gatewayAddr), owns)
		if calls != 1 {
			t.Errorf("ownership was asked for %d times", calls)
		}
	}
}

// checkARPResult is what must hold of every result, whatever the frame: it reads
// request and reply by their offsets in RFC 826 alone.
func checkARPResult(t testing.TB, frame []byte, r *ARPResult) {
	t.Helper()
	answered := r.Outcome == ARPAnswered || r.Outcome == ARPProbeAnswered
	if answered != (r.Reply != nil) {
		t.Fatalf("outcome %v with reply %x", r.Outcome, r.Reply)
	}
	if r.Outcome == ARPUndecided || r.Outcome >= ARPOutcomeCount {
		t.Fatalf("outcome %d", r.Outcome)
	}
	if !answered {
		return
	}
	if !deservesARP(frame) {
		t.Fatalf("%x did not deserve %x", frame, r.Reply)
	}
	checkEmitted(t, r.Reply)
	sender, senderAddr, vip := frame[22:28], frame[28:32], frame[38:42]
	if !bytes.Equal(r.Reply[0:6], sender) || !bytes.Equal(r.Reply[32:38], sender) || !bytes.Equal(r.Reply[38:42], senderAddr) {
		t.Fatalf("reply %x is not for the asker of %x", r.Reply, frame)
	}
	if !bytes.Equal(r.Reply[28:32], vip) || r.Reply[21] != 2 {
		t.Fatalf("reply %x does not speak for what was asked for in %x", r.Reply, frame)
	}
}

// deservesARP says from the raw bytes whether a frame is a request for a VIP by
// a station that can exist.
func deservesARP(f []byte) bool {
	if len(f) < 42 || !bytes.Equal(f[12:22], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}) {
		return false
	}
	known := map[[4]byte]bool{vipAddr.As4(): true, vip2Addr.As4(): true}
	station := func(b []byte) bool {
		m := MAC(b)
		return m[0]&1 == 0 && m != MAC{} && m != ownMAC && m != clusterMAC && m != unicastMAC
	}
	sender := [4]byte(f[28:32])
	host := sender == [4]byte{} || sender[0] != 0 && sender[0] != 127 && sender[0] < 224
	return station(f[6:12]) && station(f[22:28]) && host && !known[sender] &&
		sender != ownAddr.As4() && known[[4]byte(f[38:42])]
}

// checkEmitted is what must hold of every ARP frame that leaves (DESIGN.md,
// invariant 5): never the cluster MAC as Ethernet source, a VIP never with
// another MAC than its own, and never a VIP as the sender of a request.
func checkEmitted(t testing.TB, f []byte) {
	t.Helper()
	if len(f) != 60 || !bytes.Equal(f[12:20], []byte{8, 6, 0, 1, 8, 0, 6, 4}) || f[20] != 0 {
		t.Fatalf("emitted frame %x is not ARP", f)
	}
	if !bytes.Equal(f[42:], make([]byte, 18)) {
		t.Fatalf("padding of %x is not zero", f)
	}
	if MAC(f[6:12]) != ownMAC {
		t.Fatalf("emitted frame %x is not from our own MAC", f)
	}
	op, sender, senderAddr := binary.BigEndian.Uint16(f[20:]), MAC(f[22:28]), netip.AddrFrom4([4]byte(f[28:32]))
	switch senderAddr {
	case ownAddr:
		if op != 1 || sender != ownMAC || MAC(f[0:6]) != Broadcast() {
			t.Fatalf("emitted frame %x claims our own address wrongly", f)
		}
	case vipAddr, vip2Addr:
		want := clusterMAC
		if senderAddr == vip2Addr {
			want = unicastMAC
		}
		if op != 2 || sender != want {
			t.Fatalf("emitted frame %x claims the VIP in operation %d for %v", f, op, sender)
		}
		if MAC(f[0:6]).IsGroup() || MAC(f[0:6]).IsZero() {
			t.Fatalf("answer %x goes to a group", f)
		}
	default:
		t.Fatalf("emitted frame %x claims %v", f, senderAddr)
	}
}

func FuzzARP(f *testing.F) {
	f.Add(unhex(f, goldenRequest), true)
	f.Add(unhex(f, goldenReply), true)
	f.Add(unhex(f, goldenAsk), false)
	f.Add(request(clientMAC, netip.IPv4Unspecified(), vipAddr), true)
	f.Add(request(clientMAC, clientAddr, vip2Addr)[:42], false)
	f.Add(request(clientMAC, vipAddr, vipAddr), true)
	long := unhex(f, goldenRequest)
	long[18] = 8
	f.Add(long, true)
	f.Add(arpBytesOf(ownMAC, gatewayMAC, 2, gatewayMAC, gatewayAddr, ownMAC, ownAddr), true)
	f.Add(arpBytesOf(clientMAC, peerMAC, 2, clusterMAC, vipAddr, clientMAC, clientAddr), true)
	f.Add(append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x65, 0x88, 0xa8, 0, 1, 0x81, 0, 0, 2}, make([]byte, 40)...), true)
	f.Fuzz(func(t *testing.T, frame []byte, owned bool) {
		a := newTestARP(t)
		r := a.Handle(0, frame, func(netip.Addr, netip.Addr) bool { return owned })
		checkARPResult(t, frame, &r)
		answered := r.Reply != nil
		if want := owned && deservesARP(frame); answered != want {
			t.Fatalf("%x: answered %v, want %v (%v)", frame, answered, want, r.Outcome)
		}
		if r.Outcome == ARPLearned {
			// What was learned is never a VIP's, ours, or a group's, even asked for.
			n := newTestNeighbours(t, 4)
			n.Ask(0, r.Peer)
			if n.Answer(0, r.Peer, r.MAC) && (!r.MAC.isStation() || r.Peer == ownAddr || r.Peer == vipAddr || r.Peer == vip2Addr) {
				t.Fatalf("learned %v at %v", r.Peer, r.MAC)
			}
		}
	})
}

func BenchmarkARPAnswer(b *testing.B) {
	a, f := newTestARP(b), unhex(b, goldenRequest)
	b.ReportAllocs()
	for b.Loop() {
		if r := a.Handle(0, f, all); r.Reply == nil {
			b.Fatal(r.Outcome)
		}
	}
}
