package control

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A flood is told of once when it begins, goes on over seconds with less, and is told of
// once when it is over, with what it came to. Crowds of people are none.
func TestAFloodIsToldOf(t *testing.T) {
	var w floodWatch
	now, cookies := time.Hour, uint64(1e6) // sent before anybody looked
	var begun, over []FloodStatus
	second := func(more uint64) {
		t.Helper()
		now, cookies = now+floodLook, cookies+more
		if !w.due(now) {
			t.Fatal("not due after a second")
		}
		b, o := w.look(now, cookies)
		if b != nil {
			begun = append(begun, *b)
		}
		if o != nil {
			over = append(over, *o)
		}
		if w.due(now) {
			t.Fatal("due again at once")
		}
	}
	for range 30 {
		second(floodCookies - 1)
	}
	if len(begun) > 0 || w.status(now) != nil {
		t.Fatalf("people who come at once are a flood: %+v", begun)
	}
	second(20_000)
	for range floodOver/floodLook - 1 {
		second(0)
	}
	second(8000)
	if len(begun) != 1 || len(over) != 0 || begun[0].PerSecond != 20_000 {
		t.Fatalf("begun %+v, over %+v", begun, over)
	}
	if s := w.status(now); s == nil || s.Answered != 28_000 || s.Most != 20_000 || s.PerSecond != 8000 || s.Seconds != 11 {
		t.Errorf("it lasts: %+v", s)
	} else if got, want := s.String(), "a flood of SYNs: 8000 a second are answered with SYN cookies, for 11s so far"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for range floodOver / floodLook {
		second(1)
	}
	if len(over) != 1 || over[0].Seconds != 11 || over[0].Answered < 28_000 || over[0].Most != 20_000 || w.status(now) != nil {
		t.Errorf("over %+v, still %+v", over, w.status(now))
	}
	second(700)
	if len(begun) != 2 || begun[1].Answered != 700 {
		t.Errorf("the next one: %+v", begun)
	}
}

// What the host's own TCP sends is looked at every few seconds, and is told of as so many a
// second all the same, in the log and in the status.
func TestAFloodOfTheDirectPathIsToldOf(t *testing.T) {
	r := newDirectRig(t)
	var said strings.Builder
	r.d.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	r.cookies = 1e6
	r.d.look()
	for range 3 {
		r.pass(idleLook)
		r.cookies += floodCookies - 1
		r.d.look()
	}
	if s := r.d.Flood(r.d.cfg.Clock()); s != nil {
		t.Fatalf("%d in %v are a flood: %+v", floodCookies-1, idleLook, s)
	}
	r.pass(idleLook)
	r.cookies += 10_000
	for range 3 {
		r.d.look() // as often as drainers are asked
	}
	s := (&Guest{parts: WorkerParts{Direct: r.d}}).floodStatus(r.d.cfg.Clock())
	if s == nil || s.PerSecond != 2000 || s.Answered != 10_000 || s.Seconds != idleLook.Seconds() {
		t.Fatalf("%+v", s)
	}
	for range floodOver / idleLook {
		r.pass(idleLook)
		r.d.look()
	}
	if s := r.d.Flood(r.d.cfg.Clock()); s != nil {
		t.Errorf("over, and still %+v", s)
	}
	log := said.String()
	if strings.Count(log, "a flood of SYNs") != 1 || strings.Count(log, "the flood of SYNs is over") != 1 || !strings.Contains(log, "answered=10000 per_second_at_most=2000") {
		t.Errorf("said:\n%s", log)
	}
}
