package lab

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/internal/netns"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces (CAP_SYS_ADMIN) and packet sockets (CAP_NET_RAW)")
	}
}

func buildLAN(t *testing.T, spec Spec) *LAN {
	t.Helper()
	needRoot(t)
	l, err := BuildLAN(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// testEtherType is for local experiments (IEEE 802, 0x88b5).
const testEtherType = 0x88b5

// patience bounds how long a test waits for what must come.
const patience = time.Minute

// station is a host with a packet socket for the frames of these tests.
type station struct {
	*Host
	fd int
}

func stations(t *testing.T, l *LAN) map[string]*station {
	t.Helper()
	out := map[string]*station{}
	for _, h := range l.Hosts {
		s := &station{Host: h}
		err := h.Do(func() (err error) {
			const proto = testEtherType>>8 | testEtherType&0xff<<8
			if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto); err != nil {
				return err
			}
			dev, err := netlink.LinkByName(hostDevice)
			if err != nil {
				return err
			}
			wait := unix.NsecToTimeval(patience.Nanoseconds())
			if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
				return err
			}
			return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: dev.Attrs().Index})
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(s.fd) })
		out[h.Name] = s
	}
	return out
}

// broadcast is every station's address.
func broadcast() net.HardwareAddr { return bytes.Repeat([]byte{0xff}, 6) }

// frameTo is a frame that carries a name.
type frameTo struct {
	dst  net.HardwareAddr
	name string
}

// end is the name of the frame after the last.
const end = "end"

// send sends frames and one last that reaches everybody. All leave by one
// processor, so that they stay in order.
func (s *station) send(t *testing.T, frames ...frameTo) {
	t.Helper()
	onOneProcessor(t, func() {
		for _, f := range append(frames, frameTo{broadcast(), end}) {
			s.write(t, f)
		}
	})
}

// onOneProcessor keeps frames in order that fn sends.
func onOneProcessor(t *testing.T, fn func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	first := 0
	for !before.IsSet(first) {
		first++
	}
	one.Set(first)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	}()
	fn()
}

// write sends one frame.
func (s *station) write(t *testing.T, f frameTo) {
	t.Helper()
	b := slices.Concat(f.dst, s.MAC, []byte{testEtherType >> 8, testEtherType & 0xff}, []byte(f.name))
	if _, err := unix.Write(s.fd, append(b, make([]byte, max(60-len(b), 0))...)); err != nil {
		t.Fatalf("%s sends: %v", s.Name, err)
	}
}

// heard are the names of the frames until the last one.
func (s *station) heard(t *testing.T) []string {
	t.Helper()
	var names []string
	for {
		name, _ := s.next(t)
		if name == end {
			return names
		}
		names = append(names, name)
	}
}

// next is the name of the next frame, and the MAC that it came from.
func (s *station) next(t *testing.T) (string, net.HardwareAddr) {
	t.Helper()
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			t.Fatalf("%s hears no more: %v", s.Name, err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING {
			return strings.TrimRight(string(b[14:n]), "\x00"), net.HardwareAddr(b[6:12])
		}
	}
}

// everybodySpeaks lets the LAN learn where everybody is.
func everybodySpeaks(t *testing.T, all map[string]*station) {
	t.Helper()
	for _, s := range all {
		s.send(t)
		for _, other := range all {
			if other != s {
				other.heard(t)
			}
		}
	}
}

// Who hears what is the difference between a hub and a switch, and what the
// whole program rests on: a group MAC reaches everybody on both.
func TestWhoHearsWhat(t *testing.T) {
	nobodyHas := net.HardwareAddr{0x02, 'O', 'V', 9, 9, 9}
	for _, kind := range []Kind{Switch, Hub} {
		t.Run(string(kind), func(t *testing.T) {
			l := buildLAN(t, Spec{Nodes: 3, Clients: 2, Addresses: 1, LAN: kind})
			all := stations(t, l)
			everybodySpeaks(t, all)
			sender := all["client1"]
			sender.send(t,
				frameTo{all["n2"].MAC, "to n2"}, frameTo{ClusterMAC(), "to the group"},
				frameTo{nobodyHas, "to nobody"}, frameTo{broadcast(), "to everybody"})
			for name, s := range all {
				want := []string{"to n2", "to the group", "to nobody", "to everybody"}
				if kind == Switch && name != "n2" {
					want = want[1:]
				}
				if s == sender {
					continue
				}
				if got := s.heard(t); !slices.Equal(got, want) {
					t.Errorf("%s heard %q, want %q", name, got, want)
				}
			}
		})
	}
}

// The largest LAN is whole as soon as it is built: every host reaches every
// other with its first frame.
func TestLargestLANForwardsAtOnce(t *testing.T) {
	l := buildLAN(t, Spec{Nodes: MaxNodes, Clients: MaxClients, Addresses: MaxClientAddresses / MaxClients, LAN: Switch})
	all := stations(t, l)
	everybodySpeaks(t, all)
	seen := map[netip.Addr]string{}
	macs := map[string]string{}
	for _, h := range l.Hosts {
		for _, a := range h.Addrs {
			if other, dup := seen[a]; dup || a == VIP() {
				t.Errorf("%s has %s, as has %s", h.Name, a, other)
			}
			seen[a] = h.Name
		}
		if other, dup := macs[h.MAC.String()]; dup || h.MAC[0]&3 != 2 {
			t.Errorf("%s has the MAC %s, as has %s", h.Name, h.MAC, other)
		}
		macs[h.MAC.String()] = h.Name
	}
	if n := len(l.Nodes()); n != MaxNodes || l.Nodes()[0].Addrs[0].String() != "10.77.0.11" || l.Clients()[0].Addrs[0].String() != "10.77.0.101" {
		t.Errorf("%d nodes from %v, clients from %v", n, l.Nodes()[0].Addrs, l.Clients()[0].Addrs)
	}
}

// What a host is like: as a real one at its start, whatever the machine has.
func TestHostsAreLikeRealOnes(t *testing.T) {
	l := buildLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 3, LAN: Switch})
	for _, h := range l.Hosts {
		err := h.Do(func() error {
			for file, want := range map[string]string{
				"ipv4/conf/eth0/rp_filter":    "1",
				"ipv4/conf/all/rp_filter":     "1",
				"ipv4/conf/all/arp_ignore":    "0",
				"ipv4/ip_forward":             "0",
				"ipv4/ip_nonlocal_bind":       "0",
				"ipv6/conf/eth0/disable_ipv6": "1",
			} {
				got, err := os.ReadFile("/proc/sys/net/" + file)
				if err == nil && strings.TrimSpace(string(got)) != want {
					t.Errorf("%s: %s is %s, want %s", h.Name, file, got, want)
				}
			}
			dev, err := net.InterfaceByName(hostDevice)
			if err != nil {
				return err
			}
			if dev.MTU != 1500 || !bytes.Equal(dev.HardwareAddr, h.MAC) || dev.Flags&net.FlagRunning == 0 {
				t.Errorf("%s: %+v", h.Name, dev)
			}
			addrs, err := dev.Addrs()
			if err != nil || len(addrs) != len(h.Addrs) {
				t.Errorf("%s has %v, want %v: %v", h.Name, addrs, h.Addrs, err)
			}
			// Its own loopback works.
			ln, err := net.Listen("tcp", "127.0.0.1:22")
			if err != nil {
				return err
			}
			return ln.Close()
		})
		if err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
	}
}

// After Close the kernel takes every namespace away. A cable from each to one
// of ours is the witness: its end disappears with the namespace.
func TestCloseLeavesNoNamespace(t *testing.T) {
	needRoot(t)
	ours, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	l, err := BuildLAN(Spec{Nodes: 2, Clients: 2, Addresses: 2, LAN: Hub})
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	cables := map[string]bool{}
	err = ours.Do(func() error {
		witness := func(name string, ns *netns.NS) error {
			veth := netlink.NewVeth(netlink.NewLinkAttrs())
			veth.Name, veth.PeerName, veth.PeerNamespace = name, "witness", netlink.NsFd(ns.FD())
			cables[name] = true
			return netlink.LinkAdd(veth)
		}
		for i, h := range l.Hosts {
			if err := witness(fmt.Sprint("cable", i), h.ns); err != nil {
				return err
			}
		}
		if err := witness("lan", l.ns); err != nil {
			return err
		}
		return netlink.LinkSubscribe(gone, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(patience)
	for len(cables) > 0 {
		select {
		case u := <-gone:
			if u.Header.Type == unix.RTM_DELLINK {
				delete(cables, u.Attrs().Name)
			}
		case <-deadline:
			t.Fatalf("these namespaces are still there: %v", cables)
		}
	}
}

func TestSpecIsChecked(t *testing.T) {
	good := Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Hub}
	for _, c := range []struct {
		change func(*Spec)
		says   string
	}{
		{func(*Spec) {}, ""},
		{func(s *Spec) { s.Nodes = MaxNodes }, ""},
		{func(s *Spec) { s.Nodes = MaxNodes + 1 }, "--nodes is 33; write 1 to 32"},
		{func(s *Spec) { s.Nodes = 0 }, "--nodes is 0; write 1 to 32"},
		{func(s *Spec) { s.Clients = MaxClients }, ""},
		{func(s *Spec) { s.Clients = MaxClients + 1 }, "--clients is 17; write 1 to 16"},
		{func(s *Spec) { s.Addresses = MaxAddressesPerClient }, ""},
		{func(s *Spec) { s.Addresses = MaxAddressesPerClient + 1 }, "--addresses is 65; write 1 to 64"},
		{func(s *Spec) { s.Clients, s.Addresses = 14, 11 }, ""},
		{func(s *Spec) { s.Clients, s.Addresses = 5, 31 }, "need 155, and the LAN has room for 154; write --addresses=30"},
		{func(s *Spec) { s.LAN = "star" }, `--lan is "star"; write switch or hub`},
	} {
		s := good
		c.change(&s)
		err := s.Check()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, want %q", s, err, c.says)
		}
	}
}

func TestHostsAreFoundByBothNames(t *testing.T) {
	l := buildLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Hub})
	for _, name := range []string{"n1", "ov-n1", "client1", "ov-client1"} {
		if h, ok := l.Host(name); !ok || !strings.HasSuffix(name, h.Name) {
			t.Errorf("%s: %v %v", name, h, ok)
		}
	}
	for _, name := range []string{"", "ov-", "ov-ov-n1", "n2", "ov-lan"} {
		if h, ok := l.Host(name); ok {
			t.Errorf("%q is %s", name, h.Name)
		}
	}
}

// The witness is behind the router: nodes and it reach each other, and its cable
// is not on the LAN.
func TestWitnessIsElsewhere(t *testing.T) {
	if (&Spec{Nodes: 3, Clients: 1, Addresses: 1, LAN: Switch, Witness: true}).Check() == nil {
		t.Error("three nodes need no witness")
	}
	l := buildLAN(t, Spec{Nodes: 2, Clients: 1, Addresses: 1, LAN: Switch, Witness: true})
	w, ok := l.Host("ov-witness")
	if !ok || w.Port != 0 || len(l.Nodes()) != 2 || len(l.Clients()) != 1 {
		t.Fatalf("%+v, %d nodes, %d clients", w, len(l.Nodes()), len(l.Clients()))
	}
	var server net.PacketConn
	err := w.Do(func() (err error) {
		server, err = net.ListenPacket("udp4", witnessAddress().String()+":7177")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	err = l.Nodes()[1].Do(func() error {
		c, err := net.Dial("udp4", server.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	n, from, err := server.ReadFrom(b)
	if err != nil || string(b[:n]) != "hello" || from.(*net.UDPAddr).IP.String() != "10.77.0.12" {
		t.Errorf("%q from %v, %v", b[:n], from, err)
	}
}
