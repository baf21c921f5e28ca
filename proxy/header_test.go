package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// reader reads a socket of the test's own side.
type reader int

func (r reader) Read(p []byte) (int, error) {
	n, err := unix.Read(int(r), p)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// The header comes first and once, whether the client speaks first or not, and the
// client's bytes follow as they are.
func TestHeaderComesFirstAndOnce(t *testing.T) {
	for _, family := range []struct {
		name        string
		client, vip netip.AddrPort
	}{
		{"IPv4", client, testVIP},
		{"IPv6", netip.MustParseAddrPort("[2001:db8::7]:40001"), netip.MustParseAddrPort("[2001:db8::2]:22")},
	} {
		for _, h := range []Header{HeaderV1, HeaderV2} {
			for _, says := range []string{"nothing", "something", "only its end"} {
				t.Run(family.name+"/"+string('0'+rune(h))+"/"+says, func(t *testing.T) {
					inNamespace(t)
					fd, at := listen(t)
					c, err := (&Backend{Addr: at, Header: h}).Dial(family.client, family.vip, false)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					conn, _ := accept(t, fd)
					until(t, c, unix.POLLOUT)
					want := ""
					switch says {
					case "nothing":
						err = errors.Join(c.Flush(), c.Flush())
					case "something":
						want = "hello"
						_, err = c.Write([]byte(want))
					}
					if err := errors.Join(err, c.CloseWrite()); err != nil {
						t.Fatal(err)
					}
					r := bufio.NewReader(reader(conn))
					got, err := proxyproto.Read(r)
					if err != nil {
						t.Fatal(err)
					}
					src, dst := got.SourceAddr.(*net.TCPAddr), got.DestinationAddr.(*net.TCPAddr)
					if unmapped(src) != family.client || unmapped(dst) != family.vip {
						t.Errorf("the header says %v to %v", src, dst)
					}
					if rest, err := io.ReadAll(r); string(rest) != want || err != nil {
						t.Errorf("after the header come %q, %v; want %q", rest, err, want)
					}
				})
			}
		}
	}
}

// With the client's first bytes the header is one write: the backend's first read
// has both.
func TestHeaderLeavesWithTheFirstBytes(t *testing.T) {
	inNamespace(t)
	fd, at := listen(t)
	c, err := (&Backend{Addr: at, Header: HeaderV1}).Dial(client, testVIP, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, _ := accept(t, fd)
	until(t, c, unix.POLLOUT)
	if n, err := c.Write([]byte("hello")); n != 5 || err != nil {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	const want = "PROXY TCP4 10.77.0.101 10.77.0.2 40001 22\r\nhello"
	b := make([]byte, 200)
	if n, err := unix.Read(conn, b); string(b[:max(n, 0)]) != want || err != nil {
		t.Errorf("the first read has %q, %v", b[:max(n, 0)], err)
	}
}

// A header that finds no room is sent as far as it goes, and the rest before
// anything else.
func TestHeaderInPieces(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	header := bytes.Repeat([]byte("0123456789"), 200_000)
	c := &Conn{fd: pair[0], writable: true, undelayed: true, header: header}
	defer c.Close()
	var got []byte
	var full bool
	for len(got) < len(header)+2 {
		n, err := c.Write([]byte("ab"))
		full = full || errors.Is(err, ErrAgain)
		if err != nil && !errors.Is(err, ErrAgain) {
			t.Fatal(err)
		}
		b := make([]byte, 1<<20)
		for {
			m, err := unix.Read(pair[1], b)
			if m <= 0 || err != nil {
				break
			}
			got = append(got, b[:m]...)
		}
		if n == 2 {
			break
		}
		c.Ready(false, true, false)
	}
	if !full || string(got) != string(header)+"ab" {
		t.Errorf("%d bytes came, the socket was full: %v", len(got), full)
	}
}

// What belongs to nobody says so, so that the backend neither refuses it nor takes
// it for a client.
func TestHeaderOfThisHostItself(t *testing.T) {
	if got := string(HeaderV1.Own()); got != "PROXY UNKNOWN\r\n" {
		t.Errorf("version 1: %q", got)
	}
	got, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(HeaderV2.Own())))
	if err != nil || got.Command != proxyproto.LOCAL {
		t.Errorf("version 2: %+v, %v", got, err)
	}
	if NoHeader.Own() != nil {
		t.Error("no header has bytes")
	}
}

func TestUnixSocketBackend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	backend := Backend{Path: path, Header: HeaderV1}
	if _, err := backend.Dial(client, testVIP, false); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a socket that is not there: %v", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.Dial(client, testVIP, false); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a socket that nobody listens on: %v", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	c, err := backend.Dial(client, testVIP, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A backlog of 0 holds one.
	if _, err := backend.Dial(client, testVIP, false); !errors.Is(err, ErrBusy) {
		t.Errorf("a full queue: %v", err)
	}
	until(t, c, unix.POLLOUT)
	if err := c.Connected(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"hel", "lo"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	conn, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(conn)
	b := make([]byte, 200)
	if n, err := unix.Read(conn, b); string(b[:max(n, 0)]) != "PROXY TCP4 10.77.0.101 10.77.0.2 40001 22\r\nhello" || err != nil {
		t.Errorf("the backend reads %q, %v", b[:max(n, 0)], err)
	}
	if _, err := unix.Write(conn, []byte("world")); err != nil {
		t.Fatal(err)
	}
	until(t, c, unix.POLLIN)
	if n := c.Queued(); n != 5 {
		t.Errorf("%d bytes wait, want 5", n)
	}
	if n, err := c.Read(b); string(b[:n]) != "world" || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
}
