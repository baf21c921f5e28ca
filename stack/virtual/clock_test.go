package virtual

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const ms = time.Millisecond

// Timers run in the order of their times and then of their setting, those too that
// are set meanwhile and due; each sees its own time.
func TestTimersInOrder(t *testing.T) {
	c := &Clock{}
	var ran []string
	note := func(name string) func() {
		return func() { ran = append(ran, fmt.Sprintf("%s@%v", name, time.Duration(c.Now().UnixNano())-epoch)) }
	}
	c.AfterFunc(3*ms, note("third"))
	c.AfterFunc(ms, func() {
		note("first")()
		c.AfterFunc(ms, note("between"))
		c.AfterFunc(time.Hour, note("never"))
	})
	c.AfterFunc(3*ms, note("fourth"))
	stopped := c.AfterFunc(2*ms, note("stopped"))
	late := c.AfterFunc(2*ms, note("late"))
	late.Reset(4 * ms)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("a timer is stopped once")
	}
	settled := 0
	c.Advance(5*ms, func() { settled++ })
	if got, want := strings.Join(ran, " "), "first@1ms between@2ms third@3ms fourth@3ms late@4ms"; got != want {
		t.Errorf("ran %s, want %s", got, want)
	}
	if settled != 5 {
		t.Errorf("settled %d times", settled)
	}
	if late.Stop() {
		t.Error("a timer that has run is stopped")
	}
	if at, ok := c.Next(); !ok || at != time.Hour+ms {
		t.Errorf("the next is at %v, %v", at, ok)
	}
	var zero tcpip.MonotonicTime
	if got := c.NowMonotonic().Sub(zero); got != epoch+5*ms {
		t.Errorf("the clock shows %v", got)
	}
	c.Advance(4*ms, func() {})
	if got := c.NowMonotonic().Sub(zero); got != epoch+5*ms {
		t.Errorf("the clock went back to %v", got)
	}
	if _, ok := (&Clock{}).Next(); ok {
		t.Error("an empty clock has a next timer")
	}
}

// Settle yields maxYields times at most: a goroutine that is always runnable does
// not hold it for ever.
func TestSettleIsBounded(t *testing.T) {
	restore := Take()
	defer restore()
	var stop atomic.Bool
	yields := 0
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ; !stop.Load(); yields++ {
			runtime.Gosched()
		}
	}()
	NewSettler().Settle()
	stop.Store(true)
	<-ended
	if yields < maxYields/2 || yields > 2*maxYields {
		t.Errorf("it yielded about %d times", yields)
	}
}

// Settle returns when a chain of goroutines, each of which wakes the next, has come
// to its end.
func TestSettle(t *testing.T) {
	restore := Take()
	defer restore()
	const links = 500
	chain := make([]chan int, links+1)
	for i := range chain {
		chain[i] = make(chan int, 1)
	}
	for i := range links {
		go func() { chain[i+1] <- <-chain[i] + 1 }()
	}
	s := NewSettler()
	s.Settle()
	chain[0] <- 0
	s.Settle()
	select {
	case n := <-chain[links]:
		if n != links {
			t.Errorf("%d links", n)
		}
	default:
		t.Error("the chain is still running")
	}
}
