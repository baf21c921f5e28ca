package datagram

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"onevoice/reassembly"
)

// slowSum is the ones' complement sum of RFC 1071, word by word.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// Whatever the length and the MTU, the packets fit, are right one by one, and are
// the datagram when they are put together.
func TestPacketsAreTheDatagram(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	ends := [][2]string{{"10.77.0.2:53", "192.0.2.9:40000"}, {"[2001:db8::2]:53", "[2001:db8:1::9]:40000"}}
	lengths := []int{0, 1, 512, 1232, 1452, 1453, 1472, 1473, 1480, 4096, 9000, 65_507}
	for _, e := range ends {
		from, to := netip.MustParseAddrPort(e[0]), netip.MustParseAddrPort(e[1])
		for _, mtu := range []int{1280, 1500, 9000} {
			for i := range 60 {
				length := r.IntN(5000)
				if i < len(lengths) {
					length = lengths[i]
				}
				payload := make([]byte, length)
				for i := range payload {
					payload[i] = byte(r.Uint32())
				}
				o := datagramOut{from: from, to: to, payload: payload, mtu: mtu, id: r.Uint32()}
				checkPackets(t, &o)
			}
		}
	}
}

func checkPackets(t *testing.T, o *datagramOut) {
	t.Helper()
	var packets [][]byte
	var spans [][2]int
	arena := o.pack([]byte("before"), func(b, e int) { spans = append(spans, [2]int{b, e}) })
	for _, s := range spans {
		packets = append(packets, arena[s[0]+EthernetBytes:s[1]])
	}
	table := reassembly.New(reassembly.Bounds{})
	six := !o.to.Addr().Is4()
	var whole []byte
	for i, p := range packets {
		if len(p) > o.mtu {
			t.Fatalf("a packet of %d bytes, the MTU is %d", len(p), o.mtu)
		}
		var f reassembly.Fragment
		var part bool
		if six {
			if int(binary.BigEndian.Uint16(p[4:])) != len(p)-40 || p[7] != 64 {
				t.Fatal("an IPv6 header that is wrong")
			}
			if part = p[6] == nextFragment; part {
				f, _ = reassembly.IPv6(p, 40, 6)
			}
		} else {
			if int(binary.BigEndian.Uint16(p[2:])) != len(p) || slowSum(p[:20]) != 0xffff || p[6]&0x40 != 0 {
				t.Fatal("an IPv4 header that is wrong")
			}
			f, part = reassembly.IPv4(p, 20)
		}
		if !part {
			if len(packets) != 1 {
				t.Fatal("a whole packet among fragments")
			}
			whole = p
			continue
		}
		if n := len(packets); n > 1 && i < n-1 && len(p)+8 <= o.mtu-7 {
			t.Errorf("packet %d of %d has %d bytes where %d fit", i, n, len(p), o.mtu)
		}
		var outcome reassembly.Outcome
		whole, _, outcome = table.Add(0, time.Second, &f, nil)
		if want := reassembly.Held; i < len(packets)-1 && outcome != want || i == len(packets)-1 && outcome != reassembly.Whole {
			t.Fatalf("packet %d of %d: outcome %d", i, len(packets), outcome)
		}
	}
	udp := whole[20:]
	pseudo := append(append([]byte{}, whole[12:20]...), 0, 17, byte(len(udp)>>8), byte(len(udp)))
	if six {
		udp = whole[40:]
		pseudo = append(append([]byte{}, whole[8:40]...), 0, 0, byte(len(udp)>>8), byte(len(udp)), 0, 0, 0, 17)
	}
	if slowSum(append(pseudo, udp...)) != 0xffff || udp[6] == 0 && udp[7] == 0 {
		t.Errorf("%d bytes to %v: the checksum is wrong", len(o.payload), o.to)
	}
	if int(binary.BigEndian.Uint16(udp[4:])) != len(udp) || !bytes.Equal(udp[8:], o.payload) ||
		binary.BigEndian.Uint16(udp) != 53 || binary.BigEndian.Uint16(udp[2:]) != 40000 {
		t.Errorf("%d bytes to %v: another datagram", len(o.payload), o.to)
	}
}

// A checksum of 0 would say that there is none.
func TestChecksumIsNeverNone(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.77.0.2:53"), netip.MustParseAddrPort("192.0.2.9:40000")
	o := datagramOut{from: from, to: to, payload: []byte{0, 0}, mtu: 1500}
	var head [8]byte
	head[1], head[2], head[3], head[5] = 53, 40000>>8, 40000&0xff, 10
	none := o.checksum(&head)
	o.payload = binary.BigEndian.AppendUint16(nil, none)
	if c := o.checksum(&head); c != 0xffff {
		t.Errorf("the checksum is %#x", c)
	}
}
