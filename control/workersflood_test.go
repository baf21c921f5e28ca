package control

import (
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
