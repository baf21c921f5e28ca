package proxy

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownAddress6 gives loopback an address of a host, of IPv6.
func ownAddress6(t *testing.T) netip.Addr {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddr("2001:db8::11")
	if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}); err != nil {
		t.Skipf("needs IPv6: %v", err)
	}
	return own
}

// The backend of an IPv6 client sees its address, and what it says finds its way
// back.
func TestTransparentDialOverIPv6(t *testing.T) {
	inNamespace(t)
	ownAddress6(t)
	fd, at := listenAt(t, netip.MustParseAddrPort("[::1]:0"))
	routes, err := InstallRoutes(TableFor(netip.MustParseAddr("2001:db8::2")), []netip.Addr{at.Addr()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	backend := Backend{Addr: at, Transparent: true}
	near := netip.MustParseAddrPort("[fe80::101]:40001")
	l, err := backend.Dial(near, netip.AddrPort{}, false)
	if err != nil {
		t.Fatalf("for a link-local client: %v", err)
	}
	defer l.Close()
	if _, from := accept(t, fd); from != near {
		t.Errorf("the backend sees %v, want %v", from, near)
	}
	until(t, l, unix.POLLOUT)
	if err := l.Connected(); err != nil {
		t.Errorf("a link-local client: %v", err)
	}
	if d, err := backend.DialDatagrams(near); err != nil {
		t.Errorf("for datagrams of a link-local client: %v", err)
	} else {
		d.Close()
	}
	client := netip.MustParseAddrPort("[2001:db8::101]:40001")
	c, _ := shown(t, &backend, fd, client, netip.AddrPort{})
	defer c.Close()
	second, err := backend.Dial(client, netip.AddrPort{}, false)
	if err != nil {
		t.Fatalf("with the port taken: %v", err)
	}
	defer second.Close()
	if _, from := accept(t, fd); from.Addr() != client.Addr() || from.Port() == client.Port() {
		t.Errorf("with the port taken, the backend sees %v", from)
	}
	if err := routes.Remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := routes.rules(); err != nil || len(left) > 0 {
		t.Errorf("rules are left: %v, %v", left, err)
	}
}

// Rules and routes of both families stand side by side, and a second start leaves
// them alone.
func TestRoutesOfBothFamilies(t *testing.T) {
	inNamespace(t)
	hosts := []netip.Addr{ownAddress(t), ownAddress6(t)}
	backends := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	vips := []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("2001:db8::2")}
	r, err := InstallRoutes(1004, backends, vips, hosts)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := r.rules()
	if err != nil {
		t.Fatal(err)
	}
	routes, err := r.routes()
	if err != nil || len(rules) != 4 || len(routes) != 4 {
		t.Errorf("%d rules and %d routes, want 4 each: %v %v, %v", len(rules), len(routes), rules, routes, err)
	}
	if there, err := r.inForce(); !there || err != nil {
		t.Errorf("a second start would do it anew: %v", err)
	}
	rule := r.rule(vips[1])
	rule.Dst = prefix(alone(vips[1]))
	if err := netlink.RuleDel(rule); err != nil {
		t.Fatal(err)
	}
	if there, err := r.inForce(); there || err != nil {
		t.Errorf("an IPv6 rule is gone, and nothing is amiss: %v", err)
	}
	if err := RemoveRoutes(1004); err != nil {
		t.Fatal(err)
	}
	if routes, err := r.routes(); err != nil || len(routes) > 0 {
		t.Errorf("routes are left: %v, %v", routes, err)
	}
}

// This host reaches the VIP over IPv6.
func TestOwnHostOverIPv6(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	host, vip := ownAddress6(t), netip.MustParseAddrPort("[2001:db8::2]:22")
	fd, at := listenAt(t, netip.MustParseAddrPort("[::1]:0"))
	routes, err := InstallRoutes(1003, []netip.Addr{at.Addr()}, []netip.Addr{vip.Addr()}, []netip.Addr{host})
	if err != nil {
		t.Fatal(err)
	}
	defer routes.Remove()
	own, err := ServeOwnHost(map[netip.AddrPort]Backend{vip: {Addr: at, Transparent: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	plain := Backend{Addr: vip}
	c, err := plain.Dial(netip.AddrPort{}, netip.AddrPort{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, from := accept(t, fd)
	if from.Addr() != host {
		t.Errorf("the backend sees %v, want %v", from, host)
	}
	if _, err := unix.Write(conn, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	until(t, c, unix.POLLIN)
	var b [16]byte
	if n, err := c.Read(b[:]); n != 5 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
