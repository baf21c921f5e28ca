package link

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// single is a cluster MAC of mode unicast.
var single = net.HardwareAddr{0x02, 0xbf, 10, 77, 0, 2}

func openSingle(t *testing.T, name string) *Packet {
	t.Helper()
	d, err := Open(name, &Filter{Addresses: []netip.Addr{vip}, Groups: []net.HardwareAddr{single}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A frame for a cluster MAC that is no group comes in, and one for another
// station's MAC does not.
func TestPacketReceivesForASingleClusterMAC(t *testing.T) {
	inNamespace(t)
	a, b := openSingle(t, "a"), openSingle(t, "b")
	want := ethernet(single, own, 0x0800, ipv4To(vip))
	elses := ethernet(net.HardwareAddr{0x02, 0xbf, 10, 77, 0, 3}, own, 0x0800, ipv4To(vip))
	send(t, a, Vector{Pieces: [][]byte{elses}}, Vector{Pieces: [][]byte{want}})
	frames := make([]Frame, MaxBatch)
	if n := wait(t, b, frames); n != 1 || !bytes.Equal(frames[0].Data, want) {
		t.Errorf("received %d frames, first %x, want %x", n, frames[0].Data, want)
	}
}

// veth filters nothing, so that what came in proves nothing about a card that does.
// What a card filters by is its list of addresses; the kernel tells of it by the
// count of those who want all frames where the device has no such list.
func TestPacketPutsASingleClusterMACIntoTheDevicesList(t *testing.T) {
	inNamespace(t)
	promiscuous := func() int {
		l, err := netlink.LinkByName("a")
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().Promisc
	}
	if n := promiscuous(); n != 0 {
		t.Fatalf("the interface takes all frames before: %d", n)
	}
	d := openSingle(t, "a")
	if n := promiscuous(); n != 1 {
		t.Errorf("an interface without a list of addresses takes all frames: %d, want 1", n)
	}
	again := openSingle(t, "a")
	d.Close()
	if n := promiscuous(); n != 1 {
		t.Errorf("after one of two devices was closed: %d, want 1", n)
	}
	again.Close()
	if n := promiscuous(); n != 0 {
		t.Errorf("the wish outlived the devices: %d", n)
	}
}

// dummy has a list, which `bridge fdb` shows.
func TestPacketUsesAListWhereThereIsOne(t *testing.T) {
	inNamespace(t)
	if _, err := exec.LookPath("bridge"); err != nil {
		t.Skip("needs bridge of iproute2 to read a device's list of addresses")
	}
	dummy := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "d"}}
	if err := netlink.LinkAdd(dummy); err != nil {
		t.Skip("needs the kernel's dummy interfaces:", err)
	}
	if err := netlink.LinkSetUp(dummy); err != nil {
		t.Fatal(err)
	}
	listed := func() bool {
		cmd := exec.Command("bridge", "fdb", "show", "dev", "d")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("bridge: %v: %s", err, out)
		}
		return strings.Contains(string(out), single.String()+" self")
	}
	d := openSingle(t, "d")
	if !listed() {
		t.Error("the cluster MAC is not in the device's list")
	}
	if l, err := netlink.LinkByName("d"); err != nil || l.Attrs().Promisc != 0 {
		t.Errorf("a device with a list takes all frames as well: %v, %v", l, err)
	}
	d.Close()
	if listed() {
		t.Error("the cluster MAC stayed in the device's list")
	}
}

// The host's own kernel takes a frame for the cluster MAC for another host's: it
// answers no ARP request in it, answers no packet for its own address, and
// forwards none. What comes to its own MAC it answers as ever.
func TestTheHostsKernelLeavesFramesForASingleClusterMACAlone(t *testing.T) {
	inNamespace(t)
	b, err := netlink.LinkByName("b")
	if err != nil {
		t.Fatal(err)
	}
	host, silent, asker := netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.101"), netip.MustParseAddr("10.77.0.102")
	if err := netlink.AddrAdd(b, &netlink.Addr{IPNet: &net.IPNet{IP: host.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	openSingle(t, "b")
	a, err := Open("a", &Filter{Addresses: []netip.Addr{silent, asker}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	// To answer or to forward any of the first ones, the kernel would send ARP.
	send(t, a,
		Vector{Pieces: [][]byte{arpRequest(single, own, silent, host)}},
		Vector{Pieces: [][]byte{ethernet(single, own, 0x0800, echoRequest(silent, host))}},
		Vector{Pieces: [][]byte{ethernet(single, own, 0x0800, echoRequest(silent, asker))}},
		Vector{Pieces: [][]byte{arpRequest(other, own, asker, host)}})
	frames := make([]Frame, MaxBatch)
	n := wait(t, a, frames)
	if got := frames[0].Data; n != 1 || len(got) < 42 || got[21] != 2 || !bytes.Equal(got[38:42], asker.AsSlice()) {
		t.Errorf("%d frames came, first %x; want one ARP reply to %s alone", n, got, asker)
	}
}

// echoRequest is a packet of RFC 792.
func echoRequest(from, to netip.Addr) []byte {
	b := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0}
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], inetSum(b))
	icmp := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(icmp[2:], inetSum(icmp))
	return append(b, icmp...)
}

// inetSum is the checksum of RFC 1071 over an even number of bytes.
func inetSum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^uint16(sum>>16 + sum&0xffff)
}

// arpRequest is RFC 826's, for Ethernet and IPv4.
func arpRequest(to, from net.HardwareAddr, asker, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, from...), asker.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), target.AsSlice()...)
	return ethernet(to, from, 0x0806, b)
}

// IGMP passes in frames to the filter's groups, where it is wanted, whatever
// address it is for.
func TestFilterPassesIGMPWhereItIsWanted(t *testing.T) {
	everybody := net.HardwareAddr{0x01, 0, 0x5e, 0, 0, 1}
	for _, wanted := range []bool{true, false} {
		passes := passing(t, &Filter{Addresses: []netip.Addr{vip}, Groups: []net.HardwareAddr{group, everybody}, Membership: wanted})
		packet := func(dst string, proto byte) []byte {
			p := ipv4To(netip.MustParseAddr(dst))
			p[9] = proto
			return p
		}
		for name, c := range map[string]struct {
			frame []byte
			pass  bool
		}{
			"a general query":          {ethernet(everybody, other, 0x0800, packet("224.0.0.1", 2)), wanted},
			"a query for the group":    {ethernet(group, other, 0x0800, packet("239.77.0.2", 2)), wanted},
			"to another group's MAC":   {ethernet(group2, other, 0x0800, packet("224.0.0.1", 2)), false},
			"another protocol":         {ethernet(everybody, other, 0x0800, packet("224.0.0.1", 17)), false},
			"a segment for the VIP":    {ethernet(group, other, 0x0800, packet("10.77.0.2", 6)), true},
			"a segment for no address": {ethernet(group, other, 0x0800, packet("10.77.0.3", 6)), false},
		} {
			if passes(c.frame) != c.pass {
				t.Errorf("wanted %v, %s: passes %v, want %v", wanted, name, !c.pass, c.pass)
			}
		}
	}
}
