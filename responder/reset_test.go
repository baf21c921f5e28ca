package responder

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// tcpFrame is a segment from the client's port 40000 to the VIP's port 22.
func tcpFrame(flags byte, seq, ack uint32, data []byte) []byte {
	return tcpFrameWith(flags, seq, ack, nil, data)
}

func tcpFrameWith(flags byte, seq, ack uint32, options, data []byte) []byte {
	s := []byte{0x9c, 0x40, 0, 22}
	s = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(s, seq), ack)
	s = append(s, byte(5+len(options)/4)<<4, flags, 0xfa, 0xf0, 0, 0, 0, 0)
	s = append(append(s, options...), data...)
	f := ipFrame(clusterMAC, clientMAC, clientAddr, vipAddr, protoTCP, nil, s)
	fixTCP(f, f[34:])
	return f
}

// fixTCP puts the right checksum into the segment s of the frame f.
func fixTCP(f, s []byte) {
	s[16], s[17] = 0, 0
	binary.BigEndian.PutUint16(s[16:], ^tcpSum(f, s))
}

// tcpSum is the sum over pseudo-header and segment, as RFC 9293 §3.1 draws it.
func tcpSum(f, s []byte) uint16 {
	return slowSum(f[26:34], []byte{0, 6, byte(len(s) >> 8), byte(len(s))}, s)
}

// Golden frames, their checksums computed apart: a SYN with sequence number 1000, and the reset for it.
const (
	goldenSYN = `
		01005e4d0002 020000000065 0800
		4500002c 12340000 11068298 0a4d0065 0a4d0002
		9c400016 000003e8 00000000 6002faf0 e7f60000 020405b4`
	goldenReset = `
		020000000065 02000000000b 0800
		45000028 00004000 400625d0 0a4d0002 0a4d0065
		00169c40 00000000 000003e9 50140000 fa900000`
)

func TestResetGolden(t *testing.T) {
	f := unhex(t, goldenSYN)
	got, o := AppendReset(nil, f, ownMAC, clientMAC, false)
	if want := unhex(t, goldenReset); o != ResetSent || !bytes.Equal(got, want) {
		t.Errorf("%v\n%x\nwant\n%x", o, got, want)
	}
	checkReset(t, f, got, clientMAC, false)
}

func TestResetNumbers(t *testing.T) {
	const top = 0xffffffff
	mss := []byte{2, 4, 5, 0xb4}
	for _, tc := range []struct {
		name     string
		frame    []byte
		flags    byte
		seq, ack uint32
	}{
		{"SYN", tcpFrame(flagSYN, 1000, 0, nil), 0x14, 0, 1001},
		{"SYN with options", tcpFrameWith(flagSYN, 1000, 0, mss, nil), 0x14, 0, 1001},
		{"SYN with data (fast open)", tcpFrameWith(flagSYN, 1000, 0, mss, []byte("abc")), 0x14, 0, 1004},
		{"SYN at the end of the numbers", tcpFrame(flagSYN, top, 0, nil), 0x14, 0, 0},
		{"SYN with ECN bits", tcpFrame(flagSYN|0xc0, 1000, 0, nil), 0x14, 0, 1001},
		{"SYN whose ACK field is not empty", tcpFrame(flagSYN, 1000, 77, nil), 0x14, 0, 1001},
		{"FIN without ACK", tcpFrame(flagFIN, 1000, 0, []byte("ab")), 0x14, 0, 1003},
		{"SYN and FIN", tcpFrame(flagSYN|flagFIN, 1000, 0, nil), 0x14, 0, 1002},
		{"no flags", tcpFrame(0, 1000, 0, []byte("ab")), 0x14, 0, 1002},
		{"ACK", tcpFrame(flagACK, 1000, 5000, nil), 0x04, 5000, 0},
		{"ACK with data", tcpFrame(flagACK|0x08, 1000, 5000, []byte("abc")), 0x04, 5000, 0},
		{"SYN-ACK", tcpFrame(flagSYN|flagACK, 1000, 5000, nil), 0x04, 5000, 0},
		{"FIN-ACK", tcpFrame(flagFIN|flagACK, 1000, top, nil), 0x04, top, 0},
		{"padded", append(tcpFrame(flagSYN, 1000, 0, nil), 1, 2, 3, 4, 5, 6), 0x14, 0, 1001},
		{"super-frame", tcpFrame(0, 1, 0, make([]byte, 60000)), 0x14, 0, 60001},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, o := AppendReset(nil, tc.frame, ownMAC, clientMAC, false)
			if o != ResetSent {
				t.Fatal(o)
			}
			checkReset(t, tc.frame, got, clientMAC, false)
			s := got[34:]
			if s[13] != tc.flags || binary.BigEndian.Uint32(s[4:]) != tc.seq || binary.BigEndian.Uint32(s[8:]) != tc.ack {
				t.Errorf("reset %x: flags %02x seq %d ack %d, want %02x %d %d", got, s[13],
					binary.BigEndian.Uint32(s[4:]), binary.BigEndian.Uint32(s[8:]), tc.flags, tc.seq, tc.ack)
			}
		})
	}
}

func TestResetRefusals(t *testing.T) {
	edit := func(f []byte, at int, b byte) []byte { f[at] = b; fixTCP(f, f[34:]); return f }
	broken := tcpFrame(flagSYN, 1000, 0, nil)
	broken[50] ^= 0xff
	cut := ipFrame(clusterMAC, clientMAC, clientAddr, vipAddr, protoTCP, nil, tcpFrame(flagSYN, 1, 0, nil)[34:53])
	for _, tc := range []struct {
		name    string
		frame   []byte
		vouched bool
		want    Outcome
	}{
		{"RST", tcpFrame(flagRST, 1000, 0, nil), false, AnswersReset},
		{"RST with ACK", tcpFrame(flagRST|flagACK, 1000, 5, nil), false, AnswersReset},
		{"RST with SYN", tcpFrame(flagRST|flagSYN, 1000, 5, nil), false, AnswersReset},
		{"RST, vouched for", tcpFrame(flagRST, 1000, 5, nil), true, AnswersReset},
		{"checksum", bytes.Clone(broken), false, BadTCPChecksum},
		{"partial checksum, vouched for", bytes.Clone(broken), true, ResetSent},
		{"19 bytes", cut, true, BadTCPHeader},
		{"no segment", ipFrame(clusterMAC, clientMAC, clientAddr, vipAddr, protoTCP, nil, nil), true, BadTCPHeader},
		{"offset of 16 bytes", edit(tcpFrame(flagSYN, 1, 0, nil), 46, 0x40), false, BadTCPHeader},
		{"offset beyond the segment", edit(tcpFrame(flagSYN, 1, 0, nil), 46, 0x60), false, BadTCPHeader},
		{"from port 0", edit(edit(tcpFrame(flagSYN, 1, 0, nil), 34, 0), 35, 0), false, BadTCPHeader},
		{"to port 0", edit(tcpFrame(flagSYN, 1, 0, nil), 37, 0), false, BadTCPHeader},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, o := AppendReset(nil, tc.frame, ownMAC, clientMAC, tc.vouched)
			if o != tc.want || (o == ResetSent) != (got != nil) {
				t.Errorf("%v, want %v, reset %x", o, tc.want, got)
			}
		})
	}
}

// checkReset verifies a reset by itself and against the segment it answers.
func checkReset(t testing.TB, frame, reset []byte, to MAC, vouched bool) {
	t.Helper()
	in, ok := deservesReset(frame, vouched)
	if !ok {
		t.Fatalf("%x did not deserve %x", frame, reset)
	}
	s := checkAnswer(t, frame, reset, to, 6)
	if len(s) != 20 || tcpSum(reset, s) != 0xffff {
		t.Fatalf("reset %x: length or checksum", reset)
	}
	if !bytes.Equal(s[0:2], in[2:4]) || !bytes.Equal(s[2:4], in[0:2]) {
		t.Fatalf("reset %x: ports", reset)
	}
	if s[12] != 0x50 || !bytes.Equal(s[14:16], []byte{0, 0}) || !bytes.Equal(s[18:20], []byte{0, 0}) {
		t.Fatalf("reset %x: offset, window or urgent pointer", reset)
	}
	seq, ack := binary.BigEndian.Uint32(s[4:]), binary.BigEndian.Uint32(s[8:])
	if in[13]&0x10 != 0 {
		if s[13] != 0x04 || !bytes.Equal(s[4:8], in[8:12]) || ack != 0 {
			t.Fatalf("reset %x for %x: not <SEQ=SEG.ACK><CTL=RST>", reset, frame)
		}
		return
	}
	length := uint32(len(in)) - uint32(in[12]>>4)*4 + uint32(in[13]&1) + uint32(in[13]>>1&1)
	if s[13] != 0x14 || seq != 0 || ack != binary.BigEndian.Uint32(in[4:])+length {
		t.Fatalf("reset %x for %x: not <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>", reset, frame)
	}
}

func deservesReset(f []byte, vouched bool) (segment []byte, ok bool) {
	s, ok := deservesPacket(f, 6)
	if !ok || len(s) < 20 || s[12]>>4 < 5 || int(s[12]>>4)*4 > len(s) || s[13]&4 != 0 {
		return nil, false
	}
	if s[0]|s[1] == 0 || s[2]|s[3] == 0 {
		return nil, false
	}
	return s, vouched || tcpSum(f, s) == 0xffff
}

func FuzzReset(f *testing.F) {
	f.Add(tcpFrame(flagSYN, 1000, 0, nil), false, false)
	f.Add(tcpFrame(flagSYN, 0xffffffff, 0, []byte("abc")), true, false)
	f.Add(tcpFrame(flagACK, 1000, 5000, []byte("abc")), false, true)
	f.Add(tcpFrame(flagRST|flagACK, 1000, 5000, nil), true, true)
	f.Add(tcpFrame(flagFIN, 1000, 0, nil), true, true)
	f.Add(tcpFrameWith(flagSYN, 1, 0, []byte{2, 4, 5, 0xb4}, nil), false, true)
	f.Add(withOptions(1, 1, 1, 0)(tcpFrame(flagSYN, 1, 0, nil)), true, true)
	f.Add(echoFrame(7, 1, []byte("abc")), false, false)
	f.Fuzz(func(t *testing.T, frame []byte, vouched, mend bool) {
		if mend {
			mendChecksums(frame)
		}
		got, o := AppendReset(nil, frame, ownMAC, clientMAC, vouched)
		_, deserved := deservesReset(frame, vouched)
		if deserved != (o == ResetSent) || deserved != (got != nil) {
			t.Fatalf("%x: outcome %v, deserved %v, reset %x", frame, o, deserved, got)
		}
		if deserved {
			checkReset(t, frame, got, clientMAC, vouched)
			if again, o := AppendReset(nil, got, clientMAC, ownMAC, false); o != AnswersReset || again != nil {
				t.Fatalf("our own reset earned %v %x", o, again)
			}
		}
	})
}

func TestAnswersAllocateNothing(t *testing.T) {
	buf := make([]byte, 0, 2048)
	echo, syn := echoFrame(7, 1, make([]byte, 56)), tcpFrame(flagSYN, 1, 0, nil)
	if got := testing.AllocsPerRun(100, func() {
		AppendEchoReply(buf, echo, ownMAC, clientMAC, 1500)
		AppendReset(buf, syn, ownMAC, clientMAC, false)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkReset(b *testing.B) {
	f, buf := tcpFrame(flagSYN, 1000, 0, nil), make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, o := AppendReset(buf, f, ownMAC, clientMAC, false); o != ResetSent {
			b.Fatal(o)
		}
	}
}
