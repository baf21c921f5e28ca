package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// rated says lines at times of its own.
type rated struct {
	*testing.T
	h   slog.Handler
	out bytes.Buffer
}

func (r *rated) say(at time.Duration, message string) {
	r.Helper()
	record := slog.NewRecord(time.Unix(1_700_000_000, 0).Add(at), slog.LevelInfo, message, 0)
	if err := r.h.Handle(context.Background(), record); err != nil {
		r.Fatal(err)
	}
}

func (r *rated) lines(of string) int { return strings.Count(r.out.String(), of) }

func newRated(t *testing.T) *rated {
	r := &rated{T: t}
	r.h = newLimited(slog.NewTextHandler(&r.out, nil)).WithAttrs([]slog.Attr{slog.String("node", "n1")})
	return r
}

// Of a flood of one message a few lines are said, and how many were not; others are
// said all the same.
func TestLogIsLimited(t *testing.T) {
	r := newRated(t)
	for i := range 100_000 {
		r.say(time.Duration(i)*time.Millisecond, "a wrong token")
	}
	// 100 seconds: the burst, and one each 5 seconds.
	if n := r.lines(`msg="a wrong token"`); n < logBurst || n > logBurst+21 {
		t.Errorf("%d lines", n)
	}
	r.say(100*time.Second, "stopping")
	if r.lines("msg=stopping") != 1 {
		t.Errorf("another line is missing")
	}
	r.say(200*time.Second, "a wrong token")
	said := 0
	for _, line := range strings.Split(r.out.String(), "\n") {
		var n int
		if _, after, ok := strings.Cut(line, "left_out="); ok {
			if _, err := fmt.Sscan(after, &n); err != nil {
				t.Error(err)
			}
			said += n
		}
	}
	if total := said + r.lines(`msg="a wrong token"`); total != 100_001 {
		t.Errorf("%d lines were said or counted:\n%s", total, r.out.String()[r.out.Len()-500:])
	}
}

// What was left out is told when the flood is over, by the next line whatever it says.
func TestLogTellsWhatItLeftOut(t *testing.T) {
	r := newRated(t)
	for range logBurst + 7 {
		r.say(0, "a flood")
	}
	r.say(time.Second, "something else")
	if strings.Contains(r.out.String(), "left out") {
		t.Errorf("too early:\n%s", &r.out)
	}
	r.say(time.Minute, "something else")
	if want := `level=WARN msg="lines were left out of the log" node=n1 of="a flood" left_out=7`; r.lines(want) != 1 {
		t.Errorf("no line %s in\n%s", want, &r.out)
	}
	r.say(2*time.Minute, "something else")
	if r.lines("left_out") != 1 {
		t.Errorf("it was told twice:\n%s", &r.out)
	}
}

// Messages without end take no memory without end.
func TestLogRemembersFewMessages(t *testing.T) {
	r := newRated(t)
	for i := range 10 * maxLogMessages {
		r.say(0, fmt.Sprint("message ", i))
	}
	l := r.h.(*limited)
	if n := len(l.said); n > maxLogMessages+1 {
		t.Errorf("%d messages are remembered", n)
	}
	if n := r.lines("message "); n != maxLogMessages+logBurst {
		t.Errorf("%d lines", n)
	}
	r.say(time.Hour, "later")
	r.say(2*time.Hour, "much later")
	if n := len(l.said); n > 2 {
		t.Errorf("%d messages are remembered for ever", n)
	}
}
