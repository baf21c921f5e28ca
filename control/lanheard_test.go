package control

import (
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
	"onevoice/link"
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
	if err == nil {
		t.Cleanup(func() { ns.Close() })
		err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"})
	}
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
	onACable(t, func() { heartbeatsGoBothWays(t) })
}

func heartbeatsGoBothWays(t *testing.T) {
	cluster := net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}
	heard := func(name string, f *link.Filter) (link.Device, error) { return OpenHeard(name, f, "") }
	for _, vip := range []string{"10.77.0.2", "2001:db8:77::2"} {
		open := func(end, self string, with Opener) *LAN {
			l, err := OpenLAN(config.Uplink{Interface: end}, netip.MustParseAddr(vip), netip.MustParseAddr(self), cluster, 7177, with)
			if err != nil {
				t.Fatalf("%+v", err)
			}
			return l
		}
		near, far := open("near", "10.77.0.11", heard), open("far", "10.77.0.12", OpenSocket)
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
