package node

import (
	"bytes"
	"flag"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"onevoice/link"
)

var wireFrames = flag.Int("wire-frames", 3000, "how many frames go over a wire to the kernel")

// wired is a node's device at one end of a cable, and a socket at the other.
type wired struct {
	*inKernel
	device *link.Packet
	far    int
	frames []link.Frame
}

// newWired runs the rest of the test on a thread in a network namespace of its own.
// The thread is never given back to the runtime.
func newWired(t *testing.T, seed uint64) *wired {
	t.Helper()
	w := &wired{inKernel: newInKernel(t, seed), frames: make([]link.Frame, link.MaxBatch)}
	layCable(t)
	takes := &link.Filter{Addresses: []netip.Addr{vipAddr, vip2Addr}, Groups: []net.HardwareAddr{clusterMAC[:]}, Except: exceptedPort}
	var err error
	if w.device, err = link.Open("near", takes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.device.Close() })
	if err := w.filter.AttachSocket(w.device.FD()); err != nil {
		t.Fatal(err)
	}
	w.far = farEnd(t)
	return w
}

// layCable puts the thread into a network namespace of its own, with loopback and a cable
// from near, which has our MAC, to far. The thread is never given back to the runtime.
func layCable(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", HardwareAddr: ownMAC[:]}, PeerName: "far"}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"lo", "near", "far"} {
		l, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		if l, err := netlink.LinkByName("near"); err != nil || time.Now().After(deadline) {
			t.Fatalf("no carrier: %v", err)
		} else if l.Attrs().OperState == netlink.OperUp {
			break
		}
	}
}

// farEnd is a socket that sends at the cable's far end, and hears nothing.
func farEnd(t *testing.T) int {
	t.Helper()
	return cableSocket(t, "far", 0)
}

// cableSocket is a packet socket at an interface, for a protocol in network byte order; with
// none it hears nothing.
func cableSocket(t *testing.T, name string, protocol uint16) int {
	t.Helper()
	at, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: at.Index, Protocol: protocol}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// heard sends frames from the far end and returns what the device heard of them, in
// order.
func (w *wired) heard(sent [][]byte) (out [][]byte) {
	w.t.Helper()
	mark := arpRequest(asker, asker).Data
	for _, b := range append(sent, mark) {
		if err := unix.Send(w.far, b, 0); err != nil {
			w.t.Fatalf("%x: %v", b, err)
		}
	}
	for {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.device.FD()), Events: unix.POLLIN}}, 5000); n == 0 || err != nil && err != unix.EINTR {
			w.t.Fatalf("the mark was not heard: %v", err)
		}
		n, err := w.device.Receive(w.frames)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, f := range w.frames[:n] {
			if bytes.Equal(f.Data, mark) {
				return out
			}
			out = append(out, bytes.Clone(f.Data))
		}
	}
}

// The kernel and the node say the same about frames that come over a wire, which may
// be shorter than those that the kernel can be asked about. The order in which the
// programs stand does not change what the socket hears.
func TestKernelFilterAgreesOnTheWire(t *testing.T) {
	for _, tcx := range []bool{false, true} {
		w := newWired(t, 7)
		w.some()
		if tcx {
			if err := w.filter.AttachHost("near"); err != nil {
				t.Skip(err)
			}
		}
		frames := *wireFrames
		if testing.Short() {
			frames = min(frames, 600)
		}
		passed := 0
		for done := 0; done < frames/2; {
			var sent [][]byte
			for range 60 {
				b := w.frame()
				if w.random.IntN(10) == 0 {
					b = b[:15+w.random.IntN(len(b)-15)]
				}
				if isTag(uint16(b[12])<<8 | uint16(b[13])) {
					continue // the receiver takes it out of the data
				}
				sent = append(sent, b)
			}
			done += len(sent)
			heard := w.heard(sent)
			passed += len(heard)
			for _, b := range sent {
				pass := len(heard) > 0 && bytes.Equal(heard[0], b)
				if pass {
					heard = heard[1:]
				}
				if err := w.judge(b, pass); err != nil {
					t.Fatalf("%x: %v", b, err)
				}
			}
			if len(heard) != 0 {
				t.Fatalf("heard what was not sent: %x", heard)
			}
		}
		if passed == 0 || w.filter.Stats().Foreign == 0 || tcx != (w.filter.Stats().ForHost > 0) {
			t.Errorf("%d passed, %+v", passed, w.filter.Stats())
		}
	}
}
