package health

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const sec = time.Second

// play gives a State answers, one a second from second 1, and returns its
// changes as "second+" and "second-". A dot is a second without an answer.
func play(s *State, answers string) string {
	var out []string
	for i, a := range answers {
		if a == '.' {
			continue
		}
		now := time.Duration(i+1) * sec
		if s.Step(now, a == '+') {
			up, _ := s.Up()
			out = append(out, fmt.Sprintf("%d%c", i+1, map[bool]rune{true: '+', false: '-'}[up]))
		}
	}
	return strings.Join(out, " ")
}

func TestStateRisesAndFalls(t *testing.T) {
	for _, c := range []struct {
		name       string
		rise, fall int
		hold       time.Duration
		answers    string
		want       string
	}{
		{"the first good answer decides alone", 3, 3, 0, "+", "1+"},
		{"the first bad answer decides alone", 3, 3, 0, "-", "1-"},
		{"fewer than fall change nothing", 2, 3, 0, "+--+--+--", "1+"},
		{"fall in a row", 2, 3, 0, "+---", "1+ 4-"},
		{"rise in a row", 2, 3, 0, "-+-++", "1- 5+"},
		{"held down: good answers count, but bring nothing up", 2, 1, 5 * sec, "+-++++++", "1+ 2- 7+"},
		{"a bad answer at the end of the hold-down starts the row again", 2, 1, 5 * sec, "+-++++-++", "1+ 2- 9+"},
		{"down from the first answer is not held", 1, 1, 5 * sec, "-+", "1- 2+"},
		{"a second fall soon after holds twice as long", 1, 1, 2 * sec, "+-+++-++++++", "1+ 2- 4+ 6- 10+"},
		{"a fall long after holds once", 1, 1, 2 * sec, "+-+++....-++++", "1+ 2- 4+ 10- 12+"},
	} {
		if got := play(NewState(c.rise, c.fall, c.hold), c.answers); got != c.want {
			t.Errorf("%s: %s gave %q, want %q", c.name, c.answers, got, c.want)
		}
	}
}

// A service that flaps for ever is held down longer and longer, to a bound.
func TestHoldDownIsBounded(t *testing.T) {
	s := NewState(1, 1, sec)
	now, longest, steps := time.Duration(0), time.Duration(0), 0
	s.Step(now, true)
	for range 20 {
		now += sec
		if !s.Step(now, false) {
			t.Fatal("a bad answer was not the end")
		}
		hold := s.HeldUntil() - now
		if hold < longest {
			t.Fatalf("hold-down %v after %v", hold, longest)
		}
		if hold > longest {
			longest, steps = hold, steps+1
		}
		if s.Step(s.HeldUntil()-1, true) {
			t.Fatal("up before its hold-down was over")
		}
		now = s.HeldUntil()
		if !s.Step(now, true) {
			t.Fatal("not up when its hold-down was over")
		}
	}
	if longest != MaxHoldDownFactor*sec || steps != 6 {
		t.Errorf("held down for %v at most in %d lengths, want %v in 6", longest, steps, MaxHoldDownFactor*sec)
	}
}

func TestCheckerSchedule(t *testing.T) {
	check, err := ParseCheck("tcp", netip.MustParseAddrPort("127.0.0.1:22"))
	if err != nil {
		t.Fatal(err)
	}
	c := NewChecker("ssh", &check, 7*sec)
	if c.Next() != 7*sec {
		t.Fatalf("first due at %v", c.Next())
	}
	c.Begin(7 * sec)
	if c.Next() != Never {
		t.Fatal("due while a probe is under way")
	}
	change, changed := c.Step(7*sec+sec/2, nil)
	if !changed || change != (Change{"ssh", true, "answers"}) {
		t.Fatalf("change %v %v", change, changed)
	}
	if c.Next() != 8*sec {
		t.Fatalf("next due at %v, want an interval after the last start", c.Next())
	}
	for i := range 3 {
		c.Begin(time.Duration(8+i) * sec)
		change, changed = c.Step(time.Duration(8+i)*sec, errors.New("no\x1b[31m\nway"+strings.Repeat(" x", 500)))
	}
	if !changed || change.Up || !strings.HasPrefix(change.Reason, "no [31m way x") || len(change.Reason) > maxReasonBytes {
		t.Fatalf("change %v %v", change, changed)
	}
}

func TestParseCheck(t *testing.T) {
	backend := netip.MustParseAddrPort("127.0.0.1:8022")
	for text, want := range map[string]Check{
		"tcp":                      {Kind: TCP, Target: "127.0.0.1:8022"},
		"ssh-banner":               {Kind: SSHBanner, Target: "127.0.0.1:8022"},
		"http://127.0.0.1:1/a?b=c": {Kind: HTTP, Target: "http://127.0.0.1:1/a?b=c"},
		"http:/alive":              {Kind: HTTP, Target: "http://127.0.0.1:8022/alive"},
		"exec:/bin/x":              {Kind: Exec, Target: "/bin/x"},
		"exec:/bin/x -a  b":        {Kind: Exec, Target: "/bin/x", Args: []string{"-a", "b"}},
	} {
		got, err := ParseCheck(text, backend)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got.Kind != want.Kind || got.Target != want.Target || strings.Join(got.Args, "|") != strings.Join(want.Args, "|") {
			t.Errorf("%s: %+v", text, got)
		}
	}
	for _, text := range []string{"", "TCP", "tcp:", "http:", "http://", "http://u:p@h/", "https://h/", "exec:", "exec:x", "exec: ", "ping", "exec:/x" + strings.Repeat(" a", MaxArgs+1)} {
		if c, err := ParseCheck(text, backend); err == nil {
			t.Errorf("%q is taken for %+v", text, c)
		} else if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "write ") {
			t.Errorf("%q: %v does not say what to write", text, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Check){
		"interval short": func(c *Check) { c.Interval, c.Timeout = MinInterval-1, 1 },
		"interval long":  func(c *Check) { c.Interval = MaxInterval + 1 },
		"banner fast":    func(c *Check) { c.Kind, c.Interval, c.Timeout = SSHBanner, MinBannerInterval-1, sec },
		"timeout none":   func(c *Check) { c.Timeout = 0 },
		"timeout long":   func(c *Check) { c.Timeout = c.Interval + 1 },
		"rise":           func(c *Check) { c.Rise = 0 },
		"fall":           func(c *Check) { c.Fall = MaxRiseFall + 1 },
		"hold-down":      func(c *Check) { c.HoldDown = MaxHoldDown + 1 },
		"hold-down < 0":  func(c *Check) { c.HoldDown = -1 },
		"target":         func(c *Check) { c.Target = "127.0.0.1" },
		"port 0":         func(c *Check) { c.Target = "127.0.0.1:0" },
		"kind":           func(c *Check) { c.Kind = 99 },
	} {
		c := Check{Kind: TCP, Target: "127.0.0.1:22", Interval: sec, Timeout: sec, Rise: 1, Fall: 1}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: %+v is taken", name, c)
		}
	}
}

func TestParseWeight(t *testing.T) {
	for text, want := range map[string]int{
		"75": 75, "75%": 75, "0": 0, "100%\n": 100, "  50 % of it\n": -1,
		"up": 100, "ready": 100, "UP 30%": 30, "30% up": 30, "up,20%\r\n": 20, "ready\tup": 100,
		"down": 0, "drain": 0, "maint": 0, "stopped": 0, "failed": 0, "fail": 0, "90% down": 0,
		"down # for repair, 50%": 0, "60\n20": 60, "40 maxconn:30": 40,
		"": -1, "\n": -1, "# 50": -1, "maxconn:30": -1, "101": -1, "-1": -1, "1e1": -1, "half": -1, "+5": -1, "50%%": -1, "99999999999999999999": -1,
	} {
		got, err := ParseWeight(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestAgentKeepsItsLastWordForAWhile(t *testing.T) {
	a := NewAgent(10*sec, 0)
	failed := errors.New("gone")
	for _, c := range []struct {
		at     time.Duration
		text   string
		err    error
		weight int
		trust  Trust
	}{
		{0, "nonsense", nil, 100, Stands},
		{10 * sec, "40", nil, 40, Heard},
		{20 * sec, "", nil, 40, Stands},
		{30 * sec, "20%", nil, 20, Heard},
		{40 * sec, "", failed, 20, Stands},
		{50 * sec, "what?", nil, 20, Stands},
		{70*sec - 1, "", failed, 20, Stands},
		{70 * sec, "", failed, 100, GivenUp},
		{80 * sec, "", failed, 100, GivenUp},
		{90 * sec, "30", nil, 30, Heard},
	} {
		a.Begin(c.at)
		weight, err := a.Step(c.at, c.text, c.err)
		if weight != c.weight || a.Trust() != c.trust || (err == nil) != (c.trust == Heard) {
			t.Errorf("at %v %q %v: weight %d trust %d error %v, want %d, %d", c.at, c.text, c.err, weight, a.Trust(), err, c.weight, c.trust)
		}
		if a.Next() != c.at+10*sec {
			t.Errorf("at %v: next at %v", c.at, a.Next())
		}
	}
}

func TestUplinkWeight(t *testing.T) {
	const ms = time.Millisecond
	steady := func(n int, rtt time.Duration) []time.Duration {
		out := make([]time.Duration, n)
		for i := range out {
			out[i] = rtt
		}
		return out
	}
	const lost = time.Duration(-1)
	alternate := func(n int, rtt time.Duration) (out []time.Duration) {
		for range n {
			out = append(out, rtt, lost)
		}
		return out
	}
	join := func(all ...[]time.Duration) (out []time.Duration) {
		for _, a := range all {
			out = append(out, a...)
		}
		return out
	}
	for _, c := range []struct {
		name     string
		rtts     []time.Duration
		from, to int
	}{
		{"nothing known", nil, 100, 100},
		{"calm", steady(50, 10*ms), 100, 100},
		{"twice the calm time costs nothing", join(steady(50, 10*ms), steady(50, 20*ms)), 100, 100},
		{"four times the calm time is about half", join(steady(50, 10*ms), steady(50, 40*ms)), 50, 60},
		{"growth within a millisecond costs nothing on a LAN", join(steady(50, 200*time.Microsecond), steady(50, 1300*time.Microsecond)), 100, 100},
		{"half lost is about half", join(steady(50, 10*ms), alternate(50, 10*ms)), 42, 58},
		{"half lost and four times the time is about a quarter", join(steady(50, 10*ms), alternate(50, 40*ms)), 20, 35},
		{"one lost is an eighth", join(steady(50, 10*ms), []time.Duration{lost}), 88, 88},
		{"four lost in a row are all", join(steady(50, 10*ms), steady(4, lost)), 0, 0},
		{"three lost in a row are not", join(steady(50, 10*ms), steady(3, lost)), 60, 70},
		{"never an answer", steady(1, lost), 0, 0},
		{"back after an outage, slowly", join(steady(4, lost), steady(1, 10*ms)), 12, 13},
		{"back for long", join(steady(4, lost), steady(50, 10*ms)), 99, 100},
		{"the first answer was slow", join(steady(1, 500*ms), steady(60, 10*ms)), 100, 100},
		{"a longer path becomes calm in the end", join(steady(50, 10*ms), steady(3000, 40*ms)), 100, 100},
	} {
		u := NewUplink(sec, 0)
		for _, rtt := range c.rtts {
			u.Step(rtt, rtt == lost)
		}
		if w := u.Weight(); w < c.from || w > c.to {
			t.Errorf("%s: weight %d, want %d to %d (loss %.3f, rtt %v, calm %v)", c.name, w, c.from, c.to, u.Loss(), u.RTT(), u.Calm())
		}
		if u.Known() != (len(c.rtts) > 0) {
			t.Errorf("%s: known is %v", c.name, u.Known())
		}
	}
}

func TestWeigherTakesTheWorstSourceAndTheBestHost(t *testing.T) {
	w := NewWeigher(2, 2)
	for i, c := range []struct {
		agent, host int // -1: not this
		percent     int
		want        int
		changed     bool
	}{
		{0, -1, 100, 100, false},
		{0, -1, 60, 60, true},
		{1, -1, 40, 40, true},
		{1, -1, 44, 44, false}, // trembles
		{1, -1, 45, 45, true},
		{-1, 0, 10, 45, false}, // the other host is well
		{-1, 1, 20, 20, true},
		{-1, 0, 100, 45, true},
		{1, -1, 100, 60, true},
		{0, -1, 97, 97, true},
		{0, -1, 100, 100, true}, // the edge is reported however near
		{0, -1, 97, 97, false},
		{0, -1, 3, 3, true},
		{0, -1, 0, 0, true},
		{0, -1, 0, 0, false},
	} {
		v := Weight{c.percent, fmt.Sprintf("step %d", i)}
		if c.agent >= 0 {
			w.Agent(c.agent, v)
		} else {
			w.Host(c.host, v)
		}
		got, changed := w.Step()
		if got.Percent != c.want || changed != c.changed {
			t.Errorf("step %d: %+v %v, want %d %v", i, got, changed, c.want, c.changed)
		}
	}
}

func FuzzParseWeight(f *testing.F) {
	for _, s := range []string{"75%", "up 30% # x", "down\n", "maxconn:3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseWeight(s); n < 0 || n > FullWeight || err != nil && n != 0 {
			t.Errorf("%q: %d, %v", s, n, err)
		}
		if line := oneLine(s); len(line) > maxReasonBytes || strings.ContainsAny(line, "\n\r\x1b\x00") {
			t.Errorf("%q became %q", s, line)
		}
	})
}
