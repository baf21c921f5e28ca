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
	case SSHBanner:
		return askSSH(ctx, c.Target)
	case HTTP:
		return askHTTP(ctx, c.Target)
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
	conn, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	tcp := conn.(*net.TCPConn)
	return errors.Join(tcp.SetLinger(0), tcp.Close())
}

// askSSH reads the server's identification, which other lines may come before
// (RFC 4253, section 4.2), says its own and hangs up.
func askSSH(ctx context.Context, target string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
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
func askHTTP(ctx context.Context, target string) error {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaderBytes}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
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
