package health

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// quick is a check that reacts at once.
func quick(kind Kind, target string, args ...string) Check {
	return Check{Kind: kind, Target: target, Args: args, Interval: MinInterval, Timeout: MinInterval, Rise: 1, Fall: 1}
}

// patience is how long a starved machine may take.
const patience = time.Minute

// next waits for something that a callback tells.
func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing was told")
		panic("unreachable")
	}
}

// noneLeft waits until there are no more goroutines than before.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// noneAt waits for the goroutines of a type to be gone: one that has done its
// last is listed until it has returned.
func noneAt(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		buf := make([]byte, 1<<18)
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, name) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines of %s are left:\n%s", name, stacks)
		}
	}
}

func TestMonitorTellsOfServices(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	changes := make(chan Change, 100)
	m, err := Start(Options{
		Services: []Service{{"a", quick(TCP, addr)}},
		OnChange: func(c Change) { changes <- c },
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := next(t, changes); c != (Change{"a", true, "answers"}) {
		t.Errorf("first %+v", c)
	}
	l.Close()
	if c := next(t, changes); c.Up || !strings.Contains(c.Reason, "refused") {
		t.Errorf("then %+v", c)
	}
	if r := m.Report(); len(r) != 1 || r[0].Name != "service a" || !r[0].Known || r[0].Up || r[0].Percent != 0 || !strings.Contains(r[0].Text, "refused") {
		t.Errorf("report %+v", r)
	}
	l, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c := next(t, changes); !c.Up {
		t.Errorf("last %+v", c)
	}
	m.Close()
	noneLeft(t, before)
}

func TestMonitorWeighs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weight")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("up 40%\n")
	weights, warnings := make(chan Weight, 100), make(chan string, 100)
	m, err := Start(Options{
		Agents: []Source{
			{File: file, Interval: MinInterval, Timeout: MinInterval},
			{Program: "/bin/echo", Args: []string{"90"}, Interval: 10 * time.Second, Timeout: 10 * time.Second},
		},
		OnWeight:  func(w Weight) { weights <- w },
		OnWarning: func(s string) { warnings <- s },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if w := next(t, weights); w.Percent != 40 || !strings.Contains(w.Reason, file) {
		t.Errorf("%+v", w)
	}
	write("drain")
	if w := next(t, weights); w.Percent != 0 {
		t.Errorf("%+v", w)
	}
	write("nonsense")
	if s := next(t, warnings); !strings.Contains(s, "stands for 3 intervals") {
		t.Error(s)
	}
	if s := next(t, warnings); !strings.Contains(s, "counts as 100") {
		t.Error(s)
	}
	if w := next(t, weights); w.Percent != 90 || !strings.Contains(w.Reason, "/bin/echo") {
		t.Errorf("%+v", w)
	}
	write("70")
	if s := next(t, warnings); !strings.Contains(s, "again") {
		t.Error(s)
	}
	if w := next(t, weights); w.Percent != 70 {
		t.Errorf("%+v", w)
	}
}

// Close does not wait for a probe's own time, and ends programs with children.
func TestCloseEndsProbesUnderWay(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	path := script(t, "sleep 3600 & echo $! > "+pid+".new; mv "+pid+".new "+pid+"; wait")
	silent, accepted := serve(t, func(c net.Conn) { c.Read(make([]byte, 1)) })
	long := func(c Check) Check { c.Interval, c.Timeout = time.Hour, time.Hour; return c }
	m, err := Start(Options{
		Services: []Service{
			{"exec", long(quick(Exec, path))},
			{"ssh", long(quick(SSHBanner, silent))},
		},
		OnChange: func(c Change) { t.Errorf("told of %+v", c) },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		if _, err := os.Stat(pid); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the program did not start")
		}
	}
	m.Close()
	noneAt(t, "health.(*Monitor)")
	gone(t, pid)
	noneLeft(t, before+1) // the test's own server
}

// No more than MaxProbes are under way, and those that wait have their turn.
func TestProbesAreBounded(t *testing.T) {
	const tasks = 3 * MaxProbes
	now := time.Duration(0)
	m := &Monitor{opts: Options{Now: func() time.Duration { return now }}, results: make(chan result)}
	started, release := make(chan int, tasks), make(chan struct{})
	for i := range tasks {
		s := &Schedule{interval: time.Hour}
		m.tasks = append(m.tasks, &task{schedule: s,
			ask:    func(context.Context) answer { started <- i; <-release; return answer{} },
			finish: func(time.Duration, answer) { s.end() }})
	}
	seen := map[int]bool{}
	for done := 0; done < tasks; {
		m.launchDue(t.Context())
		if want := min(MaxProbes, tasks-done); m.running != want {
			t.Fatalf("%d are under way after %d, want %d", m.running, done, want)
		}
		for len(seen) < done+m.running {
			seen[<-started] = true
		}
		release <- struct{}{}
		r := <-m.results
		m.running--
		r.task.finish(now, r.answer)
		done++
	}
	if len(seen) != tasks {
		t.Errorf("%d of %d were probed", len(seen), tasks)
	}
	if wait := m.launchDue(t.Context()); wait != time.Hour {
		t.Errorf("the next is due in %v", wait)
	}
}

func TestMonitorWatchesTheWayOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a raw socket (CAP_NET_RAW)")
	}
	here := netip.MustParseAddr("127.0.0.1")
	gateways := make(chan Change, 100)
	m, err := Start(Options{
		Uplinks:   Uplinks{Hosts: []netip.Addr{here}, Interval: MinInterval, Timeout: MinInterval},
		Gateway:   Gateway{Addr: here, Interval: MinInterval, Timeout: MinInterval, Rise: 1, Fall: 1},
		OnGateway: func(c Change) { gateways <- c },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if c := next(t, gateways); c != (Change{"127.0.0.1", true, "answers"}) {
		t.Errorf("%+v", c)
	}
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		if r := m.Report(); r[0].Known && strings.HasPrefix(r[0].Text, "0% lost") && r[1].Up {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("report %+v", r)
		}
	}
}

// Lost pings become the node's weight, by the tasks as the monitor makes them.
func TestMonitorWeighsTheUplink(t *testing.T) {
	var told []Weight
	m := &Monitor{
		opts: Options{
			Uplinks: Uplinks{
				Hosts:    []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
				Interval: time.Second, Timeout: time.Second,
			},
			OnWeight: func(w Weight) { told = append(told, w) },
		},
		weigher: NewWeigher(0, 2),
	}
	if err := m.plan(0); err != nil {
		t.Fatal(err)
	}
	calm, lost := answer{rtt: time.Millisecond}, answer{err: fmt.Errorf("no echo")}
	for range 10 {
		m.tasks[0].finish(0, calm)
		m.tasks[1].finish(0, lost)
	}
	if len(told) != 0 {
		t.Errorf("one host that is down counted: %+v", told)
	}
	for range deadAfter {
		m.tasks[0].finish(0, lost)
	}
	if n := len(told); n == 0 || told[n-1].Percent != 0 || !strings.Contains(told[n-1].Reason, "100% lost") {
		t.Errorf("told %+v", told)
	}
}

func TestStartRefuses(t *testing.T) {
	before := runtime.NumGoroutine()
	addr := netip.MustParseAddr
	many := make([]netip.Addr, MaxTasks)
	for i := range many {
		many[i] = addr("127.0.0.1")
	}
	for name, o := range map[string]Options{
		"a check":        {Services: []Service{{Name: "x"}}},
		"an agent":       {Agents: []Source{{Interval: time.Second, Timeout: time.Second}}},
		"agent path":     {Agents: []Source{{File: "x", Interval: time.Second, Timeout: time.Second}}},
		"agent program":  {Agents: []Source{{Program: "x", Interval: time.Second, Timeout: time.Second}}},
		"agent both":     {Agents: []Source{{Program: "/x", File: "/x", Interval: time.Second, Timeout: time.Second}}},
		"agent timing":   {Agents: []Source{{File: "/x"}}},
		"uplink timing":  {Uplinks: Uplinks{Hosts: many[:1]}},
		"uplink IPv6":    {Uplinks: Uplinks{Hosts: []netip.Addr{addr("::1")}, Interval: time.Second, Timeout: time.Second}},
		"gateway timing": {Gateway: Gateway{Addr: addr("127.0.0.1")}},
		"gateway IPv6":   {Gateway: Gateway{Addr: addr("::1"), Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1}},
		"too many":       {Uplinks: Uplinks{Hosts: many, Interval: time.Second, Timeout: time.Second}},
	} {
		if m, err := Start(o); err == nil {
			m.Close()
			t.Errorf("%s is taken", name)
		} else if !strings.HasPrefix(err.Error(), "health: ") || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	noneLeft(t, before)
}
