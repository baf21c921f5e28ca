package control

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// successorOf is a successor that is no onevoice, with the socket as descriptor 3.
func successorOf(t *testing.T, script string) *Successor {
	t.Helper()
	s, err := StartSuccessor(exec.Command("sh", "-c", script), Begin{Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// A successor that is not what it should be is told of in words.
func TestSuccessorsThatDoNotPrepare(t *testing.T) {
	for _, c := range []struct {
		script, says string
		within       time.Duration
	}{
		{"exit 7", "ended (exit status 7)", time.Minute},
		{"kill -9 $$", "ended (signal: killed)", time.Minute},
		{"exec sleep 600", `has not said "prepared" within 50ms`, 50 * time.Millisecond},
		{"echo hello >&3; exec sleep 600", "makes no sense", time.Minute},
		{`printf '\000{"type":"serving"}' >&3; exec sleep 600`, `says "serving" instead of "prepared"`, time.Minute},
		{`printf '\000{"type":"failed","body":{"Error":"the file is bad"}}' >&3; exec sleep 600`, "the file is bad", time.Minute},
		{`printf '\000{"type":"prepared","body":{"Protocol":99}}' >&3; exec sleep 600`, "hands over by version 99, and this one by 1", time.Minute},
	} {
		s := successorOf(t, c.script)
		if _, err := s.Prepared(c.within); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.script, err, c.says)
		}
	}
}

// both sides of a handover, in one process.
func handover(t *testing.T) (*Successor, *Predecessor) {
	t.Helper()
	w, theirs, err := wirePair()
	if err != nil {
		t.Fatal(err)
	}
	other, err := wireOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	s, p := &Successor{wire: w, ended: make(chan struct{})}, &Predecessor{wire: other, free: make(chan error, 1)}
	t.Cleanup(func() { w.close(); p.Close() })
	return s, p
}

// What is handed over arrives, file by file, and the successor is let go of once.
func TestHandover(t *testing.T) {
	s, p := handover(t)
	h := &Handed{Claims: map[netip.Addr]*os.File{}, Path: "/run/sock", Leased: true, At: 7, History: []byte("{}")}
	create := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	vips := []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("2001:db8::2")}
	h.Lock, h.Socket = create("lock"), create("socket")
	for _, v := range vips {
		h.Claims[v] = create(v.String())
	}
	defer h.Close()
	done := takeIn(p)
	if got, err := s.Prepared(time.Minute); err != nil || got.Version != "2.0.0" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.Pass(h); err != nil {
		t.Fatal(err)
	}
	got := <-done
	if got == nil || got.Path != h.Path || !got.Leased || got.At != 7 || string(got.History) != "{}" || len(got.Claims) != len(vips) {
		t.Fatalf("%+v", got)
	}
	defer got.Close()
	for name, pair := range map[string][2]*os.File{"lock": {h.Lock, got.Lock}, "socket": {h.Socket, got.Socket}, "claim": {h.Claims[vips[1]], got.Claims[vips[1]]}} {
		a, err := pair[0].Stat()
		b, other := pair[1].Stat()
		if err := errors.Join(err, other); err != nil || !os.SameFile(a, b) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.Serving(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serving(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.Free(); err != nil {
		t.Fatal(err)
	}
	if err := <-p.Free(); err != nil {
		t.Errorf("let go of with %v", err)
	}
}

// takeIn takes what is handed over; nil where that fails.
func takeIn(p *Predecessor) <-chan *Handed {
	done := make(chan *Handed, 1)
	go func() {
		h, _ := p.Take(Prepared{Version: "2.0.0"})
		done <- h
	}()
	return done
}

// A successor whose predecessor ends on the way takes nothing, or knows that it was not
// let go of.
func TestPredecessorEndsOnTheWay(t *testing.T) {
	s, p := handover(t)
	done := takeIn(p)
	if _, err := s.Prepared(time.Minute); err != nil {
		t.Fatal(err)
	}
	s.wire.close()
	if h := <-done; h != nil {
		t.Errorf("taken %+v", h)
	}
	s, p = handover(t)
	done = takeIn(p)
	if _, err := s.Prepared(time.Minute); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := s.Pass(&Handed{Lock: null, Socket: null}); err != nil {
		t.Fatal(err)
	}
	h := <-done
	if h == nil {
		t.Fatal("nothing was taken")
	}
	defer h.Close()
	s.wire.close()
	if err := <-p.Free(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("free with %v", err)
	}
}
