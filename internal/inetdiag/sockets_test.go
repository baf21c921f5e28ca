package inetdiag

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// pair is a connection of loopback, as both ends have it.
func pair(t *testing.T, listen, dial string) (client, server net.Conn, port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	client, err = net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(dial), port).String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server, port
}

// One who listens at all addresses of IPv6 has connections of IPv4 as well, and all are
// told by the addresses of packets.
func TestSockets(t *testing.T) {
	for _, c := range []struct{ listen, dial string }{{"127.0.0.1:0", "127.0.0.1"}, {":0", "127.0.0.1"}, {"[::1]:0", "::1"}} {
		client, server, port := pair(t, c.listen, c.dial)
		if _, err := client.Write([]byte("1234567")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		all, err := Sockets(Wanted{Port: port, Counts: true})
		if err != nil {
			t.Fatal(err)
		}
		remote := client.LocalAddr().(*net.TCPAddr).AddrPort()
		remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
		found, listens := false, false
		for _, s := range all {
			found = found || s.State == Established && s.Remote == remote && s.Local == netip.AddrPortFrom(netip.MustParseAddr(c.dial), port) && s.Received == 7
			listens = listens || s.State == Listen
		}
		if !found || !listens {
			t.Errorf("%s: connection %v, listener %v in %+v", c.listen, found, listens, all)
		}
	}
}

// What is over is told of where it is wanted, and not where not.
func TestSocketsThatAreOver(t *testing.T) {
	client, server, port := pair(t, "127.0.0.1:0", "127.0.0.1")
	// Who closes first keeps the connection in TIME-WAIT (RFC 9293 section 3.6).
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, client); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for _, over := range []bool{true, false} {
		var all []Socket
		is := func(s Socket) bool { return s.State == TimeWait }
		// The last acknowledgment may be on its way.
		for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
			var err error
			if all, err = Sockets(Wanted{Port: port, Over: over}); err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(all, is) == over || time.Now().After(deadline) {
				break
			}
		}
		if slices.ContainsFunc(all, is) != over {
			t.Errorf("over %v: %+v", over, all)
		}
	}
}

// A connection that is destroyed is over at both ends, and a second time is no error.
func TestDestroy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to end sockets (CAP_NET_ADMIN)")
	}
	for _, listen := range []string{"127.0.0.1:0", ":0"} {
		client, server, port := pair(t, listen, "127.0.0.1")
		all, err := Sockets(Wanted{Port: port})
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if all[i].State != Established {
				continue
			}
			err := errors.Join(Destroy(&all[i]), Destroy(&all[i]))
			if errors.Is(err, syscall.EOPNOTSUPP) {
				t.Skip("the kernel ends no sockets (CONFIG_INET_DIAG_DESTROY)")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("%s: the server reads %v", listen, err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client reads %v", listen, err)
		}
	}
}

// What the kernel would not say is no socket, and nothing beyond it is read.
func TestShortMessages(t *testing.T) {
	for n := range messageBytes {
		if _, ok := read(make([]byte, n)); ok {
			t.Errorf("%d bytes were taken", n)
		}
	}
	for _, bad := range [][]byte{{1, 0, 2, 0}, {200, 0, 2, 0}, {4}, {12, 0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8}} {
		if s, ok := read(append(make([]byte, messageBytes), bad...)); !ok || s.Acked != 0 {
			t.Errorf("%v: %v %+v", bad, ok, s)
		}
	}
}
