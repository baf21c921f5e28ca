package responder

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// echoFrame is an ICMP echo request from the client to the VIP.
func echoFrame(id, seq uint16, data []byte) []byte {
	m := []byte{8, 0, 0, 0, byte(id >> 8), byte(id), byte(seq >> 8), byte(seq)}
	return icmpFrame(append(m, data...))
}

// icmpFrame is an ICMP message from the client to the VIP, checksum put right.
func icmpFrame(m []byte) []byte {
	m[2], m[3] = 0, 0
	binary.BigEndian.PutUint16(m[2:], ^slowSum(m))
	return ipFrame(clusterMAC, clientMAC, clientAddr, vipAddr, protoICMP, nil, m)
}

// Golden frames: ping -c 1 -p "616263" -s 3 with DSCP 0x2e and ECT(0); and its
// answer, which keeps the one and not the other.
const (
	goldenEcho = `
		01005e4d0002 020000000065 0800
		45ba001f 12344000 110141f0 0a4d0065 0a4d0002
		08003395 00070001 616263`
	goldenEchoReply = `
		020000000065 02000000000b 0800
		45b8001f 00004000 40012526 0a4d0002 0a4d0065
		00003b95 00070001 616263`
)

func TestEchoGolden(t *testing.T) {
	f := unhex(t, goldenEcho)
	got, o := AppendEchoReply(nil, f, ownMAC, clientMAC, 1500)
	if want := unhex(t, goldenEchoReply); o != EchoAnswered || !bytes.Equal(got, want) {
		t.Errorf("%v\n%x\nwant\n%x", o, got, want)
	}
	checkEchoReply(t, f, got, clientMAC, 1500)
}

func TestEchoOutcomes(t *testing.T) {
	edit := func(f []byte, at int, b byte) []byte { f[at] ^= b; return f }
	for _, tc := range []struct {
		name  string
		frame []byte
		want  Outcome
	}{
		{"no data", echoFrame(1, 1, nil), EchoAnswered},
		{"odd data", echoFrame(1, 1, []byte{1, 2, 3, 4, 5}), EchoAnswered},
		{"padded", append(echoFrame(1, 1, []byte{1}), make([]byte, 17)...), EchoAnswered},
		{"nothing but zeros", echoFrame(0, 0, make([]byte, 56)), EchoAnswered},
		{"largest in an Ethernet frame", echoFrame(1, 1, make([]byte, 1472)), EchoAnswered},
		{"record route is read over", withOptions(7, 7, 4, 0, 0, 0, 0, 0)(echoFrame(1, 1, nil)), EchoAnswered},
		{"DF", editIP(echoFrame(1, 1, nil), 20, 0x40), EchoAnswered},

		{"message of 7 bytes", icmpFrame([]byte{8, 0, 0, 0, 0, 1, 0}), BadICMP},
		{"no message", ipFrame(clusterMAC, clientMAC, clientAddr, vipAddr, protoICMP, nil, nil), BadICMP},
		{"echo reply", icmpFrame([]byte{0, 0, 0, 0, 0, 1, 0, 1}), NotEchoRequest},
		{"unreachable", icmpFrame([]byte{3, 3, 0, 0, 0, 0, 0, 0}), NotEchoRequest},
		{"timestamp request", icmpFrame([]byte{13, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0}), NotEchoRequest},
		{"code 1", icmpFrame([]byte{8, 1, 0, 0, 0, 1, 0, 1}), BadICMPCode},
		{"checksum", edit(echoFrame(1, 1, []byte{9}), 37, 1), BadICMPChecksum},
		{"data changed on the way", edit(echoFrame(1, 1, []byte{9}), 42, 1), BadICMPChecksum},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := bytes.Clone(tc.frame)
			got, o := AppendEchoReply(nil, tc.frame, ownMAC, clientMAC, 1500)
			if o != tc.want {
				t.Errorf("%v, want %v", o, tc.want)
			}
			if (o == EchoAnswered) != (got != nil) {
				t.Errorf("%v with %x", o, got)
			}
			if got != nil {
				checkEchoReply(t, tc.frame, got, clientMAC, 1500)
			}
			if !bytes.Equal(before, tc.frame) {
				t.Error("the frame was changed")
			}
		})
	}
}

// editIP sets a byte of the IPv4 header and mends its checksum.
func editIP(f []byte, at int, b byte) []byte {
	f[at] = b
	fixIP(f)
	return f
}

// TestEchoIsCutToTheMTU is RFC 1122 §3.2.2.6 for a link that cannot carry what
// came in.
func TestEchoIsCutToTheMTU(t *testing.T) {
	f := echoFrame(1, 1, bytes.Repeat([]byte("0123456789"), 200))
	for _, mtu := range []int{minMTU, 69, 576, 1500, 2028, 9000, 1 << 20} {
		got, o := AppendEchoReply(nil, f, ownMAC, clientMAC, mtu)
		if o != EchoAnswered || len(got) != min(len(f), 14+mtu) {
			t.Errorf("MTU %d: %v, %d bytes", mtu, o, len(got))
		}
		checkEchoReply(t, f, got, clientMAC, mtu)
	}
}

func TestEchoAppends(t *testing.T) {
	buf := make([]byte, 5, 2048)
	copy(buf, "hello")
	f := echoFrame(7, 1, []byte("abc"))
	got, o := AppendEchoReply(buf, f, ownMAC, gatewayMAC, 1500)
	if o != EchoAnswered || &got[0] != &buf[0] || string(got[:5]) != "hello" {
		t.Fatalf("%v, %q", o, got)
	}
	checkEchoReply(t, f, got[5:], gatewayMAC, 1500)
}

// checkEchoReply verifies a reply by itself and against its request.
func checkEchoReply(t testing.TB, frame, reply []byte, to MAC, mtu int) {
	t.Helper()
	request, ok := deservesEcho(frame)
	if !ok {
		t.Fatalf("%x did not deserve %x", frame, reply)
	}
	m := checkAnswer(t, frame, reply, to, 1)
	if m[0] != 0 || m[1] != 0 {
		t.Fatalf("reply %x: type %d code %d", reply, m[0], m[1])
	}
	// What a receiver computes: the complement of the sum over everything is 0.
	if ^slowSum(m) != 0 {
		t.Fatalf("reply %x: ICMP checksum", reply)
	}
	if want := request[4:min(len(request), mtu-20)]; !bytes.Equal(m[4:], want) {
		t.Fatalf("reply %x: identifier, number or data differ from %x", reply, want)
	}
}

func deservesEcho(f []byte) (message []byte, ok bool) {
	m, ok := deservesPacket(f, 1)
	ok = ok && len(m) >= 8 && m[0] == 8 && m[1] == 0 && slowSum(m) == 0xffff
	return m, ok
}

func FuzzEcho(f *testing.F) {
	f.Add(echoFrame(7, 1, []byte("abc")), 1500, false)
	f.Add(echoFrame(0, 0, make([]byte, 56)), 1500, true)
	f.Add(echoFrame(0, 0, make([]byte, 200)), 100, true)
	f.Add(append(echoFrame(7, 1, nil), make([]byte, 18)...), 68, false)
	f.Add(withOptions(7, 7, 4, 0, 0, 0, 0, 0)(echoFrame(1, 1, []byte{1})), 576, true)
	f.Add(withOptions(131, 7, 4, 10, 0, 0, 1, 0)(echoFrame(1, 1, nil)), 1500, true)
	f.Add(icmpFrame([]byte{3, 3, 0, 0, 0, 0, 0, 0}), 1500, true)
	f.Add(tcpFrame(flagSYN, 1, 0, nil), 1500, false)
	f.Fuzz(func(t *testing.T, frame []byte, mtu int, mend bool) {
		if mend {
			mendChecksums(frame)
		}
		got, o := AppendEchoReply(nil, frame, ownMAC, clientMAC, mtu)
		_, deserved := deservesEcho(frame)
		deserved = deserved && mtu >= 68
		if deserved != (o == EchoAnswered) || deserved != (got != nil) {
			t.Fatalf("%x: outcome %v, deserved %v, reply %x", frame, o, deserved, got)
		}
		if deserved {
			checkEchoReply(t, frame, got, clientMAC, mtu)
		}
	})
}

// mendChecksums puts right checksums wherever the bytes have room for them, so
// that a fuzzer gets past them.
func mendChecksums(f []byte) {
	if len(f) < 34 || f[14]&0xf < 5 {
		return
	}
	header := 14 + int(f[14]&0xf)*4
	end := 14 + int(binary.BigEndian.Uint16(f[16:]))
	if header > len(f) || end > len(f) || end < header {
		return
	}
	fixIP(f)
	switch body := f[header:end]; {
	case f[23] == 1 && len(body) >= 4:
		body[2], body[3] = 0, 0
		binary.BigEndian.PutUint16(body[2:], ^slowSum(body))
	case f[23] == 6 && len(body) >= 18:
		fixTCP(f, body)
	}
}

func BenchmarkEchoReply(b *testing.B) {
	f, buf := echoFrame(7, 1, make([]byte, 56)), make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, o := AppendEchoReply(buf, f, ownMAC, clientMAC, 1500); o != EchoAnswered {
			b.Fatal(o)
		}
	}
}
