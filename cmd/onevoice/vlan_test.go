package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/internal/netns"
	"onevoice/link"
)

const taggedVIP = "10.88.0.2"

// trunk makes the client's cable one on which a kernel behind another cable speaks in
// a VLAN: what that says gets the tag on the way to the node, and what comes back loses
// it. It stands for a switch, for the kernel here may have no VLAN devices.
func (p *pair) trunk(id uint16, address string) *netns.NS {
	p.t.Helper()
	station, err := netns.New()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { station.Close() })
	err = station.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "access", PeerNamespace: netlink.NsFd(p.client.FD())})
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, end := range []struct {
		where         *netns.NS
		name, address string
	}{{station, "eth0", address}, {p.client, "access", ""}} {
		if err := end.where.Do(func() error { return raise(end.name, end.address) }); err != nil {
			p.t.Fatal(err)
		}
	}
	var access, cable int
	err = p.client.Do(func() (err error) {
		if access, err = promiscuous("access"); err != nil {
			return err
		}
		cable, err = promiscuous("cable")
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{}, 2)
	pass := func(from, to int, change func([]byte, *link.Offload, bool) []byte) {
		defer func() { done <- struct{}{} }()
		forward(stop, from, to, change)
	}
	go pass(access, cable, func(f []byte, o *link.Offload, tagged bool) []byte {
		if tagged {
			return nil
		}
		if o.Partial {
			o.ChecksumStart += 4
		}
		if o.Segmentation != 0 {
			o.HeaderBytes += 4
		}
		return slices.Concat(f[:12], []byte{0x81, 0, byte(id >> 8), byte(id)}, f[12:])
	})
	go pass(cable, access, func(f []byte, _ *link.Offload, tagged bool) []byte {
		if !tagged {
			return nil
		}
		return f
	})
	p.t.Cleanup(func() {
		close(stop)
		<-done
		<-done
		unix.Close(access)
		unix.Close(cable)
	})
	return station
}

// raise gives an interface an address and sets it up.
func raise(name, address string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if address != "" {
		ip, network, err := net.ParseCIDR(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: network.Mask}}); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// promiscuous is a packet socket that gets all frames of an interface, with their
// virtio-net headers and tags.
func promiscuous(name string) (int, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	for _, opt := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING, unix.PACKET_AUXDATA} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt, 1); err != nil {
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: device.Index})
	if err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(device.Index), Type: unix.PACKET_MR_PROMISC})
}

// forward passes frames on until it is stopped.
func forward(stop <-chan struct{}, from, to int, change func([]byte, *link.Offload, bool) []byte) {
	const head = 10
	buffer, control := make([]byte, 1<<17), make([]byte, 128)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}}, 50); n <= 0 {
			continue
		}
		n, c, _, _, err := unix.Recvmsg(from, buffer, control, 0)
		if err != nil || n < head+14 {
			continue
		}
		tagged := false
		messages, _ := unix.ParseSocketControlMessage(control[:c])
		for _, m := range messages {
			if m.Header.Type == unix.PACKET_AUXDATA && binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
				tagged = true
			}
		}
		h := buffer[:head]
		o := link.Offload{Partial: h[0]&1 != 0, Segmentation: h[1], HeaderBytes: binary.NativeEndian.Uint16(h[2:]), ChecksumStart: binary.NativeEndian.Uint16(h[6:])}
		frame := change(buffer[head:n], &o, tagged)
		if frame == nil {
			continue
		}
		h[0] &= 1
		binary.NativeEndian.PutUint16(h[2:], o.HeaderBytes)
		binary.NativeEndian.PutUint16(h[6:], o.ChecksumStart)
		// What the kernel does not take is lost, as on a wire.
		_, _ = unix.Write(to, slices.Concat(h, frame))
	}
}

// A VIP of a VLAN is answered to those who speak in it, with its tag, and to nobody
// else; one without a tag is not answered in a VLAN.
func TestVLAN(t *testing.T) {
	p := newPair(t)
	p.configure(fmt.Sprintf(`[[vip]]
address = "%[1]s/24"
vlan = 10
[[service]]
name = "tagged"
listen = "%[1]s:7"
backend = "127.0.0.1:7001"
[[service]]
name = "bulk"
listen = "%[1]s:9"
backend = "127.0.0.1:7002"
`, taggedVIP))
	p.echo("127.0.0.1:7001")
	bulk := int64(20 << 20)
	if testing.Short() {
		bulk = 1 << 20
	}
	p.sends("127.0.0.1:7002", bulk)
	station := p.trunk(10, "10.88.0.101/24")
	c := p.start()
	c.until("answering: this node holds a lease")
	p.session()
	dial := func(port string) net.Conn {
		t.Helper()
		var conn net.Conn
		err := station.Do(func() (err error) {
			conn, err = net.DialTimeout("tcp4", taggedVIP+port, patience)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	if err := echoes(dial(":7")); err != nil {
		t.Error(err)
	}
	// Super-segments leave with a tag, too, and come whole.
	from := dial(":9")
	if err := from.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, from); err != nil || n != bulk {
		t.Errorf("%d of %d bytes came, %v", n, bulk, err)
	}
	if s := p.status(); len(s.Workers) != 2 || s.Workers[1].Uplink != "eth0 VLAN 10" || s.Workers[1].Verdicts["deliver-syn"] != 2 {
		t.Errorf("workers %+v", s.Workers)
	}

	w := newWire(p)
	tag := func(frame []byte, id byte) []byte {
		return slices.Concat(frame[:12], []byte{0x81, 0, 0, id}, frame[12:])
	}
	other := netip.MustParseAddr(taggedVIP).As4()
	syn := w.segment(opening(50000))
	tagged := seal(changed(syn, atIP+16, other[:]...))
	copy(tagged[2:6], []byte{0x5e, 0x58, 0x00, 0x02})
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"for the tagged VIP without a tag", tagged},
		{"for the tagged VIP with another tag", tag(tagged, 11)},
		{"for the untagged VIP with a tag", tag(syn, 10)},
		{"for the untagged VIP with another tag", tag(syn, 11)},
	} {
		answers, counted := w.judged(c.frame)
		// A late acknowledgment of the sessions above; the frame's own verdict is one other.
		delete(counted, "deliver-held")
		if len(answers) > 0 || !maps.Equal(counted, map[string]uint64{"vlan-tag": 1}) {
			t.Errorf("%s: answered by %q, counted as %v", c.name, kindsOf(answers), counted)
		}
	}
	// A tag of VLAN 0 is none.
	if answers, counted := w.judged(tag(syn, 0)); len(answers) != 1 || counted["deliver-syn"] != 1 {
		t.Errorf("with a priority tag: answered by %q, counted as %v", kindsOf(answers), counted)
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v:\n%s", state, strings.Join(c.log, "\n"))
	}
	c.untilAllEnd()
}

// sends so many bytes to each client.
func (p *pair) sends(at string, n int64) {
	p.t.Helper()
	p.serve(at, func(c net.Conn) { _, _ = io.CopyN(c, zeroReader{}, n) })
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A VLAN device of the kernel is an interface as any other.
func TestVLANDevice(t *testing.T) {
	p := newPair(t)
	err := p.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		device := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth0.10", ParentIndex: l.Attrs().Index}, VlanId: 10}
		if err := netlink.LinkAdd(device); err != nil {
			return err
		}
		return raise("eth0.10", "10.88.0.11/24")
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel makes no VLAN devices (8021q): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.configure(fmt.Sprintf(`[[vip]]
address = "%[1]s/24"
interface = "eth0.10"
[[service]]
name = "tagged"
listen = "%[1]s:7"
backend = "127.0.0.1:7000"
`, taggedVIP))
	station := p.trunk(10, "10.88.0.101/24")
	p.start().until("answering: this node holds a lease")
	err = station.Do(func() error {
		c, err := net.DialTimeout("tcp4", taggedVIP+":7", patience)
		if err != nil {
			return err
		}
		defer c.Close()
		return echoes(c)
	})
	if err != nil {
		t.Error(err)
	}
	p.session()
}
