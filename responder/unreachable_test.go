package responder

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// datagram4 and datagram6 are UDP datagrams of so many bytes from those addresses.
func datagram4(src, dst [4]byte, data int) []byte {
	b := make([]byte, 28+data)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^Sum(0, b[:20]))
	return b
}

func datagram6(src, dst [16]byte, data int) []byte {
	b := make([]byte, 48+data)
	b[0], b[6], b[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(b[4:], uint16(8+data))
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return b
}

// An error is sent about a datagram of one host to another, and about nothing else
// (RFC 1122 §3.2.2, RFC 4443 §2.4).
func TestPortUnreachable(t *testing.T) {
	client, vip := [4]byte{192, 0, 2, 9}, [4]byte{10, 77, 0, 2}
	client6, vip6 := [16]byte{0x20, 1, 15: 9}, [16]byte{0x20, 1, 15: 2}
	change := func(b []byte, at int, to byte) []byte {
		b[at] = to
		return b
	}
	for _, c := range []struct {
		name   string
		quoted []byte
		bytes  int // of the error, 0 for none
	}{
		{"IPv4", datagram4(client, vip, 10), 20 + 8 + 38},
		{"IPv4, long", datagram4(client, vip, 1400), 576},
		{"IPv4, only its headers", datagram4(client, vip, 100)[:28], 20 + 8 + 28},
		{"IPv6", datagram6(client6, vip6, 10), 40 + 8 + 58},
		{"IPv6, long", datagram6(client6, vip6, 1400), 1280},
		{"nothing", nil, 0},
		{"half an IPv4 header", datagram4(client, vip, 0)[:19], 0},
		{"half a UDP header", datagram4(client, vip, 0)[:27], 0},
		{"IPv6, half a UDP header", datagram6(client6, vip6, 0)[:47], 0},
		{"a later fragment", change(datagram4(client, vip, 0), 7, 1), 0},
		{"a first fragment", change(datagram4(client, vip, 0), 6, 0x20), 20 + 8 + 28},
		{"from this network", datagram4([4]byte{0, 0, 0, 1}, vip, 0), 0},
		{"from loopback", datagram4([4]byte{127, 0, 0, 1}, vip, 0), 0},
		{"from a group", datagram4([4]byte{224, 0, 0, 1}, vip, 0), 0},
		{"from class E", datagram4([4]byte{240, 0, 0, 1}, vip, 0), 0},
		{"from everybody", datagram4([4]byte{255, 255, 255, 255}, vip, 0), 0},
		{"from itself", datagram4(vip, vip, 0), 0},
		{"to a group", datagram4(client, [4]byte{239, 1, 1, 1}, 0), 0},
		{"to everybody", datagram4(client, [4]byte{255, 255, 255, 255}, 0), 0},
		{"IPv6 from nobody", datagram6([16]byte{}, vip6, 0), 0},
		{"IPv6 from loopback", datagram6([16]byte{15: 1}, vip6, 0), 0},
		{"IPv6 from a group", datagram6([16]byte{0xff, 2, 15: 1}, vip6, 0), 0},
		{"IPv6 to a group", datagram6(client6, [16]byte{0xff, 2, 15: 1}, 0), 0},
		{"IPv6 from itself", datagram6(vip6, vip6, 0), 0},
	} {
		before := bytes.Clone(c.quoted)
		out, ok := AppendPortUnreachable([]byte("before"), c.quoted)
		if ok != (c.bytes > 0) || len(out) != len("before")+c.bytes || string(out[:6]) != "before" {
			t.Errorf("%s: %v, %d bytes, want %d", c.name, ok, len(out)-6, c.bytes)
			continue
		}
		if !bytes.Equal(before, c.quoted) {
			t.Errorf("%s: what is quoted was changed", c.name)
		}
		if !ok {
			continue
		}
		ip, body := out[6:], out[26:]
		src, dst, from, to := ip[12:16], ip[16:20], c.quoted[12:16], []byte(nil)
		sum := Sum(0, body)
		if ip[0]>>4 == 6 {
			body = ip[40:]
			src, dst, from, to = ip[8:24], ip[24:40], c.quoted[8:24], c.quoted[24:40]
			sum = Sum(PseudoSum6((*[16]byte)(src), (*[16]byte)(dst), 58, len(body)), body)
		} else {
			to = c.quoted[16:20]
			if Sum(0, ip[:20]) != 0xffff || ip[1] != 0 {
				t.Errorf("%s: the header is %x", c.name, ip[:20])
			}
		}
		if sum != 0xffff || !bytes.Equal(src, to) || !bytes.Equal(dst, from) || !bytes.HasPrefix(c.quoted, body[8:]) {
			t.Errorf("%s: %x", c.name, ip)
		}
	}
}
