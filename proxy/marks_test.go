package proxy

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settingsOf are the host settings that marks need, as text.
func settingsOf(t *testing.T) string {
	t.Helper()
	var out []string
	for _, name := range markSettings() {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Skipf("this kernel has no %s", name)
		}
		out = append(out, strings.TrimSpace(string(b)))
	}
	return strings.Join(out, " ")
}

// A backend on this host's own address sees the client's address and reaches it
// through us, and where nothing listens that is known at once. Its answers to
// others go their way as before.
func TestTransparentDialToThisHostsOwnAddress(t *testing.T) {
	inNamespace(t)
	before := settingsOf(t)
	host := ownAddress(t)
	fd, at := listenAt(t, netip.AddrPortFrom(host, 0))
	routes, err := InstallRoutes(TableFor(testVIP.Addr()), []netip.Addr{host}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	backend := Backend{Addr: at, Transparent: true, Mark: MarkFor(testVIP.Addr())}
	c, err := backend.Dial(client, testVIP, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until(t, c, unix.POLLOUT)
	if err := c.Connected(); err != nil {
		t.Fatal(err)
	}
	conn, from := accept(t, fd)
	if from != client {
		t.Errorf("the backend sees %v, want %v", from, client)
	}
	if _, err := unix.Write(conn, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	until(t, c, unix.POLLIN)
	var b [16]byte
	if n, err := c.Read(b[:]); n != 5 || err != nil {
		t.Errorf("read %d bytes, %v: the answer did not find its way back", n, err)
	}
	nobody := backend
	nobody.Addr = netip.AddrPortFrom(host, at.Port()^1)
	c2, err := nobody.Dial(client, testVIP, false)
	if err == nil {
		defer c2.Close()
		until(t, c2, unix.POLLOUT)
		err = c2.Connected()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial to a closed port: %v", err)
	}
	// What has no mark is not led to loopback: here it has no way at all.
	if there, err := netlink.RouteGetWithOptions(client.Addr().AsSlice(), &netlink.RouteGetOptions{SrcAddr: host.AsSlice()}); err == nil {
		t.Errorf("the backend's other answers to the client go by %v", there)
	}
	if err := routes.Remove(); err != nil {
		t.Fatal(err)
	}
	if after := settingsOf(t); after != before {
		t.Errorf("the settings are %s, before %s", after, before)
	}
	if n := hostRules(t, TableFor(testVIP.Addr())); n != 0 {
		t.Errorf("%d rules and routes are left", n)
	}
}

// The settings go back with the last daemon of a host, whichever began, also after
// a crash, and stay if they were on before.
func TestMarkSettingsGoBackWithTheLast(t *testing.T) {
	inNamespace(t)
	if before := settingsOf(t); before != "0 0" {
		t.Fatalf("the settings are %s in a new namespace", before)
	}
	install := func(table int) *Routes {
		t.Helper()
		r, err := InstallRoutes(table, []netip.Addr{netip.MustParseAddr("10.77.0.11")}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	remove := func(r *Routes, want string) {
		t.Helper()
		if err := r.Remove(); err != nil {
			t.Fatal(err)
		}
		if got := settingsOf(t); got != want {
			t.Errorf("the settings are %s, want %s", got, want)
		}
	}
	install(1001) // and crashes
	first, second := install(1001), install(1002)
	remove(first, "1 1")
	remove(second, "0 0")
	if err := os.WriteFile(markSettings()[0], []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	first, second = install(1001), install(1002)
	remove(second, "1 1")
	remove(first, "1 0")
}
