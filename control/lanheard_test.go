package control

import (
	"errors"
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
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/link/ingress"
)

// onACable runs a function on a thread in a network namespace with two ends of a cable. The
// thread ends with it. It is not the main thread, of which /proc/self is: other tests look
// for workers there.
func onACable(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		newCable(t)
		do()
		return // without unlocking
	}
	defer runtime.UnlockOSThread()
	over := make(chan struct{})
	go func() {
		defer close(over)
		runtime.LockOSThread()
		newCable(t)
		do()
	}()
	<-over
}

func newCable(t *testing.T) {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	layCable(t)
}

func layCable(t *testing.T) {
	t.Helper()
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"})
	for _, end := range []string{"near", "far"} {
		var l netlink.Link
		if err == nil {
			l, err = netlink.LinkByName(end)
		}
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Where the direct path serves, heartbeats of both families go both ways, the descriptor
// that is waited on tells of them, and the cluster MAC is heard for as long.
func TestHeartbeatsAreHeardBesideTheDirectPath(t *testing.T) {
	onACable(t, func() {
		heartbeatsGoBothWays(t, HeardOpener("", func(_ string, err error) { t.Error(err) }))
	})
}

// They do by packet sockets where the kernel takes no programs, and who opens them is told.
func TestHeartbeatsAreHeardWithoutPrograms(t *testing.T) {
	onACable(t, func() {
		only := [2]unix.CapUserData{{Effective: 1 << unix.CAP_NET_RAW, Permitted: 1 << unix.CAP_NET_RAW}}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &only[0]); err != nil {
			t.Fatal(err)
		}
		var told []error
		heartbeatsGoBothWays(t, HeardOpener("", func(name string, err error) { told = append(told, fmt.Errorf("%s: %w", name, err)) }))
		if len(told) != 2 || !errors.Is(told[0], ingress.ErrNotPermitted) || !strings.HasPrefix(told[0].Error(), "near: ") {
			t.Errorf("told %v", told)
		}
	})
}

// Those that find no room are counted, and are not forgotten when the interface has come
// back as another.
func TestHeartbeatsThatFindNoRoomAreCounted(t *testing.T) {
	onACable(t, func() {
		near, far := openEnd(t, "10.77.0.2", "near", "10.77.0.11", HeardOpener("", func(_ string, err error) { t.Error(err) })), openEnd(t, "10.77.0.2", "far", "10.77.0.12", OpenSocket)
		for near.droppedSoFar() == 0 {
			if s := far.device.Stats(); s.SentFrames > 1<<15 {
				t.Fatalf("%+v and none dropped", s)
			}
			if err := far.send(make([]byte, 1400)); err != nil {
				t.Fatal(err)
			}
		}
		before := near.droppedSoFar()
		if err := netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}}); err != nil {
			t.Fatal(err)
		}
		if changed, err := near.look(); !changed || err != nil {
			t.Fatal(changed, err)
		}
		layCable(t)
		if changed, err := near.look(); !changed || err != nil {
			t.Fatal(changed, err)
		}
		loop := Loop{LoopConfig: LoopConfig{LANs: []*LAN{near}}}
		if s := loop.Stats(); s.FramesDropped != before {
			t.Errorf("%+v, want %d dropped", s, before)
		}
		if err := errors.Join(near.Close(), far.Close()); err != nil {
			t.Error(err)
		}
	})
}

func openEnd(t *testing.T, vip, end, self string, with Opener) *LAN {
	t.Helper()
	cluster := net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}
	l, err := OpenLAN(config.Uplink{Interface: end}, netip.MustParseAddr(vip), netip.MustParseAddr(self), cluster, 7177, with)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func heartbeatsGoBothWays(t *testing.T, hears Opener) {
	for _, vip := range []string{"10.77.0.2", "2001:db8:77::2"} {
		near, far := openEnd(t, vip, "near", "10.77.0.11", hears), openEnd(t, vip, "far", "10.77.0.12", OpenSocket)
		groups := func() string { b, _ := os.ReadFile("/proc/thread-self/net/dev_mcast"); return string(b) }
		if all := groups(); strings.Count(all, "01005e4d0002") != 2 {
			t.Errorf("groups: %s", all)
		}
		for turn := range 3 {
			for _, way := range []struct{ from, to *LAN }{{far, near}, {near, far}} {
				word := "beat " + string(rune('0'+turn))
				if err := way.from.send([]byte(word)); err != nil {
					t.Fatal(err)
				}
				ready := []unix.PollFd{{Fd: int32(way.to.device.FD()), Events: unix.POLLIN}}
				if n, err := unix.Poll(ready, int((5 * time.Second).Milliseconds())); n != 1 || err != nil {
					t.Fatalf("nothing is there to read: %v", err)
				}
				var got []string
				if err := way.to.receive(func(from netip.Addr, payload []byte) { got = append(got, from.String()+" "+string(payload)) }); err != nil {
					t.Fatal(err)
				}
				if want := way.from.self.String() + " " + word; !slices.Equal(got, []string{want}) {
					t.Errorf("%s: %q, want %q", vip, got, want)
				}
				if n, _ := unix.Poll(ready, 0); n != 0 {
					t.Error("there is more to read")
				}
			}
		}
		if h, is := near.device.(*heard); is {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.Packet.FD()), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
				t.Error("its socket hears them as well")
			}
		}
		if s := near.device.Stats(); s.ReceivedFrames != 3 || s.SentFrames != 3 || s.KernelDropped != 0 {
			t.Errorf("%+v", s)
		}
		if err := near.Close(); err != nil {
			t.Error(err)
		}
		if err := far.Close(); err != nil {
			t.Error(err)
		}
		if all := groups(); strings.Contains(all, "01005e4d0002") {
			t.Errorf("groups after Close: %s", all)
		}
	}
}
