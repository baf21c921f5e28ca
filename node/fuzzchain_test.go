package node

import (
	"encoding/binary"
	"testing"

	"onevoice/hashing"
	"onevoice/link"
)

// FuzzIPv6Chain: whatever stands between the IPv6 header and the transport, the walk
// ends, and what it takes is what a second, slow reading of RFC 8200 §4 takes.
func FuzzIPv6Chain(f *testing.F) {
	for _, c := range badPackets6() {
		if len(c.packet) > ipv6Bytes {
			f.Add(c.packet[6], c.packet[ipv6Bytes:])
		}
	}
	good := chained(tcp6(asker6, 40000, 22, flagSYN, nil), []uint8{nextHopByHop, nextDestination}, padding(), padding())
	f.Add(good[6], good[ipv6Bytes:])
	f.Fuzz(func(t *testing.T, next uint8, rest []byte) {
		packet := ip6(asker6, vip6Addr, next, rest)
		if len(packet) > 1<<16 {
			return
		}
		var d Decoded
		v := d.Decode(&link.Frame{Data: frame6(packet).Data, Offload: link.Offload{Validated: true}})
		proto, at, ok := slowChain(next, rest)
		// The segment may end before the packet does, but begins where it does.
		began := cap(d.IP) - cap(d.Segment) - ipv6Bytes
		if v == Undecided && (!ok || d.Flow.Proto != proto || began != at) {
			t.Errorf("next %d, % x: taken as %d at %d, want %d at %d, %v", next, rest, d.Flow.Proto, began, proto, at, ok)
		}
		if refused := v == BadExtension || v == RoutingHeader || v == ExtensionsFull; refused && ok {
			t.Errorf("next %d, % x: %v, and nothing is wrong with it", next, rest, v)
		}
	})
}

// slowChain walks the chain by the figures of RFC 8200 §4.2 to §4.6, option by option.
func slowChain(next uint8, b []byte) (proto uint8, at int, ok bool) {
	for headers := 0; ; headers++ {
		if next != 0 && next != 43 && next != 60 {
			return next, at, true
		}
		if headers == 4 || len(b)-at < 2 {
			return 0, 0, false
		}
		length := (int(b[at+1]) + 1) * 8
		if len(b)-at < length {
			return 0, 0, false
		}
		h := b[at : at+length]
		switch {
		case next == 43 && (h[2] == 0 || h[3] > 0), next == 0 && headers != 0:
			return 0, 0, false
		case next != 43:
			for i := 2; i < length; {
				if h[i] == 0 {
					i++
					continue
				}
				if h[i] >= 64 || i+1 >= length || i+2+int(h[i+1]) > length {
					return 0, 0, false
				}
				i += 2 + int(h[i+1])
			}
		}
		next, at = h[0], at+length
	}
}

// FuzzTCPOptions: a header's options are taken if a slow walk by RFC 9293 §3.1 takes
// them, and the time stamp is found where that finds it.
func FuzzTCPOptions(f *testing.F) {
	for _, o := range [][]byte{{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}, {0}, {8, 0}, {8, 1}, {3}, {5, 200}, {8, 9, 0, 0, 0, 0, 0, 0, 0}} {
		f.Add(o)
	}
	f.Fuzz(func(t *testing.T, options []byte) {
		options = options[:min(len(options), 40)]
		for len(options)%4 != 0 {
			options = append(options, 0)
		}
		header := make([]byte, 20, 60)
		binary.BigEndian.PutUint16(header, 40000)
		binary.BigEndian.PutUint16(header[2:], 22)
		header[12], header[13] = byte(20+len(options))<<2, flagSYN
		d := Decoded{EtherType: etherTypeIPv4, Segment: append(header, options...), Vouched: true, Flow: hashing.Flow{Proto: protoTCP}}
		v := d.decodeTCP()
		right, stamped := true, false
		for i := 0; i < len(options) && options[i] != 0; {
			if options[i] == 1 {
				i++
				continue
			}
			if i+1 >= len(options) || options[i+1] < 2 || i+int(options[i+1]) > len(options) {
				right = false
				break
			}
			stamped = stamped || options[i] == 8 && options[i+1] == 10
			i += int(options[i+1])
		}
		if (v == Undecided) != right || right && d.TCP.Stamped != stamped {
			t.Errorf("% x: %v, stamped %v; want taken %v, stamped %v", options, v, d.TCP.Stamped, right, stamped)
		}
	})
}
