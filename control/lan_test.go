package control

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"onevoice/link"
)

// frameOf is a heartbeat's frame as it is sent.
func frameOf(t *testing.T, payload []byte) []byte {
	t.Helper()
	var h hub
	from, to := h.plug(t), h.plug(t)
	defer from.Close()
	defer to.Close()
	l := &LAN{device: from, to: net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}, self: loopback(1), vip: loopback(200), port: 7177}
	if err := l.send(payload); err != nil {
		t.Fatal(err)
	}
	frames := make([]link.Frame, 2)
	if n, err := to.Receive(frames); n != 1 || err != nil {
		t.Fatalf("%d frames, %v", n, err)
	}
	return frames[0].Data
}

// checksum is the sum of RFC 1071 §1, written down once more.
func checksum(b []byte) uint16 {
	sum := 0
	for i := 0; i < len(b); i += 2 {
		sum += int(b[i])<<8 + int(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestHeartbeatFrame(t *testing.T) {
	payload := []byte("sealed")
	b := frameOf(t, payload)
	if !bytes.Equal(b[:6], []byte{1, 0, 0x5e, 0x4d, 0, 2}) || !bytes.Equal(b[6:12], []byte{2, 0, 0, 0, 0, 1}) || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		t.Errorf("Ethernet header %x", b[:14])
	}
	ip := b[14:34]
	if ip[0] != 0x45 || int(binary.BigEndian.Uint16(ip[2:])) != len(b)-14 || ip[9] != 17 || checksum(ip) != 0xffff ||
		!bytes.Equal(ip[12:16], loopback(1).AsSlice()) || !bytes.Equal(ip[16:20], loopback(200).AsSlice()) {
		t.Errorf("IP header %x", ip)
	}
	udp := b[34:42]
	if binary.BigEndian.Uint16(udp) != 7177 || binary.BigEndian.Uint16(udp[2:]) != 7177 || int(binary.BigEndian.Uint16(udp[4:])) != 8+len(payload) {
		t.Errorf("UDP header %x", udp)
	}
	from, got, ok := heartbeatOf(&link.Frame{Data: b})
	if !ok || from != loopback(1) || !bytes.Equal(got, payload) {
		t.Errorf("%v %q %v", from, got, ok)
	}
	// The least frame of Ethernet has padding behind the packet.
	if _, got, ok = heartbeatOf(&link.Frame{Data: append(b, make([]byte, 30)...)}); !ok || !bytes.Equal(got, payload) {
		t.Errorf("padded: %q %v", got, ok)
	}
}

func TestBrokenHeartbeatFrames(t *testing.T) {
	good := frameOf(t, []byte("sealed"))
	for i := range good {
		if _, _, ok := heartbeatOf(&link.Frame{Data: good[:i]}); ok {
			t.Errorf("a frame cut to %d bytes was taken", i)
		}
	}
	for name, change := range map[string]func(b []byte){
		"IPv6":             func(b []byte) { b[14] = 0x65 },
		"short header":     func(b []byte) { b[14] = 0x44 },
		"long header":      func(b []byte) { b[14] = 0x4f },
		"TCP":              func(b []byte) { b[14+9] = 6 },
		"packet too long":  func(b []byte) { b[14+3]++ },
		"packet too short": func(b []byte) { b[14+3] = 27 },
		"UDP too long":     func(b []byte) { b[34+5]++ },
		"UDP too short":    func(b []byte) { b[34+5] = 7 },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, _, ok := heartbeatOf(&link.Frame{Data: b}); ok {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, ok := heartbeatOf(&link.Frame{Data: good, Tagged: true}); ok {
		t.Error("a frame of another VLAN was taken")
	}
}

func TestHeartbeatThatDoesNotFit(t *testing.T) {
	var h hub
	d := h.plug(t)
	defer d.Close()
	l := &LAN{device: d, to: net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, self: loopback(1), vip: loopback(200)}
	if err := l.send(make([]byte, 1500-28)); err != nil {
		t.Error(err)
	}
	if err := l.send(make([]byte, 1500-27)); err == nil {
		t.Error("no error")
	}
}
