package local

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	vip     = netip.MustParseAddr("10.77.0.2")
	vip6    = netip.MustParseAddr("2001:db8:77::2")
	groupOf = net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}
	unicast = net.HardwareAddr{2, 0xbf, 10, 77, 0, 2}
)

// newHost runs the rest of the test on a thread in a network namespace with an interface
// of its own, eth0. The thread is never given back to the runtime.
func newHost(t *testing.T) Config {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace (CAP_SYS_ADMIN)")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "far"}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "eth0"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	detached := func(name, pins string) error { t.Log("detached", name, pins); return nil }
	return Config{Detach: detached, Record: filepath.Join(t.TempDir(), "host.json"), On: []Interface{{
		Name: "eth0", Pins: "pins", VIPs: []netip.Addr{vip, vip6}, MACs: []net.HardwareAddr{groupOf, unicast},
	}}}
}

// state is what of this host the settings are about.
func state(t *testing.T) (out []string) {
	t.Helper()
	for _, a := range arpSettings() {
		for _, name := range []string{"eth0", "all"} {
			v, err := value(a.path(name))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, key(a.path(name))+"="+v)
		}
	}
	for _, v := range []netip.Addr{vip, vip6} {
		routes, err := routesTo(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			out = append(out, "route "+r.Dst.String())
		}
	}
	groups, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		if f := strings.Fields(line); f[1] == "eth0" && f[4] == strings.ReplaceAll(groupOf.String(), ":", "") {
			out = append(out, "hears the group")
		}
	}
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	table, err := netlink.NeighList(l.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range table {
		if n.HardwareAddr.String() == unicast.String() {
			out = append(out, "hears the unicast MAC")
		}
	}
	return out
}

func installed() []string {
	return []string{
		"net.ipv4.conf.eth0.arp_ignore=1", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.eth0.arp_announce=2", "net.ipv4.conf.all.arp_announce=0",
		"route 10.77.0.2/32", "route 2001:db8:77::2/128", "hears the group", "hears the unicast MAC",
	}
}

func want(t *testing.T, what string, want []string) {
	t.Helper()
	if got := state(t); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v\nwant %v", what, got, want)
	}
}

// All is set, again after a crash, and taken back by whoever comes next.
func TestInstallAndRemove(t *testing.T) {
	c := newHost(t)
	before := state(t)
	for _, what := range []string{"at first", "after a crash"} {
		if err := Install(c); err != nil {
			t.Fatal(err)
		}
		want(t, what, installed())
	}
	less := c
	less.On = []Interface{{Name: "eth0", VIPs: []netip.Addr{vip6}, MACs: []net.HardwareAddr{unicast}}}
	if err := Install(less); err != nil {
		t.Fatal(err)
	}
	want(t, "with less", append(before[:4:4], "route 2001:db8:77::2/128", "hears the unicast MAC"))
	for range 2 {
		if err := Remove(c.Record, c.Detach); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "in the end", before)
	if is, err := Installed(c.Record); is || err != nil {
		t.Errorf("installed in the end: %v, %v", is, err)
	}
}

// What somebody else has set stays, before and after; what does as well is not changed.
func TestSettingsOfOthers(t *testing.T) {
	c := newHost(t)
	set := func(name, v string) {
		t.Helper()
		if err := put(filepath.Join(confRoot, name), v); err != nil {
			t.Fatal(err)
		}
	}
	set("eth0/arp_ignore", "8")
	set("all/arp_announce", "2")
	if err := Install(c); err != nil {
		t.Fatal(err)
	}
	others := []string{"net.ipv4.conf.eth0.arp_ignore=8", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.eth0.arp_announce=0", "net.ipv4.conf.all.arp_announce=2"}
	want(t, "beside others'", append(others, installed()[4:]...))
	if err := Remove(c.Record, c.Detach); err != nil {
		t.Fatal(err)
	}
	want(t, "in the end", others)
	set("eth0/arp_ignore", "0")
	if err := Install(c); err != nil {
		t.Fatal(err)
	}
	set("eth0/arp_ignore", "2")
	if err := Remove(c.Record, c.Detach); err != nil {
		t.Fatal(err)
	}
	want(t, "changed meanwhile", append([]string{"net.ipv4.conf.eth0.arp_ignore=2"}, others[1:]...))
}

// What cannot be is refused with the mend, and nothing is changed.
func TestRefused(t *testing.T) {
	c := newHost(t)
	_, dst, _ := net.ParseCIDR("10.77.0.2/32")
	foreign := &netlink.Route{LinkIndex: loopback, Dst: dst, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Table: unix.RT_TABLE_LOCAL, Protocol: 77}
	for _, bad := range []struct {
		what, mend string
		do, undo   func() error
	}{
		{"a route of another", "ip route del local 10.77.0.2", func() error { return netlink.RouteAdd(foreign) }, func() error { return netlink.RouteDel(foreign) }},
		{"a strange arp_ignore for all", "sysctl -w net.ipv4.conf.all.arp_ignore=1",
			func() error { return put(filepath.Join(confRoot, "all/arp_ignore"), "5") }, func() error { return put(filepath.Join(confRoot, "all/arp_ignore"), "0") }},
		{"no interface", "eth0", func() error { return rename("eth0", "eth9") }, func() error { return rename("eth9", "eth0") }},
	} {
		if err := bad.do(); err != nil {
			t.Fatal(err)
		}
		if err := Install(c); err == nil || !strings.Contains(err.Error(), bad.mend) {
			t.Errorf("%s: %v", bad.what, err)
		}
		if is, err := Installed(c.Record); is || err != nil {
			t.Errorf("%s: installed %v, %v", bad.what, is, err)
		}
		if err := bad.undo(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.Record, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Install(c); err == nil || !strings.Contains(err.Error(), "arp_ignore") {
		t.Errorf("a file that is cut: %v", err)
	}
}

func rename(from, to string) error {
	l, err := netlink.LinkByName(from)
	if err != nil {
		return err
	}
	return netlink.LinkSetName(l, to)
}

// What cannot be set is why, in one line, and not what could not be undone after it.
func TestCannotBeUndoneEither(t *testing.T) {
	c := newHost(t)
	c.On[0].Name, c.On[0].VIPs = "nowhere", []netip.Addr{vip6}
	c.Detach = func(string, string) error {
		return errors.Join(&fs.PathError{Op: "remove", Path: "in", Err: unix.EACCES}, &fs.PathError{Op: "remove", Path: "out", Err: unix.EACCES})
	}
	err := Install(c)
	if err == nil || errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "local: have nowhere hear") || !strings.Contains(err.Error(), "remove out") {
		t.Errorf("%v", err)
	}
}
