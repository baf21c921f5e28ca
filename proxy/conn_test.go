package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	client  = netip.MustParseAddrPort("10.77.0.101:40001")
	testVIP = netip.MustParseAddrPort("10.77.0.2:22")
)

// inNamespace runs the rest of the test on a thread in a network namespace of
// its own, with loopback up. The thread is never given back to the runtime.
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
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}

// inOwnProcess runs the rest of the test in a process whose threads are all in
// a network namespace of its own, for code that starts goroutines. It reports
// whether this is that process.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const child = "ONEVOICE_TEST_NAMESPACE"
	if os.Getenv(child) != "" {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace of its own (CAP_SYS_ADMIN, CAP_NET_ADMIN)")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// listen opens a backend in the thread's namespace. Accept on it is not of the
// net package, whose sockets are made on other threads as well.
func listen(t *testing.T) (fd int, at netip.AddrPort) {
	t.Helper()
	return listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
}

func listenAt(t *testing.T, on netip.AddrPort) (fd int, at netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(int(family(on.Addr())), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: on.Addr().As16(), Port: int(on.Port())}
	if on.Addr().Is4() {
		sa = &unix.SockaddrInet4{Addr: on.Addr().As4(), Port: int(on.Port())}
	}
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	if sa, err = unix.Getsockname(fd); err != nil {
		t.Fatal(err)
	}
	return fd, addrPort(sa)
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	if in, ok := sa.(*unix.SockaddrInet6); ok {
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), uint16(in.Port))
	}
	in := sa.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
}

func accept(t *testing.T, fd int) (conn int, from netip.AddrPort) {
	t.Helper()
	conn, sa, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(conn) })
	return conn, addrPort(sa)
}

// until waits on a connection for an event and tells it.
func until(t *testing.T, c *Conn, events int16) {
	t.Helper()
	const bound = 5000 // milliseconds
	p := []unix.PollFd{{Fd: int32(c.FD()), Events: events}}
	if n, err := unix.Poll(p, bound); err != nil || n == 0 {
		t.Fatalf("not ready within %d ms: %v", bound, err)
	}
	c.Ready(p[0].Revents&(unix.POLLIN|unix.POLLRDHUP|unix.POLLHUP) != 0, p[0].Revents&unix.POLLOUT != 0, p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0)
}

// shown dials for a client. The backend at fd sees the client's own address, and its
// answer finds its way back.
func shown(t *testing.T, backend *Backend, fd int, client, vip netip.AddrPort) (c *Conn, conn int) {
	t.Helper()
	c, err := backend.Dial(client, vip, false)
	if err != nil {
		t.Fatal(err)
	}
	conn, from := accept(t, fd)
	if from != client {
		t.Errorf("the backend sees %v, want %v", from, client)
	}
	until(t, c, unix.POLLOUT)
	if err := c.Connected(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(conn, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	until(t, c, unix.POLLIN)
	var b [16]byte
	if n, err := c.Read(b[:]); n != 5 || err != nil {
		t.Errorf("read %d bytes, %v: the answer did not find its way back", n, err)
	}
	return c, conn
}

func TestTransparentDialShowsTheClientsAddress(t *testing.T) {
	inNamespace(t)
	fd, at := listen(t)
	routes, err := InstallRoutes(TableFor(netip.MustParseAddr("10.77.0.2")), []netip.Addr{at.Addr(), at.Addr()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { routes.Remove() })
	backend := Backend{Addr: at, Transparent: true}
	c, conn := shown(t, &backend, fd, client, testVIP)
	defer c.Close()
	var b [16]byte
	if _, err := c.Read(b[:]); !errors.Is(err, ErrAgain) {
		t.Errorf("read with nothing there: %v", err)
	}
	unix.Shutdown(conn, unix.SHUT_WR)
	until(t, c, unix.POLLIN|unix.POLLRDHUP)
	if _, err := c.Read(b[:]); err != io.EOF {
		t.Errorf("read after the end: %v", err)
	}
}

// The address is kept always, the port if it is free.
func TestTransparentDialKeepsTheAddressWhenThePortIsTaken(t *testing.T) {
	inNamespace(t)
	fd, at := listen(t)
	routes, err := InstallRoutes(1000, []netip.Addr{at.Addr()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { routes.Remove() })
	backend := Backend{Addr: at, Transparent: true}
	for i := range 3 {
		c, err := backend.Dial(client, testVIP, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, from := accept(t, fd)
		if from.Addr() != client.Addr() || (i == 0) != (from == client) {
			t.Errorf("dial %d: the backend sees %v", i, from)
		}
	}
}

func TestDialReportsARefusal(t *testing.T) {
	inNamespace(t)
	_, at := listen(t)
	nobody := Backend{Addr: netip.AddrPortFrom(at.Addr(), at.Port()^1)}
	c, err := nobody.Dial(netip.AddrPort{}, netip.AddrPort{}, false)
	if err == nil {
		until(t, c, unix.POLLOUT)
		err = c.Connected()
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial to a closed port: %v", err)
	}
}

func TestAbortResetsTheBackend(t *testing.T) {
	inNamespace(t)
	fd, at := listen(t)
	backend := Backend{Addr: at}
	c, err := backend.Dial(netip.AddrPort{}, netip.AddrPort{}, false)
	if err != nil {
		t.Fatal(err)
	}
	conn, _ := accept(t, fd)
	c.Abort()
	c.Abort()
	if _, err := unix.Read(conn, make([]byte, 1)); err != unix.ECONNRESET {
		t.Errorf("the backend reads %v, want a reset", err)
	}
}

// hostRules are the rules and routes that are not the kernel's own.
func hostRules(t *testing.T, table int) int {
	t.Helper()
	rules, err := netlink.RuleList(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	return len(rules) - 3 + len(routes)
}

func TestRoutesAreTakenBackAlsoAfterACrash(t *testing.T) {
	inNamespace(t)
	const table = 1001
	backends := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	host, vips := ownAddress(t), []netip.Addr{netip.MustParseAddr("10.77.0.2")}
	crashed, err := InstallRoutes(table, backends, vips, []netip.Addr{host})
	if err != nil {
		t.Fatal(err)
	}
	if n := hostRules(t, table); n != 5 {
		t.Errorf("%d rules and routes, want three rules and two routes", n)
	}
	again, err := InstallRoutes(table, backends[:1], nil, []netip.Addr{host})
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	if n := hostRules(t, table); n != 2 {
		t.Errorf("%d rules and routes after the second start, want a rule and a route", n)
	}
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	if n := hostRules(t, table); n != 0 {
		t.Errorf("%d rules and routes are left", n)
	}
	if err := crashed.Remove(); err != nil {
		t.Errorf("removing twice: %v", err)
	}
}

// Flows that have outlived a crash go through the routes: the next start leaves
// them alone, and mends what is amiss.
func TestRoutesThatAreRightStay(t *testing.T) {
	inNamespace(t)
	const table = 1003
	backends, vips, host := []netip.Addr{netip.MustParseAddr("127.0.0.1")}, []netip.Addr{netip.MustParseAddr("10.77.0.2")}, ownAddress(t)
	install := func() {
		t.Helper()
		if _, err := InstallRoutes(table, backends, vips, []netip.Addr{host}); err != nil {
			t.Fatal(err)
		}
		if n := hostRules(t, table); n != 4 {
			t.Errorf("%d rules and routes, want 4", n)
		}
	}
	install()
	updates, done := make(chan netlink.RouteUpdate, 16), make(chan struct{})
	defer close(done)
	if err := netlink.RouteSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	install()
	sentinel := &netlink.Route{LinkIndex: loopbackIndex, Dst: &net.IPNet{IP: net.IP{10, 1, 0, 0}, Mask: net.CIDRMask(16, 32)}, Table: table + 1, Scope: unix.RT_SCOPE_LINK}
	if err := netlink.RouteAdd(sentinel); err != nil {
		t.Fatal(err)
	}
	if u := <-updates; u.Table != table+1 {
		t.Errorf("the second start touched %v", u)
	}
	r := &Routes{table: table, froms: backends, vips: vips, hosts: []netip.Addr{host}}
	for name, amiss := range map[string]func() error{
		"a rule is gone": func() error {
			rule := r.rule(backends[0])
			rule.Src = prefix(netip.PrefixFrom(backends[0], 32))
			return netlink.RuleDel(rule)
		},
		"a route is gone": func() error {
			routes, err := r.routes()
			if err != nil {
				return err
			}
			return netlink.RouteDel(&routes[0])
		},
		"a route too many": func() error { return r.addRoute(netip.MustParsePrefix("10.9.9.9/32"), host) },
		"another backend's": func() error {
			rule := r.rule(backends[0])
			rule.Src = prefix(netip.MustParsePrefix("127.0.0.9/32"))
			return netlink.RuleAdd(rule)
		},
	} {
		if err := amiss(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if there, err := r.inForce(); there || err != nil {
			t.Errorf("%s, and nothing is amiss: %v", name, err)
		}
		install()
	}
	if err := RemoveRoutes(table); err != nil || hostRules(t, table) != 0 {
		t.Errorf("rules and routes are left: %v", err)
	}
}

func TestRoutesRefuseATableOfSomebodyElse(t *testing.T) {
	inNamespace(t)
	const table = 1002
	foreign := &netlink.Route{LinkIndex: loopbackIndex, Dst: &net.IPNet{IP: net.IP{10, 1, 0, 0}, Mask: net.CIDRMask(16, 32)}, Table: table, Scope: unix.RT_SCOPE_LINK}
	if err := netlink.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	if _, err := InstallRoutes(table, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, nil); err == nil {
		t.Error("a table with a foreign route was taken")
	}
	if n := hostRules(t, table); n != 1 {
		t.Errorf("%d rules and routes, want the foreign one alone", n)
	}
}

// ownAddress gives the namespace an address of its own.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddr("10.77.0.11")
	if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: own.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	return own
}

// This host reaches the VIP: by loopback, from its own address, and the backend
// sees that address.
func TestOwnHostReachesTheVIP(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	fd, at := listen(t)
	host, vip := ownAddress(t), netip.MustParseAddrPort("10.77.0.2:22")
	routes, err := InstallRoutes(1003, []netip.Addr{at.Addr()}, []netip.Addr{vip.Addr()}, []netip.Addr{host})
	if err != nil {
		t.Fatal(err)
	}
	defer routes.Remove()
	own, err := ServeOwnHost(map[netip.AddrPort]Backend{vip: {Addr: at, Transparent: true}})
	if err != nil {
		t.Fatal(err)
	}
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
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(conn, b[:]); err != unix.ECONNRESET {
		t.Errorf("after Close the backend reads %v, want a reset", err)
	}
}

// A backend that listens on its port of all addresses, as sshd does by default, is
// no reason to fail: it is told, and the other services are served.
func TestOwnHostBesideAServiceOnAllAddresses(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	listenAt(t, netip.MustParseAddrPort("0.0.0.0:22"))
	fd, at := listen(t)
	host := ownAddress(t)
	ssh, other := netip.MustParseAddrPort("10.77.0.2:22"), netip.MustParseAddrPort("10.77.0.2:80")
	routes, err := InstallRoutes(1003, []netip.Addr{at.Addr()}, []netip.Addr{ssh.Addr()}, []netip.Addr{host})
	if err != nil {
		t.Fatal(err)
	}
	defer routes.Remove()
	own, err := ServeOwnHost(map[netip.AddrPort]Backend{
		ssh:   {Addr: netip.MustParseAddrPort("127.0.0.1:22"), Transparent: true},
		other: {Addr: at, Transparent: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if taken := own.Taken(); len(taken) != 1 || taken[0] != ssh {
		t.Errorf("taken: %v", taken)
	}
	c, err := (&Backend{Addr: other}).Dial(netip.AddrPort{}, netip.AddrPort{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, from := accept(t, fd); from.Addr() != host {
		t.Errorf("the backend sees %v, want %v", from, host)
	}
}

// A service whose client's first bytes are at hand is woken once, with them: TCP's
// handshake ends with the segment that carries them. The kernel waits 200 ms for that;
// a machine that stood still for so long says nothing.
func TestDialSoonWakesTheServiceOnce(t *testing.T) {
	inNamespace(t)
	fd, at := listen(t)
	backend := Backend{Addr: at}
	for _, soon := range []bool{false, true} {
		early := 0
		const tries = 20
		for range tries {
			c, err := backend.Dial(netip.AddrPort{}, netip.AddrPort{}, soon)
			if err != nil {
				t.Fatal(err)
			}
			until(t, c, unix.POLLOUT)
			if connected(fd, soon) {
				early++
			}
			if n, err := c.Write([]byte("hello")); n != 5 || err != nil {
				t.Fatalf("soon %v: wrote %d bytes, %v", soon, n, err)
			}
			conn, _ := accept(t, fd)
			var b [16]byte
			if n, err := unix.Read(conn, b[:]); n != 5 || err != nil {
				t.Errorf("soon %v: the service reads %d bytes, %v", soon, n, err)
			}
			c.Close()
		}
		if soon && early == tries || !soon && early != tries {
			t.Errorf("soon %v: %d of %d services were woken before there was anything to read", soon, early, tries)
		}
	}
}

// connected reports whether a listening socket has a connection for its service: now,
// or else within 5 s.
func connected(fd int, now bool) bool {
	bound := 5000 // milliseconds
	if now {
		bound = 0
	}
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, bound)
	return n > 0
}
