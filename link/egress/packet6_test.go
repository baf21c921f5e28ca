package egress

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// packet6 is IPv6.
func packet6(src string, next byte, payload []byte) []byte {
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], addr(src).AsSlice())
	copy(b[24:], addr("2001:db8::101").AsSlice())
	return append(b, payload...)
}

func TestProgramOverIPv6(t *testing.T) {
	const pass, vip6, last6, near6 = -1, "2001:db8::2", "fd00:ffff::ffff:8000", "2001:db8::1:2"
	tcp6 := func(src string, flags byte) []byte {
		return ethernet(typeIPv6, packet6(src, 6, segment(flags, 0)))
	}
	icmp6 := func(src string, kind byte) []byte {
		return ethernet(typeIPv6, packet6(src, 58, []byte{kind, 0, 0, 0, 0, 1, 0, 1, 'x'}))
	}
	alone := loaded(t, []netip.Addr{addr(vip6)})
	if verdict(t, alone, tcp6(vip6, syn|ack)) != tcxDrop || verdict(t, alone, tcp(vip, syn|ack)) != tcxNext {
		t.Error("a VIP of IPv6 alone is not guarded, or others are")
	}
	g := loaded(t, append(vips(), addr(vip6), addr(last6)))
	for name, f := range map[string]struct {
		frame []byte
		row   int
	}{
		"SYN-ACK":                       {tcp6(vip6, syn|ack), dropSYNACK},
		"SYN-ACK of the last VIP":       {tcp6(last6, syn|ack), dropSYNACK},
		"SYN-ACK, tagged":               {ethernet(typeIPv6, packet6(vip6, 6, segment(syn|ack, 9)), typeVLAN), dropSYNACK},
		"SYN-ACK over IPv4":             {tcp(vip, syn|ack), dropSYNACK},
		"SYN-ACK of another":            {tcp6(near6, syn|ack), pass},
		"data":                          {tcp6(vip6, psh|ack), pass},
		"RST":                           {tcp6(vip6, rst|ack), pass},
		"echo reply":                    {icmp6(vip6, 129), dropEchoReply},
		"echo request":                  {icmp6(vip6, 128), pass},
		"too big":                       {icmp6(vip6, 2), pass},
		"advertisement":                 {icmp6(vip6, 136), dropARPReply},
		"advertisement of another":      {icmp6(near6, 136), pass},
		"solicitation":                  {icmp6(vip6, 135), pass},
		"UDP like a SYN-ACK":            {ethernet(typeIPv6, packet6(vip6, 17, segment(syn|ack, 0))), pass},
		"version 4":                     {edit(tcp6(vip6, syn|ack), 14, 0x40), pass},
		"SYN-ACK, cut before its flags": {tcp6(vip6, syn|ack)[:14+40+13], pass},
	} {
		for _, valid := range []bool{false, true} {
			set(t, g, 0)
			if valid {
				set(t, g, now(t)+time.Hour)
			}
			before, want := rows(t, g), int32(tcxNext)
			if f.row >= 0 && !valid {
				want = tcxDrop
				before[f.row]++
			}
			if got := verdict(t, g, f.frame); got != want {
				t.Errorf("%s, lease %v: %d, want %d", name, valid, got, want)
			}
			if after := rows(t, g); after != before {
				t.Errorf("%s, lease %v: counters %v, want %v", name, valid, after, before)
			}
		}
	}
}
