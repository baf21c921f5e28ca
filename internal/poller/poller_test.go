package poller

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func socketpair(t *testing.T) (a, b int) {
	t.Helper()
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s[0]); unix.Close(s[1]) })
	return s[0], s[1]
}

const bound = 5 * time.Second

func TestEdgesAndLevels(t *testing.T) {
	p := newPoller(t)
	edge, other := socketpair(t)
	level, feeder := socketpair(t)
	const big = 1<<40 + 7
	if err := p.AddEdge(edge, big); err != nil {
		t.Fatal(err)
	}
	if err := p.AddLevel(level, 2); err != nil {
		t.Fatal(err)
	}
	if ev, err := p.Wait(bound); err != nil || len(ev) != 1 || ev[0] != (Event{Token: big, Writable: true}) {
		t.Fatalf("a new socket: %+v, %v", ev, err)
	}
	unix.Write(feeder, []byte("x"))
	for range 2 {
		if ev, err := p.Wait(bound); err != nil || len(ev) != 1 || ev[0] != (Event{Token: 2, Readable: true}) {
			t.Fatalf("a level that is not read: %+v, %v", ev, err)
		}
	}
	unix.Read(level, make([]byte, 1))
	unix.Write(other, []byte("x"))
	if ev, _ := p.Wait(bound); len(ev) != 1 || ev[0].Token != big || !ev[0].Readable || ev[0].PeerClosed {
		t.Fatalf("an edge: %+v", ev)
	}
	if ev, _ := p.Wait(0); len(ev) != 0 {
		t.Fatalf("an edge is told twice: %+v", ev)
	}
	unix.Shutdown(other, unix.SHUT_WR)
	if ev, _ := p.Wait(bound); len(ev) != 1 || !ev[0].PeerClosed || !ev[0].Readable {
		t.Fatalf("the other side's end: %+v", ev)
	}
}

// Work that is announced while the owner goes to sleep wakes it, and costs a
// system call only then.
func TestWakeReachesASleeper(t *testing.T) {
	p := newPoller(t)
	p.Wake()
	if ev, err := p.Wait(0); len(ev) != 0 || err != nil {
		t.Errorf("woken while awake: %+v, %v", ev, err)
	}
	p.Sleep()
	p.Wake()
	p.Wake()
	began := time.Now()
	if ev, err := p.Wait(bound); len(ev) != 0 || err != nil {
		t.Errorf("%+v, %v", ev, err)
	}
	if time.Since(began) >= bound {
		t.Error("the sleeper was not woken")
	}
	p.Sleep()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Wake()
	}()
	if _, err := p.Wait(-1); err != nil {
		t.Error(err)
	}
	<-done
}

// A wait ends at its own time and not before, or with an event; the time of one does not
// end the next.
func TestEachWaitHasItsOwnTime(t *testing.T) {
	p := newPoller(t)
	level, feeder := socketpair(t)
	if err := p.AddLevel(level, 2); err != nil {
		t.Fatal(err)
	}
	const short, later = 3 * time.Millisecond, 20 * time.Millisecond
	nothing := func() {
		t.Helper()
		began := time.Now()
		if ev, err := p.Wait(short); len(ev) != 0 || err != nil {
			t.Errorf("nothing is ready: %+v, %v", ev, err)
		}
		if took := time.Since(began); took < short {
			t.Errorf("a wait of %v took %v", short, took)
		}
	}
	for _, d := range []time.Duration{-1, bound} {
		nothing()
		time.AfterFunc(later, func() { unix.Write(feeder, []byte("x")) })
		if ev, err := p.Wait(d); err != nil || len(ev) != 1 || ev[0].Token != 2 {
			t.Errorf("a wait of %v after a short one: %+v, %v", d, ev, err)
		}
		unix.Read(level, make([]byte, 1))
	}
	nothing()
}
