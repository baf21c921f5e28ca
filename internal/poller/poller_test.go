package poller

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newPoller(t *testing.T, by Timer) *Poller {
	t.Helper()
	p, err := New(by)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// byEach runs a test with each kind of timer.
func byEach(t *testing.T, run func(*testing.T, *Poller)) {
	t.Helper()
	for name, by := range map[string]Timer{"runtime": ByRuntime, "kernel": ByKernel} {
		t.Run(name, func(t *testing.T) { run(t, newPoller(t, by)) })
	}
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

func TestEdgesAndLevels(t *testing.T) { byEach(t, edgesAndLevels) }

func edgesAndLevels(t *testing.T, p *Poller) {
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

// What an owner's descriptor becomes ready for is told, whatever its token; one of the
// poller's own is refused, for nobody would be told.
func TestTokensOfThePollersOwn(t *testing.T) { byEach(t, tokensOfThePollersOwn) }

func tokensOfThePollersOwn(t *testing.T, p *Poller) {
	level, feeder := socketpair(t)
	for token := ^uint64(0); token > MaxToken; token-- {
		if p.AddLevel(level, token) == nil || p.AddEdge(level, token) == nil {
			t.Errorf("token %#x is taken", token)
		}
	}
	if err := p.AddLevel(level, MaxToken); err != nil {
		t.Fatal(err)
	}
	unix.Write(feeder, []byte("x"))
	if ev, err := p.Wait(bound); err != nil || len(ev) != 1 || ev[0].Token != MaxToken {
		t.Errorf("the largest token: %+v, %v", ev, err)
	}
}

// Work that is announced while the owner goes to sleep wakes it, and costs a
// system call only then.
func TestWakeReachesASleeper(t *testing.T) { byEach(t, wakeReachesASleeper) }

func wakeReachesASleeper(t *testing.T, p *Poller) {
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
func TestEachWaitHasItsOwnTime(t *testing.T) { byEach(t, eachWaitHasItsOwnTime) }

func eachWaitHasItsOwnTime(t *testing.T, p *Poller) {
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
		if took := time.Since(began); took < short || took >= bound/2 {
			t.Errorf("a wait of %v took %v", short, took)
		}
	}
	for _, d := range []time.Duration{-1, bound, math.MaxInt64} {
		nothing()
		time.AfterFunc(later, func() { unix.Write(feeder, []byte("x")) })
		if ev, err := p.Wait(d); err != nil || len(ev) != 1 || ev[0].Token != 2 {
			t.Errorf("a wait of %v after a short one: %+v, %v", d, ev, err)
		}
		unix.Read(level, make([]byte, 1))
	}
	nothing()
}

// A timer that was set for a wait which an event has ended does not end a longer one.
func TestAnEarlierTimeDoesNotEndALongerWait(t *testing.T) {
	byEach(t, anEarlierTimeDoesNotEndALongerWait)
}

func anEarlierTimeDoesNotEndALongerWait(t *testing.T, p *Poller) {
	level, feeder := socketpair(t)
	if err := p.AddLevel(level, 2); err != nil {
		t.Fatal(err)
	}
	const short, long = 2 * time.Millisecond, 20 * time.Millisecond
	for range 3 {
		time.AfterFunc(short/2, func() { unix.Write(feeder, []byte("x")) })
		if _, err := p.Wait(short); err != nil {
			t.Error(err)
		}
		// It may have come later than that.
		p.Wait(bound)
		unix.Read(level, make([]byte, 1))
		began := time.Now()
		if ev, err := p.Wait(long); len(ev) != 0 || err != nil {
			t.Errorf("%+v, %v", ev, err)
		}
		if took := time.Since(began); took < long {
			t.Errorf("a wait of %v took %v", long, took)
		}
	}
}

// A wait by the runtime ends before what else could run does, on one processor: at most what
// runs just then comes first. One by the kernel's timer has to wait for all of them.
func TestWaitsGoBeforeWhatComputes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const others, waits, turn = 8, 15, time.Millisecond
	p := newPoller(t, ByRuntime)
	var turns [waits]int
	var until atomic.Int64
	var stop atomic.Bool
	var running sync.WaitGroup
	began := time.Now()
	var late atomic.Int32
	for range others {
		running.Go(func() {
			for !stop.Load() {
				start := time.Since(began)
				if at := until.Load(); at > 0 && int64(start) > at {
					late.Add(1)
				}
				for time.Since(began) < start+turn {
				}
				runtime.Gosched()
			}
		})
	}
	for i := range turns {
		late.Store(0)
		const wait = 5 * time.Millisecond
		until.Store(int64(time.Since(began) + wait + turn))
		if _, err := p.Wait(wait); err != nil {
			t.Error(err)
		}
		turns[i] = int(late.Load())
		until.Store(0)
	}
	stop.Store(true)
	running.Wait()
	// A thread that has no processor just when a wait begins counts what runs until it has.
	if slices.Min(turns[:]) > 1 {
		t.Errorf("whenever a wait was over, turns of others came first: %v", turns)
	}
}
