package bench

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// A request is due at its time whether or not there is somebody to send it, and
// what was never answered counts from when it was due.
func TestWaitsAreCountedFromWhenTheyWereDue(t *testing.T) {
	began := time.Unix(1000, 0)
	s := &schedule{began: began, every: time.Millisecond, count: 5}
	if s.due(began.Add(-1)) || !s.due(began) {
		t.Error("the first is due at the beginning")
	}
	c := &clients{conns: []client{{due: s.take()}, {}, {due: s.take()}}}
	if s.due(began.Add(1)) || !s.due(began.Add(2*time.Millisecond)) {
		t.Error("the third is due after two intervals")
	}
	// Two were asked and have no answer, three were never asked.
	late := c.late(nil, s, began.Add(10*time.Millisecond))
	want := []time.Duration{10, 9, 8, 7, 6}
	if len(late) != len(want) {
		t.Fatalf("%v", late)
	}
	for i, ms := range want {
		if late[i] != ms*time.Millisecond {
			t.Errorf("number %d waited %v, not %d ms", i, late[i], ms)
		}
	}
	if s.due(began.Add(time.Hour)) {
		t.Error("one more than there are is due")
	}
}

func TestQuantile(t *testing.T) {
	sorted := make([]time.Duration, 1000)
	for i := range sorted {
		sorted[i] = time.Duration(i + 1)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
	if got := quantile(sorted[:1], 0.999); got != 1 {
		t.Errorf("of one: %d", got)
	}
}

// serveHTTP answers on loopback as the service behind the paths does.
func serveHTTP(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func newTestClients(t *testing.T, to netip.AddrPort) *clients {
	t.Helper()
	c, err := newClients(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Every request of the schedule has its time, and every connection, too.
func TestConstantRate(t *testing.T) {
	to := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "one voice\n") })
	took, err := newTestClients(t, to).constantRate(context.Background(), 1000, 100*time.Millisecond)
	if err != nil || len(took) != 100 {
		t.Errorf("%d of 100 requests, %v", len(took), err)
	}
	took, err = newTestClients(t, to).connectAtRate(context.Background(), 500, 100*time.Millisecond)
	if err != nil || len(took) != 50 {
		t.Errorf("%d of 50 connections, %v", len(took), err)
	}
	for _, d := range took {
		if d <= 0 {
			t.Errorf("connected %v after it was due", d)
		}
	}
	c := newTestClients(t, to)
	if err := c.openMany(200, time.Now().Add(acceptTimeout)); err != nil || len(c.conns) != 200 {
		t.Errorf("%d of 200 are open, %v", len(c.conns), err)
	}
}

// An answer that is none, a connection that is closed, and nobody there are
// errors and no samples.
func TestBrokenAnswers(t *testing.T) {
	to := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if took, err := newTestClients(t, to).constantRate(context.Background(), 1000, 10*time.Millisecond); err == nil {
		t.Errorf("%d answers of a service that has none", len(took))
	}
	to = serveHTTP(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if took, err := newTestClients(t, to).constantRate(context.Background(), 1000, 10*time.Millisecond); err == nil {
		t.Errorf("%d answers on connections that are closed", len(took))
	}
	nobody := netip.AddrPortFrom(to.Addr(), 1)
	if _, err := newTestClients(t, nobody).constantRate(context.Background(), 1000, 10*time.Millisecond); err == nil {
		t.Error("nobody answers, and no error")
	}
	if _, err := newTestClients(t, to).constantRate(context.Background(), 0, time.Second); err == nil {
		t.Error("no rate, and no error")
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := newTestClients(t, nobody).connectAtRate(ctx, 1, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestAnswerLength(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"
	if n, err := answerLength([]byte(good + "hel")); err != nil || n != len(good)+5 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "HTTP/1.1 500 no\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nContent-Length: 5\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"} {
		if n, err := answerLength([]byte(bad)); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}

// A question gets its answer; what is none gets nothing, and nothing breaks.
func TestDNSAnswer(t *testing.T) {
	question := append([]byte{0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, "\x03www\x07example\x03com\x00\x00\x01\x00\x01"...)
	end := len(question)
	answer := dnsAnswer(append(bytes.Clone(question), "an option that is left out"...))
	if len(answer) != end+16 || answer[0] != 0xab || answer[1] != 0xcd || answer[2]&0x80 == 0 || answer[7] != 1 || answer[11] != 0 ||
		!bytes.Equal(answer[12:end], question[12:]) || !bytes.Equal(answer[len(answer)-4:], []byte{10, 77, 0, 2}) {
		t.Errorf("%x", answer)
	}
	if again := dnsAnswer(answer); again != nil {
		t.Errorf("an answer was answered: %x", again)
	}
	for n := range end {
		if got := dnsAnswer(bytes.Clone(question[:n])); got != nil {
			t.Errorf("%d bytes were answered", n)
		}
	}
}
