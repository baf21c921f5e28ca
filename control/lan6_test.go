package control

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"onevoice/link"
)

// frame6Of is a heartbeat's frame over IPv6 as it is sent.
func frame6Of(t *testing.T, payload []byte) []byte {
	t.Helper()
	var h hub
	from, to := h.plug(t), h.plug(t)
	defer from.Close()
	defer to.Close()
	l := &LAN{device: from, to: net.HardwareAddr{0x33, 0x33, 0x80, 0, 0, 2}, self: loopback(1), vip: netip.MustParseAddr("2001:db8::2"), port: 7177}
	if err := l.send(payload); err != nil {
		t.Fatal(err)
	}
	frames := make([]link.Frame, 2)
	if n, err := to.Receive(frames); n != 1 || err != nil {
		t.Fatalf("%d frames, %v", n, err)
	}
	if err := l.send(make([]byte, 1500-47)); err == nil {
		t.Error("a heartbeat that does not fit has left")
	}
	return frames[0].Data
}

func TestHeartbeatFrameOverIPv6(t *testing.T) {
	for _, payload := range []string{"sealed", "an odd number of bytes."} {
		b := frame6Of(t, []byte(payload))
		ip := b[14:]
		if !bytes.Equal(b[:6], []byte{0x33, 0x33, 0x80, 0, 0, 2}) || binary.BigEndian.Uint16(b[12:]) != 0x86dd || ip[0]>>4 != 6 ||
			int(binary.BigEndian.Uint16(ip[4:])) != len(ip)-40 || ip[6] != 17 || ip[7] != 1 {
			t.Errorf("headers %x", b[:54])
		}
		if src := netip.AddrFrom16([16]byte(ip[8:24])); src != netip.MustParseAddr("fe80::5efe:"+loopback(1).String()) {
			t.Errorf("from %v", src)
		}
		pseudo := binary.BigEndian.AppendUint32(append([]byte{}, ip[8:40]...), uint32(len(ip)-40))
		if sum := checksum(append(append(append(pseudo, 0, 0, 0, 17), ip[40:]...), make([]byte, len(ip)%2)...)); sum != 0xffff {
			t.Errorf("a sum of %x", sum)
		}
		from, got, ok := heartbeatOf(&link.Frame{Data: append(b, make([]byte, 9)...)})
		if !ok || from != loopback(1) || string(got) != payload {
			t.Errorf("%v %q %v", from, got, ok)
		}
	}
}

func TestBrokenHeartbeatFramesOverIPv6(t *testing.T) {
	good := frame6Of(t, []byte("sealed"))
	for i := range good {
		if _, _, ok := heartbeatOf(&link.Frame{Data: good[:i]}); ok {
			t.Errorf("a frame cut to %d bytes was taken", i)
		}
	}
	for name, at := range map[string]int{"version": 14, "length": 19, "next header": 20, "source": 24, "what says that IPv4 is in it": 33, "UDP length": 59} {
		b := bytes.Clone(good)
		b[at]++
		if name == "version" {
			b[at] = 0x40
		}
		if _, _, ok := heartbeatOf(&link.Frame{Data: b}); ok {
			t.Errorf("another %s: taken", name)
		}
	}
	if _, _, ok := heartbeatOf(&link.Frame{Data: good, Tagged: true}); ok {
		t.Error("a frame of another VLAN was taken")
	}
}
