package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"onevoice/config"
	"onevoice/link"
	"onevoice/responder"
)

// LAN is one path: an interface and a cluster MAC. Heartbeats go over it as UDP
// datagrams to the VIP in frames to the cluster MAC, so that they are switched
// exactly as clients' frames are (OWNERSHIP.md R6).
type LAN struct {
	name   string
	vlan   uint16
	filter *link.Filter
	device link.Device
	opener Opener
	// gone: the interface was removed, and has not come back.
	gone bool
	to   net.HardwareAddr
	self netip.Addr
	vip  netip.Addr
	port uint16

	frames [link.MaxBatch]link.Frame
	buffer []byte
	id     uint16
	// refused frames were no heartbeats, and dropped ones found no room in devices that
	// are closed.
	refused, dropped uint64
}

// Sizes in bytes, and what is in the headers.
const (
	ethernetBytes = 14
	ipv4Bytes     = 20
	udpBytes      = 8
	headerBytes   = ethernetBytes + ipv4Bytes + udpBytes
	protoUDP      = 17
	// link/ingress knows heartbeats by it, whatever their port is.
	heartbeatTTL = 1
)

var errTooLong = errors.New("control: a heartbeat does not fit the interface's MTU")

// Opener opens a device that receives what a filter lets pass.
type Opener func(name string, filter *link.Filter) (link.Device, error)

// OpenSocket is the Opener of packet sockets.
func OpenSocket(name string, filter *link.Filter) (link.Device, error) {
	device, err := link.Open(name, filter)
	if err != nil {
		return nil, err
	}
	return device, nil
}

// OpenLAN opens a path. It receives nothing but heartbeats.
func OpenLAN(on config.Uplink, vip, self netip.Addr, cluster net.HardwareAddr, port uint16, open Opener) (*LAN, error) {
	filter := &link.Filter{Addresses: []netip.Addr{vip}, Groups: []net.HardwareAddr{cluster}, Port: port, Tagged: on.VLAN != 0}
	l := &LAN{name: on.Interface, vlan: on.VLAN, filter: filter, opener: open, to: cluster, self: self, vip: vip, port: port}
	var err error
	if l.device, err = l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// open opens the device of the path.
func (l *LAN) open() (link.Device, error) {
	device, err := l.opener(l.name, l.filter)
	if err != nil || l.vlan == 0 {
		return device, err
	}
	return link.InVLAN(device, l.vlan), nil
}

// look finds out whether the interface was removed, or one of its name is there
// again, which is then opened in its place. It reports whether that has changed;
// the error is what keeps it from being opened.
func (l *LAN) look() (changed bool, err error) {
	if l.device.Present() {
		return false, nil
	}
	changed, l.gone = !l.gone, true
	if there, err := link.Exists(l.name); !there || err != nil {
		return changed, err
	}
	device, err := l.open()
	if err != nil {
		return changed, err
	}
	l.dropped = l.droppedSoFar()
	err = l.device.Close()
	l.device, l.gone = device, false
	return true, err
}

// droppedSoFar is how many frames found no room until they were read.
func (l *LAN) droppedSoFar() uint64 { return l.dropped + l.device.Stats().KernelDropped }

// Close closes the path.
func (l *LAN) Close() error { return l.device.Close() }

// send sends a sealed heartbeat.
func (l *LAN) send(payload []byte) error {
	header := ipv4Bytes
	if l.vip.Is6() {
		header = ipv6Bytes
	}
	if header+udpBytes+len(payload) > l.device.MTU() {
		return fmt.Errorf("%w: %d bytes", errTooLong, len(payload))
	}
	l.buffer = l.appendFrame(l.buffer[:0], payload)
	return l.device.Send([]link.Vector{{Pieces: [][]byte{l.buffer}}})
}

// appendFrame makes the frame. The UDP checksum is 0, none (RFC 768): the
// payload has a seal.
func (l *LAN) appendFrame(b, payload []byte) []byte {
	if l.vip.Is6() {
		return l.appendFrame6(b, payload)
	}
	b = append(b, l.to...)
	b = append(b, l.device.HardwareAddr()...)
	b = append(b, 0x08, 0x00)
	l.id++
	b = append(b, 0x45, 0xc0) // DSCP 48, network control (RFC 4594 §3.1)
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Bytes+udpBytes+len(payload)))
	b = binary.BigEndian.AppendUint16(b, l.id)
	b = append(b, 0x40, 0x00, heartbeatTTL, protoUDP, 0, 0)
	b = append(b, l.self.AsSlice()...)
	b = append(b, l.vip.AsSlice()...)
	header := b[ethernetBytes : ethernetBytes+ipv4Bytes]
	binary.BigEndian.PutUint16(header[10:], ^responder.Sum(0, header))
	b = binary.BigEndian.AppendUint16(b, l.port)
	b = binary.BigEndian.AppendUint16(b, l.port)
	b = binary.BigEndian.AppendUint16(b, uint16(udpBytes+len(payload)))
	b = append(b, 0, 0)
	return append(b, payload...)
}

// receive hands out the payloads that are there, at most maxReceive of them, with
// who sent them. They are valid until the next call.
func (l *LAN) receive(take func(from netip.Addr, payload []byte)) error {
	for range maxReceive / len(l.frames) {
		n, err := l.device.Receive(l.frames[:])
		if err != nil {
			return err
		}
		for i := range n {
			from, payload, ok := heartbeatOf(&l.frames[i])
			// Clients' frames come to the cluster MAC, so a heartbeat that came to our
			// own would prove nothing.
			if !ok || !bytes.Equal(l.frames[i].Data[:len(l.to)], l.to) {
				l.refused++
				continue
			}
			take(from, payload)
		}
		if n < len(l.frames) {
			return nil
		}
	}
	return nil
}

// heartbeatOf takes a frame apart that has passed the filter. What is in the
// payload is judged by its seal, not by checksums.
func heartbeatOf(f *link.Frame) (from netip.Addr, payload []byte, ok bool) {
	b := f.Data
	if len(b) >= ethernetBytes && binary.BigEndian.Uint16(b[12:]) == etherTypeIPv6 {
		return heartbeatOf6(f)
	}
	if f.Tagged || len(b) < headerBytes || b[ethernetBytes]>>4 != 4 {
		return from, nil, false
	}
	ip := b[ethernetBytes:]
	header, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < ipv4Bytes || total > len(ip) || total < header+udpBytes || ip[9] != protoUDP {
		return from, nil, false
	}
	length := int(binary.BigEndian.Uint16(ip[header+4:]))
	if length < udpBytes || header+length > total {
		return from, nil, false
	}
	return netip.AddrFrom4([4]byte(ip[12:16])), ip[header+udpBytes : header+length], true
}
