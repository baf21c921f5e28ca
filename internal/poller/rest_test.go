package poller

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A rest is as long as it is said to be, and what becomes ready meanwhile is told
// after it.
func TestRest(t *testing.T) {
	p := newPoller(t, ByKernel)
	level, feeder := socketpair(t)
	if err := p.AddLevel(level, 2); err != nil {
		t.Fatal(err)
	}
	p.Sleep()
	if _, err := unix.Write(feeder, []byte("x")); err != nil {
		t.Fatal(err)
	}
	p.Wake()
	// A signal may end it: the runtime sends some to its threads.
	const long = 20 * time.Millisecond
	rested := false
	for range 10 {
		began := time.Now()
		Rest(long)
		rested = rested || time.Since(began) >= long
	}
	if !rested {
		t.Errorf("10 rests of %v were all shorter", long)
	}
	if ev, err := p.Wait(0); err != nil || len(ev) != 1 || !ev[0].Readable {
		t.Errorf("after it: %+v, %v", ev, err)
	}
}
