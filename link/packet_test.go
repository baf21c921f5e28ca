package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace runs the rest of the test on a thread in a network namespace of
// its own, with a veth pair a–b. The thread is never given back to the runtime.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace of its own (CAP_SYS_ADMIN, CAP_NET_ADMIN)")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a", HardwareAddr: own}, PeerName: "b", PeerHardwareAddr: other}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "a", "b"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	carrier(t, "a")
	carrier(t, "b")
}

// carrier waits until the kernel has begun to send on an interface that was set
// up: until then it drops in silence.
func carrier(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no carrier", name)
		}
	}
}

func open(t *testing.T, name string) *Packet {
	t.Helper()
	d, err := Open(name, &Filter{Addresses: []netip.Addr{vip}, Groups: []net.HardwareAddr{group}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// wait waits on the descriptor until a frame can be received, and receives.
func wait(t *testing.T, d Device, frames []Frame) int {
	t.Helper()
	const bound = 5000 // milliseconds
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}, bound); err != nil || n == 0 {
		t.Fatalf("no frame within %d ms: %v", bound, err)
	}
	n, err := d.Receive(frames)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func send(t *testing.T, d Device, vectors ...Vector) {
	t.Helper()
	if err := d.Send(vectors); err != nil {
		t.Fatal(err)
	}
}

func TestPacketReceivesWhatTheGroupCarriesAndNotItsOwn(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), open(t, "b")
	want := ethernet(group, own, 0x0800, ipv4To(vip))
	send(t, a, Vector{Pieces: [][]byte{want[:14], want[14:]}})
	frames := make([]Frame, MaxBatch)
	if n := wait(t, b, frames); n != 1 || !bytes.Equal(frames[0].Data, want) {
		t.Fatalf("received %d frames, first %x, want %x", n, frames[0].Data, want)
	}
	if n, err := a.Receive(frames); n != 0 || err != nil {
		t.Errorf("the sender received %d of its own frames, error %v", n, err)
	}
	// Nor does another device hear what leaves its interface.
	beside := open(t, "a")
	send(t, a, Vector{Pieces: [][]byte{want}})
	wait(t, b, frames)
	if n, err := beside.Receive(frames); n != 0 || err != nil {
		t.Errorf("a device beside the sender received %d outgoing frames, error %v", n, err)
	}
	if st := a.Stats(); st.SentFrames != 2 || st.SendRefused != 0 {
		t.Errorf("stats of the sender: %+v", st)
	}
}

func TestPacketJoinsTheGroupAndLeavesItAtClose(t *testing.T) {
	inNamespace(t)
	joined := func() bool {
		b, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(b, []byte("01005e4d0002"))
	}
	d, err := Open("a", &Filter{Addresses: []netip.Addr{vip}, Groups: []net.HardwareAddr{group}})
	if err != nil {
		t.Fatal(err)
	}
	if !joined() {
		t.Error("the interface is not a member of the cluster MAC's group")
	}
	d.Close()
	if joined() {
		t.Error("the membership outlived the device")
	}
}

// A super-frame with a partial checksum goes out whole and comes in whole.
func TestPacketCarriesSuperFrames(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), open(t, "b")
	const payload, mss = 40_000, 1448
	frame := tcpFrame(payload)
	send(t, a, Vector{Pieces: [][]byte{frame}, Offload: Offload{
		Partial: true, ChecksumStart: 34, ChecksumOffset: 16,
		Segmentation: SegmentationTCPv4, HeaderBytes: 54, SegmentBytes: mss,
	}})
	frames := make([]Frame, MaxBatch)
	if n := wait(t, b, frames); n != 1 {
		t.Fatalf("received %d frames", n)
	}
	f := &frames[0]
	if len(f.Data) != len(frame) || !f.Offload.Partial || f.Offload.Segmentation != SegmentationTCPv4 || f.Offload.SegmentBytes != mss {
		t.Errorf("received %d bytes with %+v, want %d bytes, partial, cut at %d", len(f.Data), f.Offload, len(frame), mss)
	}
	if !bytes.Equal(f.Data[54:], frame[54:]) {
		t.Error("the payload differs")
	}
}

// tcpFrame is a TCP segment for the VIP whose checksum field holds the sum of
// the pseudo-header, as a partial checksum does.
func tcpFrame(payload int) []byte {
	frame := ethernet(group, own, 0x0800, make([]byte, 40+payload))
	ip := frame[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+payload))
	copy(ip[12:], []byte{10, 77, 0, 101})
	copy(ip[16:], vip.AsSlice())
	ip[32], ip[33] = 0x50, 0x10
	for i := range payload {
		ip[40+i] = byte(i)
	}
	return frame
}

func TestPacketReportsVLANTags(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), open(t, "b")
	plain := ethernet(group, own, 0x0800, ipv4To(vip))
	const tci = 0x2005
	tagged := append(append(append([]byte{}, plain[:12]...), 0x81, 0, tci>>8, tci&0xff), plain[12:]...)
	send(t, a, Vector{Pieces: [][]byte{tagged}}, Vector{Pieces: [][]byte{plain}})
	frames := make([]Frame, MaxBatch)
	n := wait(t, b, frames)
	if n == 1 {
		t.Fatal("only one of two frames came")
	}
	if !frames[0].Tagged || frames[0].TCI != tci || !bytes.Equal(frames[0].Data, plain) {
		t.Errorf("tagged frame came as tagged=%v TCI=%#x", frames[0].Tagged, frames[0].TCI)
	}
	if frames[1].Tagged {
		t.Error("the plain frame came as tagged")
	}
}

func TestPacketSendsManyPiecesAndPassesOverARefusedFrame(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), open(t, "b")
	long := tcpFrame(1000)
	var pieces [][]byte
	for i := 0; i < len(long); i += 10 {
		pieces = append(pieces, long[i:min(i+10, len(long))])
	}
	if len(pieces) <= MaxPieces {
		t.Fatal("the frame does not reach the bound")
	}
	tooLong := tcpFrame(5000) // beyond the MTU, and no super-frame
	err := a.Send([]Vector{{Pieces: [][]byte{tooLong}}, {Pieces: pieces}})
	if err == nil {
		t.Error("a frame beyond the MTU was not refused")
	}
	frames := make([]Frame, MaxBatch)
	if n := wait(t, b, frames); n != 1 || !bytes.Equal(frames[0].Data, long) {
		t.Errorf("received %d frames, want the one in many pieces", n)
	}
	if st := a.Stats(); st.SendRefused != 1 || st.SentFrames != 1 {
		t.Errorf("stats of the sender: %+v", st)
	}
}

func TestPacketSurvivesItsInterfaceGoingDownAndKnowsWhenItIsGone(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), open(t, "b")
	frames := make([]Frame, MaxBatch)
	l, err := netlink.LinkByName("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetDown(l); err != nil {
		t.Fatal(err)
	}
	if _, err = a.Receive(frames); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("an interface that went down gives %v", err)
	}
	if _, err = a.Receive(frames); err != nil {
		t.Errorf("it gives an error again: %v", err)
	}
	if !a.Present() {
		t.Error("an interface that is only down counts as gone")
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	carrier(t, "a")
	carrier(t, "b")
	want := ethernet(group, other, 0x0800, ipv4To(vip))
	send(t, b, Vector{Pieces: [][]byte{want}})
	if n := wait(t, a, frames); n != 1 || !bytes.Equal(frames[0].Data, want) {
		t.Errorf("after it came back %d frames were received", n)
	}
	if err := netlink.LinkDel(l); err != nil {
		t.Fatal(err)
	}
	if a.Present() {
		t.Error("a removed interface counts as present")
	}
}

// A device serves an interface with another MTU, MAC or name as well as it can,
// and says what has changed until it is as it was.
func TestWatchTellsOfAnInterfaceThatChanges(t *testing.T) {
	inNamespace(t)
	w := open(t, "a").Watch()
	l, err := netlink.LinkByName("a")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Duration(0)
	say := func(what, want string) {
		t.Helper()
		now += watchInterval
		if got := w.Changed(now); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	say("nothing yet", "")
	if err := netlink.LinkSetMTU(l, 1400); err != nil {
		t.Fatal(err)
	}
	if got := w.Changed(now); got != "" {
		t.Errorf("it looks again at once: %q", got)
	}
	if err := netlink.LinkSetDown(l); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetName(l, "c"); err != nil {
		t.Fatal(err)
	}
	say("a lower MTU, and another name", "its MTU is 1400, and was 1500; its name is c, and was a")
	if err := netlink.LinkSetName(l, "a"); err != nil {
		t.Fatal(err)
	}
	say("a lower MTU", "its MTU is 1400, and was 1500")
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	if err := netlink.LinkSetHardwareAddr(l, mac); err != nil {
		t.Fatal(err)
	}
	say("another MAC, too", "its MTU is 1400, and was 1500; its MAC is 02:00:00:00:00:09, and was "+own.String())
	if err := netlink.LinkSetMTU(l, 1500); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetHardwareAddr(l, own); err != nil {
		t.Fatal(err)
	}
	say("as it was", "")
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	inNamespace(t)
	if _, err := Open("nosuch0", &Filter{}); err == nil {
		t.Error("a missing interface was opened")
	}
	if _, err := Open("lo", &Filter{}); err == nil {
		t.Error("an interface without an Ethernet address was opened")
	}
}

func TestClaimIsForOneAtATime(t *testing.T) {
	inNamespace(t)
	c, err := Claim(vip)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(vip); !errors.Is(err, ErrClaimed) {
		t.Errorf("a second claim gives %v", err)
	}
	c.Close()
	again, err := Claim(vip)
	if err != nil {
		t.Fatalf("after the first was given up: %v", err)
	}
	again.Close()
}

// Each frame tells when the kernel took it in, on the clock that says the time
// of day, which no earlier batch's frame in the same buffer can leave behind.
func TestPacketStampsFrames(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), open(t, "b")
	plain := ethernet(group, own, 0x0800, ipv4To(vip))
	frames := make([]Frame, MaxBatch)
	for range 3 {
		before := time.Duration(time.Now().UnixNano())
		send(t, a, Vector{Pieces: [][]byte{plain}})
		wait(t, b, frames)
		after := time.Duration(time.Now().UnixNano())
		if s := frames[0].Stamp; s < before || s > after {
			t.Errorf("stamp %v, want it from %v to %v", s, before, after)
		}
	}
}

// Control messages come from the kernel, but their order and number are not
// ours to know: whatever lies there, reading it ends and takes no other's bytes.
func TestControlMessagesInAnyOrder(t *testing.T) {
	message := func(level, kind int32, data []byte) []byte {
		b := binary.NativeEndian.AppendUint64(nil, uint64(16+len(data)))
		b = binary.NativeEndian.AppendUint32(b, uint32(level))
		b = binary.NativeEndian.AppendUint32(b, uint32(kind))
		b = append(b, data...)
		return append(b, make([]byte, (8-len(b)%8)%8)...)
	}
	aux := make([]byte, 20)
	binary.NativeEndian.PutUint32(aux, unix.TP_STATUS_VLAN_VALID)
	binary.NativeEndian.PutUint16(aux[16:], 7)
	when := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, 3), 5)
	tag := message(unix.SOL_PACKET, unix.PACKET_AUXDATA, aux)
	at := message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, when)
	other := message(unix.SOL_SOCKET, unix.SCM_RIGHTS, []byte{1, 2, 3})
	const stamped = 3*time.Second + 5
	for _, c := range []struct {
		name    string
		control []byte
		want    Frame
	}{
		{"none", nil, Frame{}},
		{"stamp and tag", bytes.Join([][]byte{at, tag}, nil), Frame{Tagged: true, TCI: 7, Stamp: stamped}},
		{"tag and stamp", bytes.Join([][]byte{tag, at}, nil), Frame{Tagged: true, TCI: 7, Stamp: stamped}},
		{"after another", bytes.Join([][]byte{other, at}, nil), Frame{Stamp: stamped}},
		{"a length of nothing", make([]byte, 64), Frame{}},
		{"a length beyond the end", at[:24], Frame{}},
		{"a short stamp", message(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, when[:8]), Frame{}},
		{"a short tag", message(unix.SOL_PACKET, unix.PACKET_AUXDATA, aux[:12]), Frame{}},
	} {
		f := Frame{Tagged: true, TCI: 9, Stamp: 9}
		f.readControl(c.control)
		if f.Tagged != c.want.Tagged || f.TCI != c.want.TCI || f.Stamp != c.want.Stamp {
			t.Errorf("%s: %+v, want %+v", c.name, f, c.want)
		}
	}
}

// Whoever wants nothing but datagrams hears them, also on a port of a bridge, which
// takes all frames of the interface.
func TestDatagramsAreHeardOnAPort(t *testing.T) {
	for _, bridged := range []bool{false, true} {
		inNamespace(t)
		if bridged {
			bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}
			if err := netlink.LinkAdd(bridge); err != nil {
				t.Fatal(err)
			}
			port, err := netlink.LinkByName("b")
			if err == nil {
				err = errors.Join(netlink.LinkSetUp(bridge), netlink.LinkSetMaster(port, bridge))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		b, err := Open("b", &Filter{Addresses: []netip.Addr{vip}, Groups: []net.HardwareAddr{group}, Port: 7176})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		datagram := ipv4To(vip)
		datagram[9] = unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(datagram[22:], 7176)
		want := ethernet(group, own, 0x0800, datagram)
		datagram[23]++
		send(t, open(t, "a"), Vector{Pieces: [][]byte{ethernet(group, own, 0x0800, datagram)}}, Vector{Pieces: [][]byte{want}})
		frames := make([]Frame, MaxBatch)
		if n := wait(t, b, frames); n != 1 || !bytes.Equal(frames[0].Data, want) {
			t.Errorf("on a port of a bridge %v: %d frames, first %x", bridged, n, frames[0].Data)
		}
	}
}
