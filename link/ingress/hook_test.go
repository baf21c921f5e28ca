package ingress

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// directConfig is a TCP service of each family.
func directConfig() DirectConfig {
	return DirectConfig{Paths: []int{0, 0}, Config: Config{
		Own: own, Groups: []net.HardwareAddr{group, group6}, Addresses: []netip.Addr{vip, vip6},
		Services: []Service{{Listen: netip.AddrPortFrom(vip, 22)}, {Listen: netip.AddrPortFrom(vip6, 22)}},
	}}
}

func direct(t *testing.T, c DirectConfig) *Direct {
	t.Helper()
	root(t)
	d, err := LoadDirect(c)
	if err != nil {
		var v *ebpf.VerifierError
		if errors.As(err, &v) {
			t.Fatalf("%+v", v)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// elsewhere has a wire's mark be for no VIP, which is nothing to the direct path.
func elsewhere(w *wire) *wire {
	copy(w.mark[ethernetBytes+16:], []byte{192, 0, 2, 1})
	return w
}

// ownMounts gives the thread, which newWire has locked, mounts of its own: a BPF file
// system on them is seen by nobody else.
func ownMounts(t *testing.T) {
	t.Helper()
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// onHooks is how many programs are on the near end, and how many filters of clsact.
func onHooks(t *testing.T) (programs, filters int) {
	t.Helper()
	near, err := netlink.LinkByName("near")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		q, err := link.QueryPrograms(link.QueryOptions{Target: near.Attrs().Index, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		programs += len(q.Programs)
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		// Without clsact there are none.
		all, _ := netlink.FilterList(near, parent)
		filters += len(all)
	}
	return programs, filters
}

// Pinned programs outlive who has loaded them, judge by what they were last told, and
// are exchanged by the next; Detach leaves nothing.
func TestPinsAreTakenUp(t *testing.T) {
	w := elsewhere(newWire(t))
	ownMounts(t)
	pins, err := PinDirectory("test")
	if err != nil {
		t.Skip(err)
	}
	src := netip.MustParseAddrPort("198.51.100.7:40000")
	opens := segment(src, netip.AddrPortFrom(vip, 22), syn, 0)
	passes := func(what string, want bool) {
		t.Helper()
		if got := w.hears(opens, w.host)[0]; got != want {
			t.Errorf("%s: a SYN passes %v", what, got)
		}
	}
	passes("without programs", true)
	all := DirectRow{Owned: not([4]uint64{})}
	for round := range 2 {
		d := direct(t, directConfig())
		if outlive, err := d.Attach("near", pins); err != nil || !outlive {
			t.Fatal(outlive, err)
		}
		passes("no lease", false)
		d.SetLease(0, 0, 1<<62)
		passes("no bucket", false)
		if err := errors.Join(d.Publish([]DirectRow{all, all}), d.Settle()); err != nil {
			t.Fatal(err)
		}
		passes("a lease and the bucket", true)
		if round == 0 && d.Rulings()[PassSYN] != 1 {
			t.Errorf("counted: %v", d.Rulings())
		}
		now := time.Duration(0)
		if round == 1 {
			d.SetLease(0, 0, now)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		passes("nobody is there", round == 0)
		if programs, _ := onHooks(t); programs != 2 {
			t.Errorf("%d programs after %d rounds", programs, round+1)
		}
	}
	for range 2 {
		if err := Detach("near", pins); err != nil {
			t.Fatal(err)
		}
	}
	if programs, _ := onHooks(t); programs != 0 {
		t.Errorf("%d programs after Detach", programs)
	}
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("the directory of the pins: %v", err)
	}
	passes("in the end", true)
}

// Where a BPF file system may only be read, as in a unit that makes it so, that is told.
func TestReadOnlyPlaceForPins(t *testing.T) {
	newWire(t)
	ownMounts(t)
	if _, err := PinDirectory("test"); err != nil {
		t.Skip(err)
	}
	if err := unix.Mount("", bpfRoot, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := PinDirectory("another"); err == nil || !strings.Contains(err.Error(), "docs/direct.md") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}

// Without pins they go with who has loaded them.
func TestWithoutPins(t *testing.T) {
	w := elsewhere(newWire(t))
	d := direct(t, directConfig())
	if outlive, err := d.Attach("near", ""); err != nil || outlive {
		t.Fatal(outlive, err)
	}
	opens := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), syn, 0)
	if w.hears(opens, w.host)[0] {
		t.Error("a SYN passes without a lease")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if programs, _ := onHooks(t); programs != 0 {
		t.Errorf("%d programs are left", programs)
	}
}

// clsact serves as well, keeps one filter of ours however often it is given one, and
// leaves those of others alone.
func TestClsact(t *testing.T) {
	w := elsewhere(newWire(t))
	near, err := netlink.LinkByName("near")
	if err != nil {
		t.Fatal(err)
	}
	index := near.Attrs().Index
	opens := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), syn, 0)
	for range 2 {
		d := direct(t, directConfig())
		for at, p := range map[ebpf.AttachType]*ebpf.Program{ebpf.AttachTCXIngress: d.in, ebpf.AttachTCXEgress: d.leave} {
			if err := attachClsact(index, p, at); err != nil {
				t.Fatal(err)
			}
		}
		if _, filters := onHooks(t); filters != 2 {
			t.Errorf("%d filters", filters)
		}
		if w.hears(opens, w.host)[0] {
			t.Error("a SYN passes without a lease")
		}
		all := DirectRow{Owned: not([4]uint64{})}
		d.SetLease(0, 0, 1<<62)
		if err := d.Publish([]DirectRow{all, all}); err != nil {
			t.Fatal(err)
		}
		if !w.hears(opens, w.host)[0] {
			t.Error("a SYN of ours does not pass")
		}
		d.Close()
	}
	other := direct(t, directConfig())
	foreign := clsactFilter(index, ebpf.AttachTCXIngress)
	foreign.Name, foreign.Handle, foreign.Priority, foreign.Fd = "another", 1, 9, other.in.FD()
	if err := netlink.FilterAdd(foreign); err != nil {
		t.Fatal(err)
	}
	if err := Detach("near", ""); err != nil {
		t.Fatal(err)
	}
	if _, filters := onHooks(t); filters != 1 {
		t.Errorf("%d filters after Detach, want the other one", filters)
	}
}

// What cannot be is refused; as many services as there may be load.
func TestDirectConfig(t *testing.T) {
	for name, change := range map[string]func(*DirectConfig){
		"no service":        func(c *DirectConfig) { c.Services, c.Paths = nil, nil },
		"a path too many":   func(c *DirectConfig) { c.Paths = append(c.Paths, 0) },
		"a path too high":   func(c *DirectConfig) { c.Paths[0] = MaxPaths },
		"no VIP":            func(c *DirectConfig) { c.Addresses = nil },
		"another's service": func(c *DirectConfig) { c.Services[0].Listen = netip.MustParseAddrPort("10.77.0.99:22") },
		"too many pins": func(c *DirectConfig) {
			for range maxPins + 1 {
				c.Services[0].Pins = append(c.Services[0].Pins, Pin{netip.MustParsePrefix("10.0.0.0/24"), 1})
			}
		},
	} {
		c := directConfig()
		change(&c)
		if _, err := LoadDirect(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, udp := range []bool{false} {
		c := directConfig()
		c.Services, c.Paths = nil, nil
		for k := range uint16(MaxServices) {
			at := []netip.Addr{vip, vip6}[k%2]
			h := []Hashed{{}, {Network: true}, {SourcePort: true}, {SourcePort: true, DestPort: true}}[k/2%4]
			c.Services, c.Paths = append(c.Services, Service{Listen: netip.AddrPortFrom(at, 1000+k), UDP: udp, Hashed: h}), append(c.Paths, MaxPaths-1)
		}
		direct(t, c)
	}
	for _, only := range []netip.Addr{vip, vip6} {
		c := directConfig()
		c.Addresses, c.Paths, c.Services = []netip.Addr{only}, []int{3}, []Service{{Listen: netip.AddrPortFrom(only, 53), UDP: true}}
		direct(t, c)
	}
}
