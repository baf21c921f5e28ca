package health

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// serveUnix is serve on a unix socket.
func serveUnix(t *testing.T, handle func(net.Conn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return path
}

// A unix socket is asked in each of the ways that a port is.
func TestUnixSocket(t *testing.T) {
	path := serveUnix(t, func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n"); io.Copy(io.Discard, c) })
	for _, kind := range []Kind{TCP, SSHBanner} {
		check := Check{Kind: kind, Target: "unix:" + path, Interval: MinBannerInterval, Timeout: MinBannerInterval, Rise: 1, Fall: 1}
		if err := check.Validate(); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		if err := probe(t, check); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		check.Target += "x"
		wantError(t, probe(t, check), "no such file")
	}
	web := serveUnix(t, func(c net.Conn) {
		b := make([]byte, 1000)
		n, _ := c.Read(b)
		answer := "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
		if text := string(b[:n]); strings.HasPrefix(text, "GET /health HTTP/1.1\r\nHost: localhost\r\n") {
			answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		}
		io.WriteString(c, answer)
	})
	if err := probe(t, Check{Kind: HTTP, Target: "http://localhost/health", Socket: web}); err != nil {
		t.Error(err)
	}
	wantError(t, probe(t, Check{Kind: HTTP, Target: "http://localhost/", Socket: web}), http.StatusText(http.StatusNotFound))
}

// A check says first what the service's clients' connections begin with.
func TestPreface(t *testing.T) {
	const preface = "PROXY UNKNOWN\r\n"
	for kind, answer := range map[Kind]string{SSHBanner: "SSH-2.0-x\r\n", HTTP: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"} {
		addr, _ := serve(t, func(c net.Conn) {
			b := make([]byte, len(preface))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != preface {
				return
			}
			if kind == HTTP {
				// An answer before the question is none.
				if _, err := c.Read(make([]byte, 1000)); err != nil {
					return
				}
			}
			io.WriteString(c, answer)
		})
		target := addr
		if kind == HTTP {
			target = "http://" + addr + "/"
		}
		if err := probe(t, Check{Kind: kind, Target: target, Preface: []byte(preface)}); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
}
