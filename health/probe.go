package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a probe reads.
const (
	maxBannerBytes = 4096
	maxBodyBytes   = 64 << 10
	maxHeaderBytes = 64 << 10
)

// identification is what ssh-banner says of itself (RFC 4253, section 4.2).
// Without it sshd logs an error and a notice for each check, with it only the
// notice; the connection counts against PerSourcePenalties either way.
const identification = "SSH-2.0-onevoice_check\r\n"

// Probe asks once, within the context's time. Nil is a good answer.
func (c *Check) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := c.ask(ctx)
	// A socket's deadline may come a moment before the context's own.
	if errors.Is(err, os.ErrDeadlineExceeded) || err != nil && ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("no answer within %v", c.Timeout)
	}
	return err
}

func (c *Check) ask(ctx context.Context) error {
	switch c.Kind {
	case TCP:
		return askTCP(ctx, c.Target)
	case UDP:
		return askUDP(ctx, c.Target)
	case SSHBanner:
		return c.askSSH(ctx)
	case HTTP:
		return c.askHTTP(ctx)
	case Exec:
		_, err := run(ctx, c.Target, c.Args)
		return err
	}
	return fmt.Errorf("%v is not a kind of check", c.Kind)
}

// askTCP connects without the last acknowledgement, and resets: the kernel has
// answered for its listener, whose program never hears of it. So a check wakes
// nobody and leaves no line in a log (and no penalty with sshd). TCP_QUICKACK
// off before connect is what makes the kernel wait with that acknowledgement
// for data (tcp_rcv_synsent_state_process in net/ipv4/tcp_input.c).
func askTCP(ctx context.Context, target string) error {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
		})
		return errors.Join(control, err)
	}}
	if path, ok := strings.CutPrefix(target, unixPrefix); ok {
		// The kernel has answered for this listener, too, but its program hears of it.
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	conn, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	tcp := conn.(*net.TCPConn)
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

// askSSH reads the server's identification, which other lines may come before
// (RFC 4253, section 4.2), says its own and hangs up.
func (c *Check) askSSH(ctx context.Context) error {
	network, target := "tcp", c.Target
	if path, ok := strings.CutPrefix(target, unixPrefix); ok {
		network, target = "unix", path
	}
	dialed, err := c.dial(ctx, network, target)
	if err != nil {
		return err
	}
	conn := dialed.(halfCloser)
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := readBanner(conn); err != nil {
		return err
	}
	// What follows is politeness, and no answer depends on it: a close with
	// unread bytes would be a reset.
	if _, err := io.WriteString(conn, identification); err != nil {
		return nil
	}
	conn.CloseWrite()
	io.Copy(io.Discard, io.LimitReader(conn, maxBodyBytes))
	return nil
}

// halfCloser is a connection of TCP, or of a unix socket.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// dial connects, and begins as the service's clients do.
func (c *Check) dial(ctx context.Context, network, target string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, target)
	if err != nil || len(c.Preface) == 0 {
		return conn, err
	}
	if _, err := conn.Write(c.Preface); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// readBanner reads lines up to one that begins with "SSH-".
func readBanner(r io.Reader) error {
	var seen []byte
	chunk := make([]byte, 512)
	for len(seen) < maxBannerBytes {
		n, err := r.Read(chunk)
		seen = append(seen, chunk[:n]...)
		for _, line := range strings.SplitAfter(string(seen), "\n") {
			if strings.HasPrefix(line, "SSH-") && strings.HasSuffix(line, "\n") {
				return nil
			}
		}
		if err == io.EOF {
			return fmt.Errorf("it hung up without an SSH banner, after %q", oneLine(string(seen)))
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("no SSH banner in the first %d bytes, which begin with %q", maxBannerBytes, oneLine(string(seen)))
}

// askHTTP gets a page: no redirect is followed, for it is an answer, and no
// proxy of the environment is used.
func (c *Check) askHTTP(ctx context.Context) error {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes, DialContext: c.dial}
	if c.Socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, "unix", c.Socket) }
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "onevoice-check")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return fmt.Errorf("HTTP status %s", oneLine(answer.Status))
	}
	// The head is not all of an answer: a server that hangs in the body is down.
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxBodyBytes))
	return err
}
