package ingress

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const controlPort = 7177

// heartbeats opens them on the near end.
func heartbeats(t testing.TB, vip netip.Addr, pins string) *Heartbeats {
	t.Helper()
	h, err := HearHeartbeats("near", pins, HeartbeatConfig{Addresses: []netip.Addr{vip}, Port: controlPort})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// beat is a datagram with so many bytes of data, 12 or more.
func beat(from, to netip.Addr, port uint16, data int) []byte {
	b := datagram(netip.AddrPortFrom(from, controlPort), netip.AddrPortFrom(to, port), data)
	at := len(b) - data
	for i := range data {
		b[at+i] = byte(i)
	}
	return b
}

// heard is what has come since the last call.
func heard(t *testing.T, h *Heartbeats) (out [][]byte) {
	t.Helper()
	for {
		b, err := h.Receive(new([]byte))
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return out
		}
		out = append(out, b)
	}
}

// Heartbeats are heard byte by byte, and nothing else is; all of it goes on to the host's
// stack.
func TestHeartbeatsAreHeardInTheKernel(t *testing.T) {
	from4, from6 := netip.MustParseAddr("10.77.0.12"), netip.MustParseAddr("fe80::5efe:a4d:c")
	for _, c := range []struct {
		name     string
		vip      netip.Addr
		heard    [][]byte
		notHeard [][]byte
	}{
		{"IPv4", vip,
			[][]byte{beat(from4, vip, controlPort, 12), beat(from4, vip, controlPort, 100), beat(from4, vip, controlPort, 470), beat(from4, vip, controlPort, 471), beat(from4, vip, controlPort, 1472)},
			[][]byte{
				beat(from4, vip, controlPort+1, 100), beat(from4, netip.MustParseAddr("10.77.0.99"), controlPort, 100), beat(from6, vip6, controlPort, 100),
				segment(netip.AddrPortFrom(from4, 1024), netip.AddrPortFrom(vip, controlPort), ack, 100),
				edit(beat(from4, vip, controlPort, 100), ethernetBytes+6, 0x20), edit(beat(from4, vip, controlPort, 100), ethernetBytes+7, 1),
				beat(from4, vip, controlPort, 12)[:ethernetBytes+ipv4Bytes+3],
			}},
		{"IPv6", vip6,
			[][]byte{beat(from6, vip6, controlPort, 12), beat(from6, vip6, controlPort, 100), beat(from6, vip6, controlPort, 1452)},
			[][]byte{
				beat(from6, vip6, controlPort+1, 100), beat(from6, netip.MustParseAddr("2001:db8:77::99"), controlPort, 100), beat(from4, vip, controlPort, 100),
				segment(netip.AddrPortFrom(from6, 1024), netip.AddrPortFrom(vip6, controlPort), ack, 100),
				edit(beat(from6, vip6, controlPort, 100), ethernetBytes+6, 44),
				beat(from6, vip6, controlPort, 12)[:ethernetBytes+ipv6Bytes+3],
			}},
	} {
		w := newWire(t)
		h := heartbeats(t, c.vip, "")
		for i, frame := range slices.Concat(c.heard, c.notHeard) {
			want := [][]byte{frame}
			if i >= len(c.heard) {
				want = nil
			}
			if of4 := binary.BigEndian.Uint16(frame[12:]) == typeIPv4; w.hears(frame, w.host)[0] != of4 {
				t.Errorf("%s, frame %d: it does not go on", c.name, i)
			}
			if got := heard(t, h); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%s, frame %d: heard %x, want %x", c.name, i, got, want)
			}
		}
		if h.Lost() != 0 {
			t.Errorf("%s: %d are lost", c.name, h.Lost())
		}
		if err := h.Close(); err != nil || h.Lost() != 0 {
			t.Errorf("%s: %v, and after that %d are lost", c.name, err, h.Lost())
		}
	}
}

// What there is no room for is lost and counted: a frame that is too long, and what comes
// when the ring is full. What comes after is heard.
func TestHeartbeatsAreBounded(t *testing.T) {
	w := newWire(t)
	for _, end := range []string{"near", "far"} {
		l, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetMTU(l, 9500)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h := heartbeats(t, vip, "")
	from := netip.MustParseAddr("10.77.0.12")
	send := func(b []byte) {
		t.Helper()
		if err := unix.Send(w.far, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	longest := beat(from, vip, controlPort, MaxHeartbeatBytes-ethernetBytes-ipv4Bytes-udpBytes)
	send(longest)
	if got := heard(t, h); len(got) != 1 || !bytes.Equal(got[0], longest) {
		t.Errorf("of the longest %d are heard", len(got))
	}
	send(beat(from, vip, controlPort, MaxHeartbeatBytes-ethernetBytes-ipv4Bytes-udpBytes+1))
	if got, lost := heard(t, h), h.Lost(); len(got) != 0 || lost != 1 {
		t.Errorf("of one that is too long %d are heard and %d lost", len(got), lost)
	}
	// A slot, its head, and the ring's own.
	room := heartbeatRingBytes / (512 + slotHead + 8)
	const more = 50
	for i := range room + more {
		b := beat(from, vip, controlPort, 12)
		binary.BigEndian.PutUint64(b[len(b)-8:], uint64(i))
		send(b)
	}
	got := heard(t, h)
	if lost := h.Lost() - 1; len(got)+int(lost) != room+more || lost < more || lost > more+1 {
		t.Errorf("of %d %d are heard and %d lost; there is room for %d", room+more, len(got), lost, room)
	}
	for i, b := range got {
		if binary.BigEndian.Uint64(b[len(b)-8:]) != uint64(i) {
			t.Fatalf("%d is not in its place", i)
		}
	}
	send(longest)
	if got := heard(t, h); len(got) != 1 {
		t.Errorf("after a full ring %d are heard", len(got))
	}
}

// Heartbeats are heard behind the programs of the direct path, whichever come first, and
// those do not take it for a program of others.
func TestHeartbeatsComeBehindTheDirectPath(t *testing.T) {
	w := newWire(t)
	ownMounts(t)
	pins, err := PinDirectory("test")
	if err != nil {
		t.Skip(err)
	}
	from := netip.MustParseAddr("10.77.0.12")
	ours := edit(beat(from, vip, controlPort, 100), ethernetBytes+8, heartbeatTTL)
	before := heartbeats(t, vip, pins)
	d := direct(t, directConfig())
	if _, err := d.Attach("near", pins); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Detach("near", pins) })
	after := heartbeats(t, vip, pins)
	if n := d.Before(); n != 0 {
		t.Errorf("%d programs come before the direct path's", n)
	}
	w.mark = elsewhere(w).mark
	w.hears(ours, w.host)
	// With another time to live it is a client's datagram, to a port of no service.
	w.hears(beat(from, vip, controlPort, 100), w.host)
	for name, h := range map[string]*Heartbeats{"opened before": before, "opened after": after} {
		if got := heard(t, h); len(got) != 1 || !bytes.Equal(got[0], ours) {
			t.Errorf("%s: hears %x", name, got)
		}
	}
}

// BenchmarkBesideTheHostsStack is a frame that goes on to the host's own stack, sent over a
// cable, with what may stand beside the stack to hear heartbeats. The kernel does all of it
// in the sender's call.
func BenchmarkBesideTheHostsStack(b *testing.B) {
	frame := segment(netip.MustParseAddrPort("10.77.0.101:40000"), netip.AddrPortFrom(vip, 22), ack, 100)
	copy(frame, own)
	refused := []unix.SockFilter{{Code: unix.BPF_RET}}
	socket := func(b *testing.B, protocol uint16) {
		fd := packetSocket(b, "near", protocol)
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &refused[0]}); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		add  func(*testing.B)
	}{
		{"nothing", func(*testing.B) {}},
		{"a socket of IPv4", func(b *testing.B) { socket(b, typeIPv4) }},
		{"a socket of all protocols", func(b *testing.B) { socket(b, unix.ETH_P_ALL) }},
		{"a program", func(b *testing.B) { heartbeats(b, vip, "") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWire(b)
			// It would stand beside the stack, too.
			if err := unix.Bind(w.host, &unix.SockaddrLinklayer{Ifindex: 1, Protocol: uint16(be16(typeARP))}); err != nil {
				b.Fatal(err)
			}
			c.add(b)
			for b.Loop() {
				if err := unix.Send(w.far, frame, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
